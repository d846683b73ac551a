"""Content that others change while it is served: what is lost by that, and found again.

Invariant: what is verified after a call was hashed as its files looked then, and a file that
changes once more is noticed once more. Nothing here is written to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from p2pfs.formats.bitfield import Bitfield
from p2pfs.storage.system import FileStat

if TYPE_CHECKING:
    from p2pfs.storage.pieces import PieceStore

__all__ = ["Changes"]

RETRY_AFTER = 60.0
"""Seconds after which a file that looks as it did is hashed again: it may have been the disk."""

RETRY_SHARE = 20.0
"""The same as a multiple of the time that hashing it took."""


class Changes:
    """Looks at the files of one store; `hashed` tells which pieces are right on the disk now.

    Methods block; one at a time.
    """

    def __init__(self, store: PieceStore, hashed: Callable[[list[int]], Bitfield]) -> None:
        self._store = store
        self._hashed = hashed
        self._lost_as: dict[int, FileStat | None] = {}
        self._again_at: dict[int, float] = {}
        self._glimpsed: dict[int, FileStat | None] = {}

    def recheck(self, numbers: Iterable[int], suspects: Iterable[int]) -> list[int]:
        """See `PieceStore.recheck_changed`."""
        store, suspected = self._store, set(suspects)
        changed = [
            number for number in numbers if number in suspected or not store.check_unchanged(number)
        ]
        store.remember_stats(changed)
        touched = {index for number in changed for index in store.layout.touching(number)}
        doubtful = [index for index in sorted(touched) if index in store.verified]
        if not doubtful:
            return []
        right = self._hashed(doubtful)
        lost = [index for index in doubtful if index not in right]
        for index in lost:
            store.drop(index)
            for number in self._files_of(index):
                self._looked_at(number, 0.0)
        return lost

    def _looked_at(self, number: int, seconds: float) -> None:
        """A file was found wrong as it is now, which took so long."""
        self._lost_as[number] = self._store.stats.get(number)
        self._again_at[number] = time.monotonic() + max(RETRY_AFTER, RETRY_SHARE * seconds)

    def find_again(self, indices: Iterable[int]) -> list[int]:
        """See `PieceStore.find_again`."""
        store = self._store
        wanted = set(indices)
        steady = set()
        for number in {number for index in wanted for number in self._files_of(index)}:
            now = store.stats.get(number)
            differs = now != self._lost_as.get(number)
            due = differs or time.monotonic() >= self._again_at.get(number, 0.0)
            if due and now is not None and now == self._glimpsed.get(number):
                steady.add(number)
            self._glimpsed[number] = now
        doubtful = sorted(
            {index for number in steady for index in store.layout.touching(number)} & wanted
        )
        if not doubtful:
            return []
        start = time.monotonic()
        right = self._hashed(doubtful)
        for number in steady:
            self._looked_at(number, time.monotonic() - start)
        if not all(store.check_unchanged(number) for number in steady):
            return []
        return [index for index in doubtful if index in right]

    def _files_of(self, index: int) -> list[int]:
        layout = self._store.layout
        spans = layout.spans(index, 0, layout.geometry.piece_size(index))
        return [span.file_index for span in spans]
