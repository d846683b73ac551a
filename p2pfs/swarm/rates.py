"""Rates as they are measured, and rates as they are limited.

Invariant: a `TokenBucket` never holds more than `BURST` seconds of its rate, so a limit
holds over every longer window. Amounts are bytes, rates bytes a second.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

__all__ = ["RateMeter", "TokenBucket"]

WINDOW: Final = 10.0
BURST: Final = 0.1


class RateMeter:
    """A rolling rate over about the last ten seconds, and the total.

    `add` is cheap and takes no time; `sample` is called about once a second.
    """

    __slots__ = ("_samples", "total")

    def __init__(self, now: float) -> None:
        self.total = 0
        self._samples: deque[tuple[float, int]] = deque([(now, 0)])

    def add(self, amount: int) -> None:
        self.total += amount

    def sample(self, now: float) -> None:
        samples = self._samples
        samples.append((now, self.total))
        while len(samples) > 2 and samples[1][0] <= now - WINDOW:
            samples.popleft()

    def rate(self, now: float) -> float:
        """Bytes a second since the oldest sample kept."""
        since, total = self._samples[0]
        elapsed = now - since
        return (self.total - total) / elapsed if elapsed > 0.05 else 0.0


class TokenBucket:
    """A limit on bytes a second; `None` is no limit.

    `take` may overdraw by one block, which later calls pay back: large writes need not be
    cut to fit, and the average still holds.
    """

    __slots__ = ("_at", "_tokens", "rate")

    def __init__(self, rate: float | None, now: float) -> None:
        self.rate = rate
        self._tokens = 0.0 if rate is None else rate * BURST
        self._at = now

    def _refill(self, now: float) -> None:
        rate = self.rate
        if rate is None:
            return
        if now > self._at:
            self._tokens = min(rate * BURST, self._tokens + (now - self._at) * rate)
        self._at = now

    def available(self, now: float) -> float:
        """Bytes that may pass now; infinite without a limit, never above the burst."""
        if self.rate is None:
            return math.inf
        self._refill(now)
        return max(0.0, self._tokens)

    def take(self, amount: int, now: float) -> None:
        if self.rate is not None:
            self._refill(now)
            self._tokens -= amount

    def wait(self, now: float) -> float:
        """Seconds until something may pass again; 0 when it may pass now.

        Half a burst is waited for, so that a limited stream moves in few, large steps.
        """
        if self.rate is None or self.available(now) > 0:
            return 0.0
        return (self.rate * BURST / 2 - self._tokens) / self.rate
