"""Torrents with web seeds that libtorrent made: it and we ask for the same, and get the same."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from p2pfs.formats.metainfo import Metainfo, parse
from tests.support.swarm import Sample, Swarm, done, make_sample
from tests.support.waiting import until
from tests.support.web_server import WebServer, served

lt: Any = pytest.importorskip("libtorrent")
pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")

ALBUM = {"a.bin": 40_001, "deep/ünï ©/b #1%.bin": 100_000, "empty": 0, "z+~.bin": 70_000}
SETTINGS = {
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "listen_interfaces": "127.0.0.1:0",
    "alert_mask": 0,
}


def made_by_libtorrent(sample: Sample, url: str) -> bytes:
    """A torrent of the sample (v1 and v2 in one, with padding) that names a web seed."""
    files = lt.file_storage()
    lt.add_files(files, str(sample.path))
    torrent = lt.create_torrent(files, piece_size=16384)
    torrent.add_url_seed(url)
    lt.set_piece_hashes(torrent, str(sample.path.parent))
    return bytes(lt.bencode(torrent.generate()))


async def fetched_by_libtorrent(data: bytes, folder: Path) -> None:
    """Until libtorrent has downloaded it all into `folder`."""
    sessions = [lt.session(SETTINGS)]
    params = lt.add_torrent_params()
    params.ti = lt.torrent_info(data)
    params.save_path = str(folder)
    torrent = sessions[0].add_torrent(params)
    await until(lambda: torrent.status().is_seeding)
    await asyncio.to_thread(sessions.clear)  # its end waits for its threads


async def fetched_by_us(swarm: Swarm, metainfo: Metainfo) -> Path:
    client = await swarm.client(private_web_seeds=True)
    (path,) = await done(await client.download(metainfo, swarm.output()))
    return path


@pytest.mark.parametrize("lengths", [300_000, ALBUM])
async def test_a_torrent_of_libtorrent_comes_from_its_web_seed(
    swarm: Swarm, lengths: int | dict[str, int]
) -> None:
    sample = make_sample(swarm.folder / "shared", lengths, name="an album (ü)")
    files = served(sample)
    async with WebServer(files) as server:
        data = made_by_libtorrent(sample, server.url)
        metainfo = parse(data)
        assert metainfo.web_seeds == (server.url,)

        path = await fetched_by_us(swarm, metainfo)
        ours = set(map(unquote, server.paths()))
        server.asked.clear()
        theirs = swarm.folder / "theirs"
        await fetched_by_libtorrent(data, theirs)

    for name, content in files.items():
        copy = path.parent / name
        assert copy.read_bytes() == content
        assert (theirs / name).read_bytes() == content
    assert ours == set(map(unquote, server.paths()))
