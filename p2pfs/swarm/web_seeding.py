"""The web seeds of one torrent, and what to make of their answers (BEP 19).

Invariant: only bytes that a server vouches for as the range that was asked for, or as the
whole file, become content, and they take the way of a peer's blocks from there on; every
block of a span that ended was delivered or is free for others.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from p2pfs.formats.bitfield import Bitfield
from p2pfs.formats.http_range import parse_content_range
from p2pfs.geometry import Geometry
from p2pfs.swarm.web_seed import Span, WebSeed
from p2pfs.swarm.web_spans import MAX_SKIP, Files, Part, WebSpans

if TYPE_CHECKING:
    from p2pfs.swarm.transfer import Transfer

__all__ = ["Answer", "WebSeeding"]

MAX_LACKING: Final = 3
"""Files in a row that are not there before it looks as if nothing were."""

LOOK_EVERY: Final = 8
"""Chunks after which it is looked whether the rest of a span is wanted at all."""


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
        self._leeching = transfer.leeching
        self._picker = transfer.leeching.picker
        self._geometry = geometry
        self._files = files
        self._spans = WebSpans(transfer, geometry, files, padding)
        self._real = sum(
            1 for number, length in enumerate(files.lengths) if length and number not in padding
        )
        self._rng = rng
        self._chunks = 0
        for seed in self.seeds:
            self._count(seed, True)

    # -- what to ask for

    def next_span(self, seed: WebSeed, now: float) -> Span | None:
        """What one more connection to `seed` is to fetch; None for nothing (now)."""
        if seed.disabled and seed.counted is not None:
            self._count(seed, False)
        return self._spans.begin(seed, now)

    def next_part(self, span: Span) -> Part | None:
        """The next range of a file for `span`; None when it has everything."""
        return self._spans.next_part(span)

    # -- what comes

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
                if part.length < size and size > MAX_SKIP:
                    seed.ranges = False
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
        self._spans.look_ahead(span, now)
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
        self._spans.end(span, now)
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
