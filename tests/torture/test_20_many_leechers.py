"""Case 20: one seeder and fifty leechers in one process, by real sockets and a real tracker."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from p2pfs.net.engine import Client, Torrent
from p2pfs.net.tracker_http import TrackerServer
from tests.support.swarm import make_sample

pytestmark = [
    pytest.mark.torture,
    pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors are not listed"),
]

LEECHERS = 50
SIZE = 8 << 20
UP_LIMIT = 2e6


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


async def back_to(baseline: int, count: Callable[[], int]) -> None:
    until = time.monotonic() + 10
    while count() > baseline:
        assert time.monotonic() < until, f"{count()} instead of {baseline}"
        await asyncio.sleep(0.05)


async def test_fifty_leechers_complete_and_the_seeder_sends_two_copies_at_most(
    tmp_path: Path, figures: Callable[[str], None]
) -> None:
    sample = make_sample(tmp_path / "shared", SIZE, piece_length=64 * 1024)
    async with TrackerServer("127.0.0.1", 0), Client(bind="127.0.0.1"):
        pass  # what a process opens once and keeps does not count
    files, tasks = open_files(), len(asyncio.all_tasks())
    most_files = most_tasks = 0
    async with AsyncExitStack() as stack:
        tracker = await stack.enter_async_context(TrackerServer("127.0.0.1", 0))
        seeder = await stack.enter_async_context(Client(bind="127.0.0.1", up_limit=UP_LIMIT))
        leechers = [
            await stack.enter_async_context(Client(bind="127.0.0.1")) for _ in range(LEECHERS)
        ]
        start = time.monotonic()
        torrents: list[Torrent] = [
            await leecher.download(sample.metainfo, tmp_path / f"o{n}", trackers=[tracker.url])
            for n, leecher in enumerate(leechers)
        ]
        seeded = await seeder.seed(sample.metainfo, sample.path, trackers=[tracker.url])
        async with asyncio.timeout(240):
            waiting = asyncio.gather(*(torrent.wait() for torrent in torrents))
            while not waiting.done():
                most_files = max(most_files, open_files())
                most_tasks = max(most_tasks, len(asyncio.all_tasks()))
                await asyncio.wait([waiting], timeout=0.5)
        seconds = time.monotonic() - start
        copies = seeded.progress().uploaded / SIZE
        uploads = sorted(torrent.progress().uploaded / SIZE for torrent in torrents)
        wasted = sum(torrent.progress().wasted for torrent in torrents) / SIZE
        failures = sum(torrent.progress().hash_failures for torrent in torrents)
        for path in waiting.result():
            assert sample.is_at(path)
    await back_to(files, open_files)
    await back_to(tasks, lambda: len(asyncio.all_tasks()))
    figures(
        f"{LEECHERS} leechers x {SIZE >> 20} MiB in {seconds:.1f} s (one copy takes "
        f"{SIZE / UP_LIMIT:.1f} s); the seeder sent {copies:.2f} copies, a leecher "
        f"{uploads[0]:.2f} to {uploads[-1]:.2f}; {wasted:.2f} copies came twice; at most "
        f"{most_files} descriptors and {most_tasks} tasks, {files} and {tasks} before and after"
    )
    assert copies <= 2
    assert failures == 0
