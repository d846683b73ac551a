"""When to announce, with which event, to which tracker (BEP 3, BEP 12, BEP 31).

Invariant: `started` once, `completed` once and only on the transition, `stopped` last;
never sooner than the tracker's minimum interval, and failures back off with jitter.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from p2pfs.formats.announce_http import Event

__all__ = ["AnnounceSchedule", "Tiers"]

MIN_INTERVAL: Final = 5.0
MAX_INTERVAL: Final = 3 * 3600.0
DEFAULT_INTERVAL: Final = 1800.0
DEFAULT_MIN_INTERVAL: Final = 30.0
FIRST_RETRY: Final = 2.0
MAX_RETRY: Final = 300.0
MAX_HUNGRY_RETRY: Final = 60.0


class Tiers:
    """The trackers of one torrent in the order to try (BEP 12)."""

    def __init__(self, tiers: Sequence[Sequence[str]], rng: random.Random) -> None:
        self._rng = rng
        self._tiers = [self._shuffled(tier) for tier in tiers if tier]

    def _shuffled(self, tier: Sequence[str]) -> list[str]:
        return self._rng.sample(list(tier), len(tier))

    def __bool__(self) -> bool:
        return bool(self._tiers)

    def extend(self, chosen: Sequence[str], tiers: Sequence[Sequence[str]]) -> bool:
        """Take in `chosen` before all that is here, and what is new in `tiers` after it.

        Whether any of them was not here yet. Those that are stay in the order they have.
        """
        known = set(self.in_order())
        first = set(self._tiers[0] if self._tiers else ())
        before = [url for url in chosen if url not in first]
        if before:
            kept = [[url for url in tier if url not in before] for tier in self._tiers]
            self._tiers = [self._shuffled(before), *(tier for tier in kept if tier)]
        here = set(self.in_order())
        after = ([url for url in tier if url not in here] for tier in tiers)
        self._tiers += [self._shuffled(tier) for tier in after if tier]
        return not known.issuperset(self.in_order())

    def in_order(self) -> list[str]:
        """Every tracker, first tier first; the next is for when all before it failed."""
        return [url for tier in self._tiers for url in tier]

    def succeeded(self, url: str) -> None:
        """`url` answered: it moves to the front of its tier."""
        for tier in self._tiers:
            if url in tier:
                tier.remove(url)
                tier.insert(0, url)
                return


class AnnounceSchedule:
    """The announces of one torrent, decided from what the tracker said last."""

    def __init__(self, now: float, rng: random.Random, *, complete: bool) -> None:
        self._rng = rng
        self._started = False
        self._complete_announced = complete
        self._complete = complete
        self._stopped = False
        self._next_at = now
        self._earliest = now
        self._failures = 0
        self._hungry = False
        self._interval = DEFAULT_INTERVAL

    @property
    def next_at(self) -> float:
        """When the next announce is due."""
        return self._next_at

    @property
    def started(self) -> bool:
        """Whether a tracker knows of us."""
        return self._started

    @property
    def completion_untold(self) -> bool:
        """Whether the download became complete, and no tracker has been told."""
        return self._complete and not self._complete_announced

    def event(self) -> Event:
        """What the next announce has to say."""
        if self._stopped:
            return Event.STOPPED
        if not self._started:
            return Event.STARTED
        if self._complete and not self._complete_announced:
            return Event.COMPLETED
        return Event.NONE

    def completed(self, now: float) -> None:
        """The download has just become complete: told at once."""
        self._complete = True
        if not self._complete_announced:
            self._next_at = now

    def was_complete(self) -> None:
        """It turned out to have been complete all the time: nobody is told of a download."""
        self._complete = self._complete_announced = True

    def due(self, now: float) -> None:
        """There is something to tell: as soon as the tracker is to be asked again anyway."""
        if not self._failures:
            self._next_at = min(self._next_at, max(now, self._earliest))

    def more_trackers(self, now: float) -> None:
        """There are some that were not asked yet: those that failed hold up nobody else."""
        if self._failures:
            self._next_at = now
        else:
            self.due(now)

    def need_peers(self, hungry: bool) -> None:
        """While nobody can serve us, announce at the tracker's minimum interval."""
        self._hungry = hungry
        if hungry and not self._failures:
            self._next_at = min(self._next_at, self._earliest)

    def stop(self) -> bool:
        """No more announces but `stopped`; whether even that is due."""
        self._stopped = True
        return self._started

    def succeeded(
        self, event: Event, interval: float | None, min_interval: float | None, now: float
    ) -> None:
        """The tracker answered `event`; its intervals are in seconds and taken with care."""
        self._failures = 0
        self._started = True
        if event is Event.COMPLETED:
            self._complete_announced = True
        regular = min(MAX_INTERVAL, max(MIN_INTERVAL, interval or DEFAULT_INTERVAL))
        self._interval = regular
        least = DEFAULT_MIN_INTERVAL if min_interval is None else min_interval
        least = min(regular, max(MIN_INTERVAL, least))
        self._earliest = now + least
        self._next_at = now + (least if self._hungry else regular)
        if self.event() is not Event.NONE:
            self._next_at = now

    def failed(self, now: float, retry_in: float | None = None) -> None:
        """No tracker answered: try again later and later, up to five minutes.

        Up to one minute while nobody can serve us, and never later than the interval that
        was named last, so that a tracker that comes back has heard of everybody by then.
        """
        self._failures += 1
        longest = min(MAX_HUNGRY_RETRY if self._hungry else MAX_RETRY, self._interval)
        wait = min(longest, FIRST_RETRY * 2.0 ** min(self._failures - 1, 10))
        wait = max(wait * self._rng.uniform(0.75, 1.0), retry_in or 0.0)
        self._next_at = self._earliest = now + min(wait, MAX_INTERVAL)
