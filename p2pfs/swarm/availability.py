"""Pieces that are open to be begun, kept in order of how many peers have them.

Invariant: `_groups[a]` holds exactly the open pieces of availability `a`, at random places
among each other, and `_place` says where in its group each stands (-1: not open). A `have`
moves one piece from its group to the next one, and beginning a piece takes it out of its
group, so either costs O(1) however many pieces and peers there are.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

from p2pfs.formats.bitfield import Bitfield

__all__ = ["RarityOrder"]

_LOOK: Final = 64
"""Pieces that a peer lacks, met one by one, before all that it has are looked for at once."""


class RarityOrder:
    """Availability counts of all pieces, and the open ones rarest first.

    Peers that have everything are to be counted apart: they change no order.
    """

    def __init__(self, piece_count: int, open_pieces: Iterable[int], rng: random.Random) -> None:
        self._random = rng.random
        self._count = [0] * piece_count
        pieces = list(open_pieces)
        rng.shuffle(pieces)
        self._open = Bitfield.of(piece_count, pieces)
        self._place = [-1] * piece_count
        self._groups: list[list[int]] = []
        self._sort(pieces)

    def __len__(self) -> int:
        return self._open.count

    def __contains__(self, piece: int) -> bool:
        return self._place[piece] >= 0

    def __iter__(self) -> Iterator[int]:
        """Open pieces, rarest first. Do not change the order while iterating."""
        return chain.from_iterable(self._groups)

    def of(self, has: Bitfield) -> Iterator[int]:
        """The open pieces in `has`, rarest first. Do not change the order while iterating."""
        if has.complete:
            yield from self
            return
        look, raw = _LOOK, has.raw
        for piece in self:
            if raw[piece >> 3] << (piece & 7) & 128:
                yield piece
                continue
            look -= 1
            if not look:
                both = has & self._open
                if both.count * 8 < len(self):
                    yield from self._ranked(both, after=self._rank(piece))
                    return

    def _ranked(self, pieces: Bitfield, after: tuple[int, int]) -> Iterator[int]:
        """Those of the open `pieces` that stand behind `after`, rarest first."""
        ranked = sorted((self._rank(piece), piece) for piece in pieces)
        return (piece for rank, piece in ranked if rank > after)

    def _rank(self, piece: int) -> tuple[int, int]:
        return self._count[piece], self._place[piece]

    def ascending(self, has: Bitfield) -> Iterator[int]:
        """The open pieces in `has` in the order of the content."""
        return iter(has & self._open)

    def count(self, piece: int) -> int:
        """Peers, of those not counted apart, that have `piece`."""
        return self._count[piece]

    def increase_all(self, has: Bitfield) -> None:
        """One peer more has every piece in `has`."""
        self._change_all(has, 1)

    def decrease_all(self, has: Bitfield) -> None:
        """One peer fewer has every piece in `has`."""
        self._change_all(has, -1)

    def _change_all(self, has: Bitfield, change: int) -> None:
        if has.count * 16 < len(self):
            move = self.increase if change > 0 else self.decrease
            for piece in has:
                move(piece)
            return
        counts = self._count
        for piece in has:
            counts[piece] += change
        self._sort(list(self))

    def _sort(self, pieces: Iterable[int]) -> None:
        """Put the open `pieces` in order anew; equals keep the random order that they had."""
        groups: list[list[int]] = []
        counts, place = self._count, self._place
        for piece in pieces:
            count = counts[piece]
            while len(groups) <= count:
                groups.append([])
            place[piece] = len(groups[count])
            groups[count].append(piece)
        self._groups = groups

    def increase(self, piece: int) -> None:
        """One peer more has `piece`."""
        self._change(piece, 1)

    def decrease(self, piece: int) -> None:
        """One peer fewer has `piece`."""
        self._change(piece, -1)

    def _change(self, piece: int, change: int) -> None:
        counts = self._count
        before = counts[piece]
        counts[piece] = after = before + change
        if self._place[piece] >= 0:
            self._take(piece, before)
            self._enter(piece, after)

    def open(self, piece: int) -> None:
        """`piece` may be begun (again)."""
        if self._open.add(piece):
            self._enter(piece, self._count[piece])

    def close(self, piece: int) -> None:
        """`piece` is not to be begun: it is in progress, done, or not wanted."""
        if self._open.discard(piece):
            self._take(piece, self._count[piece])
            self._place[piece] = -1

    def _take(self, piece: int, count: int) -> None:
        """Out of its group; the last one there fills the gap."""
        group = self._groups[count]
        last = group.pop()
        if last != piece:
            places = self._place
            place = places[last] = places[piece]
            group[place] = last

    def _enter(self, piece: int, count: int) -> None:
        """Into its group, at a random place; who stood there goes to the end."""
        groups, places = self._groups, self._place
        while len(groups) <= count:
            groups.append([])
        group = groups[count]
        size = len(group)
        group.append(piece)
        place = places[piece] = int(self._random() * (size + 1))
        if place < size:
            other = group[size] = group[place]
            places[other] = size
            group[place] = piece
