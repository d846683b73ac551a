"""How many requests one peer is given at a time.

Invariant: 1 <= depth <= MAX_DEPTH. The depth follows the peer's rate by the time that
a block waits between its request and its arrival: below `GROW_BELOW` seconds the pipe
runs dry too easily, above `SHRINK_ABOVE` blocks are promised to a peer that others
could deliver sooner.
"""

from __future__ import annotations

from typing import Final

__all__ = ["MAX_DEPTH", "Pipeline"]

MIN_DEPTH: Final = 4
START_DEPTH: Final = 32
MAX_DEPTH: Final = 500
"""What libtorrent and Transmission accept at least (their `reqq`)."""

GROW_BELOW: Final = 1.0
SHRINK_ABOVE: Final = 2.0
SNUB_AFTER: Final = 20.0
"""Seconds without a block, with requests outstanding, that make a peer snubbed."""


class Pipeline:
    """The request window of one peer."""

    def __init__(self, limit: int = MAX_DEPTH) -> None:
        self._limit = limit
        self._depth = float(min(START_DEPTH, limit))
        self.snubbed = False

    @property
    def depth(self) -> int:
        """Requests that may be outstanding now; 1 for a snubbed peer."""
        return 1 if self.snubbed else int(self._depth)

    def arrived(self, waited: float) -> None:
        """A block came `waited` seconds after it was asked for."""
        self.snubbed = False
        if waited < GROW_BELOW:
            if self._depth < self._limit:
                self._depth += 1.0
        elif waited > SHRINK_ABOVE and self._depth > MIN_DEPTH:
            self._depth = max(MIN_DEPTH, self._depth - 1.0)

    def room(self, outstanding: int) -> int:
        """How many requests to send now; 0 until a quarter of the window is free (batching)."""
        depth = self.depth
        free = depth - outstanding
        return free if free * 4 >= depth else 0

    def check(self, now: float, last_block_at: float, outstanding: int) -> bool:
        """Whether the peer has just become snubbed (BEP 3's choking section)."""
        if outstanding and not self.snubbed and now - last_block_at >= SNUB_AFTER:
            self.snubbed = True
            self._depth = MIN_DEPTH
            return True
        return False
