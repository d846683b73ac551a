"""What a torrent tells about itself."""

from __future__ import annotations

import os

import pytest

from p2pfs.errors import UsageError
from p2pfs.formats.announce_http import PeerAddress
from p2pfs.formats.bitfield import Bitfield
from p2pfs.net.engine import Client, _totals
from p2pfs.storage.creating import make_metainfo

PIECE = 16 * 1024


@pytest.fixture
def content(tmp_path):
    path = tmp_path / "content.bin"
    path.write_bytes(os.urandom(3 * PIECE + 5))
    return path


async def test_what_is_left_is_what_is_not_verified(content):
    metainfo = make_metainfo(content, piece_length=PIECE)
    async with Client(bind="127.0.0.1") as client:
        torrent = await client.seed(metainfo, content, have=Bitfield.of(4, [0, 3]))

        uploaded, downloaded, left = _totals(torrent)

        assert (uploaded, downloaded, left) == (0, 0, 2 * PIECE)
        progress = torrent.progress()
        assert (progress.state, progress.pieces_done, progress.bytes_done) == (
            "seeding",
            2,
            PIECE + 5,
        )


async def test_pieces_that_nobody_has_are_named_once_nothing_else_is_left(content, tmp_path):
    metainfo = make_metainfo(content, piece_length=PIECE)
    async with Client(bind="127.0.0.1") as seeder, Client(bind="127.0.0.1") as leech:
        await seeder.seed(metainfo, content, have=Bitfield.of(4, [0, 3]))
        torrent = await leech.download(metainfo, tmp_path / "output")
        torrent.add_peers([("127.0.0.1", seeder.port)])

        async for progress in torrent.updates(0.05):
            if progress.pieces_done == 2 and progress.missing:
                break

        assert progress.missing == (1, 2)
        assert progress.asked == 1
        [source] = progress.sources
        assert source.address == f"127.0.0.1:{seeder.port}"
        assert source.bytes_down == PIECE + 5


async def test_two_contents_of_one_name_do_not_go_to_one_place(tmp_path):
    contents = []
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "same.bin"
        path.write_bytes(os.urandom(PIECE))
        contents.append(make_metainfo(path, piece_length=PIECE))
    async with Client(bind="127.0.0.1") as client:
        first = await client.download(contents[0], tmp_path / "output")

        with pytest.raises(UsageError, match="another folder"):
            await client.download(contents[1], tmp_path / "output")

        second = await client.download(contents[1], tmp_path / "elsewhere")
        assert {first.name, second.name} == {"same.bin"}
        assert client.torrents == [first, second]


async def test_a_tracker_cannot_have_us_resolve_names_without_end(content, tmp_path):
    metainfo = make_metainfo(content, piece_length=PIECE)
    async with Client(bind="127.0.0.1") as client:
        torrent = await client.download(metainfo, tmp_path / "output")

        torrent.found_peers([PeerAddress(f"n{n}.invalid", 1) for n in range(100)])
        torrent.found_peers([PeerAddress("127.0.0.1", 1), PeerAddress("::1", 1)])

        assert len(torrent._book) == 10
