"""What is shared: published once, found by name, kept through a crash."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from p2pfs.errors import CatalogueError, FormatError
from p2pfs.formats.metainfo import parse
from p2pfs.geometry import TorrentId
from p2pfs.tracker import catalogue as module
from p2pfs.tracker.catalogue import (
    AmbiguousName,
    Catalogue,
    CatalogueFull,
    Entry,
    NotYours,
    UnknownName,
)
from p2pfs.tracker.rights import ANONYMOUS, Publisher
from tests.support.metainfo import torrent

NODE = Publisher("1", b"one")
OTHER = Publisher("2", b"two")


def test_what_was_published_is_found_by_name_and_by_hash() -> None:
    catalogue = Catalogue()
    data = torrent("story.txt")

    entry, new = catalogue.publish(data, 1234)

    expected = Entry(parse(data).torrent_id, "story.txt", 1000, 1234)
    assert (entry, new) == (expected, True)
    assert catalogue.find("story.txt") == expected
    assert catalogue.find(str(expected.torrent_id)) == expected
    assert catalogue.find(f"story.txt@{str(expected.torrent_id)[:6].upper()}") == expected
    assert catalogue.metainfo(expected.torrent_id) == data
    assert expected.torrent_id in catalogue
    assert len(catalogue) == 1


def test_the_same_content_again_changes_nothing() -> None:
    catalogue = Catalogue()
    first, _ = catalogue.publish(torrent("a"), 1)

    again = catalogue.publish(torrent("a").replace(b"d4:info", b"d7:comment2:hi4:info"), 2)

    assert again == (first, False)
    assert catalogue.metainfo(first.torrent_id) == torrent("a")


def test_two_contents_with_one_name_are_both_kept_and_told_apart_by_hash() -> None:
    catalogue = Catalogue()
    old, _ = catalogue.publish(torrent("a", 1), 1)
    new, _ = catalogue.publish(torrent("a", 2), 2)

    with pytest.raises(AmbiguousName) as caught:
        catalogue.find("a")

    assert caught.value.candidates == (new, old)
    assert str(old.torrent_id)[:8] in str(caught.value)
    assert catalogue.find(f"a@{str(old.torrent_id)[:8]}") == old
    assert catalogue.find(f"a@{new.torrent_id}") == new


def test_a_name_that_looks_pinned_or_like_a_hash_is_found_as_it_stands() -> None:
    catalogue = Catalogue()
    for name in ("a@abcd", "0" * 40):
        catalogue.publish(torrent(name), 1)

        assert catalogue.find(name).name == name


def test_an_unknown_name_comes_with_the_names_near_to_it() -> None:
    catalogue = Catalogue()
    for name in ("Short_Story.txt", "lorem_ipsum.txt", "holiday 2024 video.mkv"):
        catalogue.publish(torrent(name), 1)

    with pytest.raises(UnknownName, match=r"Short_Story\.txt") as caught:
        catalogue.find("short_stories.txt")

    assert caught.value.near == ("Short_Story.txt",)
    with pytest.raises(UnknownName) as caught:
        catalogue.find("2024")
    assert caught.value.near == ("holiday 2024 video.mkv",)
    with pytest.raises(UnknownName) as caught:
        catalogue.find("zzz")
    assert caught.value.near == ()


@pytest.mark.parametrize("name", ["", "@", "a@", "a@zzzz", "x" * 5000, "%", "_", "'; --", "\0"])
def test_any_name_may_be_asked_for(name: str) -> None:
    catalogue = Catalogue()
    catalogue.publish(torrent("a"), 1)

    with pytest.raises(UnknownName):
        catalogue.find(name)


def test_an_unknown_hash_is_an_error() -> None:
    with pytest.raises(UnknownName):
        Catalogue().metainfo(TorrentId(bytes(20)))


@pytest.mark.parametrize("data", [b"", b"de", b"junk", torrent("a") + b"x"])
def test_what_is_no_metainfo_is_refused(data: bytes) -> None:
    catalogue = Catalogue()

    with pytest.raises(FormatError):
        catalogue.publish(data, 1)

    assert len(catalogue) == 0


def test_entries_are_listed_by_name() -> None:
    catalogue = Catalogue()
    for name in ("c", "a", "b"):
        catalogue.publish(torrent(name), 1)

    assert [entry.name for entry in catalogue.matching()] == ["a", "b", "c"]


def test_a_file_in_a_tree_is_listed_with_its_path_and_found_by_it() -> None:
    catalogue = Catalogue()
    entry, _ = catalogue.publish(torrent("2024/05/a.jpg"), 1)

    assert entry.name == "2024/05/a.jpg"
    assert catalogue.find("2024/05/a.jpg") == entry
    assert catalogue.find(f"2024/05/a.jpg@{str(entry.torrent_id)[:4]}") == entry


def test_a_folder_stands_for_the_one_file_below_it_but_not_for_several() -> None:
    catalogue = Catalogue()
    entry, _ = catalogue.publish(torrent("2024/05/a.jpg"), 1)

    assert catalogue.find("2024") == catalogue.find("2024/05") == entry
    assert catalogue.find(f"2024@{entry.torrent_id}") == entry
    other, _ = catalogue.publish(torrent("2024/06/b.jpg"), 1)
    with pytest.raises(UnknownName, match="2024/05/a"):
        catalogue.find("2024")
    assert catalogue.find(f"2024@{other.torrent_id}") == other


def test_an_entry_of_the_very_name_wins_over_what_is_below_it() -> None:
    catalogue = Catalogue()
    catalogue.publish(torrent("2024/a.jpg"), 1)
    entry, _ = catalogue.publish(torrent("2024"), 1)

    assert catalogue.find("2024") == entry


def test_what_a_node_published_is_withdrawn_by_that_node_alone() -> None:
    catalogue = Catalogue()
    entry, _ = catalogue.publish(torrent("a"), 1, NODE)

    for stranger in (ANONYMOUS, OTHER):
        with pytest.raises(NotYours, match="published by another node"):
            catalogue.withdraw(entry.torrent_id, stranger)
    assert catalogue.withdraw(entry.torrent_id, NODE) == entry
    assert entry.torrent_id not in catalogue
    with pytest.raises(UnknownName):
        catalogue.find("a")
    with pytest.raises(UnknownName):
        catalogue.withdraw(entry.torrent_id, NODE)
    assert catalogue.publishers(entry.torrent_id) == frozenset()


def test_what_several_nodes_published_stays_until_the_last_of_them_withdraws_it() -> None:
    catalogue = Catalogue()
    entry, new = catalogue.publish(torrent("a"), 1, NODE)
    assert new
    assert catalogue.publish(torrent("a"), 2, OTHER) == (entry, False)

    with pytest.raises(NotYours, match="your part in it is withdrawn"):
        catalogue.withdraw(entry.torrent_id, NODE)

    assert catalogue.publishers(entry.torrent_id) == {OTHER}
    assert catalogue.withdraw(entry.torrent_id, OTHER) == entry


def test_what_its_publisher_gives_up_belongs_to_those_who_serve_it() -> None:
    catalogue = Catalogue()
    entry, _ = catalogue.publish(torrent("a"), 1, NODE)

    with pytest.raises(NotYours):
        catalogue.withdraw(entry.torrent_id, NODE, [NODE, OTHER])

    assert catalogue.publishers(entry.torrent_id) == {OTHER}


def test_who_may_withdraw_everything_does() -> None:
    catalogue = Catalogue()
    entry, _ = catalogue.publish(torrent("a"), 1, NODE)

    assert catalogue.withdraw(entry.torrent_id, ANONYMOUS, everything=True) == entry
    assert len(catalogue) == 0


def test_publishers_are_kept_with_their_entries(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    first = Catalogue(path)
    entry, _ = first.publish(torrent("x/a"), 1, NODE)
    first.close()

    second = Catalogue(path)

    assert second.get(entry.torrent_id) == entry
    assert second.publishers(entry.torrent_id) == {NODE}
    second.close()


def test_metainfo_files_have_a_bounded_room_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(torrent("a"))
    monkeypatch.setattr(module, "_MAX_BYTES_IN_MEMORY", 2 * size)
    catalogue = Catalogue()
    first, _ = catalogue.publish(torrent("a"), 1)
    catalogue.publish(torrent("b"), 1)

    with pytest.raises(CatalogueFull, match="room"):
        catalogue.publish(torrent("c"), 1)
    catalogue.withdraw(first.torrent_id, ANONYMOUS)
    assert catalogue.publish(torrent("c"), 1)[1]


def test_a_catalogue_of_an_earlier_version_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    data = torrent("2024/a.jpg")
    old = sqlite3.connect(path)
    old.execute(
        "CREATE TABLE torrents (info_hash BLOB PRIMARY KEY, name TEXT NOT NULL,"
        " size INTEGER NOT NULL, published INTEGER NOT NULL, metainfo BLOB NOT NULL)"
    )
    old.execute("CREATE INDEX torrents_by_name ON torrents (name)")
    key = parse(data).torrent_id
    old.execute("INSERT INTO torrents VALUES (?, '2024', 1000, 7, ?)", (key.v1, data))
    old.execute("INSERT INTO torrents VALUES (?, 'broken', 5, 7, ?)", (bytes(20), b"junk"))
    old.commit()
    old.close()

    for _ in range(2):
        catalogue = Catalogue(path)
        assert catalogue.find("2024/a.jpg") == Entry(key, "2024/a.jpg", 1000, 7, 1)
        assert catalogue.find("broken").files == 1
        catalogue.close()


def test_a_full_catalogue_refuses_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ENTRIES", 1)
    catalogue = Catalogue()
    catalogue.publish(torrent("a"), 1)

    with pytest.raises(CatalogueError, match="full"):
        catalogue.publish(torrent("b"), 1)
    assert catalogue.publish(torrent("a"), 1)[1] is False


def test_several_threads_may_publish_at_once(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path / "c.sqlite")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: catalogue.publish(torrent(f"f{number % 20}"), 1), range(60)))

    assert len(catalogue) == len(catalogue.matching()) == 20
    catalogue.close()


def test_what_was_acknowledged_survives_a_killed_process(tmp_path: Path) -> None:
    path = tmp_path / "new" / "c.sqlite"
    script = (
        "import os, sys; from pathlib import Path; from p2pfs.tracker.catalogue import Catalogue;"
        "Catalogue(Path(sys.argv[1])).publish(sys.stdin.buffer.read(), 7); os._exit(9)"
    )

    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], input=torrent("a"), check=False
    )

    assert done.returncode == 9
    catalogue = Catalogue(path)
    assert catalogue.find("a").published == 7
    assert catalogue.find("a").torrent_id in catalogue
    catalogue.close()


def test_a_file_that_is_no_database_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    path.write_bytes(b"not a database" * 100)

    with pytest.raises(CatalogueError, match=r"c\.sqlite"):
        Catalogue(path)
    with pytest.raises(CatalogueError, match="cannot open"):
        Catalogue(path / "below")


def test_a_database_that_fails_later_is_an_error_too(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path / "c.sqlite")
    with sqlite3.connect(tmp_path / "c.sqlite") as other:
        other.execute("DROP TABLE torrents")
    other.close()

    with pytest.raises(CatalogueError, match="failed"):
        catalogue.publish(torrent("a"), 1)
    catalogue.close()
    with pytest.raises(CatalogueError):
        catalogue.metainfo(TorrentId(bytes(20)))
    with pytest.raises(CatalogueError):
        catalogue.publish(torrent("a"), 1)
