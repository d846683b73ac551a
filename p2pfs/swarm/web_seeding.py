"""What a torrent asks of its web seeds, and what to make of the answers (BEP 19).

Invariant: only bytes that a server vouches for as the range that was asked for, or as the
whole file, become content, and they take the way of a peer's blocks from there on; every
block of a span that ended was delivered or is free for others.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from p2pfs.formats.bitfield import Bitfield
from p2pfs.formats.http_range import parse_content_range
from p2pfs.geometry import BLOCK_LENGTH, BlockRequest, Geometry
from p2pfs.swarm.leeching import is_slower
from p2pfs.swarm.web_seed import Span, WebSeed

if TYPE_CHECKING:
    from p2pfs.swarm.transfer import Transfer

__all__ = ["Answer", "Files", "Part", "WebSeeding"]

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

MAX_LACKING: Final = 3
"""Files in a row that are not there before it looks as if nothing were."""

LOOK_EVERY: Final = 8
"""Chunks after which it is looked whether the rest of a span is wanted at all."""


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


class Answer(NamedTuple):
    """The head of an answer. `length` of the body, `retry_after` in seconds, if known."""

    status: int
    content_range: str = ""
    length: int | None = None
    encoding: str = ""
    retry_after: float | None = None


class WebSeeding:
    """For one torrent. `padding`: the numbers of the files that are nothing but zeros."""

    def __init__(
        self,
        transfer: Transfer,
        geometry: Geometry,
        files: Files,
        padding: Collection[int],
        seeds: Sequence[WebSeed],
        rng: random.Random,
    ) -> None:
        self.seeds = tuple(seeds)
        self._transfer = transfer
        self._leeching = transfer.leeching
        self._picker = transfer.leeching.picker
        self._geometry = geometry
        self._files = files
        self._padding = padding
        self._real = sum(
            1 for number, length in enumerate(files.lengths) if length and number not in padding
        )
        self._rng = rng
        self._chunks = 0
        for seed in self.seeds:
            self._count(seed, True)

    # -- what to ask for

    def next_span(self, seed: WebSeed, now: float) -> Span | None:
        """What one more connection to `seed` is to fetch now; None for nothing."""
        leeching = self._leeching
        if seed.disabled and seed.counted is not None:
            self._count(seed, False)
        if leeching.suspended or leeching.finished or not seed.may_be_asked(now):
            return None
        lines = LINES if seed.proven and seed.ranges else 1
        if len(seed.spans) >= lines or sum(len(one.spans) for one in self.seeds) >= MAX_LINES:
            return None
        if not seed.ranges:
            blocks = self._pick_of_file(seed, now)
        else:
            blocks = self._pick(seed, now) or self._pick_again(seed, now)
        if not blocks:
            return None
        span = Span(seed, self._geometry, blocks, now, whole=not seed.ranges)
        seed.spans.append(span)
        return span

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
        share = left / (1 + len(self._helpers()) + sum(len(one.spans) for one in self.seeds))
        return max(1, int(min(size, share, MAX_SPAN)) // BLOCK_LENGTH)

    def _helpers(self) -> list[object]:
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
                    return self._pick_on(seed, file, piece, now)
        return []

    def _pick_on(self, seed: WebSeed, file: int, piece: int, now: float) -> list[BlockRequest]:
        """The next blocks wanted of `file`, from `piece` on."""
        pieces = range(piece, self._files.pieces_of(file).stop)
        return self._picker.pick_next(
            seed,
            (one for one in pieces if seed.has[one]),
            max(LOW // BLOCK_LENGTH, 1),
            now,
            run=RUN,
            alone=self._leeching.is_suspect(seed),
        )

    def _extend(self, span: Span, now: float) -> None:
        """More of the file that `span` is in, and of the next one where a piece leads into it."""
        last = span.last_piece
        end = last * self._geometry.piece_length + self._geometry.piece_size(last)
        file = self._files.content_spans(end - 1, 1)[0][0]
        if last + 1 < self._geometry.piece_count and file not in self._padding:
            first = self._first_file(last)
            if file == first or self._is_worth_it(file):
                span.add(self._pick_on(span.seed, file, last + 1, now))

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

    # -- what comes

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

    def answered(self, span: Span, part: Part, answer: Answer, now: float) -> int | None:
        """Where in its file the body of `answer` begins; None when it is of no use."""
        seed = span.seed
        size = self._files.lengths[part.file]
        status = answer.status
        if status in (200, 206) and answer.encoding.strip().lower() not in ("", "identity"):
            self._refused(seed, "answered with packed data", now)
        elif status == 206:
            asked = (part.offset, part.offset + part.length - 1)
            found = parse_content_range(answer.content_range)
            if found is not None and found.total not in (None, size):
                self._lacks(seed, part.file, f"has a file of {found.total} bytes, not {size}", now)
            elif found is None or (found.first, found.last) != asked:
                self._refused(seed, "answered with another part than the one asked for", now)
            elif answer.length not in (None, part.length):
                self._refused(seed, "answered with more or less than it was asked for", now)
            else:
                seed.wait = now - span.fed_at
                return part.offset
        elif status == 200:
            if answer.length not in (None, size):
                self._lacks(
                    seed, part.file, f"has a file of {answer.length} bytes, not {size}", now
                )
            elif part.length == size or part.offset <= MAX_SKIP:
                seed.ranges = seed.ranges and size <= MAX_SKIP
                seed.wait = now - span.fed_at
                return 0
            else:
                seed.ranges = False
        elif status in (404, 410, 416):
            self._lacks(seed, part.file, f"HTTP status {status}", now)
        else:
            self._refused(
                seed,
                f"HTTP status {status}",
                now,
                client_error=400 <= status < 500 and status != 429,
                retry_after=answer.retry_after,
            )
        return None

    def received(self, span: Span, place: int, data: memoryview, now: float) -> bool:
        """`data` at `place` in the content came; whether more of it is wanted."""
        seed, leeching = span.seed, self._leeching
        if seed.disabled or leeching.suspended or leeching.finished:
            return False
        if span.whole and span.owed < LOW:
            self._extend(span, now)
        before = span.gained
        for block, view in span.feed(place, data):
            leeching.received(seed, block, view)
        span.fed_at = now
        if span.gained > before:
            seed.gave()
            if seed.counted is None:
                self._count(seed, True)
        self._chunks += 1
        if self._chunks % LOOK_EVERY == 0 and not any(map(self._picker.is_missing, span.blocks)):
            return False
        return span.owed > 0

    def ended(self, span: Span, now: float) -> None:
        """No more comes of `span`: what is left of it is for others."""
        seed = span.seed
        seed.spans.remove(span)
        left = span.blocks
        if left:
            self._leeching.release(seed, left)
        elif not span.whole and span.last_piece + 1 < self._geometry.piece_count:
            seed.next_pieces.append(span.last_piece + 1)
        if span.gained and now > span.begun_at:
            seed.pace = span.gained / (now - span.begun_at)
        self._leeching.refill(now)

    def failed(self, seed: WebSeed, reason: str, now: float) -> None:
        """The connection to `seed` came to nothing, or ended early."""
        seed.failed(reason, now, self._rng)
        self._count(seed, False)

    def tick(self, now: float) -> None:
        """About once a second."""
        for seed in self.seeds:
            seed.down.sample(now)

    def _refused(
        self,
        seed: WebSeed,
        reason: str,
        now: float,
        *,
        client_error: bool = True,
        retry_after: float | None = None,
    ) -> None:
        seed.failed(reason, now, self._rng, refused=client_error, retry_after=retry_after)
        self._count(seed, False)

    def _lacks(self, seed: WebSeed, file: int, reason: str, now: float) -> None:
        """`seed` has not got that file, or another one in its place."""
        pieces = Bitfield.of(self._geometry.piece_count, self._files.pieces_of(file))
        left = seed.has - pieces
        seed.lacking += 1
        if self._real > 1 and left.count:
            seed.has = left
            self._count(seed, seed.counted is not None)
            seed.problem = f"{reason} (file {file})"
        else:  # there may be something another time
            seed.has = Bitfield.full(self._geometry.piece_count)
        if not left.count or seed.lacking > MAX_LACKING or self._real == 1:
            self._refused(seed, reason, now)

    def _count(self, seed: WebSeed, there: bool) -> None:
        """Count what `seed` has among the sources of the torrent, or do not (any more)."""
        if seed.counted is not None:
            self._picker.source_left(seed.counted, seed.counted.complete)
            seed.counted = None
        if there and not seed.disabled:
            seed.counted = seed.has.copy()
            self._picker.source_joined(seed.counted)
