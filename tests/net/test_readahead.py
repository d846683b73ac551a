"""Cold content is read on a worker before it is sent."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from p2pfs.net.disk import Disk
from p2pfs.net.readahead import ReadAhead
from p2pfs.storage.creating import make_metainfo
from p2pfs.storage.pieces import PieceStore

PIECE = 256 * 1024


def seeded(folder: Path) -> PieceStore:
    path = folder / "content.bin"
    path.write_bytes(os.urandom(4 * PIECE))
    return PieceStore.open_seed(make_metainfo(path, piece_length=PIECE), path, verify=False)


def forget(path: Path) -> None:
    """Drop a file from the page cache, where the system can."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


async def test_what_is_in_memory_is_ready_at_once(tmp_path):
    store = seeded(tmp_path)
    disk = Disk(lambda busy: None)
    ahead = ReadAhead(store, disk, lambda: None)

    store.warm(2, 0, PIECE)

    assert ahead.ready(2)
    await disk.close()
    store.close()


@pytest.mark.skipif(not hasattr(os, "RWF_NOWAIT"), reason="this system cannot tell what is cold")
async def test_what_is_cold_is_ready_after_it_was_read(tmp_path):
    store = seeded(tmp_path)
    forget(store.final_path)
    arrived = asyncio.Event()
    disk = Disk(lambda busy: None)
    ahead = ReadAhead(store, disk, arrived.set)

    if ahead.ready(1):
        await disk.close()
        pytest.skip("this file system cannot tell, or does not forget")
    assert not ahead.ready(1)
    await asyncio.wait_for(arrived.wait(), 10)

    assert ahead.ready(1)
    assert store.is_warm(1, 0, PIECE)
    await disk.close()
    store.close()


async def test_a_file_that_is_gone_is_no_reason_to_wait_for_ever(tmp_path):
    store = seeded(tmp_path)
    forget(store.final_path)
    if store.is_warm(1, 0, PIECE):
        pytest.skip("this file system cannot tell, or does not forget")
    os.truncate(store.final_path, 10)
    arrived = asyncio.Event()
    disk = Disk(lambda busy: None)
    ahead = ReadAhead(store, disk, arrived.set)

    if not ahead.ready(1):
        await asyncio.wait_for(arrived.wait(), 10)

    assert ahead.ready(1)
    await disk.close()
    store.close()
