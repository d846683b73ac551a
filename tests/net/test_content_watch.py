"""Content that changes while it is served."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.swarm import Sample, Swarm, done
from tests.support.waiting import until


def edit(path: Path) -> None:
    """Change the piece at 16 KiB, as if some time after it was opened."""
    then = path.stat()
    with path.open("r+b") as file:
        file.seek(20_000)
        file.write(b"changed")
    os.utime(path, ns=(then.st_atime_ns, then.st_mtime_ns + 10**9))


def cut(path: Path) -> None:
    os.truncate(path, 20_000)


@pytest.mark.loops("asyncio", "uvloop")
@pytest.mark.parametrize(("change", "lost"), [(edit, {1}), (cut, set(range(1, 19)))])
async def test_what_changed_is_told_and_the_rest_is_still_served(
    change: Callable[[Path], None], lost: set[int], swarm: Swarm, sample: Sample
) -> None:
    seeder, seeded = await swarm.seed(sample)
    await done((await swarm.download(sample, seeder))[1])
    await asyncio.sleep(0.06)  # until a file is looked at again, see `handles.CHECK_EVERY`

    change(sample.path)
    await swarm.download(sample, seeder)
    await until(lambda: seeded.progress().error, 20)
    told = seeded.progress()
    _, torrent = await swarm.download(sample, seeder)
    async with asyncio.timeout(20):
        async for progress in torrent.updates(0.02):
            if progress.pieces_done == 19 - len(lost):
                break

    assert "changed" in told.error
    assert told.error.endswith("put it back as it was, or seed it again as it is now")
    assert told.pieces_done == 19 - len(lost)
    assert set(torrent.progress().missing) == lost
    assert progress.hash_failures == 0
