"""How many blocks one peer is asked for at a time.

Invariant: 1 <= depth <= limit <= MAX_DEPTH, in blocks of 16 KiB. The depth follows the
peer's rate by the time that a block waits between its request and its arrival, beyond the
way there and back (the least that one of this peer waited) and half of that again, or all of
it: below `GROW_BELOW` seconds the pipe runs dry too easily,
above `SHRINK_ABOVE` blocks are promised to a peer that others, who got them meanwhile, could
deliver sooner. A piece is asked for whole all the same: halves of many help nobody.
"""

from __future__ import annotations

from typing import Final

__all__ = ["MAX_DEPTH", "Pipeline"]

MIN_DEPTH: Final = 4
START_DEPTH: Final = 8
MAX_DEPTH: Final = 500
"""What libtorrent and Transmission accept at least (their `reqq`)."""

MOST_FOR_A_PIECE: Final = 128
"""Blocks that even a slow peer is asked for, where a piece has as many."""

GROW_BELOW: Final = 0.25
SHRINK_ABOVE: Final = 0.5
SHRINK_BY: Final = 0.5
"""Blocks for each that came late: were it a whole one, nothing would be asked for until what is
under way has come, and then too little."""

LONGEST_WAY: Final = 1.0
"""Seconds of the least wait that are taken for the way there and back, not for a queue."""

SNUB_AFTER: Final = 20.0
"""Seconds without a block, with requests outstanding, that make a peer snubbed."""


class Pipeline:
    """The request window of one peer, which queues `limit` (1 or more) requests at most.

    `piece`: how many blocks a piece has.
    """

    def __init__(self, limit: int = MAX_DEPTH, *, piece: int = 1) -> None:
        self._limit = limit
        self._enough = max(MIN_DEPTH, min(piece, MOST_FOR_A_PIECE))
        self._least = min(self._enough, limit)
        self._depth: float = min(max(START_DEPTH, self._least), limit)
        self._way = LONGEST_WAY
        self.snubbed = False
        self.wait = 0.0
        """Seconds from a request to its block, lately; 0 before there was one."""

    def limit(self, requests: int) -> None:
        """The peer queues `requests` (1 or more) at most."""
        self._limit = min(MAX_DEPTH, requests)
        self._least = min(self._enough, self._limit)
        self._depth = min(self._depth, self._limit)

    @property
    def depth(self) -> int:
        """Blocks that may be outstanding now; 1 for a snubbed peer."""
        return 1 if self.snubbed else int(self._depth)

    @property
    def run(self) -> int:
        """Blocks that one request may cover: an eighth of the window, so that it stays even."""
        return max(1, self.depth // 8)

    def arrived(self, waited: float, blocks: int = 1) -> None:
        """`blocks` came `waited` seconds after they were asked for."""
        self.snubbed = False
        self.wait += (waited - self.wait) / 4 if self.wait else waited
        self._way = min(self._way, waited)
        if waited < 1.5 * self._way + GROW_BELOW:
            self._depth = min(self._limit, self._depth + blocks)
        elif waited > 2.0 * self._way + SHRINK_ABOVE:
            self._depth = max(self._least, self._depth - SHRINK_BY * blocks)

    def refused(self) -> None:
        """A request was rejected though the peer does not choke: it was asked for too much."""
        self._depth = max(self._least, self._depth / 2)

    def room(self, outstanding: int) -> int:
        """How many blocks to ask for now; 0 until a quarter of the window is free (batching)."""
        depth = self.depth
        free = depth - outstanding
        return free if free * 4 >= depth else 0

    def check(self, now: float, last_block_at: float, outstanding: int) -> bool:
        """Whether the peer has just become snubbed (BEP 3's choking section)."""
        if outstanding and not self.snubbed and now - last_block_at >= SNUB_AFTER:
            self.snubbed = True
            self._depth = self._least
            return True
        return False
