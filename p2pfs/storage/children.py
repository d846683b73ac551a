"""Jobs done by child processes: for work of many short calls, which threads would do one after
the other under the interpreter's lock.

Invariant: every child has ended when the block is left, however it is left, and no child outlives
its parent by more than a job. A child changes nothing but memory that was shared before it began,
and what it cannot do it leaves to its parent: errors are met there.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from io import FileIO
from typing import NoReturn, Self

try:
    import resource
except ImportError:  # Windows, where there are no children either
    resource = None  # type: ignore[assignment]

__all__ = ["Children", "can_fork"]

_WORD = 4
"""Bytes of a number in a pipe: far below what a pipe takes whole, so that none is ever torn."""


def can_fork() -> bool:
    """Whether this process may go on as two: on Linux, while it has one thread."""
    return (
        sys.platform == "linux"
        and threading.active_count() == 1
        and threading.current_thread() is threading.main_thread()
    )


class Children:
    """`count` children for the jobs 0 to `jobs` - 1, which run while the block does.

    Each child calls `prepare()` once, and what that returned with the number of a job, again and
    again. When that raises, the job is reported as not done. Raises `OSError` on entering when
    there can be no children, as where processes or descriptors are used up.
    """

    def __init__(self, count: int, jobs: int, prepare: Callable[[], Callable[[int], None]]) -> None:
        self._count = count
        self._prepare = prepare
        self._to_give = iter(range(jobs))
        self._next: int | None = None
        self._undone = dict.fromkeys(range(jobs))
        self._children: list[int] = []
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.callback(self._end)
            taking, self._giving = _pipe(stack)
            self._reports, telling = _pipe(stack)
            os.set_blocking(self._giving.fileno(), False)
            for _ in range(self._count):
                self._fork(taking, telling)
            taking.close()
            telling.close()
            self._give()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def undone(self) -> list[int]:
        """The jobs of which nothing was heard, in order: after the last outcome, those that were
        left because children died."""
        return list(self._undone)

    def outcomes(self) -> Iterator[tuple[int, bool]]:
        """Each job as it ends, and whether it was done."""
        while self._undone and (word := self._reports.read(_WORD)):
            job, failed = divmod(int.from_bytes(word, "little"), 2)
            self._undone.pop(job, None)
            self._give()
            yield job, not failed

    def _give(self) -> None:
        """Offer the children as many jobs as the pipe takes, and its end after the last."""
        try:
            while not self._giving.closed:
                if self._next is None:
                    self._next = next(self._to_give, None)
                if self._next is None:
                    self._giving.close()
                elif self._giving.write(self._next.to_bytes(_WORD, "little")) is None:
                    return  # it is full
                else:
                    self._next = None
        except BrokenPipeError:  # all children have died
            self._giving.close()

    def _fork(self, taking: FileIO, telling: FileIO) -> None:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            child = os.fork()
            if not child:
                self._live(taking, telling, before)
            self._children.append(child)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _live(self, taking: FileIO, telling: FileIO, mask: set[int | signal.Signals]) -> NoReturn:
        """The life of a child."""
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            self._giving.close()
            self._reports.close()
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # what it may die of leaves no file
            gc.freeze()  # or each collection would copy what is shared with the parent
            do = self._prepare()
            while word := taking.read(_WORD):
                job, failed = int.from_bytes(word, "little"), False
                try:
                    do(job)
                except Exception:
                    failed = True
                telling.write((2 * job + failed).to_bytes(_WORD, "little"))
        finally:
            os._exit(0)

    def _end(self) -> None:
        for child in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        for child in self._children:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child, 0)
        self._children.clear()


def _pipe(stack: contextlib.ExitStack) -> tuple[FileIO, FileIO]:
    reading, writing = os.pipe()
    return stack.enter_context(FileIO(reading, "r")), stack.enter_context(FileIO(writing, "w"))
