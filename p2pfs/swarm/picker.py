"""Which blocks to ask a source for next.

Invariant: a piece is in exactly one state at any time: not wanted, open, in progress,
being checked, or had. The rank is: finish what was begun, then begin the rarest piece,
ties at random (or, if `sequential`, the first one); only when nothing is left for this source,
ask it for blocks that others have been asked for already (end game), a bounded number of times
each.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from enum import Enum, auto
from typing import Final, NamedTuple

from p2pfs.formats.bitfield import Bitfield
from p2pfs.geometry import BLOCK_LENGTH, BlockRequest, Geometry, blocks_in, cut
from p2pfs.swarm.availability import RarityOrder

__all__ = ["Arrival", "Picker", "PieceState", "Source"]

MAX_ASKERS: Final = 2
"""Sources that one block is asked of at the same time."""

LATE_AFTER: Final = 0.3
"""Seconds after which a request may be doubled in the end game: most answers are quicker."""

STALE_AFTER: Final = 5.0
"""Seconds after which a request may be doubled at an idle source before the end game.

Well above what blocks wait in a pipeline to a busy uplink: 1.5 cost a sixth of its bytes.
"""

SPAN_STEP: Final = 1e-3
"""Seconds by which the next piece of a span counts as asked for earlier than the one before:
others that take over from a slow source begin with what it would come to last."""

Source = Hashable
"""Whoever gives blocks: a peer or a web seed. Compared by identity or value."""


class PieceState(Enum):
    NOT_WANTED = auto()
    OPEN = auto()
    IN_PROGRESS = auto()
    CHECKING = auto()
    HAD = auto()


class Arrival(NamedTuple):
    """What a run of blocks that came in means.

    `wanted`: the parts of it to be stored; `complete`: with them the piece has all its
    blocks; `also_asked`: other sources that were asked for some of it.
    """

    wanted: tuple[BlockRequest, ...]
    complete: bool
    also_asked: tuple[Source, ...]


_UNWANTED: Final = Arrival((), False, ())


def _first_run(mask: int) -> tuple[int, int]:
    """Start and length of the lowest run of ones in a mask that is not 0."""
    start = (mask & -mask).bit_length() - 1
    rest = mask >> start
    return start, (~rest & (rest + 1)).bit_length() - 1


class _Progress:
    """A piece in progress. Masks have bit b set for block b."""

    __slots__ = ("askers", "exclusive", "free", "givers", "missing", "piece", "size")

    def __init__(self, piece: int, size: int) -> None:
        block_count = -(-size // BLOCK_LENGTH)
        self.piece = piece
        self.size = size
        self.free = self.missing = (1 << block_count) - 1
        self.askers: dict[int, tuple[tuple[Source, float], ...]] = {}
        self.givers: list[Source | None] = [None] * block_count
        self.exclusive: Source | None = None

    def open_to(self, source: Source, alone: bool) -> bool:
        """Whether `source` may give some of it; `alone`: only if it gives all of it."""
        return not alone if self.exclusive is None else self.exclusive is source


class Picker:
    """The download side of one torrent.

    `have` is what is verified already, `wanted` (default: everything) what is to be fetched.
    """

    def __init__(
        self,
        geometry: Geometry,
        have: Bitfield,
        rng: random.Random,
        wanted: Bitfield | None = None,
    ) -> None:
        self._geometry = geometry
        self._sources_with_all = 0
        self._in_progress: dict[int, _Progress] = {}
        self._with_free: dict[int, _Progress] = {}
        self._exclusive_next: set[int] = set()
        self._state = [
            PieceState.HAD
            if piece in have
            else PieceState.OPEN
            if wanted is None or piece in wanted
            else PieceState.NOT_WANTED
            for piece in range(geometry.piece_count)
        ]
        opened = [p for p, state in enumerate(self._state) if state is PieceState.OPEN]
        self._order = RarityOrder(geometry.piece_count, opened, rng)
        self.sequential = False
        """Whether pieces are begun in the order of the content, not the rarest first."""
        self.remaining = len(opened)
        """Pieces wanted and not had."""

    def state(self, piece: int) -> PieceState:
        return self._state[piece]

    def is_needed(self, piece: int) -> bool:
        """Whether a source that has `piece` is of interest for it."""
        return self._state[piece] not in (PieceState.HAD, PieceState.NOT_WANTED)

    def needed_of(self, has: Bitfield) -> int:
        """How many pieces of `has` are needed."""
        return sum(1 for piece in has if self.is_needed(piece))

    # -- who has what

    def source_joined(self, has: Bitfield) -> None:
        if has.complete:
            self._sources_with_all += 1
            return
        self._order.increase_all(has)

    def source_has(self, piece: int) -> None:
        """A source got `piece`. Sources that were complete at `source_joined` send none."""
        self._order.increase(piece)

    def source_lost(self, piece: int) -> None:
        """A source has `piece` no more; not for one that was complete at `source_joined`."""
        self._order.decrease(piece)

    def source_left(self, has: Bitfield, joined_complete: bool) -> None:
        """The counterpart of `source_joined` and the `source_has` since."""
        if joined_complete:
            self._sources_with_all -= 1
            return
        self._order.decrease_all(has)

    def availability(self, piece: int) -> int:
        """Sources that have `piece`."""
        return self._order.count(piece) + self._sources_with_all

    def unavailable(self) -> list[int]:
        """Needed pieces that no source has, ascending."""
        if self._sources_with_all:
            return []
        candidates = sorted([*self._order, *self._in_progress])
        return [piece for piece in candidates if self._order.count(piece) == 0]

    # -- what to ask for

    @property
    def everything_asked(self) -> bool:
        """Whether every missing block is asked for: the condition of the end game."""
        return not self._with_free and not self._order

    def pick(
        self,
        source: Source,
        has: Bitfield,
        count: int,
        now: float,
        *,
        run: int = 1,
        alone: bool = False,
    ) -> list[BlockRequest]:
        """Up to `count` blocks that nobody is asked for, now asked of `source`.

        `run`: how many blocks one request may cover. `alone`: only pieces of which it then
        gives every block (a source under suspicion).
        """
        picked: list[BlockRequest] = []
        begun_before = [p for p in self._with_free.values() if has[p.piece]]
        if self.sequential:
            begun_before.sort(key=lambda progress: progress.piece)
        for progress in begun_before:
            if not progress.open_to(source, alone):
                continue
            count -= self._ask(progress, source, count, now, run, picked)
            if count <= 0:
                return picked
        if self._order:
            begun = []
            room = count
            for piece in self._to_begin(has):
                begun.append(piece)
                room -= self._geometry.block_count(piece)
                if room <= 0:
                    break
            for piece in begun:
                progress = self._begin(piece, source, alone)
                count -= self._ask(progress, source, count, now, run, picked)
        return picked

    def pick_span(
        self,
        source: Source,
        has: Bitfield,
        count: int,
        now: float,
        *,
        run: int = 1,
        alone: bool = False,
        slack: int = 0,
        after: int | None = None,
    ) -> list[BlockRequest]:
        """About `count` blocks that nobody is asked for, now asked of `source`: few runs of pieces.

        For sources that give much in one go. Pieces that were begun and left by others come
        first; then pieces side by side, whole ones, the rarest among them and no others than
        `slack` sources more have (BEP 19), beginning with `after` if that is one of these;
        then what others have begun and not asked for. In the order of the content; `run` and
        `alone` as for `pick`.
        """
        begun = sorted(
            progress.piece
            for progress in self._with_free.values()
            if has[progress.piece] and progress.open_to(source, alone)
        )
        left = [piece for piece in begun if not self._in_progress[piece].askers]
        first = next(self._to_begin(has), None)
        if left or first is None:
            return self.pick_next(source, left or begun, count, now, run=run, alone=alone)
        limit = self._order.count(first) + slack

        def fits(piece: int) -> bool:
            return (
                0 <= piece < len(self._state)
                and piece in self._order
                and has[piece]
                and self._order.count(piece) <= limit
            )

        if after is not None and not self.sequential and fits(after):
            first = after
        end = first + 1
        room = count - self._geometry.block_count(first)
        while room > 0 and fits(end):
            room -= self._geometry.block_count(end)
            end += 1
        while room > 0 and fits(first - 1):
            first -= 1
            room -= self._geometry.block_count(first)
        return self.pick_next(source, range(first, end), count, now, run=run, alone=alone)

    def pick_next(
        self,
        source: Source,
        pieces: Iterable[int],
        count: int,
        now: float,
        *,
        run: int = 1,
        alone: bool = False,
    ) -> list[BlockRequest]:
        """About `count` blocks that nobody is asked for, in the order of `pieces`.

        Now asked of `source`: all that is free of each piece. `run` and `alone` as for `pick`.
        """
        picked: list[BlockRequest] = []
        for piece in pieces:
            if count <= 0:
                break
            progress = self._with_free.get(piece)
            if progress is None:
                if piece not in self._order:
                    continue
                progress = self._begin(piece, source, alone)
            elif not progress.open_to(source, alone):
                continue
            all_of_it = self._geometry.block_count(piece)
            count -= self._ask(progress, source, all_of_it, now, run, picked)
            now -= SPAN_STEP
        return picked

    def has_free(self, piece: int) -> bool:
        """Whether some of `piece` is asked of nobody."""
        return piece in self._with_free or piece in self._order

    def pick_again(
        self,
        source: Source,
        has: Bitfield,
        count: int,
        now: float,
        *,
        slower: Callable[[Source], bool] = lambda asked: True,
    ) -> list[BlockRequest]:
        """Up to `count` blocks asked of others already: late ones in the end game, else stale.

        `slower`: whether another source will take longer for what it owes than `source`
        would; in the end game only what such a one owes is asked for again.
        """
        stale = now - STALE_AFTER
        late = now - LATE_AFTER if self.everything_asked else stale
        verdicts: dict[Source, bool] = {}
        found: list[tuple[float, int, int]] = []
        for progress in self._in_progress.values():
            piece = progress.piece
            if not has[piece] or (progress.exclusive and progress.exclusive is not source):
                continue
            for number, askers in progress.askers.items():
                asked, since = askers[0]
                if since > late or len(askers) >= MAX_ASKERS or asked is source:
                    continue
                if since > stale:
                    if asked not in verdicts:
                        verdicts[asked] = slower(asked)
                    if not verdicts[asked]:
                        continue
                found.append((since, piece, number))
        found.sort()
        picked = []
        for _, piece, number in found[:count]:
            self._in_progress[piece].askers[number] += ((source, now),)
            picked.append(self._geometry.block(piece, number))
        return picked

    def _to_begin(self, has: Bitfield) -> Iterator[int]:
        """The open pieces of `has`, the one to be begun next first."""
        return self._order.ascending(has) if self.sequential else self._order.of(has)

    def _begin(self, piece: int, source: Source, alone: bool) -> _Progress:
        self._order.close(piece)
        self._state[piece] = PieceState.IN_PROGRESS
        progress = _Progress(piece, self._geometry.piece_size(piece))
        self._in_progress[piece] = progress
        self._with_free[piece] = progress
        if alone or piece in self._exclusive_next:
            progress.exclusive = source
            self._exclusive_next.discard(piece)
        return progress

    def _ask(
        self,
        progress: _Progress,
        source: Source,
        count: int,
        now: float,
        run: int,
        picked: list[BlockRequest],
    ) -> int:
        """Add requests for up to `count` free blocks of `progress`, lowest first; how many."""
        piece = progress.piece
        size = progress.size
        askers = progress.askers
        asker = ((source, now),)
        free = progress.free
        asked = 0
        step = run * BLOCK_LENGTH
        while free and asked < count:
            number, length = _first_run(free)
            length = min(length, count - asked)
            free ^= ((1 << length) - 1) << number
            askers.update(dict.fromkeys(range(number, number + length), asker))
            end = min(size, (number + length) * BLOCK_LENGTH)
            picked += cut(piece, number * BLOCK_LENGTH, end, step)
            asked += length
        progress.free = free
        if not free:
            self._with_free.pop(piece, None)
        return asked

    # -- what comes of it

    def arrived(self, source: Source, block: BlockRequest) -> Arrival:
        """`source` delivered `block`, which it had been asked for at some time."""
        piece = block.piece
        progress = self._in_progress.get(piece)
        if progress is None or self._state[piece] is not PieceState.IN_PROGRESS:
            return _UNWANTED
        first, length = block.begin // BLOCK_LENGTH, blocks_in(block)
        mask = ((1 << length) - 1) << first
        new = progress.missing & mask
        if not new:
            return _UNWANTED
        wanted = (block,) if new == mask else self._parts(block, new)
        progress.missing ^= new
        if progress.free & new:
            progress.free &= ~new
            if not progress.free:
                self._with_free.pop(piece, None)
        others: set[Source] = set()
        givers, askers = progress.givers, progress.askers
        for number in range(first, first + length):
            if new >> number & 1:
                givers[number] = source
                for asker, _ in askers.pop(number, ()):
                    if asker is not source:
                        others.add(asker)
        if progress.missing:
            return Arrival(wanted, False, tuple(others))
        self._state[piece] = PieceState.CHECKING
        return Arrival(wanted, True, tuple(others))

    def _parts(self, block: BlockRequest, mask: int) -> tuple[BlockRequest, ...]:
        """The parts of `block` whose bits are set in `mask`."""
        parts = []
        end = block.begin + block.length
        while mask:
            start, length = _first_run(mask)
            mask ^= ((1 << length) - 1) << start
            begin = start * BLOCK_LENGTH
            parts.append(BlockRequest(block.piece, begin, min(length * BLOCK_LENGTH, end - begin)))
        return tuple(parts)

    def is_missing(self, block: BlockRequest) -> bool:
        """Whether any part of `block` is still to come."""
        progress = self._in_progress.get(block.piece)
        if progress is None:
            return False
        mask = ((1 << blocks_in(block)) - 1) << block.begin // BLOCK_LENGTH
        return bool(progress.missing & mask)

    def released(self, source: Source, blocks: Iterable[BlockRequest]) -> None:
        """`source` will not deliver `blocks`; those asked of nobody else are free again.

        Nor is any piece kept for `source` alone any longer.
        """
        for kept in self._in_progress.values():
            if kept.exclusive is source:
                kept.exclusive = None
        for block in blocks:
            progress = self._in_progress.get(block.piece)
            if progress is None:
                continue
            first = block.begin // BLOCK_LENGTH
            for number in range(first, first + blocks_in(block)):
                if number in progress.askers:
                    self._release(progress, source, number)

    def _release(self, progress: _Progress, source: Source, number: int) -> None:
        askers = progress.askers
        left = tuple(asked for asked in askers[number] if asked[0] is not source)
        if left:
            askers[number] = left
            return
        del askers[number]
        progress.free |= 1 << number
        self._with_free[progress.piece] = progress

    def givers(self, piece: int) -> Sequence[Source | None]:
        """Who gave each block of a piece in progress or being checked."""
        return self._in_progress[piece].givers

    def verified(self, piece: int) -> None:
        """The piece being checked is right: it is had."""
        del self._in_progress[piece]
        self._state[piece] = PieceState.HAD
        self.remaining -= 1

    def rejected(self, piece: int, *, exclusive: bool = True) -> None:
        """The piece being checked (or in progress) is of no use: open again.

        `exclusive`: next time one source alone is asked for all of it, so that a second
        failure has one culprit.
        """
        self._in_progress.pop(piece, None)
        self._with_free.pop(piece, None)
        self._state[piece] = PieceState.OPEN
        if exclusive:
            self._exclusive_next.add(piece)
        self._order.open(piece)

    def lost(self, piece: int) -> None:
        """A piece that was had is gone (its file changed); it is not fetched again."""
        if self._state[piece] is PieceState.HAD:
            self._state[piece] = PieceState.NOT_WANTED
