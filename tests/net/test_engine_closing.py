"""Whatever happens at that moment, closing a client is quick and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from p2pfs.errors import NetworkError, StorageError
from p2pfs.net import announcer as announcer_module
from p2pfs.net import content_watch
from p2pfs.storage import pieces as pieces_module
from p2pfs.storage.files import Files
from tests.support.rawhttp import raw_server
from tests.support.swarm import KIB, LOCAL, Sample, Swarm, make_sample
from tests.support.waiting import until

pytestmark = pytest.mark.loops("uvloop")
both_loops = pytest.mark.loops("uvloop", "asyncio")


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


async def test_what_becomes_complete_while_it_is_being_closed_begins_nothing_more(
    swarm: Swarm, tmp_path: Path
) -> None:
    sample = make_sample(tmp_path / "shared", 100_000)
    seeder, _ = await swarm.seed(sample)
    _, torrent = await swarm.download(sample, seeder)

    await torrent._content.stop()
    torrent._content.completed()  # as the exchange does, which waits for its last pieces

    assert not torrent._content._tasks
