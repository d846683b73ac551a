"""Whole clients on loopback: content arrives, and whatever happens, closing leaves nothing."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from p2pfs.errors import ListenError, NetworkError, StorageError, UsageError
from p2pfs.net import announcer as announcer_module
from p2pfs.net import connection as connection_module
from p2pfs.net import content_watch, piece_writer
from p2pfs.net import engine as engine_module
from p2pfs.net import exchange as exchange_module
from p2pfs.net import stream as stream_module
from p2pfs.net.connections import Connections
from p2pfs.net.engine import Client, Torrent
from p2pfs.net.tracker_http import TrackerServer
from p2pfs.storage import pieces as pieces_module
from p2pfs.storage.files import Files
from p2pfs.storage.hashing import verify_piece
from p2pfs.swarm import peer_book
from p2pfs.swarm.rates import BURST
from tests.support import fake_peer
from tests.support.rawhttp import raw_server
from tests.support.swarm import KIB, LOCAL, HandMade, Sample, Swarm, at, done, make_sample
from tests.support.waiting import until

pytestmark = pytest.mark.loops("uvloop")
both_loops = pytest.mark.loops("uvloop", "asyncio")

TREE = {"a.txt": 50_000, "deep/er/b.bin": 33_000, "deep/empty": 0, "c": 1, "z/last": 0, "d": 70_000}


@pytest.fixture(params=["sendfile", "transport"])
def stream_kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways in which bytes leave a client."""
    if request.param == "transport":
        monkeypatch.setattr(stream_module, "HAS_SENDFILE", False)
    return str(request.param)


def copies(torrent: Torrent) -> float:
    """How often the content was uploaded."""
    progress = torrent.progress()
    return progress.uploaded / progress.bytes_total


# -- content arrives


@both_loops
async def test_a_seeder_feeds_a_downloader(swarm: Swarm, sample: Sample, stream_kind: str) -> None:
    seeder, seeded = await swarm.seed(sample)
    _, torrent = await swarm.download(sample, seeder)

    [path] = await done(torrent)

    assert sample.is_at(path)
    progress = torrent.progress()
    assert (progress.state, progress.pieces_done, progress.wasted) == ("seeding", 19, 0)
    assert progress.downloaded == progress.bytes_total == 300_000
    assert seeded.progress().uploaded == 300_000


@both_loops
async def test_a_tree_arrives_with_its_empty_files(
    swarm: Swarm, tmp_path: Path, stream_kind: str
) -> None:
    sample = make_sample(tmp_path / "shared", TREE, name="tree")
    seeder, _ = await swarm.seed(sample)
    _, torrent = await swarm.download(sample, seeder)

    [path] = await done(torrent)

    assert sample.is_at(path)


@both_loops
@pytest.mark.parametrize("lengths", [0, {"one": 0, "two/three": 0}], ids=["file", "tree"])
async def test_content_without_a_byte_is_there_at_once(
    swarm: Swarm, tmp_path: Path, lengths: int | dict[str, int]
) -> None:
    sample = make_sample(tmp_path / "shared", lengths, name="nothing")
    seeder, seeded = await swarm.seed(sample)
    _, torrent = await swarm.download(sample, seeder)

    [path, _] = await done(torrent, seeded)

    assert sample.is_at(path)
    assert torrent.progress().state == "seeding"


async def test_a_piece_larger_than_the_memory_for_pieces_arrives(
    swarm: Swarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "ASSEMBLY_BUDGET", 100)
    sample = make_sample(tmp_path / "shared", 900_000, piece_length=256 * KIB)
    sources = [(await swarm.seed(sample))[0] for _ in range(2)]
    leecher, torrent = await swarm.download(sample, *sources)

    [path] = await done(torrent)

    assert sample.is_at(path)
    assert leecher.assembler.used == 0


@both_loops
async def test_partial_seeders_that_together_have_everything_are_enough(
    swarm: Swarm, sample: Sample
) -> None:
    shares = [range(8), range(5, 13), range(12, 19)]
    sources = [await swarm.seed(sample, *share) for share in shares]
    _, torrent = await swarm.download(sample, *(client for client, _ in sources))

    [path] = await done(torrent)

    assert sample.is_at(path)
    progress = torrent.progress()
    assert sorted(source.address for source in progress.sources) == sorted(
        f"{LOCAL}:{client.port}" for client, _ in sources
    )
    assert sum(source.bytes_down for source in progress.sources) == 300_000
    for (_, seeded), share in zip(sources, shares, strict=True):
        assert seeded.progress().pieces_done == len(share)
        assert seeded.progress().state == "seeding"
        assert await seeded.wait() == sample.path


@both_loops
async def test_several_torrents_share_one_client(swarm: Swarm, tmp_path: Path) -> None:
    samples = [make_sample(tmp_path / f"s{n}", 100_000 + n, name=f"n{n}", seed=n) for n in range(5)]
    seeder, leecher = await swarm.client(), await swarm.client()
    for sample in samples:
        await swarm.seed(sample, client=seeder)
    torrents = [(await swarm.download(one, seeder, client=leecher))[1] for one in samples]

    paths = await done(*torrents)

    assert all(sample.is_at(path) for sample, path in zip(samples, paths, strict=True))
    assert len(leecher.torrents) == 5


async def test_downloaders_serve_each_other_what_they_have(swarm: Swarm, tmp_path: Path) -> None:
    sample = make_sample(tmp_path / "shared", 1_500_000)
    seeder, seeded = await swarm.seed(sample, up_limit=2_000_000)
    leechers = [await swarm.download(sample, seeder) for _ in range(8)]
    for _, torrent in leechers:
        torrent.add_peers(at(*(client for client, _ in leechers)))

    paths = await done(*(torrent for _, torrent in leechers))

    assert all(sample.is_at(path) for path in paths)
    assert copies(seeded) <= 2


async def test_clients_find_each_other_through_the_tracker(
    tracker_runtime: None, swarm: Swarm, sample: Sample
) -> None:
    async with TrackerServer(LOCAL, 0) as tracker:
        seeder, leecher = await swarm.client(), await swarm.client()
        await seeder.seed(sample.metainfo, sample.path, trackers=[tracker.url])
        torrent = await leecher.download(sample.metainfo, swarm.output(), trackers=[tracker.url])

        [path] = await done(torrent)
        await until(lambda: tracker.service.scrape([sample.metainfo.torrent_id]))
        await swarm.close()

        assert sample.is_at(path)
        assert tracker.store.peer_count == 0


async def test_two_complete_clients_part_and_stay_apart(swarm: Swarm, sample: Sample) -> None:
    seeder, seeded = await swarm.seed(sample)
    leecher, torrent = await swarm.download(sample, seeder)
    await done(torrent)

    await until(
        lambda: len(leecher._connections.admission) == len(seeder._connections.admission) == 0
    )

    torrent.add_peers(at(seeder))
    seeded.add_peers(at(leecher))
    assert not torrent._peers.dialler._under_way


# -- what is there already


async def test_content_that_is_there_is_used_without_asking_anybody(
    swarm: Swarm, sample: Sample
) -> None:
    _, torrent = await swarm.download(sample, output=sample.path.parent)

    [path] = await done(torrent)

    assert path == sample.path
    assert torrent.progress().downloaded == 0


async def test_a_different_file_of_the_user_is_never_replaced(swarm: Swarm, sample: Sample) -> None:
    output = swarm.output()
    output.mkdir()
    (output / "story.bin").write_bytes(b"mine")
    client = await swarm.client()

    with pytest.raises(StorageError, match="move it away"):
        await client.download(sample.metainfo, output)

    assert (output / "story.bin").read_bytes() == b"mine"
    assert client.torrents == []


async def test_a_stopped_download_goes_on_where_it_was(swarm: Swarm, tmp_path: Path) -> None:
    sample = make_sample(tmp_path / "shared", 2_000_000)
    seeder, seeded = await swarm.seed(sample)
    output = swarm.output()
    first, torrent = await swarm.download(sample, seeder, output=output, down_limit=1_000_000)
    async with asyncio.timeout(20):
        async for progress in torrent.updates(0.02):
            if progress.pieces_done >= 20:
                break
    await first.close()
    kept = torrent.progress()
    assert kept.pieces_done < sample.count

    _, again = await swarm.download(sample, seeder, output=output)
    [path] = await done(again)

    assert sample.is_at(path)
    assert again.progress().downloaded == 2_000_000 - kept.bytes_done
    with pytest.raises(NetworkError, match="closed before"):
        await torrent.wait()
    assert torrent.progress().state == "stopped"
    assert copies(seeded) < 1.5


async def test_a_seeder_offers_only_what_is_right_on_the_disk(swarm: Swarm, sample: Sample) -> None:
    content = bytearray(sample.content)
    content[5 * 16 * KIB] ^= 1
    sample.path.write_bytes(content)
    client = await swarm.client()
    seeded = await client.seed(sample.metainfo, sample.path)
    _, torrent = await swarm.download(sample, client)

    await until(lambda: torrent.progress().pieces_done == 18)

    assert seeded.progress().pieces_done == 18
    await until(lambda: torrent.progress().missing == (5,))
    assert torrent.progress().hash_failures == 0


async def test_files_of_one_tree_are_downloaded_together(swarm: Swarm, tmp_path: Path) -> None:
    seeder, client = await swarm.client(), await swarm.client()
    downloads = []
    for number, inner in enumerate(("a.txt", "05/a.txt", "05/b.txt", "05/deep/c.txt")):
        shared = make_sample(
            tmp_path / f"shared{number}", {inner: 40_000}, name="2024", seed=number
        )
        await swarm.seed(shared, client=seeder)
        downloads.append(await swarm.download(shared, seeder, client=client, output=tmp_path / "o"))

    await done(*(torrent for _, torrent in downloads))

    for number, (_, torrent) in enumerate(downloads):
        inner = torrent.name.removeprefix("2024/")
        original = tmp_path / f"shared{number}" / "2024" / inner
        assert torrent.content_path == (tmp_path / "o" / "2024" / inner).resolve()
        assert torrent.content_path.read_bytes() == original.read_bytes()
        assert torrent.progress().name == torrent.name


async def test_a_file_of_a_tree_joins_what_is_there(swarm: Swarm, tmp_path: Path) -> None:
    shared = make_sample(tmp_path / "shared", {"05/a.jpg": 40_000}, name="2024")
    seeder, _ = await swarm.seed(shared)
    output = tmp_path / "output"
    (output / "2024" / "05").mkdir(parents=True)
    for inner in ("mine.txt", "05/mine.jpg"):
        (output / "2024" / inner).write_text("of the user")

    _, torrent = await swarm.download(shared, seeder, output=output)
    await done(torrent)

    await torrent.close()
    assert (output / "2024" / "05" / "a.jpg").read_bytes() == shared.content
    assert sorted(path.name for path in output.rglob("*") if path.is_file()) == [
        "a.jpg",
        "mine.jpg",
        "mine.txt",
    ]


async def test_clients_that_finish_in_one_folder_at_once_share_it(
    swarm: Swarm, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    seeder = await swarm.client()
    samples = [
        make_sample(
            tmp_path / f"shared{number}", {f"05/{number}": 40_000}, name="2024", seed=number
        )
        for number in range(4)
    ]
    for sample in samples:
        await swarm.seed(sample, client=seeder)

    downloads = [await swarm.download(sample, seeder, output=output) for sample in samples]
    await done(*(torrent for _, torrent in downloads))

    for number, sample in enumerate(samples):
        assert (output / "2024" / "05" / str(number)).read_bytes() == sample.content
    assert all(not torrent.progress().error for _, torrent in downloads)


@pytest.mark.parametrize("lengths", [0, {"05/none.txt": 0}], ids=["file", "tree"])
async def test_content_without_bytes_is_seeded_and_downloaded(
    swarm: Swarm, tmp_path: Path, lengths: int | dict[str, int]
) -> None:
    empty = make_sample(tmp_path / "shared", lengths, name="2024")
    seeder, seeded = await swarm.seed(empty)

    client, torrent = await swarm.download(empty, seeder)
    [path] = await done(torrent)

    assert empty.is_at(path)
    assert seeded.progress().state == torrent.progress().state == "seeding"
    assert (torrent.complete, torrent.progress().pieces_total) == (True, 0)
    assert torrent.content_path.stat().st_size == 0
    assert seeder.takings() == client.takings() == []


# -- what users do wrong


async def test_one_torrent_is_open_once_in_a_client(swarm: Swarm, sample: Sample) -> None:
    client = await swarm.client()

    outcomes = await asyncio.gather(
        *(client.seed(sample.metainfo, sample.path) for _ in range(3)), return_exceptions=True
    )
    with pytest.raises(UsageError, match="open in this client already"):
        await client.download(sample.metainfo, swarm.output())

    assert sum(isinstance(one, Torrent) for one in outcomes) == 1
    assert sum(isinstance(one, UsageError) for one in outcomes) == 2
    await client.torrents[0].close()
    await client.seed(sample.metainfo, sample.path)


async def test_values_that_make_no_client_are_refused() -> None:
    for options in ({"up_limit": 0}, {"down_limit": -5}, {"port": 65536}, {"port": -1}):
        with pytest.raises(UsageError):
            Client(**options)


@pytest.mark.usefixtures("nothing_left")
async def test_a_client_takes_the_first_free_port_or_says_that_there_is_none() -> None:
    async with Client(bind=LOCAL) as first:
        async with Client(bind=LOCAL, port=first.port, port_tries=30) as second:
            assert first.port < second.port < first.port + 30
            assert second.addresses == [(LOCAL, second.port)]
        third = Client(bind=LOCAL, port=first.port, port_tries=1)
        with pytest.raises(ListenError, match=f"port {first.port}"):
            await third.start()
        await third.close()


# -- limits


@pytest.mark.parametrize("side", ["up", "down"])
async def test_a_rate_limit_holds(swarm: Swarm, tmp_path: Path, side: str) -> None:
    rate, size = 1_000_000, 700_000
    sample = make_sample(tmp_path / "shared", size)
    loop = asyncio.get_running_loop()
    start = loop.time()
    seeder, _ = await swarm.seed(sample, **({"up_limit": rate} if side == "up" else {}))
    _, torrent = await swarm.download(
        sample, seeder, **({"down_limit": rate} if side == "down" else {})
    )

    await done(torrent)

    assert size <= rate * (loop.time() - start + BURST) + 256 * KIB


async def test_a_limit_is_shared_by_the_torrents_of_a_client(swarm: Swarm, tmp_path: Path) -> None:
    rate, size = 1_500_000, 1_200_000
    samples = [make_sample(tmp_path / f"s{n}", size, seed=n, name=f"n{n}") for n in range(3)]
    seeder, leecher = await swarm.client(up_limit=rate), await swarm.client()
    loop = asyncio.get_running_loop()
    start = loop.time()
    for sample in samples:
        await swarm.seed(sample, client=seeder)
    torrents = [(await swarm.download(one, seeder, client=leecher))[1] for one in samples]

    def moved() -> list[int]:
        return [torrent.progress().bytes_done for torrent in torrents]

    await until(lambda: min(moved()) > 0)
    before = moved()

    def since_then() -> list[int]:
        return sorted(now - then for now, then in zip(moved(), before, strict=True))

    await until(lambda: since_then()[-1] > 0.4 * size)
    slowest = since_then()[0]
    await done(*torrents)

    assert slowest > 0.1 * size
    assert 3 * size <= rate * (loop.time() - start + BURST) + 256 * KIB


async def test_a_peer_may_be_dialled_by_its_name(swarm: Swarm, sample: Sample) -> None:
    seeder, _ = await swarm.seed(sample)
    leecher = await swarm.client()
    torrent = await leecher.download(sample.metainfo, swarm.output())

    torrent.add_peers([("localhost", seeder.port)])

    assert sample.is_at(await torrent.wait())


# -- the end


@both_loops
async def test_closing_may_be_called_often_and_by_many(swarm: Swarm, sample: Sample) -> None:
    seeder, seeded = await swarm.seed(sample)
    leecher, torrent = await swarm.download(sample, seeder, down_limit=50_000)
    await until(lambda: torrent.peers())

    async with asyncio.timeout(5):
        await asyncio.gather(
            torrent.close(), leecher.close(), torrent.close(), leecher.close(), seeded.close()
        )
        await torrent.close()
        await leecher.close()

    assert leecher.torrents == []
    with pytest.raises(NetworkError, match="closed"):
        await leecher.download(sample.metainfo, swarm.output())


async def test_a_closing_that_is_cancelled_is_carried_out_all_the_same(
    swarm: Swarm, sample: Sample
) -> None:
    _, seeded = await swarm.seed(sample)
    closing = asyncio.create_task(seeded.close())
    await asyncio.sleep(0)

    closing.cancel()

    await asyncio.gather(closing, return_exceptions=True)
    async with asyncio.timeout(5):
        await seeded.close()
    assert seeded.progress().state == "stopped"


class SlowFiles(Files):
    """Reads only once it is let."""

    gate: threading.Event
    reached: threading.Event

    @classmethod
    def sys_pread(cls, fd: int, view: Any, offset: int) -> int:  # type: ignore[override]
        cls.reached.set()
        cls.gate.wait(20)
        return Files.sys_pread(fd, view, offset)


@pytest.fixture
def slow_files(monkeypatch: pytest.MonkeyPatch) -> type[SlowFiles]:
    SlowFiles.gate, SlowFiles.reached = threading.Event(), threading.Event()
    monkeypatch.setattr(pieces_module, "Files", SlowFiles)
    return SlowFiles


async def test_a_check_is_broken_off_when_the_client_closes(
    swarm: Swarm, tmp_path: Path, slow_files: type[SlowFiles]
) -> None:
    sample = make_sample(tmp_path / "shared", 30_000_000, piece_length=1024 * KIB)
    client = await swarm.client()
    seeding = asyncio.create_task(client.seed(sample.metainfo, sample.path))
    await asyncio.to_thread(slow_files.reached.wait, 10)

    closing = asyncio.create_task(client.close())
    await asyncio.sleep(0)
    slow_files.gate.set()

    async with asyncio.timeout(5):
        await closing
        with pytest.raises((StorageError, NetworkError)):
            await seeding


async def test_a_recheck_of_content_that_changed_does_not_hold_up_closing(
    swarm: Swarm, tmp_path: Path, slow_files: type[SlowFiles], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content_watch, "CHECK_EVERY", 0.05)
    sample = make_sample(tmp_path / "shared", 30_000_000, piece_length=1024 * KIB)
    slow_files.gate.set()
    seeder, _ = await swarm.seed(sample)
    _, torrent = await swarm.download(sample, seeder, down_limit=1_000_000)
    await until(lambda: torrent.progress().downloaded)
    slow_files.gate.clear()
    slow_files.reached.clear()
    os.utime(sample.path)
    await asyncio.to_thread(slow_files.reached.wait, 10)

    closing = asyncio.create_task(seeder.close())
    await asyncio.sleep(0)
    slow_files.gate.set()

    async with asyncio.timeout(5):
        await closing


async def test_a_check_whose_caller_is_cancelled_leaves_no_open_file(
    swarm: Swarm, sample: Sample, slow_files: type[SlowFiles]
) -> None:
    output = swarm.output()
    output.mkdir()
    (output / "story.bin").write_bytes(sample.content)
    client = await swarm.client()
    opening = asyncio.create_task(client.download(sample.metainfo, output))
    await asyncio.to_thread(slow_files.reached.wait, 10)

    opening.cancel()
    await asyncio.gather(opening, return_exceptions=True)
    slow_files.gate.set()

    assert opening.cancelled()
    await client.close()


async def test_a_tracker_that_hangs_does_not_hold_up_closing(
    swarm: Swarm, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcer_module, "GOODBYE_TIMEOUT", 0.3)
    started: list[bytes] = []

    async def answer_once(head: bytes, writer: asyncio.StreamWriter) -> None:
        if not started:
            started.append(head)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 25\r\n\r\nd8:intervali60e5:peers0:e")
            return
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)

    async with raw_server(answer_once) as server:
        url = f"http://{LOCAL}:{server.port}/announce"
        client = await swarm.client()
        torrents = [await client.seed(sample.metainfo, sample.path, trackers=[url], verify=False)]
        await until(lambda: "answered" in torrents[0].progress().tracker)

        async with asyncio.timeout(2):
            await client.close()

        assert b"event=stopped" in server.requests[-1]


async def test_closing_in_the_middle_of_everything_leaves_nothing(
    swarm: Swarm, tmp_path: Path
) -> None:
    """The fixture looks at tasks, sockets, files and threads."""
    sample = make_sample(tmp_path / "shared", 1_000_000)
    seeder, _ = await swarm.seed(sample)
    for moment in range(0, 60, 6):
        leecher, torrent = await swarm.download(sample, seeder)
        await until(
            lambda: torrent.progress().pieces_done >= moment  # noqa: B023
        )
        async with asyncio.timeout(5):
            await leecher.close()


# -- peers that mean no good


async def test_half_handshakes_without_number_do_not_keep_an_honest_peer_out(
    swarm: Swarm, sample: Sample
) -> None:
    seeder, _ = await swarm.seed(sample)
    crowd = [await HandMade.dial(seeder) for _ in range(400)]
    for peer in crowd:
        peer.writer.write(b"\x13BitTorrent proto")

    _, torrent = await swarm.download(sample, seeder)
    [path] = await done(torrent, seconds=5)

    assert sample.is_at(path)
    assert len(seeder._connections.admission) <= 201
    for peer in crowd:
        await peer.close()


async def test_a_peer_that_asks_and_never_reads_gets_bounded_memory_and_nobody_waits_for_it(
    swarm: Swarm, tmp_path: Path
) -> None:
    sample = make_sample(tmp_path / "shared", 4_000_000)
    seeder, seeded = await swarm.seed(sample)
    rude = await HandMade.dial(seeder, small=True)
    await rude.meet(sample.info_hash)
    await rude.send(fake_peer.message(fake_peer.INTERESTED))
    await rude.expect(fake_peer.UNCHOKE)
    rude.stop_reading()
    every = b"".join(fake_peer.request(piece, 0) for piece in range(sample.count - 1))
    for _ in range(40):
        rude.writer.write(every)

    _, torrent = await swarm.download(sample, seeder)
    [path] = await done(torrent)

    assert sample.is_at(path)
    for connection in seeded.exchange.connections.values():
        assert connection.stream.queued <= exchange_module.MAX_UNREAD + 256 * KIB
    for peer in seeded.exchange.transfer.peers:
        assert len(peer.uploads) <= 2000
    await rude.close()


async def test_a_peer_that_makes_us_talk_and_never_reads_is_left(
    swarm: Swarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every choke takes our requests back, every unchoke has us ask again."""
    monkeypatch.setattr(exchange_module, "MAX_UNREAD", 4 * KIB)
    monkeypatch.setattr(connection_module, "BURDEN_BURST", 1e9)  # which would slow it down
    monkeypatch.setattr(Connections, "welcome", _with_a_small_buffer(Connections.welcome))
    sample = make_sample(tmp_path / "shared", 4_000_000)
    leecher, torrent = await swarm.download(sample)
    rude = await HandMade.dial(leecher, small=True)
    await rude.meet(sample.info_hash)
    await rude.send(fake_peer.everything(sample.count))
    rude.stop_reading()

    async def flip_for_ever() -> None:
        while True:
            for kind in (fake_peer.UNCHOKE, fake_peer.CHOKE):
                rude.writer.write(fake_peer.message(kind))
                await asyncio.sleep(0)
                await asyncio.sleep(0)

    flipping = asyncio.create_task(flip_for_ever())
    await until(lambda: len(leecher._connections.admission) == 0)

    assert torrent.peers() == []
    flipping.cancel()
    await asyncio.gather(flipping, return_exceptions=True)
    await rude.close()


def _with_a_small_buffer(welcome: Any) -> Any:
    def small(connections: Connections, sock: socket.socket, address: tuple[str, int]) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * KIB)
        welcome(connections, sock, address)

    return small


async def test_random_messages_from_a_peer_in_the_swarm_harm_nobody(
    swarm: Swarm, sample: Sample
) -> None:
    rng = random.Random(5)
    seeder, _ = await swarm.seed(sample, up_limit=400_000)
    leecher, torrent = await swarm.download(sample, seeder)

    def message() -> bytes:
        kind = rng.choice([0, 1, 2, 3, 4, 5, 6, 7, 8, 20, rng.randrange(256)])
        size = {4: 4, 5: 3, 6: 12, 7: 8 + 16384, 8: 12}.get(kind, 0)
        body = rng.randbytes(size) if rng.random() < 0.3 else bytes(3) + rng.randbytes(size)[3:]
        return fake_peer.message(kind, body)

    for _ in range(40):
        for client in (seeder, leecher):
            peer = await HandMade.dial(client)
            await peer.meet(sample.info_hash, reserved=bytes((0, 0, 0, 0, 0, 0x10, 0, 0)))
            peer.writer.write(b"".join(message() for _ in range(rng.randrange(1, 30))))
            await asyncio.sleep(0)
            await peer.close()

    [path] = await done(torrent)
    assert sample.is_at(path)


# -- the disk


class FullDisk(Files):
    """A disk that has no room for content while it is full."""

    full = False
    refused = 0

    @classmethod
    def sys_pwrite(cls, fd: int, data: Any, offset: int) -> int:  # type: ignore[override]
        if cls.full and len(data) > 4 * KIB:
            cls.refused += 1
            raise OSError(errno.ENOSPC, "No space left on device")
        return Files.sys_pwrite(fd, data, offset)


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> type[FullDisk]:
    FullDisk.full, FullDisk.refused = False, 0
    monkeypatch.setattr(pieces_module, "Files", FullDisk)
    monkeypatch.setattr(piece_writer, "RETRY_AFTER", 0.1)
    return FullDisk


@pytest.mark.parametrize("budget", [32 * 1024 * KIB, 1])
async def test_on_a_full_disk_requests_stop_seeding_goes_on_and_space_completes_it(
    swarm: Swarm,
    tmp_path: Path,
    full_disk: type[FullDisk],
    monkeypatch: pytest.MonkeyPatch,
    budget: int,
) -> None:
    monkeypatch.setattr(engine_module, "ASSEMBLY_BUDGET", budget)
    sample = make_sample(tmp_path / "shared", 3_000_000, piece_length=32 * KIB)
    seeder, seeded = await swarm.seed(sample, up_limit=3_000_000)
    leecher, torrent = await swarm.download(sample, seeder)
    await until(lambda: torrent.progress().pieces_done >= 10)

    full_disk.full = True
    await until(lambda: torrent.progress().state == "error")
    error = torrent.progress().error
    await until(lambda: all(not p.session.outstanding for p in torrent.exchange.transfer.peers))
    done_then = torrent.progress().pieces_done
    _, third = await swarm.download(sample, leecher, client=await _second(swarm, monkeypatch))
    await until(lambda: third.progress().pieces_done >= done_then)
    uploaded = seeded.progress().uploaded
    await asyncio.sleep(0.3)
    uploaded_meanwhile = seeded.progress().uploaded - uploaded

    full_disk.full = False
    [path] = await done(torrent)

    assert error is not None
    assert "full" in error
    assert uploaded_meanwhile == 0
    assert full_disk.refused > 0
    assert torrent.progress().error is None
    assert torrent.progress().state == "seeding"
    assert sample.is_at(path)


async def _second(swarm: Swarm, monkeypatch: pytest.MonkeyPatch) -> Client:
    """A client on another disk, which has room."""
    monkeypatch.setattr(pieces_module, "Files", Files)
    return await swarm.client()


async def test_a_client_with_a_full_disk_closes_and_goes_on_with_what_it_has(
    swarm: Swarm, sample: Sample, full_disk: type[FullDisk]
) -> None:
    seeder, _ = await swarm.seed(sample, up_limit=600_000)
    output = swarm.output()
    leecher, torrent = await swarm.download(sample, seeder, output=output)
    await until(lambda: torrent.progress().pieces_done >= 3)
    full_disk.full = True
    await until(lambda: torrent.progress().error)
    async with asyncio.timeout(5):
        await leecher.close()
    kept = torrent.progress().pieces_done

    full_disk.full = False
    _, again = await swarm.download(sample, seeder, output=output)
    [path] = await done(again)

    assert sample.is_at(path)
    assert again.progress().downloaded <= 300_000 - (kept - 1) * 16 * KIB


# -- content that changes while it is served


def _truncate(path: Path) -> None:
    os.truncate(path, 100_000)


def _edit(path: Path) -> None:
    with path.open("r+b") as file:
        for piece in (2, 9, 10):
            file.seek(piece * 16 * KIB + 7)
            file.write(b"changed")


def _replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(bytes(300_000))
    other.replace(path)


def _delete(path: Path) -> None:
    path.unlink()


@both_loops
@pytest.mark.parametrize("change", [_truncate, _edit, _replace, _delete])
async def test_what_changed_is_not_served_and_what_is_put_back_is_served_again(
    swarm: Swarm,
    sample: Sample,
    stream_kind: str,
    change: Callable[[Path], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(content_watch, "CHECK_EVERY", 0.05)
    monkeypatch.setattr(peer_book, "FIRST_RETRY", 0.05)
    kept = sample.path.with_name("kept")
    kept.write_bytes(sample.content)
    seeder, seeded = await swarm.seed(sample, up_limit=1_000_000)
    _, torrent = await swarm.download(sample, seeder)
    await until(lambda: torrent.progress().pieces_done >= 2)

    change(sample.path)
    mine = sample.path.read_bytes() if sample.path.exists() else None
    right = {
        piece
        for piece in range(sample.count)
        if mine and verify_piece(mine[piece * 16 * KIB :][: 16 * KIB], sample.digest(piece))
    }
    await until(lambda: set(seeded.exchange.transfer.have) == right, what=seeded.progress)
    error = seeded.progress().error
    newcomer, late = await swarm.download(sample, seeder)
    await until(lambda: late.progress().pieces_done == len(right))
    unchanged = sample.path.read_bytes() if sample.path.exists() else None
    kept.replace(sample.path)
    torrent.add_peers(at(newcomer))  # it may have banned the seeder for what it was sent

    paths = await done(torrent, late)
    await until(lambda: seeded.progress().state == "seeding")

    assert unchanged == mine
    assert error is not None
    assert f"{19 - len(right)} pieces are not offered" in error
    assert seeded.progress().error is None
    assert all(sample.is_at(path) for path in paths)
    assert torrent.progress().hash_failures + late.progress().hash_failures <= 4


class DamagedDisk(Files):
    """Cannot read the first bytes of piece 4, as soon as it is damaged."""

    damaged = False
    at = 4 * 16 * KIB

    @classmethod
    def sys_pread(cls, fd: int, view: Any, offset: int) -> int:  # type: ignore[override]
        if cls.damaged and offset <= cls.at < offset + len(view):
            raise OSError(errno.EIO, "Input/output error")
        return Files.sys_pread(fd, view, offset)


async def test_what_can_no_longer_be_read_is_no_longer_offered(
    swarm: Swarm, sample: Sample, stream_kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content_watch, "CHECK_EVERY", 0.05)
    monkeypatch.setattr(peer_book, "FIRST_RETRY", 0.05)
    monkeypatch.setattr(pieces_module, "Files", DamagedDisk)
    monkeypatch.setattr(DamagedDisk, "damaged", False)
    sendfile = os.sendfile

    def damaged_sendfile(out: int, file: int, offset: int, count: int) -> int:
        if offset <= DamagedDisk.at < offset + count:
            raise OSError(errno.EIO, "Input/output error")
        return sendfile(out, file, offset, count)

    monkeypatch.setattr(os, "sendfile", damaged_sendfile)
    _, seeded = await swarm.seed(sample)
    monkeypatch.setattr(DamagedDisk, "damaged", True)
    _, torrent = await swarm.download(sample, seeded._client)

    await until(lambda: torrent.progress().pieces_done == 18)

    await until(lambda: torrent.progress().missing == (4,))
    await until(lambda: seeded.progress().pieces_done == 18)
    assert "1 piece" in (seeded.progress().error or "")


async def test_a_file_of_many_that_is_deleted_takes_no_other_along(
    swarm: Swarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content_watch, "CHECK_EVERY", 0.05)
    monkeypatch.setattr(peer_book, "FIRST_RETRY", 0.05)
    sample = make_sample(tmp_path / "shared", TREE, name="tree")
    seeder, seeded = await swarm.seed(sample)
    _, first = await swarm.download(sample, seeder)
    await done(first)
    (sample.path / "deep/er/b.bin").unlink()
    _, second = await swarm.download(sample, seeder)  # may still get all: what is open stays
    await until(lambda: seeded.progress().error)
    have = seeded.progress().pieces_done

    _, torrent = await swarm.download(sample, seeder)
    await until(lambda: torrent.progress().pieces_done == have)
    await until(lambda: torrent.progress().missing)
    torrent.add_peers(at(first._client))
    await done(torrent)

    assert have == sample.count - 3
    assert second.progress().hash_failures == 0


# -- blame


async def test_a_peer_that_sends_wrong_data_is_banned_and_the_content_is_right(
    swarm: Swarm, sample: Sample
) -> None:
    leecher, torrent = await swarm.download(sample)
    liar = await HandMade.dial(leecher)
    await liar.meet(sample.info_hash)
    await liar.send(fake_peer.everything(sample.count), fake_peer.message(fake_peer.UNCHOKE))
    asked = (await liar.expect(fake_peer.REQUEST)).triple
    await liar.send(fake_peer.block(asked[0], asked[1], bytes(asked[2])))
    await liar.ended()
    again = await HandMade.dial(leecher)
    again.peer_id = liar.peer_id
    await again.meet(sample.info_hash)
    await again.ended()

    seeder, _ = await swarm.seed(sample)
    torrent.add_peers(at(seeder))
    [path] = await done(torrent)

    assert sample.is_at(path)
    assert torrent.progress().hash_failures == 1
    assert not verify_piece(bytes(asked[2]), sample.digest(asked[0]))
    await liar.close()
    await again.close()


# -- what is told


async def test_updates_end_with_completion(swarm: Swarm, sample: Sample) -> None:
    seeder, _ = await swarm.seed(sample)
    _, torrent = await swarm.download(sample, seeder)

    told = [progress async for progress in torrent.updates(0.01)]

    assert told[-1].state == "seeding"
    assert told[-1].pieces_done == 19
    assert [one.pieces_done for one in told] == sorted(one.pieces_done for one in told)


async def test_peers_are_told_with_what_they_are(swarm: Swarm, sample: Sample) -> None:
    seeder, seeded = await swarm.seed(sample, up_limit=100_000)
    leecher, torrent = await swarm.download(sample, seeder)
    await until(lambda: torrent.progress().pieces_done)

    [at_leecher], [at_seeder] = torrent.peers(), seeded.peers()

    assert at_leecher.address == f"{LOCAL}:{seeder.port}"
    assert at_seeder.address == f"{LOCAL}:{leecher.port}"
    assert (at_leecher.direction, at_seeder.direction) == ("out", "in")
    assert at_leecher.pieces == 19
    assert at_leecher.am_interested
    assert not at_seeder.am_interested
    assert "p2pfs" in at_leecher.client
    assert at_leecher.bytes_down > 0
