"""Metadata in the making: attempts of several sizes, and whose turn it is.

Invariant: attempts that run have no more than `MAX_HELD` bytes together, those that wait have
none; each that waits gets its turn in the order in which they came, whatever the others do.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from p2pfs.formats import ut_metadata
from p2pfs.swarm.peer import Peer

__all__ = ["MAX_HELD", "NEVER", "Attempt", "Attempts", "Key"]

MAX_HELD: Final = 24_000_000
"""Bytes of attempts that run at the same time: room for two of the largest."""

TURN: Final = 30.0
"""Seconds that an attempt has before others that wait; twice as long with each turn."""

IDLE: Final = 10.0
"""Seconds without a piece after which a turn ends, when others wait."""

NEVER: Final = float("-inf")

Key = tuple[int, Peer | None]
"""The size, and the peer that makes the attempt alone, if one does."""


class Attempt:
    """Metadata of `size` bytes being put together."""

    __slots__ = ("gain_at", "missing", "pieces", "size", "turns", "until")

    def __init__(self, size: int) -> None:
        self.size = size
        self.turns = 0
        self.until: float | None = None
        """When its turn ends; None while it waits for one."""
        self.gain_at = 0.0
        self.clear()

    def clear(self) -> None:
        self.pieces: dict[int, tuple[bytes, Peer]] = {}
        """What came, and from whom."""
        count = ut_metadata.pieces_of(self.size).piece_count
        self.missing: dict[int, float] = dict.fromkeys(range(count), NEVER)
        """Pieces that did not come, and when each was asked for last."""

    @property
    def held(self) -> int:
        """Bytes that came."""
        return sum(len(data) for data, _ in self.pieces.values())

    def add(self, piece: int, data: bytes, giver: Peer, now: float) -> bool:
        """Take a missing piece; whether it was the last."""
        if piece in self.missing:
            del self.missing[piece]
            self.pieces[piece] = (data, giver)
            self.gain_at = now
        return not self.missing


class Attempts:
    """All attempts, in the order of their turns."""

    def __init__(self) -> None:
        self._all: dict[Key, Attempt] = {}

    def running(self, key: Key) -> Attempt | None:
        """The attempt, if it has its turn."""
        attempt = self._all.get(key)
        return None if attempt is None or attempt.until is None else attempt

    def drop(self, key: Key) -> None:
        self._all.pop(key, None)

    @property
    def furthest(self) -> Attempt | None:
        return max(self._all.values(), key=lambda one: len(one.pieces), default=None)

    @property
    def held(self) -> int:
        """Bytes that came, in all attempts."""
        return sum(attempt.held for attempt in self._all.values())

    def update(self, wanted: Collection[Key], now: float) -> None:
        """Have exactly the `wanted` ones, and give turns."""
        for key in [key for key in self._all if key not in wanted]:
            del self._all[key]
        for key in wanted:
            if key not in self._all:
                self._all[key] = Attempt(key[0])
        if self._begin(now):
            return
        for key, attempt in list(self._all.items()):
            if attempt.until is not None and (
                now >= attempt.until or now - attempt.gain_at >= IDLE
            ):
                attempt.until = None
                attempt.turns += 1
                attempt.clear()
                self._all[key] = self._all.pop(key)
        self._begin(now)

    def _begin(self, now: float) -> bool:
        """Give turns to those that wait, as far as there is room; whether nobody waits now."""
        held = sum(one.size for one in self._all.values() if one.until is not None)
        waiting = False
        for attempt in self._all.values():
            if attempt.until is not None:
                continue
            if held + attempt.size > MAX_HELD:
                waiting = True
                continue
            held += attempt.size
            attempt.until = now + TURN * 2.0 ** min(attempt.turns, 10)
            attempt.gain_at = now
        return not waiting
