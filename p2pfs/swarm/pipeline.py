"""How many blocks one peer is asked for at a time.

Invariant: 1 <= depth <= limit <= MAX_DEPTH, in blocks of 16 KiB. The depth follows the
peer's rate by the time that a block waits between its request and its arrival: below
`GROW_BELOW` seconds the pipe runs dry too easily, above `SHRINK_ABOVE` blocks are promised
to a peer that others could deliver sooner.
"""

from __future__ import annotations

from typing import Final

__all__ = ["MAX_DEPTH", "Pipeline"]

MIN_DEPTH: Final = 4
START_DEPTH: Final = 8
MAX_DEPTH: Final = 500
"""What libtorrent and Transmission accept at least (their `reqq`)."""

GROW_BELOW: Final = 1.0
SHRINK_ABOVE: Final = 2.0
SNUB_AFTER: Final = 20.0
"""Seconds without a block, with requests outstanding, that make a peer snubbed."""


class Pipeline:
    """The request window of one peer, which queues `limit` (1 or more) requests at most."""

    def __init__(self, limit: int = MAX_DEPTH) -> None:
        self._limit = limit
        self._least = min(MIN_DEPTH, limit)
        self._depth = min(START_DEPTH, limit)
        self.snubbed = False
        self.wait = 0.0
        """Seconds from a request to its block, lately; 0 before there was one."""

    def limit(self, requests: int) -> None:
        """The peer queues `requests` (1 or more) at most."""
        self._limit = min(MAX_DEPTH, requests)
        self._least = min(MIN_DEPTH, self._limit)
        self._depth = min(self._depth, self._limit)

    @property
    def depth(self) -> int:
        """Blocks that may be outstanding now; 1 for a snubbed peer."""
        return 1 if self.snubbed else self._depth

    @property
    def run(self) -> int:
        """Blocks that one request may cover: an eighth of the window, so that it stays even."""
        return max(1, self.depth // 8)

    def arrived(self, waited: float, blocks: int = 1) -> None:
        """`blocks` came `waited` seconds after they were asked for."""
        self.snubbed = False
        self.wait += (waited - self.wait) / 4 if self.wait else waited
        if waited < GROW_BELOW:
            self._depth = min(self._limit, self._depth + blocks)
        elif waited > SHRINK_ABOVE:
            self._depth = max(self._least, self._depth - blocks)

    def refused(self) -> None:
        """A request was rejected though the peer does not choke: it was asked for too much."""
        self._depth = max(self._least, self._depth // 2)

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
