"""Who sent the bad block of a piece that failed its hash.

Invariant: a source is found guilty only on proof: it gave every block of a failed piece,
or a block of it that differs from the block in the same place when the piece passed.
Sources that merely shared a piece with a bad one are never found guilty.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from p2pfs.swarm.picker import Source

__all__ = ["Blame"]

MAX_RECORDS: Final = 64
"""Failed attempts remembered; the oldest is forgotten first."""


class Blame:
    """Keeps the digest of every block of failed pieces until the piece passes."""

    def __init__(self) -> None:
        self._failed: dict[int, list[tuple[Sequence[Source | None], Sequence[bytes]]]] = {}

    def wants_digests(self, piece: int) -> bool:
        """Whether the block digests of `piece` are needed when it passes."""
        return piece in self._failed

    def failed(
        self, piece: int, givers: Sequence[Source | None], digests: Sequence[bytes]
    ) -> set[Source]:
        """A piece failed: the sources proved guilty by that alone."""
        known = {giver for giver in givers if giver is not None}
        if len(known) == 1 and None not in givers:
            return known
        self._failed.setdefault(piece, []).append((tuple(givers), tuple(digests)))
        if sum(map(len, self._failed.values())) > MAX_RECORDS:
            del self._failed[next(iter(self._failed))]
        return set()

    def passed(self, piece: int, digests: Sequence[bytes]) -> set[Source]:
        """The piece passed, its blocks having `digests`: the sources whose blocks differed."""
        return {
            giver
            for givers, bad in self._failed.pop(piece, ())
            for giver, was, right in zip(givers, bad, digests, strict=True)
            if giver is not None and was != right
        }

    def suspects(self) -> set[Source]:
        """Sources that took part in a failed piece which has not passed yet."""
        return {
            giver
            for attempts in self._failed.values()
            for givers, _ in attempts
            for giver in givers
            if giver is not None
        }
