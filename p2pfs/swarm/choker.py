"""Whom to unchoke (BEP 3, "choking and optimistic unchoking").

Invariant: at most `slots` interested peers are unchoked, one of them by optimism. Peers
that are not interested may be unchoked beyond that: they cost nothing and can start at
once when they become interested.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["OPTIMISTIC_EVERY", "RECHOKE_EVERY", "Candidate", "Choker"]

RECHOKE_EVERY: Final = 10.0
OPTIMISTIC_EVERY: Final = 30.0
NEWCOMER_FOR: Final = 60.0
"""Seconds for which a new peer is three times as likely to be tried."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A peer as the choker sees it.

    `rate`: bytes a second from it while we download, to it while we seed.
    """

    key: Hashable
    interested: bool
    unchoked: bool
    rate: float
    snubbed: bool
    connected_for: float


class Choker:
    """Keeps the optimistic choice between rounds; everything else is in the candidates."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._optimistic: Hashable | None = None
        self._rotate_at = 0.0

    def choose(
        self, candidates: Sequence[Candidate], now: float, rng: random.Random
    ) -> set[Hashable]:
        """The keys of those to be unchoked from now on."""
        interested = [c for c in candidates if c.interested]
        if len(interested) <= self._slots:
            self._optimistic = None
            return {c.key for c in candidates[: self._slots]} | {c.key for c in interested}
        ranked = sorted(
            interested,
            key=lambda c: (not c.snubbed, c.rate, c.unchoked, rng.random()),
            reverse=True,
        )
        regular = {c.key for c in ranked[: self._slots - 1]}
        others = ranked[self._slots - 1 :]
        keys = {c.key for c in others}
        if now >= self._rotate_at or self._optimistic not in keys:
            fresh = [c for c in others if c.key != self._optimistic] or others
            weights = [3.0 if c.connected_for < NEWCOMER_FOR else 1.0 for c in fresh]
            self._optimistic = rng.choices(fresh, weights)[0].key
            self._rotate_at = now + OPTIMISTIC_EVERY
        return regular | {self._optimistic}
