"""Jobs done by child processes: for work of many short calls, which threads would do one after
the other under the interpreter's lock, and for work that a process may die of.

Invariant: every child has ended once `close` has returned, and no child outlives its parent by
more than a job. A child changes nothing but memory that was shared before it began, no handler of
its parent's runs in it, and what it cannot do it leaves to its parent: errors are met there.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path
from typing import NoReturn

try:
    import resource
except ImportError:  # Windows, where there are no children either
    resource = None  # type: ignore[assignment]

__all__ = ["Children", "can_fork"]

_ALL = signal.valid_signals()
_WORD = 4
"""Bytes of a number in a pipe: far below what a pipe takes whole, so that none is ever torn."""


def can_fork() -> bool:
    """Whether this process may go on as two: on Linux, while it has one thread, of any kind."""
    if sys.platform != "linux" or threading.current_thread() is not threading.main_thread():
        return False
    try:
        return len(list(Path("/proc/self/task").iterdir())) == 1
    except OSError:
        return False


class Children:
    """Up to `count` children for the jobs 0 to `jobs` - 1.

    Each child calls `prepare()` once, and what that returned with the number of a job, again and
    again. When that raises, the job is reported as not done. Always to be closed.
    """

    def __init__(self, count: int, jobs: int, prepare: Callable[[], Callable[[int], None]]) -> None:
        self._count = count
        self._prepare = prepare
        self._to_give = iter(range(jobs))
        self._next: int | None = None
        self._undone = dict.fromkeys(range(jobs))
        self._children: list[int] = []
        self._pipes: list[FileIO] = []

    def start(self) -> None:
        """Raises `OSError` when there can be none, as where processes or descriptors are used up;
        fewer than `count` are enough."""
        with _Undisturbed() as mask:
            taking, self._giving = self._pipe()
            self._reports, telling = self._pipe()
            os.set_blocking(self._giving.fileno(), False)
            for _ in range(self._count):
                try:
                    child = os.fork()
                except OSError:
                    if not self._children:
                        raise
                    break
                if not child:
                    self._live(taking, telling, mask)
                self._children.append(child)
            taking.close()
            telling.close()
        self._give()

    @property
    def undone(self) -> list[int]:
        """The jobs of which nothing was heard, in order: after the last outcome, those that were
        left because children died."""
        return list(self._undone)

    def outcomes(self, patience: float) -> Iterator[tuple[int, bool] | None]:
        """Each job as it ends, and whether it was done; None after `patience` seconds in which
        there was nothing to tell."""
        poll = select.poll()
        poll.register(self._reports, select.POLLIN)
        while self._undone:
            if not poll.poll(patience * 1000):
                yield None
                continue
            word = self._reports.read(_WORD)
            if not word:
                return
            job, failed = divmod(int.from_bytes(word, "little"), 2)
            self._undone.pop(job, None)
            self._give()
            yield job, not failed

    def close(self) -> None:
        """End those that still run; more often than once does nothing more."""
        try:
            self._end()
        except BaseException:  # a signal came before it could be kept away
            self._end()
            raise

    def _end(self) -> None:
        with _Undisturbed():
            for child in self._children:
                with contextlib.suppress(ChildProcessError):  # somebody else saw it end
                    if os.waitpid(child, os.WNOHANG) == (0, 0):
                        os.kill(child, signal.SIGKILL)
                        os.waitpid(child, 0)
            self._children.clear()
            for pipe in self._pipes:
                pipe.close()

    def _pipe(self) -> tuple[FileIO, FileIO]:
        reading, writing = os.pipe()
        ends = FileIO(reading, "r"), FileIO(writing, "w")
        self._pipes += ends
        return ends

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

    def _live(self, taking: FileIO, telling: FileIO, mask: set[int | signal.Signals]) -> NoReturn:
        """The life of a child."""
        try:
            _forget_handlers()
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            self._giving.close()
            self._reports.close()
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


class _Undisturbed:
    """No signal comes while the block runs; gives those that were kept away before.

    Whenever a signal's handler raises, on the way in or out, the mask is as it was.
    """

    def __enter__(self) -> set[int | signal.Signals]:
        self._before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        try:
            signal.pthread_sigmask(signal.SIG_BLOCK, _ALL)
        except BaseException:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._before)
            raise
        return self._before

    def __exit__(self, *_: object) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._before)


def _forget_handlers() -> None:
    """A child ends by every signal at once, but not by Ctrl-C, which its parent answers."""
    signal.set_wakeup_fd(-1)
    for number in _ALL:
        if signal.getsignal(number) != signal.SIG_IGN:  # those of C code are not told
            with contextlib.suppress(OSError):  # SIGKILL and SIGSTOP
                signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    most = resource.getrlimit(resource.RLIMIT_CORE)[1]
    # What it may die of leaves no core: 1 byte is what the kernel takes for none, 0 not always.
    resource.setrlimit(resource.RLIMIT_CORE, (0 if most == 0 else 1, most))
