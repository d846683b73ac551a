"""What is found to share, what it becomes, and when it is quiet."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from p2pfs.errors import StorageError
from p2pfs.storage.files import Files
from p2pfs.storage.sharing import (
    FileSource,
    FolderSource,
    Item,
    Scan,
    Settling,
    TreeSource,
    describe,
    is_unchanged,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shared = tmp_path / "p1"
    (shared / "2024" / "05").mkdir(parents=True)
    (shared / "notes.txt").write_bytes(b"notes")
    (shared / "2024" / "05" / "a.jpg").write_bytes(b"picture")
    (shared / "empty").write_bytes(b"")
    return shared


def scan(folder: Path) -> Scan:
    return FolderSource(folder).scan(Files())


def test_each_regular_file_is_found_under_its_path_from_the_folder(folder: Path) -> None:
    found = scan(folder)

    assert list(found.items) == ["2024/05/a.jpg", "empty", "notes.txt"]
    assert found.problems == {}
    assert found.items["notes.txt"].size == 5


@pytest.mark.parametrize(
    "hidden", [".notes.swp", ".name.0123456789abcdef.p2pfs-part", ".cache/file"]
)
def test_hidden_files_and_those_half_downloaded_are_not_shared(folder: Path, hidden: str) -> None:
    path = folder / hidden
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")

    found = scan(folder)

    assert len(found.items) == 3
    assert found.problems == {}


@pytest.mark.parametrize("hidden", [".env", ".git/config", "deep/.secret"])
def test_hidden_files_are_no_part_of_a_tree(folder: Path, hidden: str) -> None:
    (folder / hidden).parent.mkdir(exist_ok=True)
    (folder / hidden).write_bytes(b"secret")

    item = TreeSource(folder).scan(Files()).items["p1"]
    metainfo = describe(item)

    assert len(item.signature) == len(metainfo.files) == 3
    assert not any(part.startswith(".") for file in metainfo.files for part in file.path)


class Locked(Files):
    """A disk on which one file may not be read by this process, which may be root's."""

    def sys_may_read(self, name: str, dir_fd: int | None) -> bool:
        return not name.endswith("notes.txt")


def test_what_may_not_be_read_is_told_and_not_shared(folder: Path) -> None:
    for source in (FolderSource(folder), FileSource(folder / "notes.txt"), TreeSource(folder)):
        found = source.scan(Locked())

        assert "notes.txt" not in found.items
        assert "may not be read" in next(iter(found.problems.values()))


def test_links_and_pipes_are_told_and_not_shared(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    (folder / "link").symlink_to(secret)
    (folder / "way").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")

    found = scan(folder)

    assert len(found.items) == 3
    assert set(found.problems) == {"link", "way", "pipe"}


@pytest.mark.parametrize("name", ["a\x1b[31mred", "line\nbreak", "back\\slash", "C:evil"])
def test_a_name_that_no_torrent_can_have_is_told_and_the_others_are_shared(
    folder: Path, name: str
) -> None:
    (folder / name).write_bytes(b"x")

    found = scan(folder)

    assert len(found.items) == 3
    assert list(found.problems) == [name]


def test_a_name_that_is_no_unicode_is_told(folder: Path) -> None:
    (Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9"))).write_bytes(b"x")

    assert len(scan(folder).problems) == 1


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file"):
        scan(tmp_path / "p7")


@pytest.mark.parametrize("source", [FileSource, FolderSource, TreeSource])
def test_a_torrent_of_an_item_has_the_name_under_which_it_is_listed(
    folder: Path, source: type[FileSource | FolderSource | TreeSource]
) -> None:
    path = folder / "notes.txt" if source is FileSource else folder

    for name, item in source(path).scan(Files()).items.items():
        metainfo = describe(item)
        assert (metainfo.shared_name, metainfo.total_length) == (name, item.size)


def test_the_same_file_gives_the_same_torrent_from_every_folder(folder: Path) -> None:
    other = folder.parent / "p2" / "2024" / "05" / "a.jpg"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"picture")

    ours, theirs = (
        describe(scan(root).items["2024/05/a.jpg"]) for root in (folder, other.parents[2])
    )

    assert ours.torrent_id == theirs.torrent_id


def test_a_tree_is_one_item_with_all_that_is_in_it(folder: Path) -> None:
    item = TreeSource(folder).scan(Files()).items["p1"]

    assert [file.path for file in describe(item).files] == [
        ("2024", "05", "a.jpg"),
        ("empty",),
        ("notes.txt",),
    ]


def test_an_empty_folder_is_no_tree(tmp_path: Path) -> None:
    assert TreeSource(tmp_path).scan(Files()).items == {}


def test_a_file_that_is_gone_is_no_item_any_more(folder: Path) -> None:
    source = FileSource(folder / "notes.txt")
    (folder / "notes.txt").unlink()

    assert source.scan(Files()).items == {}


def test_a_file_source_needs_a_file(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot open"):
        FileSource(tmp_path / "nothing")


@pytest.mark.parametrize("tree", [False, True])
def test_an_item_is_unchanged_until_it_is_written_to(folder: Path, tree: bool) -> None:
    found = TreeSource(folder).scan(Files()) if tree else scan(folder)
    item = found.items["p1" if tree else "2024/05/a.jpg"]
    before = is_unchanged(item, Files())

    (folder / "2024" / "05" / "a.jpg").write_bytes(b"another")

    assert before
    assert not is_unchanged(item, Files())


def item_written_at(folder: Path, wall: float) -> dict[str, Item]:
    os.utime(folder / "notes.txt", (wall, wall))
    return {"notes.txt": scan(folder).items["notes.txt"]}


def test_what_was_written_long_ago_is_ready_at_once(folder: Path) -> None:
    items = item_written_at(folder, 1000)

    assert Settling(2.0).ready(items, 50.0, 1010) == ([items["notes.txt"]], None)


def test_what_has_just_been_written_is_waited_for(folder: Path) -> None:
    items = item_written_at(folder, 1000)
    settling = Settling(2.0)

    first = settling.ready(items, 50.0, 1000.5)
    second = settling.ready(items, 51.5, 1002)

    assert first == ([], pytest.approx(1.5))
    assert second == ([items["notes.txt"]], None)


def test_each_change_starts_the_wait_anew(folder: Path) -> None:
    settling = Settling(2.0)
    settling.ready(item_written_at(folder, 1000), 50.0, 1000)

    later = item_written_at(folder, 500)

    assert settling.ready(later, 51.9, 1001.9) == ([], pytest.approx(2.0))
    assert settling.ready(later, 53.9, 1003.9)[0]


def test_a_time_in_the_future_is_no_reason_to_wait_for_ever(folder: Path) -> None:
    settling = Settling(2.0)
    items = item_written_at(folder, 10**9)

    assert settling.ready(items, 50.0, 1000) == ([], pytest.approx(2.0))
    assert settling.ready(items, 52.0, 1002)[0]
