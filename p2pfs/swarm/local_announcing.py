"""When which torrents are announced on the local network (BEP 14).

Invariant: a torrent is announced every five minutes, never twice in one, and a client sends
no more than `AT_ONCE` messages in as many minutes, however many torrents it has: they go
out together and have their turns.
"""

from __future__ import annotations

import math
from collections import deque
from itertools import islice
from typing import Final

__all__ = ["LocalAnnounces"]

EVERY: Final = 300.0
"""Seconds between two announces of a torrent."""
GATHER: Final = 1.0
"""Seconds in which new torrents are gathered, so that they go out together."""
EARLY: Final = 60.0
"""Seconds by which a torrent may be announced sooner, where there is room in a message."""
AT_ONCE: Final = 4
"""Messages that may follow each other at once, as for torrents that are added one by one."""
_MINUTE: Final = 60.0


class LocalAnnounces:
    """The torrents of one client; `now` is in monotonic seconds, `room` is for a message."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._new: dict[bytes, float] = {}
        """Not announced yet: since when."""
        self._announced: dict[bytes, float] = {}
        """When it was announced last; the oldest first."""
        self._sent: deque[float] = deque(maxlen=AT_ONCE)

    def add(self, info_hash: bytes, now: float) -> None:
        """Announce it from now on."""
        if info_hash not in self._announced:
            self._new.setdefault(info_hash, now)

    def remove(self, info_hash: bytes) -> None:
        """Do not announce it any more."""
        self._new.pop(info_hash, None)
        self._announced.pop(info_hash, None)

    @property
    def next_at(self) -> float:
        """When there is something to send; infinity for never."""
        wanted = math.inf
        if self._new:
            wanted = next(iter(self._new.values())) + GATHER
        if self._announced:
            wanted = min(wanted, next(iter(self._announced.values())) + EVERY)
        if len(self._sent) == AT_ONCE:
            wanted = max(wanted, self._sent[0] + AT_ONCE * _MINUTE)
        return wanted

    def due(self, now: float) -> tuple[bytes, ...]:
        """What goes into the message that is sent now: new ones first, then the oldest."""
        if now < self.next_at:
            return ()
        due = list(islice(self._new, self._room))
        for info_hash, at in islice(self._announced.items(), self._room - len(due)):
            if now < at + EVERY - EARLY:
                break
            due.append(info_hash)
        for info_hash in due:
            self.remove(info_hash)
            self._announced[info_hash] = now
        self._sent.append(now)
        return tuple(due)
