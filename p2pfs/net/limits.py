"""The process-wide rate limits: one token bucket each way, and who waits for them.

Invariant: while a limit is set, no block leaves and no byte is received without tokens;
whoever found none is woken when there are some again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from p2pfs.net.stream import RECEIVE_BUFFER
from p2pfs.swarm.rates import BURST, TokenBucket

__all__ = ["DownLimit", "Receiver", "UpLimit"]

LEAST_RECEIVE: Final = 64 * 1024
"""Bytes that are saved up before the next are received: few large calls, not many small ones."""


class Receiver(Protocol):
    """Whatever receives, and can be told to wait."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class DownLimit:
    """Doles out what may be received."""

    def __init__(self, rate: float | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._bucket = TokenBucket(rate, self._loop.time())
        self._least = 0.0 if rate is None else min(LEAST_RECEIVE, rate * BURST / 2)
        self._waiting: list[Receiver] = []
        self._timer: asyncio.TimerHandle | None = None

    def allowance(self) -> int:
        """Bytes that may be received by one call now; 0 for none."""
        if self._bucket.rate is None:
            return RECEIVE_BUFFER
        available = self._bucket.available(self._loop.time())
        if available < self._least:
            return 0
        return max(1, int(min(available, RECEIVE_BUFFER)))

    def took(self, amount: int, receiver: Receiver) -> None:
        """`amount` bytes came in; the receiver is paused when that was all."""
        if self._bucket.rate is None:
            return
        self._bucket.take(amount, self._loop.time())
        if self.allowance() < 1:
            self.wait(receiver)

    def wait(self, receiver: Receiver) -> None:
        """Pause `receiver` until there are tokens again."""
        receiver.pause()
        if receiver not in self._waiting:
            self._waiting.append(receiver)
        if self._timer is None:
            now = self._loop.time()
            missing = self._least - self._bucket.available(now)
            delay = max(0.005, missing / (self._bucket.rate or 1.0), self._bucket.wait(now))
            self._timer = self._loop.call_later(delay, self._wake)

    def _wake(self) -> None:
        self._timer = None
        waiting, self._waiting = self._waiting, []
        for receiver in waiting[1:] + waiting[:1]:
            receiver.resume()


class UpLimit:
    """Says when blocks may go out; `pump` is called again when tokens have come back."""

    def __init__(self, rate: float | None, pump: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._bucket = TokenBucket(rate, self._loop.time())
        self.pump = pump
        self._timer: asyncio.TimerHandle | None = None

    @property
    def limited(self) -> bool:
        return self._bucket.rate is not None

    def may_send(self) -> bool:
        """Whether a block may go out now; if not, `pump` is called later."""
        if self._bucket.available(self._loop.time()) > 0:
            return True
        if self._timer is None:
            delay = max(0.002, self._bucket.wait(self._loop.time()))
            self._timer = self._loop.call_later(delay, self._wake)
        return False

    def sent(self, amount: int) -> None:
        self._bucket.take(amount, self._loop.time())

    def _wake(self) -> None:
        self._timer = None
        self.pump()
