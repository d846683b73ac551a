"""Which blocks a web seed is asked for next, and as which ranges of which files (BEP 19).

Invariant: what is asked for was asked of nobody else, or of somebody much slower; a span
takes no longer than a few seconds at the pace that its web seed had, so that peers never
wait for it long.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from p2pfs.geometry import BLOCK_LENGTH, BlockRequest, Geometry
from p2pfs.swarm.leeching import is_slower
from p2pfs.swarm.web_seed import Span, WebSeed

if TYPE_CHECKING:
    from p2pfs.swarm.peer import Peer
    from p2pfs.swarm.transfer import Transfer

__all__ = ["MAX_SKIP", "Files", "Part", "WebSpans"]

MAX_LINES: Final = 4
"""Connections to the web seeds of one torrent altogether."""

LINES: Final = 2
"""Connections to one of them: while one waits for an answer the other receives."""

SPAN_SECONDS: Final = 4.0
"""How long a span should take: few requests, and nothing that peers would wait for long."""

FIRST_SPAN: Final = 1024 * 1024
"""Bytes asked of a web seed whose pace is not known."""

MAX_SPAN: Final = 16 * 1024 * 1024

LOW: Final = 1024 * 1024
"""Bytes that a file which comes as a whole is looked ahead."""

MAX_SKIP: Final = 1024 * 1024
"""Bytes passed over in an answer that is the whole file, to get at what was asked for."""

RUN: Final = 8
"""Blocks that are handled as one."""

AGAIN: Final = 64
"""Blocks owed by slower sources that are asked of a web seed in one go, in few ranges."""

MAX_RANGES: Final = 4


class Files(Protocol):
    """Where the files lie in the content, by their numbers in the torrent."""

    @property
    def lengths(self) -> Sequence[int]: ...

    @property
    def starts(self) -> Sequence[int]: ...

    def content_spans(self, start: int, length: int) -> Sequence[tuple[int, int, int]]:
        """The (file, offset, length) of `length` bytes from `start` on, in order."""
        ...

    def pieces_of(self, file_index: int) -> range: ...


class Part(NamedTuple):
    """What to ask for next: `length` bytes from `offset` on of file number `file`.

    `place` is where in the content they lie. `padding`: they are zeros, and nobody is asked.
    """

    file: int
    offset: int
    length: int
    place: int
    padding: bool


class WebSpans:
    """For one torrent. `padding`: the numbers of the files that are nothing but zeros."""

    def __init__(
        self, transfer: Transfer, geometry: Geometry, files: Files, padding: Collection[int]
    ) -> None:
        self._transfer = transfer
        self._leeching = transfer.leeching
        self._picker = transfer.leeching.picker
        self._geometry = geometry
        self._files = files
        self._padding = padding
        self._open = 0
        """Spans that are being fetched."""

    def begin(self, seed: WebSeed, now: float) -> Span | None:
        """What one more connection to `seed` is to fetch; None for nothing (now)."""
        leeching = self._leeching
        if leeching.suspended or leeching.finished or not seed.may_be_asked(now):
            return None
        lines = LINES if seed.proven and seed.ranges else 1
        if len(seed.spans) >= lines or self._open >= MAX_LINES:
            return None
        if seed.ranges:
            blocks = self._pick(seed, now) or self._pick_again(seed, now)
        else:
            blocks = self._pick_of_file(seed, now)
        if not blocks:
            return None
        span = Span(seed, self._geometry, blocks, now, whole=not seed.ranges)
        seed.spans.append(span)
        self._open += 1
        return span

    def end(self, span: Span, now: float) -> None:
        """No more comes of `span`: what is left of it is for others."""
        seed = span.seed
        seed.spans.remove(span)
        self._open -= 1
        left = span.blocks
        if left:
            self._leeching.release(seed, left)
        elif not span.whole and span.last_piece + 1 < self._geometry.piece_count:
            seed.next_pieces.append(span.last_piece + 1)
        if span.gained and now > span.begun_at:
            seed.pace = span.gained / (now - span.begun_at)

    def next_part(self, span: Span) -> Part | None:
        """The next range of a file for `span`; None when it has everything."""
        place, length = span.next_run()
        if not length:
            return None
        file, offset, count = self._files.content_spans(place, length)[0]
        if file in self._padding:
            return Part(file, offset, count, place, True)
        if span.whole:
            start = self._files.starts[file]
            return Part(file, 0, self._files.lengths[file], start, False)
        return Part(file, offset, count, place, False)

    def look_ahead(self, span: Span, now: float) -> None:
        """Have enough blocks of the file at hand that comes from its beginning."""
        if span.whole and span.owed < LOW:
            self._extend(span, now)

    def _pick(self, seed: WebSeed, now: float) -> list[BlockRequest]:
        picker = self._picker
        room = self._room(seed)
        alone = self._leeching.is_suspect(seed)
        slack = max(0, math.isqrt(len(self._transfer.peers)) - 1)
        after = seed.next_pieces.pop() if seed.next_pieces else None
        blocks = picker.pick_span(
            seed, seed.has, room, now, run=RUN, alone=alone, slack=slack, after=after
        )
        if alone and not blocks and not seed.spans:
            blocks = picker.pick_span(seed, seed.has, room, now, run=RUN)
        return blocks

    def _room(self, seed: WebSeed) -> int:
        """The blocks that a span should have: what its pace allows, and a fair share at most."""
        size = seed.pace * SPAN_SECONDS if seed.pace else FIRST_SPAN
        left = self._picker.remaining * self._geometry.piece_length
        share = left / (1 + len(self._helpers()) + self._open)
        return max(1, int(min(size, share, MAX_SPAN)) // BLOCK_LENGTH)

    def _helpers(self) -> list[Peer]:
        """The peers that give us something."""
        return [
            peer
            for peer in self._transfer.peers
            if peer.interesting and not peer.session.peer_choking and not peer.pipeline.snubbed
        ]

    def _pick_again(self, seed: WebSeed, now: float) -> list[BlockRequest]:
        """Blocks that slower sources owe, as far as they are few ranges."""
        owed = self._picker.pick_again(
            seed, seed.has, AGAIN, now, slower=lambda asked: is_slower(asked, seed.wait, now)
        )
        owed.sort()
        ranges, end = 0, -1
        for number, block in enumerate(owed):
            place = block.piece * self._geometry.piece_length + block.begin
            ranges += place != end
            end = place + block.length
            if ranges > MAX_RANGES:
                self._leeching.release(seed, owed[number:])
                return owed[:number]
        return owed

    # -- servers that send files from the beginning only

    def _pick_of_file(self, seed: WebSeed, now: float) -> list[BlockRequest]:
        """The first blocks wanted of a file that may be fetched whole."""
        picker = self._picker
        if seed.spans or picker.everything_asked:
            return []
        worth: dict[int, bool] = {}
        for piece in seed.has:
            if picker.has_free(piece):
                file = self._first_file(piece)
                if file not in worth:
                    worth[file] = self._is_worth_it(file)
                if worth[file]:
                    alone = self._leeching.is_suspect(seed)
                    return self._pick_on(seed, file, piece, now, alone=alone) or self._pick_on(
                        seed, file, piece, now, alone=False
                    )
        return []

    def _pick_on(
        self, seed: WebSeed, file: int, piece: int, now: float, *, alone: bool
    ) -> list[BlockRequest]:
        """The next blocks wanted of `file`, from `piece` on."""
        pieces = range(piece, self._files.pieces_of(file).stop)
        wanted = (one for one in pieces if seed.has[one])
        return self._picker.pick_next(seed, wanted, LOW // BLOCK_LENGTH, now, run=RUN, alone=alone)

    def _extend(self, span: Span, now: float) -> None:
        """More of the file that `span` is in, and of the next one where a piece leads into it."""
        last = span.last_piece
        end = last * self._geometry.piece_length + self._geometry.piece_size(last)
        file = self._files.content_spans(end - 1, 1)[0][0]
        if last + 1 < self._geometry.piece_count and file not in self._padding:
            first = self._first_file(last)
            if file == first or self._is_worth_it(file):
                alone = self._leeching.is_suspect(span.seed)
                span.add(self._pick_on(span.seed, file, last + 1, now, alone=alone))

    def _first_file(self, piece: int) -> int:
        """The first file with content in `piece`; padding if it has nothing else."""
        start = piece * self._geometry.piece_length
        files = [
            file
            for file, _, _ in self._files.content_spans(start, self._geometry.piece_size(piece))
        ]
        return next((file for file in files if file not in self._padding), files[0])

    def _is_worth_it(self, file: int) -> bool:
        """Whether to fetch all of `file` for what is wanted of it."""
        if self._files.lengths[file] <= MAX_SKIP or not self._helpers():
            return True
        pieces = self._files.pieces_of(file)
        return 2 * sum(map(self._picker.is_needed, pieces)) >= len(pieces)
