"""Files chosen out of a torrent in a swarm, and what others then think of us."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest

from p2pfs.errors import UsageError
from p2pfs.net.engine import Client
from p2pfs.storage.creating import make_metainfo

lt = pytest.importorskip("libtorrent")

LOCAL = "127.0.0.1"
LENGTHS = {"a.bin": 50_000, "docs/one.txt": 20_000, "docs/two.txt": 90_001, "run.sh": 300}


@pytest.fixture
def album(tmp_path: Path) -> Path:
    top = tmp_path / "seed" / "album"
    for name, length in LENGTHS.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(length))
    (top / "run.sh").chmod(0o755)
    return top


def names_below(top: Path) -> set[str]:
    return {path.relative_to(top).as_posix() for path in top.rglob("*") if path.is_file()}


def foreign(port: int = 0):
    return lt.session(
        {
            "listen_interfaces": f"{LOCAL}:{port}",
            "enable_dht": False,
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            "enable_outgoing_utp": False,
            "enable_incoming_utp": False,
            "allow_multiple_connections_per_ip": True,
        }
    )


def made_by_libtorrent(album: Path) -> bytes:
    storage = lt.file_storage()
    lt.add_files(storage, str(album))
    made = lt.create_torrent(
        storage, 16384, flags=lt.create_torrent.v1_only | lt.create_torrent.canonical_files
    )
    lt.set_piece_hashes(made, str(album.parent))
    return lt.bencode(made.generate())


async def seeds(handle) -> None:
    """Until libtorrent has all of it."""
    for _ in range(1200):
        if handle.status().is_seeding:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("libtorrent did not complete it")


async def test_what_was_chosen_is_fetched_and_a_later_run_fetches_the_rest(album, tmp_path):
    metainfo = make_metainfo(album, piece_length=16384)
    output = tmp_path / "output"
    async with Client(bind=LOCAL) as seeder:
        await seeder.seed(metainfo, album)
        async with Client(bind=LOCAL) as leech:
            torrent = await leech.download(metainfo, output, files=["docs/one.txt"])
            torrent.add_peers([(LOCAL, seeder.port)])
            top = await asyncio.wait_for(torrent.wait(), 60)
            assert names_below(top) == {"docs/one.txt"}
            assert (top / "docs/one.txt").read_bytes() == (album / "docs/one.txt").read_bytes()
            progress = torrent.progress(files=10)
            assert progress.bytes_done == progress.bytes_total
            assert progress.state == "seeding"
            assert (progress.files_chosen, progress.files_total) == (1, len(LENGTHS))
            assert not torrent.complete
            assert torrent.left > 0
            assert [file.wanted for file in progress.files] == [False, True, False, False]
            assert progress.files[1].done == 20_000
        async with Client(bind=LOCAL) as leech:
            torrent = await leech.download(metainfo, output, sequential=True)
            assert torrent.progress().pieces_done > 0
            torrent.add_peers([(LOCAL, seeder.port)])
            top = await asyncio.wait_for(torrent.wait(), 60)
            assert torrent.complete
            assert torrent.progress().files_chosen is None
            assert names_below(top) == set(LENGTHS)
            for name in LENGTHS:
                assert (top / name).read_bytes() == (album / name).read_bytes()
    assert [path.name for path in output.iterdir()] == ["album"]


async def test_a_word_that_stands_for_no_file_is_told_before_anything_is_made(album, tmp_path):
    metainfo = make_metainfo(album, piece_length=16384)
    async with Client(bind=LOCAL) as client:
        with pytest.raises(UsageError, match="no file"):
            await client.download(metainfo, tmp_path / "output", files=["*.mp3"])
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize("files", [[], ["docs/two.txt", "run.sh"]], ids=["whole", "chosen"])
async def test_a_padded_torrent_of_libtorrent_is_downloaded_from_it(album, tmp_path, files):
    from p2pfs.formats.metainfo import parse

    data = made_by_libtorrent(album)
    metainfo = parse(data)
    assert any(file.padding for file in metainfo.files)
    session = foreign()
    handle = session.add_torrent(
        {"ti": lt.torrent_info(lt.bdecode(data)), "save_path": str(album.parent)}
    )
    await seeds(handle)
    async with Client(bind=LOCAL) as leech:
        torrent = await leech.download(metainfo, tmp_path / "output", files=files)
        torrent.add_peers([(LOCAL, session.listen_port())])
        top = await asyncio.wait_for(torrent.wait(), 60)
    assert names_below(top) == set(files or LENGTHS)
    for name in files or LENGTHS:
        assert (top / name).read_bytes() == (album / name).read_bytes()
    if os.name != "nt":
        assert stat.S_IMODE((top / "run.sh").stat().st_mode) & 0o100
    session.pause()


async def test_a_padded_torrent_of_ours_is_downloaded_by_libtorrent(album, tmp_path):
    metainfo = make_metainfo(album, piece_length=16384, pad=True)
    assert [file.executable for file in metainfo.files if file.path == ("run.sh",)] == [True]
    assert any(file.padding for file in metainfo.files)
    output = tmp_path / "foreign"
    output.mkdir()
    async with Client(bind=LOCAL) as seeder:
        torrent = await seeder.seed(metainfo, album)
        assert torrent.complete
        session = foreign()
        info = lt.torrent_info(lt.bdecode(metainfo.to_bytes()))
        handle = session.add_torrent({"ti": info, "save_path": str(output)})
        handle.connect_peer((LOCAL, seeder.port))
        await seeds(handle)
        assert {name for name in names_below(output / "album") if ".pad" not in name} == set(
            LENGTHS
        )
        for name in LENGTHS:
            assert (output / "album" / name).read_bytes() == (album / name).read_bytes()
        if os.name != "nt":
            assert (output / "album" / "run.sh").stat().st_mode & 0o100
        session.pause()
