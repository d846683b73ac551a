"""Threads do the work, and end, without holding up the event loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from p2pfs.errors import CatalogueError, FormatError
from p2pfs.net.workers import Workers


async def test_work_is_done_on_another_thread_and_raises_what_it_raises(
    nothing_left: None,
) -> None:
    workers = Workers(1)

    def fail(*, reason: str) -> None:
        raise FormatError(reason)

    assert await workers.run(threading.get_ident) != threading.get_ident()
    with pytest.raises(FormatError, match="no"):
        await workers.run(fail, reason="no")
    await workers.close()


async def test_closing_waits_for_the_work_at_hand_and_takes_no_more(nothing_left: None) -> None:
    workers = Workers(1)
    go_on = threading.Event()
    job = asyncio.ensure_future(workers.run(go_on.wait, 10))
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(workers.close())
    await asyncio.sleep(0)

    with pytest.raises(CatalogueError, match="being stopped"):
        await workers.run(threading.get_ident)
    assert not closing.done()
    go_on.set()
    await closing
    assert await job
    await workers.close()
