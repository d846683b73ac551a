"""What a node has on its disk: found in all its sources, hashed once, remembered, deleted."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pfs.errors import StorageError
from p2pfs.storage.hash_cache import HashCache
from p2pfs.storage.sharing import FileSource, FolderSource, TreeSource
from p2pfs.storage.shelf import Shelf


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shared = tmp_path / "p1"
    (shared / "deep").mkdir(parents=True)
    (shared / "notes.txt").write_bytes(b"notes")
    (shared / "deep" / "notes.txt").write_bytes(b"deep notes")
    return shared


def test_every_source_is_looked_at_and_the_first_of_a_name_counts(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_bytes(b"others")
    shelf = Shelf([FolderSource(folder), FileSource(tmp_path / "notes.txt")], HashCache())

    scan = shelf.scan()

    assert list(scan.items) == ["deep/notes.txt", "notes.txt"]
    assert scan.items["notes.txt"].size == 5
    assert scan.problems == {
        str(tmp_path / "notes.txt"): f"notes.txt is shared from {folder} already"
    }


def test_the_same_file_named_twice_is_no_problem(folder: Path) -> None:
    source = FileSource(folder / "notes.txt")

    assert Shelf([source, source], HashCache()).scan().problems == {}


def test_a_file_is_hashed_once_and_again_when_it_changes(folder: Path) -> None:
    hashed: list[str] = []
    shelf = Shelf(
        [FolderSource(folder)], HashCache(), lambda name, done, total: hashed.append(name)
    )
    first = shelf.describe(shelf.scan().items["notes.txt"])
    calls = len(hashed)
    again = shelf.describe(shelf.scan().items["notes.txt"])
    calls_again = len(hashed)

    (folder / "notes.txt").write_bytes(b"other notes")
    changed = shelf.describe(shelf.scan().items["notes.txt"])

    assert first == again
    assert calls == calls_again > 0
    assert changed is not None
    assert changed != first
    assert set(hashed) == {"notes.txt"}


def test_what_changes_while_it_is_hashed_is_not_given_out(folder: Path) -> None:
    def grow(name: str, done: int, total: int) -> None:
        if done == total:
            (folder / "deep" / "other").write_bytes(b"new")
            (folder / "notes.txt").write_bytes(b"other!")

    shelf = Shelf([TreeSource(folder)], HashCache(), grow)

    try:
        metainfo = shelf.describe(shelf.scan().items["p1"])
    except StorageError:
        metainfo = None

    assert metainfo is None
    assert shelf.known() == {}


def test_hashing_can_be_broken_off(folder: Path) -> None:
    shelf = Shelf([FolderSource(folder)], HashCache())
    shelf.break_off()

    with pytest.raises(StorageError, match=r"notes.txt was not hashed"):
        shelf.describe(shelf.scan().items["notes.txt"])


def test_without_a_memory_everything_still_works(folder: Path) -> None:
    cache = HashCache()
    cache.close()
    shelf = Shelf([FolderSource(folder)], cache)
    item = shelf.scan().items["notes.txt"]

    metainfo = shelf.describe(item)
    shelf.delete(item)

    assert metainfo is not None
    assert shelf.known() == {}
    assert list(shelf.scan().items) == ["deep/notes.txt"]


def test_what_was_shared_at_some_time_is_known_until_it_is_forgotten(folder: Path) -> None:
    shelf = Shelf([FolderSource(folder)], HashCache())
    metainfo = shelf.describe(shelf.scan().items["notes.txt"])
    assert metainfo is not None
    (folder / "notes.txt").write_bytes(b"other notes")

    known = shelf.known()
    shelf.forget(folder / "notes.txt")

    assert known == {str(metainfo.torrent_id): folder / "notes.txt"}
    assert shelf.known() == {}


def test_only_a_folder_takes_downloads_and_files_are_not_watched(folder: Path) -> None:
    tree, file, whole = TreeSource(folder), FileSource(folder / "notes.txt"), FolderSource(folder)

    assert Shelf([tree, file], HashCache()).download_folder is None
    assert not Shelf([tree, file], HashCache()).all_in_folders
    assert Shelf([tree, whole], HashCache()).download_folder == folder
    assert Shelf([tree, whole], HashCache()).all_in_folders


def test_a_file_is_deleted_where_it_was_found_and_never_through_a_link(
    folder: Path, tmp_path: Path
) -> None:
    shelf = Shelf([FolderSource(folder)], HashCache())
    item = shelf.scan().items["deep/notes.txt"]
    outside = tmp_path / "outside"
    (folder / "deep").rename(outside)
    (folder / "deep").symlink_to(outside)

    with pytest.raises(StorageError):
        shelf.delete(item)

    assert (outside / "notes.txt").read_bytes() == b"deep notes"
