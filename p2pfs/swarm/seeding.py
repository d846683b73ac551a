"""Which request to answer next, so that every copy sent counts.

Invariant: `held(peer)` is the number of pieces that were given to `peer` last and that nobody
else has announced since. A piece that has not been given to anybody else goes first, among
the rest the piece given least often: several peers that ask one seeder for the same piece
then get different pieces, and the second copy comes from whoever got the first (the effect
of BEP 16 without hiding pieces from anyone). Whoever holds back least is given most: first
copies go where uplinks are fast.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Final

from p2pfs.swarm.uploads import UploadQueue

__all__ = ["Ready", "ServeOrder"]

HELD_PER_COPY: Final = 8
"""Pieces held back that weigh as much as a second copy."""

Ready = Callable[[int], bool]
"""Whether a piece can be sent now; if not, it is asked again later."""


class ServeOrder:
    """Remembers to whom each piece was given last, how often it was begun, and who passed on."""

    def __init__(self, piece_count: int) -> None:
        self._given = [0] * piece_count
        self._receiver: list[Hashable | None] = [None] * piece_count
        self._held_back: set[int] = set()
        """Pieces that were given to a receiver and announced by nobody else since."""
        self._held: dict[Hashable | None, int] = {}
        """How many of these each receiver has."""

    def is_new(self, piece: int) -> bool:
        """Whether `piece` was given to nobody, or each receiver left before the next got it."""
        return not self._given[piece]

    def held(self, peer: Hashable) -> int:
        """Pieces that `peer` was given last and that nobody else has announced since."""
        return self._held.get(peer, 0)

    def seen(self, peer: Hashable, piece: int) -> None:
        """`peer` has `piece`: if somebody else was given it last, that one passed it on."""
        receiver = self._receiver[piece]
        if piece in self._held_back and receiver is not peer:
            self._held_back.remove(piece)
            self._held[receiver] -= 1

    def cost(self, peer: Hashable, piece: int) -> int:
        """0 when answering adds no second copy, else how often the piece was given."""
        return 0 if self._receiver[piece] is peer else self._given[piece]

    def best(self, peer: Hashable, queue: UploadQueue) -> tuple[int, int]:
        """(cost, piece) of the piece to send next from a queue that is not empty."""
        first = queue.first
        best = self.cost(peer, first)
        if best == 0:
            return 0, first
        piece = first
        for candidate in queue.pieces():
            cost = self.cost(peer, candidate)
            if cost < best:
                best, piece = cost, candidate
                if cost == 0:
                    break
        return best, piece

    def choose(
        self,
        queues: Iterable[tuple[Hashable, UploadQueue]],
        ready: Ready,
        *,
        first: bool = False,
        turn: Hashable = None,
    ) -> tuple[Hashable, int] | None:
        """The peer to serve next and the piece, among `queues`; the first of equals.

        What a peer holds back makes copies for it dearer: were it given one new piece after
        the other, the rest, who wait for pieces that it has, would never ask for new ones. Not
        so for the peer whose `turn` it is, which is in the middle of a piece.
        With `first` the first peer of all, whatever a copy for it costs. Peers whose best
        piece is not ready are passed over.
        """
        chosen: tuple[Hashable, int] | None = None
        lowest = -1
        for peer, queue in queues:
            if not queue:
                continue
            cost, piece = self.best(peer, queue)
            if peer is not turn:
                cost += self.held(peer) // HELD_PER_COPY
            if (chosen is None or cost < lowest) and ready(piece):
                chosen, lowest = (peer, piece), cost
                if cost == 0 or first:
                    break
        return chosen

    def gave(self, peer: Hashable, piece: int) -> None:
        """A block of `piece` goes out to `peer`."""
        before = self._receiver[piece]
        if before is not peer:
            if piece in self._held_back:
                self._held[before] -= 1
            self._receiver[piece] = peer
            self._given[piece] += 1
            self._held_back.add(piece)
            self._held[peer] = self._held.get(peer, 0) + 1

    def forget(self, peer: Hashable) -> None:
        """The peer is gone, and with it the copies that nobody was given after it."""
        self._held.pop(peer, None)
        for piece, receiver in enumerate(self._receiver):
            if receiver is peer:
                self._receiver[piece] = None
                self._given[piece] -= 1
                self._held_back.discard(piece)
