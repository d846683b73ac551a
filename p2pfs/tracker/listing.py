"""The list of what is shared, in pages.

Invariant: a page costs one pass over the catalogue at most, and the pages of one list are
cut from one pass as long as nothing changes in between.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from p2pfs.tracker.catalogue import Catalogue, Entry
from p2pfs.tracker.presence import Presence

__all__ = ["Listing", "Page"]

_REMEMBERED = 4


class Page(NamedTuple):
    """Some entries by name, and how many there are in all."""

    entries: Sequence[Entry]
    total: int


class Listing:
    """Pages of `catalogue`; safe to use from several threads."""

    def __init__(self, catalogue: Catalogue, presence: Presence) -> None:
        self._catalogue = catalogue
        self._presence = presence
        self._live: OrderedDict[str | None, tuple[object, list[Entry]]] = OrderedDict()

    def page(self, pattern: str | None, *, everything: bool, offset: int, limit: int) -> Page:
        """Up to `limit` entries from `offset` on, of those that `Catalogue.matching` finds.

        Without `everything` only what somebody has. Raises `FormatError` for a pattern
        that is too long.
        """
        found = self._catalogue.matching(pattern) if everything else self._all_live(pattern)
        return Page(found[offset : offset + limit], len(found))

    def _all_live(self, pattern: str | None) -> Sequence[Entry]:
        state = self._catalogue.changes, self._presence.live_changes
        known = self._live.get(pattern)
        if known is not None and known[0] == state:
            return known[1]
        found = self._presence.live_among(self._catalogue.matching(pattern))
        self._live[pattern] = state, found
        while len(self._live) > _REMEMBERED:
            self._live.popitem(last=False)
        return found
