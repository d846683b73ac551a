"""The peers of one torrent as the tracker keeps them: columns instead of objects.

Invariant: the rows stand in three runs, downloaders, then partial seeds, then seeds, so
that counting is subtraction and picking random peers never looks at one that will not be
picked. A peer is one row however many address families it announces from, and is told
from others by peer id and key (without a key: by its address), so nobody can move or stop
the entry of somebody else. An object for each peer would cost three times the memory.
"""

from __future__ import annotations

import enum
import random
from array import array
from collections.abc import Iterable
from hashlib import blake2b
from typing import NamedTuple

__all__ = ["Counts", "PeerKind", "SwarmPeer", "SwarmTable"]

_INDEX_FROM = 12
"""Below this many peers a search of the list costs less than a dictionary holds."""
_NONE6 = bytes(18)


class PeerKind(enum.IntEnum):
    """What a peer wants: a partial seed (BEP 21) wants nothing, though it lacks pieces."""

    DOWNLOADER = 0
    PARTIAL_SEED = 1
    SEED = 2


class SwarmPeer(NamedTuple):
    """One announcing peer: ids as raw bytes, `host` 4 or 16 raw bytes.

    `port` 0 means that it cannot be dialled and is not to be listed.
    """

    peer_id: bytes
    key: bytes | None
    host: bytes
    port: int

    @property
    def identity(self) -> bytes:
        """What tells this peer from all others in the swarm."""
        if not self.key:
            return self.peer_id + self.host
        key = self.key if len(self.key) <= 8 else blake2b(self.key, digest_size=8).digest()
        return self.peer_id + key.ljust(9, b"\0")  # never as long as an address


class Counts(NamedTuple):
    """One swarm: seeds, everybody else, finished downloads so far, and who still wants data."""

    complete: int = 0
    incomplete: int = 0
    downloaded: int = 0
    downloaders: int = 0


class SwarmTable:
    """Who announced for one torrent. A row is a number, valid until the next change.

    `v4` holds address and port as one number, `v6` as 18 bytes (None while nobody has
    one); 0 stands for none.
    """

    __slots__ = ("downloaded", "ids", "index", "partials_from", "seeds_from", "seen", "v4", "v6")

    def __init__(self, downloaded: int) -> None:
        self.ids: list[bytes] = []
        self.index: dict[bytes, int] | None = None
        self.v4 = array("Q")
        self.v6: bytearray | None = None
        self.seen = array("d")
        self.partials_from = 0
        self.seeds_from = 0
        self.downloaded = downloaded

    def counts(self) -> Counts:
        seeds = len(self.ids) - self.seeds_from
        return Counts(seeds, self.seeds_from, self.downloaded, self.partials_from)

    def find(self, identity: bytes) -> int:
        """The row of `identity`, -1 without one."""
        if self.index is not None:
            return self.index.get(identity, -1)
        return self.ids.index(identity) if identity in self.ids else -1

    def insert(self, identity: bytes, kind: PeerKind) -> int:
        row = len(self.ids)
        self.ids.append(identity)
        self.v4.append(0)
        if self.v6 is not None:
            self.v6 += _NONE6
        self.seen.append(0.0)
        if self.index is not None:
            self.index[identity] = row
        elif row >= _INDEX_FROM:
            self.index = {name: place for place, name in enumerate(self.ids)}
        return self.move(row, kind)

    def remove(self, row: int) -> None:
        last = len(self.ids) - 1
        self._swap(self.move(row, PeerKind.SEED), last)
        identity = self.ids.pop()
        if self.index is not None:
            del self.index[identity]
        self.v4.pop()
        if self.v6 is not None:
            del self.v6[18 * last :]
        self.seen.pop()

    def move(self, row: int, kind: PeerKind) -> int:
        """Bring a row into the run of `kind`: a swap at each border that it crosses."""
        if kind is not PeerKind.SEED and row >= self.seeds_from:
            self._swap(row, self.seeds_from)
            row = self.seeds_from
            self.seeds_from += 1
        if kind is PeerKind.DOWNLOADER and row >= self.partials_from:
            self._swap(row, self.partials_from)
            row = self.partials_from
            self.partials_from += 1
        if kind is not PeerKind.DOWNLOADER and row < self.partials_from:
            self.partials_from -= 1
            self._swap(row, self.partials_from)
            row = self.partials_from
        if kind is PeerKind.SEED and row < self.seeds_from:
            self.seeds_from -= 1
            self._swap(row, self.seeds_from)
            row = self.seeds_from
        return row

    def _swap(self, one: int, other: int) -> None:
        if one == other:
            return
        ids, seen, v4, v6 = self.ids, self.seen, self.v4, self.v6
        ids[one], ids[other] = ids[other], ids[one]
        seen[one], seen[other] = seen[other], seen[one]
        if self.index is not None:
            self.index[ids[one]] = one
            self.index[ids[other]] = other
        v4[one], v4[other] = v4[other], v4[one]
        if v6 is not None:
            held = v6[18 * one : 18 * one + 18]
            v6[18 * one : 18 * one + 18] = v6[18 * other : 18 * other + 18]
            v6[18 * other : 18 * other + 18] = held

    def touch(self, row: int, peer: SwarmPeer, now: float) -> None:
        self.seen[row] = now
        if len(peer.host) == 4:
            self.v4[row] = int.from_bytes(peer.host, "big") << 16 | peer.port
            return
        if self.v6 is None:
            self.v6 = bytearray(18 * len(self.ids))
        self.v6[18 * row : 18 * row + 18] = peer.host + peer.port.to_bytes(2, "big")

    def pick(
        self, asker: SwarmPeer, row: int, kind: PeerKind, numwant: int, rng: random.Random
    ) -> dict[bytes, int]:
        """Up to `numwant` random others: their rows by one address of each.

        `row` is the asker's own, -1 when it is not listed.
        """
        everybody = len(self.ids) if kind is PeerKind.DOWNLOADER else self.partials_from
        asker_is_in = 0 <= row < everybody
        rows = _some(everybody - asker_is_in, numwant, rng)
        if asker_is_in:  # the last row stands in for its own, which was left out
            rows = [everybody - 1 if other == row else other for other in rows]
        own = asker.host + asker.port.to_bytes(2, "big")
        v4, v6 = self.v4, self.v6
        if v6 is None:
            found = {v4[other].to_bytes(6, "big"): other for other in rows}
        else:
            found = {self._address(other, len(own)): other for other in rows}
        found.pop(own, None)
        return found

    def _address(self, row: int, width: int) -> bytes:
        """The packed address of `width` bytes, or the other one where there is none."""
        assert self.v6 is not None
        v6 = bytes(self.v6[18 * row : 18 * row + 18])
        v4 = self.v4[row]
        return v4.to_bytes(6, "big") if v4 and (width == 6 or v6 == _NONE6) else v6

    def expire(self, limit: float, first: int, stop: int) -> int:
        """Drop the rows first-1 .. stop that were last seen before `limit`."""
        seen = self.seen
        dropped = 0
        for row in range(first - 1, stop - 1, -1):  # removing fills a gap from above
            if seen[row] < limit:
                self.remove(row)
                dropped += 1
        return dropped


def _some(population: int, want: int, rng: random.Random) -> Iterable[int]:
    """Up to `want` different numbers below `population`, in O(want)."""
    if population <= want:
        return range(population)
    if want <= 0:
        return ()
    few = min(want, population - want)  # draw the smaller part: who is in, or who is not
    draw = rng.random
    found = {int(draw() * population) for _ in range(few)}
    while len(found) < few:
        found.add(int(draw() * population))
    return found if few == want else [one for one in range(population) if one not in found]
