"""How many new peers one source may bring, so that nobody fills the store alone.

Invariant: memory does not depend on how many sources there are, and whoever stays below
the limit is not touched by those who do not (but for one in 65,536 that shares a counter).
"""

from __future__ import annotations

from array import array

__all__ = ["Newcomers"]

_COUNTERS = 65_536


class Newcomers:
    """Lets `limit` new peers of a source pass in every `window` seconds.

    A source is an IPv4 address, or an IPv6 network of 64 bits.
    """

    def __init__(self, limit: int, window: float) -> None:
        self._limit = limit
        self._window = window
        self._until = 0.0
        self._counts = array("L")

    def admit(self, host: bytes, now: float) -> bool:
        """Whether one more from `host` (4 or 16 raw bytes) may be entered; counts it if so."""
        if now >= self._until:
            self._counts = array("L", [0]) * _COUNTERS
            self._until = now + self._window
        place = hash(host if len(host) == 4 else host[:8]) % _COUNTERS  # salted by Python
        if self._counts[place] >= self._limit:
            return False
        self._counts[place] += 1
        return True
