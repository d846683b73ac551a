"""Worker threads whose outcomes come back to the event loop many at a time.

For short calls that follow each other closely: an executor's future and its copy on the loop took
longer than all else that the loop does for a piece.

Invariant: each call that was posted is made once, and its outcome told once, in a step of the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["Then", "Threads"]

log = logging.getLogger(__name__)

T = TypeVar("T")

Then = Callable[[T | None, BaseException | None], None]
"""Told what a call returned, or what it raised."""


class Threads:
    """At most `count` threads called `name`, which start with the first call."""

    def __init__(self, count: int, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[tuple[Then[Any], Callable[..., Any], tuple[Any, ...]] | None]
        self._jobs = queue.SimpleQueue()
        self._outcomes: deque[tuple[Then[Any], Any, BaseException | None]] = deque()
        self._told = False
        """Whether the loop knows that there are outcomes."""
        self._names = [f"{name}_{number}" for number in range(count)]
        """Those of threads that are still to be started."""
        self._threads: list[threading.Thread] = []

    def post(self, then: Then[T], call: Callable[..., T], *args: Any) -> None:
        """Have `call` made by a thread, and `then` told of it on the loop.

        Raises `RuntimeError` when the system lets not a single thread be started.
        """
        if self._names:
            self._start()
        self._jobs.put((then, call, args))

    def _start(self) -> None:
        """Start what is missing; what cannot be started now is tried again at the next call."""
        while self._names:
            thread = threading.Thread(target=self._work, name=self._names[-1], daemon=True)
            try:
                thread.start()
            except RuntimeError:
                if not self._threads:
                    raise
                return
            self._threads.append(thread)
            self._names.pop()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            then, call, args = job
            try:
                self._outcomes.append((then, call(*args), None))
            except BaseException as error:
                self._outcomes.append((then, None, error))
            del job, then, call, args  # or they would live until the next call
            if not self._told:  # else it takes this one along: it looks after it unset that
                self._told = True
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                    self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        self._told = False
        while self._outcomes:
            then, result, error = self._outcomes.popleft()
            try:
                then(result, error)
            except Exception:
                log.exception("a fault of ours with what a thread did")

    def shutdown(self, wait: bool = True) -> None:
        """The threads end after the calls at hand; `wait` until they have."""
        for _ in self._threads:
            self._jobs.put(None)
        if wait:
            for thread in self._threads:
                thread.join()
