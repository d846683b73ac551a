"""The .torrent files on disk: read with care, never lost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import p2pfs
from p2pfs.cli.torrent_files import (
    find_kept,
    keep_fetched,
    keep_torrent,
    kept_torrent,
    read_torrent,
    refuse_overwriting,
)
from p2pfs.errors import StorageError


@pytest.fixture
def metainfo(tmp_path: Path) -> p2pfs.Metainfo:
    (tmp_path / "a.bin").write_bytes(b"a" * 100)
    return p2pfs.make_torrent(tmp_path / "a.bin")


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("there are no named pipes here")
    os.mkfifo(tmp_path / "x.torrent")
    with pytest.raises(StorageError, match="not a regular file"):
        read_torrent(tmp_path / "x.torrent")


def test_a_kept_torrent_is_written_once(tmp_path: Path, metainfo: p2pfs.Metainfo) -> None:
    path = tmp_path / "torrents" / "a.bin.torrent"
    assert keep_torrent(path, metainfo) is None
    assert keep_torrent(path, metainfo) is None
    assert [entry.name for entry in path.parent.iterdir()] == ["a.bin.torrent"]
    assert read_torrent(path).torrent_id == metainfo.torrent_id


def test_what_stood_in_its_place_is_set_aside(tmp_path: Path, metainfo: p2pfs.Metainfo) -> None:
    path = tmp_path / "a.bin.torrent"
    for number in (1, 2):
        path.write_bytes(b"precious %d" % number)
        note = keep_torrent(path, metainfo)
        assert note is not None
        assert f"{path.name}.old-{number}" in note
        assert (tmp_path / f"{path.name}.old-{number}").read_bytes() == b"precious %d" % number
    assert read_torrent(path).torrent_id == metainfo.torrent_id


def test_contents_that_share_a_name_keep_one_torrent_each(
    tmp_path: Path, metainfo: p2pfs.Metainfo
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.bin").write_bytes(b"b" * 100)
    twin = p2pfs.make_torrent(tmp_path / "other" / "a.bin")
    folder = tmp_path / "torrents"
    for made in (metainfo, twin, metainfo, twin):
        keep_torrent(folder / "a.bin.torrent", made)
    assert {entry.name for entry in folder.iterdir()} == {
        "a.bin.torrent",
        f"a.bin@{str(metainfo.torrent_id)[:8]}.torrent",
        f"a.bin@{str(twin.torrent_id)[:8]}.torrent",
    }
    assert read_torrent(folder / "a.bin.torrent").torrent_id == twin.torrent_id


def test_where_nothing_can_be_written_sharing_goes_on(
    tmp_path: Path, metainfo: p2pfs.Metainfo
) -> None:
    (tmp_path / "torrents").write_bytes(b"a file in the place of the folder")
    note = keep_torrent(tmp_path / "torrents" / "a.bin.torrent", metainfo)
    assert note is not None
    assert "cannot" in note


def test_what_was_fetched_is_found_again_by_its_hash_whatever_it_is_called(
    tmp_path: Path, metainfo: p2pfs.Metainfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_kept(metainfo.torrent_id, "a.bin") is None
    assert keep_fetched(metainfo) == "the metadata of a.bin is kept in torrents/a.bin.torrent"
    for name in ("a.bin", "another name", str(metainfo.torrent_id)):
        path, kept = find_kept(metainfo.torrent_id, name) or (None, None)
        assert path == Path("torrents/a.bin.torrent")
        assert kept is not None
        assert kept.torrent_id == metainfo.torrent_id


def test_what_was_fetched_is_found_beside_a_link_that_leads_nowhere(
    tmp_path: Path, metainfo: p2pfs.Metainfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    keep_fetched(metainfo)
    (tmp_path / "torrents" / "a.bin.old.torrent").symlink_to("nowhere")
    (tmp_path / "torrents" / "circle.torrent").symlink_to("circle.torrent")

    found = find_kept(metainfo.torrent_id, "a.bin")

    assert found == (Path("torrents/a.bin.torrent"), metainfo)


@pytest.mark.parametrize("name", ["a.bin", "x" * 255, "x" * 251 + ".txt", "\xe9" * 127])
def test_fetched_torrents_that_share_a_name_are_all_kept(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = []
    for number in range(3):
        content = tmp_path / str(number) / name
        content.parent.mkdir()
        content.write_bytes(b"%d" % number * 100)
        made.append(p2pfs.make_torrent(content))
        assert "is kept in" in keep_fetched(made[-1])

    for metainfo in made:
        path, kept = find_kept(metainfo.torrent_id, name) or (None, None)
        assert path is not None
        assert len(os.fsencode(path.name)) <= 255
        assert kept == metainfo


def test_a_fetched_torrent_takes_the_place_of_nothing(
    tmp_path: Path, metainfo: p2pfs.Metainfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "torrents").mkdir()
    precious = [
        tmp_path / "torrents" / name
        for name in ("a.bin.torrent", f"a.bin@{str(metainfo.torrent_id)[:8]}.torrent")
    ]
    for path in precious:
        path.write_bytes(b"precious")

    assert "is not kept" in keep_fetched(metainfo)

    assert [path.read_bytes() for path in precious] == [b"precious"] * 2


def test_what_is_shared_is_not_overwritten_even_by_force(tmp_path: Path) -> None:
    folder = tmp_path / "album"
    folder.mkdir()
    (folder / "a").write_bytes(b"precious")
    for shared, path in ((folder / "a", folder / "a"), (folder, folder / "a")):
        with pytest.raises(StorageError, match="part of what is shared"):
            refuse_overwriting(path, shared, force=True)
    (tmp_path / "x.torrent").write_bytes(b"old")
    refuse_overwriting(tmp_path / "x.torrent", folder, force=True)
    with pytest.raises(StorageError, match="--force"):
        refuse_overwriting(tmp_path / "x.torrent", folder, force=False)


@pytest.mark.parametrize("name", ["a\udcffb", "a\nb", "a\\b"])
@pytest.mark.skipif(os.name == "nt", reason="such names cannot be made on Windows")
def test_content_that_can_have_no_name_is_refused(name: str) -> None:
    with pytest.raises(StorageError, match="cannot be shared"):
        kept_torrent(Path(name))


def test_links_that_lead_in_a_circle_are_refused(tmp_path: Path) -> None:
    try:
        (tmp_path / "loop").symlink_to("loop")
    except OSError:
        pytest.skip("links cannot be made here")
    with pytest.raises(StorageError, match="cannot open"):
        p2pfs.make_torrent(tmp_path / "loop")
