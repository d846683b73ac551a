"""Storage calls on worker threads, with back-pressure.

Invariant: at most `HIGH_WATER` bytes (and one job more) wait for the disk before `busy`
asks the owners of sockets to stop reading; below `LOW_WATER` they are told to go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from p2pfs.errors import StorageError
from p2pfs.net.threads import Then, Threads
from p2pfs.net.workers import end

__all__ = ["Disk"]

WORKERS: Final = 2
CHECKS: Final = 4
"""Torrents whose content is checked at the same time."""

HIGH_WATER: Final = 16 * 1024 * 1024
LOW_WATER: Final = 8 * 1024 * 1024

T = TypeVar("T")


class Disk:
    """A pool of threads for one client. `on_pressure(busy)` is called when `busy` changes."""

    def __init__(self, on_pressure: Callable[[bool], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._threads = Threads(WORKERS, "p2pfs-disk")
        self._checks = ThreadPoolExecutor(CHECKS, thread_name_prefix="p2pfs-check")
        self._on_pressure = on_pressure
        self._waiting = 0
        self._closed = False
        self.busy = False
        self._calm = asyncio.Event()
        self._calm.set()

    async def calm(self) -> None:
        """Wait until the disk is not busy."""
        await self._calm.wait()

    def post(self, weight: int, then: Then[T], call: Callable[..., T], *args: Any) -> None:
        """Have `call` made by a worker, and `then` told of it in a later step of the loop.

        `weight` is the bytes of memory it holds on to. Raises `StorageError` once the pool is
        closed, and when no thread can be started.
        """
        if self._closed:
            raise StorageError("the client is closed")

        def done(result: T | None, error: BaseException | None) -> None:
            try:
                self._done(weight)
            finally:
                then(result, error)

        try:
            self._threads.post(done, call, *args)
        except RuntimeError as error:
            raise StorageError(f"no thread can be started for the disk: {error}") from error
        self._waiting += weight
        if not self.busy and self._waiting > HIGH_WATER:
            self.busy = True
            self._calm.clear()
            self._on_pressure(True)

    def run(self, weight: int, call: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        """The same, to be awaited."""
        future: asyncio.Future[T] = self._loop.create_future()
        future.add_done_callback(_outcome_is_known)

        def done(result: Any, error: BaseException | None) -> None:
            if future.done():  # its caller has left
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)

        self.post(weight, done, call, *args)
        return future

    def check(self, call: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        """Run what may take minutes, beside the workers that transfers depend on."""
        if self._closed:
            raise StorageError("the client is closed")
        future: asyncio.Future[T] = self._loop.run_in_executor(self._checks, call, *args)
        future.add_done_callback(_outcome_is_known)
        return future

    def _done(self, weight: int) -> None:
        self._waiting -= weight
        if self.busy and self._waiting < LOW_WATER:
            self.busy = False
            self._calm.set()
            self._on_pressure(False)

    async def close(self) -> None:
        """Wait for the jobs at hand, without holding up the loop."""
        self._closed = True
        await end(self._checks, self._threads)


def _outcome_is_known(job: asyncio.Future[Any]) -> None:
    """Whoever waited may have been cancelled: then what the call raised concerns nobody."""
    if not job.cancelled():
        job.exception()
