"""What a torrent tells about itself."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

from p2pfs.errors import UsageError
from p2pfs.formats.announce_http import PeerAddress
from p2pfs.formats.bitfield import Bitfield
from p2pfs.net import content_watch
from p2pfs.net.engine import Client
from p2pfs.net.tracker_http import TrackerServer
from p2pfs.storage.creating import make_metainfo
from p2pfs.swarm import announcing, peer_book
from tests.support.waiting import until

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

        uploaded, downloaded, left = torrent.totals()

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

        assert len(torrent._peers.dialler.book) == 10


counts_files = pytest.mark.skipif(
    not Path("/proc/self/fd").exists(), reason="open files cannot be counted"
)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


@counts_files
async def test_torrents_that_nobody_asks_for_keep_nothing_open_and_nothing_running(tmp_path):
    paths = [tmp_path / f"{number}.bin" for number in range(200)]
    for number, path in enumerate(paths):
        path.write_bytes(b"%d" % number)
    async with Client(bind="127.0.0.1") as client:
        await client.seed(make_metainfo(paths[0], piece_length=PIECE), paths[0])
        files, tasks = open_files(), len(asyncio.all_tasks())

        for path in paths[1:]:
            await client.seed(make_metainfo(path, piece_length=PIECE), path, verify=False)

        assert open_files() == files
        assert len(asyncio.all_tasks()) == tasks
        assert all(torrent.progress().state == "seeding" for torrent in client.torrents)


@counts_files
async def test_what_was_served_is_closed_when_its_takers_are_gone(content, tmp_path, monkeypatch):
    monkeypatch.setattr(content_watch, "CHECK_EVERY", 0.05)
    metainfo = make_metainfo(content, piece_length=PIECE)
    async with Client(bind="127.0.0.1") as seeder:
        await seeder.seed(metainfo, content)
        files, tasks = open_files(), len(asyncio.all_tasks())

        for number in range(2):  # and opened again for the next one
            async with Client(bind="127.0.0.1") as leech:
                torrent = await leech.download(metainfo, tmp_path / f"output{number}")
                torrent.add_peers([("127.0.0.1", seeder.port)])
                await torrent.wait()
            await until(lambda: open_files() == files and len(asyncio.all_tasks()) == tasks)


@counts_files
async def test_a_finished_download_is_closed_too_and_served_all_the_same(
    content, tmp_path, monkeypatch
):
    monkeypatch.setattr(content_watch, "CHECK_EVERY", 0.05)
    metainfo = make_metainfo(content, piece_length=PIECE)
    async with Client(bind="127.0.0.1") as middle, Client(bind="127.0.0.1") as last:
        files = open_files()
        async with Client(bind="127.0.0.1") as seeder:
            await seeder.seed(metainfo, content)
            torrent = await middle.download(metainfo, tmp_path / "first")
            torrent.add_peers([("127.0.0.1", seeder.port)])
            await torrent.wait()
        await until(lambda: open_files() == files)

        again = await last.download(metainfo, tmp_path / "second")
        again.add_peers([("127.0.0.1", middle.port)])
        path = await again.wait()

        assert path.read_bytes() == content.read_bytes()
        await until(lambda: open_files() == files)


async def test_a_seeder_dials_again_whom_it_could_not_reach(content, monkeypatch, tmp_path):
    monkeypatch.setattr(peer_book, "FIRST_RETRY", 0.05)
    metainfo = make_metainfo(content, piece_length=PIECE)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with Client(bind="127.0.0.1") as seeder:
        torrent = await seeder.seed(metainfo, content)
        torrent.add_peers([("127.0.0.1", port)])
        await until(lambda: torrent._peers.dialler.pause)

        async with Client(bind="127.0.0.1", port=port, port_tries=1) as leech:
            path = await (await leech.download(metainfo, tmp_path / "output")).wait()

        assert path.read_bytes() == content.read_bytes()


async def test_who_takes_something_from_here_is_told_until_it_has_all(content, tmp_path):
    metainfo = make_metainfo(content, piece_length=PIECE)
    async with (
        Client(bind="127.0.0.1", up_limit=4 * PIECE) as seeder,
        Client(bind="127.0.0.1") as leech,
        Client(bind="127.0.0.1") as other,
    ):
        await seeder.seed(metainfo, content)
        await other.seed(metainfo, content, have=Bitfield.of(4, [0]))  # which wants nothing
        assert seeder.takings() == []

        torrent = await leech.download(metainfo, tmp_path / "output")
        torrent.add_peers([("127.0.0.1", seeder.port), ("127.0.0.1", other.port)])
        await until(lambda: any(taking.share_done for taking in seeder.takings()))
        [taking] = seeder.takings()
        await torrent.wait()

        assert (taking.name, taking.info_hash) == ("content.bin", torrent.info_hash)
        assert taking.address == f"127.0.0.1:{leech.port}"
        assert taking.client.startswith("p2pfs")
        assert taking.share_done in (0.25, 0.5, 0.75)
        assert 0 <= taking.idle < 5
        await until(lambda: seeder.takings() == [] == other.takings())


async def test_who_has_what_is_here_already_takes_nothing(content, tmp_path):
    metainfo = make_metainfo(content, piece_length=PIECE)
    async with Client(bind="127.0.0.1") as part, Client(bind="127.0.0.1") as leech:
        await part.seed(metainfo, content, have=Bitfield.of(4, [0, 3]))
        torrent = await leech.download(metainfo, tmp_path / "output")
        torrent.add_peers([("127.0.0.1", part.port)])

        await until(lambda: torrent.progress().pieces_done == 2)

        await until(lambda: part.takings() == [])
        assert part.torrents[0].peers()
        assert leech.takings() == []


@pytest.mark.usefixtures("tracker_runtime")
async def test_who_stops_announcing_is_counted_and_goes_on_serving(content, tmp_path):
    metainfo = make_metainfo(content, piece_length=PIECE)
    async with (
        TrackerServer("127.0.0.1", 0) as tracker,
        Client(bind="127.0.0.1") as seeder,
        Client(bind="127.0.0.1") as middle,
        Client(bind="127.0.0.1") as last,
    ):
        await seeder.seed(metainfo, content, trackers=[tracker.url])
        torrent = await middle.download(metainfo, tmp_path / "first", trackers=[tracker.url])
        await torrent.wait()

        await torrent.stop_announcing()

        counts = tracker.store.counts(metainfo.torrent_id)
        assert (counts.complete, counts.downloaded) == (1, 1)
        assert torrent.progress().state == "seeding"
        await seeder.close()
        again = await last.download(metainfo, tmp_path / "second")
        again.add_peers([("127.0.0.1", middle.port)])
        assert (await again.wait()).read_bytes() == content.read_bytes()


async def test_what_was_never_announced_need_not_stop(content):
    async with Client(bind="127.0.0.1") as client:
        torrent = await client.seed(make_metainfo(content, piece_length=PIECE), content)

        await torrent.stop_announcing()

        assert torrent.progress().tracker == "no tracker"


@pytest.mark.usefixtures("tracker_runtime")
async def test_a_tracker_that_is_another_one_now_is_told_to_whoever_wants_to_know(
    content, monkeypatch
):
    monkeypatch.setattr(announcing, "MIN_INTERVAL", 0.05)
    told = []
    gone = asyncio.Event()

    async def publish(torrent):
        told.append(torrent.name)
        try:
            await asyncio.Event().wait()  # as long as it takes
        finally:
            gone.set()

    async with TrackerServer("127.0.0.1", 0, interval=1) as first:
        port = first.port
        async with Client(bind="127.0.0.1") as client:
            torrent = await client.seed(
                make_metainfo(content, piece_length=PIECE),
                content,
                trackers=[first.url],
                on_tracker_return=publish,
            )
            await until(lambda: "answered" in torrent.progress().tracker)
            assert told == []
            await first.close()

            async with TrackerServer("127.0.0.1", port, interval=1) as second:
                await until(lambda: told)
                await until(lambda: second.store.peer_count)

                await torrent.close()

        assert told == ["content.bin"]
        assert gone.is_set()
