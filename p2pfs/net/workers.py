"""Worker threads of the index, and how pools of threads end.

Invariant: the event loop never waits for a thread, neither for its work nor for its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, Protocol, TypeVar

from p2pfs.errors import CatalogueError

__all__ = ["Workers", "end"]

P = ParamSpec("P")
T = TypeVar("T")


class Workers:
    """`count` threads for what takes longer than a step of the event loop."""

    def __init__(self, count: int) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="p2pfs-index")

    async def run(self, call: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """What `call` returns; raises what it raises, and `CatalogueError` after `close`."""
        loop = asyncio.get_running_loop()
        try:
            future = loop.run_in_executor(self._pool, partial(call, *args, **named))
        except RuntimeError:
            raise CatalogueError("the index is being stopped") from None
        return await future

    async def close(self) -> None:
        """Return when the work at hand is done."""
        await end(self._pool)


class Pool(Protocol):
    """Threads that can be ended."""

    def shutdown(self, wait: bool = True) -> None: ...


async def end(*pools: Pool) -> None:
    """Return when the jobs of these pools are done and their threads gone."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def shut_down() -> None:
        for pool in pools:
            pool.shutdown(wait=True)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(ended.set)

    # Not on the loop's own threads: all of those may be busy with names to resolve.
    thread = threading.Thread(target=shut_down, name="p2pfs-end")
    thread.start()
    await ended.wait()
    thread.join()
