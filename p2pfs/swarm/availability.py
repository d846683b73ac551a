"""Pieces that are open to be begun, kept in order of how many peers have them.

Invariant: `_order` holds exactly the open pieces, ascending by availability; those of
availability `a` fill `_order[_start[a]:_start[a + 1]]`, at random places among each other.
A `have` moves one piece by one place between neighbouring groups, so it costs O(1).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

from p2pfs.formats.bitfield import Bitfield

__all__ = ["RarityOrder"]


class RarityOrder:
    """Availability counts of all pieces, and the open ones rarest first.

    Peers that have everything are to be counted apart: they change no order.
    """

    def __init__(self, piece_count: int, open_pieces: Iterable[int], rng: random.Random) -> None:
        self._rng = rng
        self._count = [0] * piece_count
        self._order = list(open_pieces)
        self._open = Bitfield.of(piece_count, self._order)
        rng.shuffle(self._order)
        self._place = [-1] * piece_count
        for place, piece in enumerate(self._order):
            self._place[piece] = place
        self._start = [0, len(self._order)]

    def __len__(self) -> int:
        return len(self._order)

    def __contains__(self, piece: int) -> bool:
        return self._place[piece] >= 0

    def __iter__(self) -> Iterator[int]:
        """Open pieces, rarest first. Do not change the order while iterating."""
        return iter(self._order)

    def of(self, has: Bitfield) -> Iterator[int]:
        """The open pieces in `has`, rarest first. Do not change the order while iterating."""
        if has.complete:
            yield from self._order
            return
        both = has & self._open
        if both.count * 8 < len(self._order):
            yield from sorted(both, key=self._place.__getitem__)
        else:
            for piece in self._order:
                if both[piece]:
                    yield piece

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
        if has.count * 16 < len(self._order):
            move = self.increase if change > 0 else self.decrease
            for piece in has:
                move(piece)
            return
        counts = self._count
        for piece in has:
            counts[piece] += change
        self._sort()

    def _sort(self) -> None:
        """Put all in order anew; equals keep the random order that they had."""
        counts, order, start = self._count, self._order, self._start
        order.sort(key=counts.__getitem__)
        start[:] = [0]
        for place, piece in enumerate(order):
            self._place[piece] = place
            while len(start) <= counts[piece]:
                start.append(place)
        start.append(len(order))

    def increase(self, piece: int) -> None:
        """One peer more has `piece`."""
        count = self._count[piece]
        self._count[piece] = count + 1
        if self._place[piece] < 0:
            return
        self._level(count + 2)
        last = self._start[count + 1] - 1
        self._swap(self._place[piece], last)
        self._start[count + 1] = last
        self._mix(last, count + 1)

    def decrease(self, piece: int) -> None:
        """One peer fewer has `piece`."""
        count = self._count[piece]
        self._count[piece] = count - 1
        if self._place[piece] < 0:
            return
        first = self._start[count]
        self._swap(self._place[piece], first)
        self._start[count] = first + 1
        self._mix(first, count - 1)

    def open(self, piece: int) -> None:
        """`piece` may be begun (again)."""
        if not self._open.add(piece):
            return
        count = self._count[piece]
        self._level(count + 1)
        hole = len(self._order)
        self._order.append(piece)
        start = self._start
        for level in range(len(start) - 1, count, -1):
            first = start[level]
            if first != hole:
                self._put(hole, self._order[first])
            start[level] = first + 1
            hole = first
        self._put(hole, piece)
        self._mix(hole, count)

    def close(self, piece: int) -> None:
        """`piece` is not to be begun: it is in progress, done, or not wanted."""
        if not self._open.discard(piece):
            return
        hole = self._place[piece]
        start = self._start
        for level in range(self._count[piece] + 1, len(start)):
            last = start[level] - 1
            if last != hole:
                self._put(hole, self._order[last])
            start[level] = last
            hole = last
        self._order.pop()
        self._place[piece] = -1

    def _level(self, level: int) -> None:
        """Make sure that `_start[level]` exists."""
        while len(self._start) <= level:
            self._start.append(len(self._order))

    def _put(self, place: int, piece: int) -> None:
        self._order[place] = piece
        self._place[piece] = place

    def _swap(self, a: int, b: int) -> None:
        if a != b:
            order = self._order
            order[a], order[b] = order[b], order[a]
            self._place[order[a]] = a
            self._place[order[b]] = b

    def _mix(self, place: int, count: int) -> None:
        """Exchange the piece at `place` with a random one of its group, itself included."""
        first = self._start[count]
        size = self._start[count + 1] - first
        self._swap(place, first + int(self._rng.random() * size))
