"""The one rule on names: what is refused, and what the rest is called on disk."""

from __future__ import annotations

import time
import unicodedata
from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfs.errors import MetainfoError
from p2pfs.formats.paths import (
    HIDDEN_MARK,
    disk_name,
    disk_paths,
    safe_component,
    safe_path,
    shorten,
)

# Pieces of trouble, glued together, find more than random text does.
TROUBLE = (
    *(".", "..", "/", "\\", ":", " ", "C:", "con", "NUL", ".txt", "*", "\x00", "\x85"),
    *("a", "A", "é", "e\u0301", "ß", "SS", "\u202e", "\u200b", "\U0001f600", "x" * 260),
    HIDDEN_MARK,
)
troubled = st.lists(st.sampled_from(TROUBLE), max_size=5).map("".join)
names = troubled | st.text(max_size=30)


def test_ordinary_names_stay_as_they_are():
    for name in ("0short_story.txt", "Ünïcødé 名前.tar.gz", ".hidden", "a..b", "-rf", " x", "~"):
        assert safe_component(name) == safe_component(name.encode()) == name
        assert disk_name(name, portable=True) == name


def test_bytes_that_are_not_utf8_stay_distinct():
    assert safe_component(b"\xff\xfe.txt") == "%FF%FE.txt"
    assert safe_component("é".encode("latin-1") + "é".encode()) == "%E9é"


def test_text_that_is_not_unicode_is_refused():
    with pytest.raises(MetainfoError, match="not valid Unicode"):
        safe_component("broken\udcff")


@pytest.mark.parametrize("name", ["", ".", "..", "/", "a/b", "\\", "a\\b", "\0", "D:", "d:x", "\t"])
def test_what_could_leave_the_folder_is_refused(name):
    with pytest.raises(MetainfoError):
        safe_component(name)
    with pytest.raises(MetainfoError):
        safe_path([b"a", name.encode()])


def test_a_colon_that_is_no_drive_is_no_reason_to_refuse():
    assert safe_component("12:30.log") == "12:30.log"
    assert disk_name("12:30.log", portable=True) == "12_30.log"
    assert disk_name("12:30.log", portable=False) == "12:30.log"


def test_a_path_has_at_most_64_parts_and_4000_bytes():
    assert len(safe_path([b"d"] * 64)) == 64
    assert safe_path([b"w" * 255] * 15)
    for too_much in ([b"d"] * 65, [b"w" * 255] * 16, []):
        with pytest.raises(MetainfoError):
            safe_path(too_much)


def test_names_that_only_windows_refuses_are_kept_when_asked():
    for name in ("aux.c", "what?", "trailing.", "a|b"):
        assert disk_name(name, portable=True) != name
        assert disk_name(name, portable=False) == name
    assert disk_paths([("Makefile",), ("makefile",)], portable=False) == [
        ("Makefile",),
        ("makefile",),
    ]


def test_names_of_our_own_working_files_are_never_those_of_content():
    for name in (".a.p2pfs-part", "x.P2PFS-RESUME", ".p2pfs\u200b-lock", "\u200b.a.p2pfs-part"):
        for portable in (True, False):
            assert HIDDEN_MARK not in disk_name(name, portable=portable).lower()


def test_shortening_keeps_the_extension_and_whole_characters():
    assert shorten("a" * 300 + ".jpeg") == "a" * 250 + ".jpeg"
    assert shorten("名" * 100) == "名" * 85
    assert shorten("a." + "b" * 300, 20) == "a." + "b" * 18
    assert shorten("short.txt", 20) == "short.txt"
    assert shorten("a" * 10 + " " * 300, 20) == "a" * 10


def test_a_taken_number_is_skipped():
    assert disk_paths([("a (2).txt",), ("a.txt",), ("A.txt",), ("A.TXT",)], portable=True) == [
        ("a (2).txt",),
        ("a.txt",),
        ("A (3).txt",),
        ("A (4).TXT",),
    ]


def test_one_name_in_two_folders_is_no_conflict():
    assert disk_paths([("a", "x"), ("b", "x")], portable=True) == [("a", "x"), ("b", "x")]


def test_a_path_that_comes_twice_is_refused():
    with pytest.raises(MetainfoError, match="'a/b' is listed twice"):
        disk_paths([("a", "b"), ("a", "b")], portable=True)


def test_too_many_folders_are_refused():
    deep = [(*(f"{n}-{level}" for level in range(60)), "file") for n in range(4000)]

    with pytest.raises(MetainfoError, match="more than 200000 folders"):
        disk_paths(deep, portable=True)


def test_fifty_thousand_twins_are_told_apart_quickly():
    twins = [("a" + f"{n:b}".replace("0", "\u200b").replace("1", "\u200c"),) for n in range(50_000)]
    start = time.thread_time()

    mapped = disk_paths(twins, portable=True)
    assert len(set(mapped)) == len(twins)
    assert mapped[-1] == ("a (50000)",)
    assert time.thread_time() - start < 5


@given(names)
def test_a_name_is_refused_or_stays_in_its_folder(name):
    try:
        safe = safe_component(name)
    except MetainfoError:
        return
    assert safe_component(safe.encode()) == safe
    on_disk = disk_name(safe, portable=True)
    assert PurePosixPath("root", on_disk).parts == ("root", on_disk)
    assert PureWindowsPath("root", on_disk).parts == ("root", on_disk)
    assert not on_disk.endswith((".", " "))
    assert 0 < len(on_disk.encode()) <= 255
    assert HIDDEN_MARK not in on_disk.lower()
    assert safe_component(on_disk) == disk_name(on_disk, portable=True) == on_disk


@given(st.binary(max_size=40))
def test_any_bytes_are_refused_or_become_a_name(raw):
    try:
        name = safe_component(raw)
    except MetainfoError:
        return
    name.encode()
    assert safe_component(name) == name


@given(
    st.lists(st.lists(troubled, min_size=1, max_size=3).map(tuple), max_size=12),
    st.booleans(),
)
def test_paths_on_disk_are_distinct_and_always_the_same(paths, portable):
    safe = []
    for path in paths:
        try:
            safe.append(safe_path([part.encode() for part in path]))
        except MetainfoError:
            continue
    try:
        mapped = disk_paths(safe, portable=portable)
    except MetainfoError:
        prefixes = {path[:stop] for path in safe for stop in range(1, len(path))}
        assert len(set(safe)) < len(safe) or prefixes & set(safe)
        return
    assert mapped == disk_paths(safe, portable=portable)
    assert [len(path) for path in mapped] == [len(path) for path in safe]

    def seen(path):
        text = "/".join(path)
        return unicodedata.normalize("NFC", text).casefold() if portable else text

    files = {seen(path) for path in mapped}
    folders = {seen(path[:stop]) for path in mapped for stop in range(1, len(path))}
    assert len(files) == len(mapped)
    assert not files & folders
