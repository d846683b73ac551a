"""One web server that has the content (BEP 19), as the decisions of a torrent see it.

Invariant: whoever sent bytes that fail the hash is never asked again; whoever failed in
any other way is asked again, each time after a longer pause, until it gives something.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

from p2pfs.formats.bitfield import Bitfield
from p2pfs.geometry import BLOCK_LENGTH, BlockRequest, Geometry
from p2pfs.swarm.rates import RateMeter

__all__ = ["Span", "WebSeed"]

FIRST_RETRY: Final = 1.0
"""Seconds until a web seed is asked again whose connection failed."""

FIRST_RETRY_AFTER_REFUSAL: Final = 60.0
"""The same for one that answered, and said no (HTTP status 4xx)."""

MAX_RETRY: Final = 600.0
MAX_RETRY_AFTER: Final = 3600.0
"""The longest `Retry-After` that is honoured, in seconds."""

PRESUMED_WAIT: Final = 1.0
"""Seconds from a request to its first byte, while that is not known."""


class WebSeed:
    """State of one URL. Compared by identity; a source to the picker.

    `name` is what it is called where people see it: its host, and the port if it has one.
    """

    def __init__(self, url: str, name: str, pieces: int, now: float) -> None:
        self.url = url
        self.name = name
        self.has = Bitfield.full(pieces)
        """The pieces that it may be asked for: all, less those of files that it lacks."""
        self.counted: Bitfield | None = None
        """What it is counted as having among the sources of the torrent."""
        self.down = RateMeter(now)
        self.wasted = 0
        self.spans: list[Span] = []
        """What it is being asked for now."""
        self.ranges = True
        """Whether it is thought to answer to `Range`."""
        self.disabled = False
        self.problem = ""
        """Why it gives nothing (now), in words."""
        self.retry_at = 0.0
        self.pace = 0.0
        """Bytes a second of one connection, lately; 0 before there was one."""
        self.wait = PRESUMED_WAIT
        """Seconds from a request to its first byte, lately."""
        self.next_pieces: list[int] = []
        """Where spans ended that went well: going on there keeps requests few."""
        self.lacking = 0
        """Files in a row that it was asked for and had not got."""
        self._failures = 0

    def __repr__(self) -> str:
        return f"<WebSeed {self.name}>"

    @property
    def proven(self) -> bool:
        """Whether its last connection gave something."""
        return self.down.total > 0 and not self._failures

    def may_be_asked(self, now: float) -> bool:
        return not self.disabled and now >= self.retry_at

    def gave(self) -> None:
        """Content came from it."""
        if self._failures or self.problem:
            self._failures = self.lacking = 0
            self.problem = ""

    def disable(self, reason: str) -> None:
        """Never ask it again."""
        self.disabled = True
        self.problem = f"{reason}, so it is not asked again"

    def failed(
        self,
        reason: str,
        now: float,
        rng: random.Random,
        *,
        refused: bool = False,
        retry_after: float | None = None,
    ) -> None:
        """A request came to nothing; `retry_after` is the server's own wish, in seconds."""
        first = FIRST_RETRY_AFTER_REFUSAL if refused else FIRST_RETRY
        pause = min(MAX_RETRY, first * 2.0 ** min(self._failures, 10)) * rng.uniform(0.8, 1.2)
        if retry_after is not None:
            pause = min(MAX_RETRY_AFTER, max(FIRST_RETRY, retry_after))
        self._failures += 1
        self.retry_at = max(self.retry_at, now + pause)
        self.problem = f"{reason}; asked again later"

    def lags(self, seconds: float, now: float) -> bool:
        """Whether it will take longer than `seconds` for what it is being asked for."""
        if not self.pace:
            return any(now - span.begun_at > self.wait + seconds for span in self.spans)
        return any(
            span.owed > self.pace * seconds or now - span.fed_at > max(self.wait, seconds)
            for span in self.spans
        )


class Span:
    """Blocks that one connection fetches one after the other.

    `blocks` in the order of the content, each a run inside one piece. `whole`: the server
    sends files from their beginning only, and more blocks are added as it goes on.
    """

    def __init__(
        self,
        seed: WebSeed,
        geometry: Geometry,
        blocks: Iterable[BlockRequest],
        now: float,
        *,
        whole: bool = False,
    ) -> None:
        self.seed = seed
        self.whole = whole
        self.begun_at = now
        self.fed_at = now
        """When data came last."""
        self.gained = 0
        """Bytes of whole blocks that came."""
        self.owed = 0
        """Bytes of its blocks that are still to come."""
        self.last_piece = 0
        """The piece of its last block, come or not."""
        self._piece_length = geometry.piece_length
        self._blocks: deque[BlockRequest] = deque()
        self._held = bytearray()  # the beginning of the first block, less than a whole one
        self.add(blocks)

    @property
    def blocks(self) -> list[BlockRequest]:
        """What is still to come."""
        return list(self._blocks)

    def add(self, blocks: Iterable[BlockRequest]) -> None:
        """More blocks, all of which come later in the content."""
        for block in blocks:
            self._blocks.append(block)
            self.owed += block.length
            self.last_piece = block.piece

    def next_run(self) -> tuple[int, int]:
        """Where in the content the next byte is wanted, and how many in a row from there on.

        (0, 0) when nothing is to come.
        """
        if not self._blocks:
            return 0, 0
        start = self._place(self._blocks[0])
        end = start
        for block in self._blocks:
            if self._place(block) != end:
                break
            end += block.length
        return start + len(self._held), end - start - len(self._held)

    def _place(self, block: BlockRequest) -> int:
        return block.piece * self._piece_length + block.begin

    def feed(self, place: int, data: memoryview) -> Iterator[tuple[BlockRequest, memoryview]]:
        """The blocks that are whole with `data`, which lies at `place` in the content.

        What nobody waits for is passed over. The views are valid while `data` is.
        """
        end = place + len(data)
        while self._blocks:
            block = self._blocks[0]
            begin = self._place(block) + len(self._held) - place
            if begin < 0 or begin >= end - place:
                return
            length = min(block.length, BLOCK_LENGTH)
            if not self._held:
                whole_blocks = (len(data) - begin) // BLOCK_LENGTH * BLOCK_LENGTH
                length = min(block.length, max(length, whole_blocks))
            part = data[begin : begin + length - len(self._held)]
            if len(self._held) + len(part) < length:
                self._held += part
                return
            if self._held:
                part = memoryview(bytes(self._held + part))
                self._held = bytearray()
            self._blocks.popleft()
            if length < block.length:
                rest = BlockRequest(block.piece, block.begin + length, block.length - length)
                self._blocks.appendleft(rest)
            self.owed -= length
            self.gained += length
            yield BlockRequest(block.piece, block.begin, length), part
