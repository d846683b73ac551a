"""Names are found exactly, below folders, by patterns, and by what resembles them."""

from __future__ import annotations

import random
from hashlib import sha1

import pytest

from p2pfs.errors import FormatError
from p2pfs.geometry import TorrentId
from p2pfs.tracker.name_index import Chooser, Entry, NameIndex


def entry(name: str, content: int = 0) -> Entry:
    return Entry(TorrentId(sha1(f"{name}{content}".encode()).digest()), name, 1, 1)


def index(*names: str) -> NameIndex:
    made = NameIndex()
    for name in names:
        made.add(entry(name))
    return made


def names(entries: object) -> list[str]:
    return [one.name for one in entries]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (None, ["B.TXT", "a.jpg", "c [1].txt", "sub/a.txt", "ÜBER.txt"]),
        ("*", ["B.TXT", "a.jpg", "c [1].txt", "sub/a.txt", "ÜBER.txt"]),
        ("*.txt", ["B.TXT", "c [1].txt", "sub/a.txt", "ÜBER.txt"]),
        ("txt", ["B.TXT", "c [1].txt", "sub/a.txt", "ÜBER.txt"]),
        ("b.txt", ["B.TXT"]),
        ("?.*", ["B.TXT", "a.jpg"]),
        ("[ab].*", ["B.TXT", "a.jpg"]),
        ("[!a].*", ["B.TXT"]),
        ("sub/*", ["sub/a.txt"]),
        ("über*", ["ÜBER.txt"]),
        ("C [1].txt", ["c [1].txt"]),
        ("", ["B.TXT", "a.jpg", "c [1].txt", "sub/a.txt", "ÜBER.txt"]),
        ("zzz", []),
        ("(a|b)", []),
        ("\n*", []),
    ],
)
def test_a_pattern_is_a_glob_or_a_part_of_a_name_whatever_the_case(
    pattern: str | None, expected: list[str]
) -> None:
    found = index("a.jpg", "sub/a.txt", "B.TXT", "c [1].txt", "ÜBER.txt").matching(pattern)

    assert names(found) == expected


def test_a_pattern_that_is_very_long_is_refused() -> None:
    with pytest.raises(FormatError, match="1000 characters"):
        index().matching("x" * 1001)


def test_a_pattern_made_to_be_slow_comes_to_an_end() -> None:
    made = index(*("a" * 250 + str(number) for number in range(100)))

    assert made.matching("*a" * 100 + "*b") == []


def test_a_pattern_is_matched_again_when_the_names_have_changed() -> None:
    made = index("a1")

    first = names(made.matching("a*"))
    made.add(entry("a2"))
    second = names(made.matching("a*"))
    made.remove(entry("a1").torrent_id.v1)

    assert (first, second, names(made.matching("a*"))) == (["a1"], ["a1", "a2"], ["a2"])
    assert made.matching("a*") is made.matching("a*")


def test_entries_of_one_name_are_all_found_and_no_others() -> None:
    made = NameIndex()
    same = [entry("b", number) for number in range(5)]
    for one in (entry("a"), entry("b/c"), entry("ba"), entry("b\0"), *same):
        made.add(one)

    assert sorted(names(made.named("b"))) == ["b"] * 5
    assert made.named("c") == []


def test_what_is_below_a_folder_is_what_begins_with_it_and_a_slash() -> None:
    made = index("2024", "2024.txt", "2024/a", "2024/b/c", "20240/d", "2024-e")

    assert names(made.below("2024", 10)) == ["2024/a", "2024/b/c"]
    assert names(made.below("2024", 1)) == ["2024/a"]
    assert names(made.below("2024/b", 10)) == ["2024/b/c"]
    assert made.below("2", 10) == []


def test_changes_are_counted_and_what_changes_nothing_is_not() -> None:
    made = index("a")
    before = made.changes

    made.add(entry("a"))
    made.remove(entry("b").torrent_id.v1)
    assert made.changes == before
    made.remove(entry("a").torrent_id.v1)
    assert (made.changes, len(made)) == (before + 1, 0)


def test_near_names_are_the_most_alike_then_those_that_contain_it() -> None:
    made = index("holiday.mkv", "my holidays in the snow.mkv", "HOLIDAYS.mkv", "zzz")

    assert made.near("holidays.mk")[:2] == ["HOLIDAYS.mkv", "holiday.mkv"]
    assert made.near("snow") == ["my holidays in the snow.mkv"]
    assert made.near("") == []


def test_near_names_are_those_that_are_preferred_and_others_when_none_of_them_is_near() -> None:
    made = index("holiday.mkv", "holidays.mkv", "zzz")

    def preferred(*names: str) -> Chooser:
        return lambda entries: [one for one in entries if one.name in names]

    assert made.near("holidayz.mkv", preferred("holiday.mkv", "zzz")) == ["holiday.mkv"]
    assert made.near("holidays.mk", preferred("zzz"))[0] == "holidays.mkv"


def test_a_search_for_near_names_does_not_wait_for_another() -> None:
    made = index("holiday.mkv")
    made._searching.acquire()

    assert made.near("holiday.mk") == []


def test_whatever_is_added_and_removed_the_order_holds() -> None:
    rng = random.Random(1)
    made, expected = NameIndex(), {}
    for _ in range(1000):
        one = entry(rng.choice("abcde") * rng.randrange(1, 3), rng.randrange(3))
        if rng.random() < 0.5:
            made.add(one)
            expected[one.torrent_id.v1] = one
        else:
            made.remove(one.torrent_id.v1)
            expected.pop(one.torrent_id.v1, None)

        in_order = sorted(expected.values(), key=lambda one: (one.name, one.torrent_id.v1))
        assert list(made.matching(None)) == in_order
    other = NameIndex()
    other.fill(list(expected.values()))
    assert list(other.matching(None)) == list(made.matching(None))
