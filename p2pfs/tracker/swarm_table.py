"""The peers of one torrent as the tracker keeps them: columns instead of objects.

Invariant: the rows stand in three runs, downloaders, then partial seeds, then seeds, so
that counting is subtraction and picking random peers never looks at one that will not be
picked; within a run the order is random, so that neighbours are a random sample. A peer is
one row however many address families it announces from, and is told from others by peer id
and key (without a key: by its address), so nobody can move or stop the entry of somebody
else. An object for each peer would cost three times the memory.
"""

from __future__ import annotations

import enum
import random
from array import array
from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple, TypeAlias

__all__ = ["Counts", "PeerKind", "SwarmPeer", "SwarmTable", "identity"]

Run: TypeAlias = tuple[int, int]
"""Neighbouring rows: the first, and the one after the last."""

_INDEX_FROM = 12
"""Below this many peers a search of the list costs less than a dictionary holds."""
_NONE4, _NONE6 = bytes(6), bytes(18)
_KEY_LENGTH = 9
"""Bytes of a key in an identity: never as many as an address has."""
_TOGETHER = 10
"""Neighbours that are picked together: far less work for a sample that is random enough."""


class PeerKind(enum.IntEnum):
    """What a peer wants: a partial seed (BEP 21) wants nothing, though it lacks pieces."""

    DOWNLOADER = 0
    PARTIAL_SEED = 1
    SEED = 2


_DOWNLOADER, _PARTIAL_SEED, _SEED = PeerKind


def identity(peer_id: bytes, key: bytes) -> bytes:
    """What tells a peer with a key from all others in the swarm."""
    if len(key) > 8:
        key = blake2b(key, digest_size=8).digest()
    return peer_id + key.ljust(_KEY_LENGTH, b"\0")


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
        return identity(self.peer_id, self.key) if self.key else self.peer_id + self.host

    @property
    def address(self) -> bytes:
        """Host and port in 6 or 18 bytes."""
        return self.host + self.port.to_bytes(2, "big")


class Counts(NamedTuple):
    """One swarm: seeds, everybody else, finished downloads so far, and who still wants data."""

    complete: int = 0
    incomplete: int = 0
    downloaded: int = 0
    downloaders: int = 0


class SwarmTable:
    """Who announced for one torrent. A row is a number, valid until the next change.

    `v4` holds address and port of each row in 6 bytes, `v6` in 18 (None while nobody has
    one); zeros stand for none.
    """

    __slots__ = ("downloaded", "ids", "index", "partials_from", "seeds_from", "seen", "v4", "v6")

    def __init__(self, downloaded: int) -> None:
        self.ids: list[bytes] = []
        self.index: dict[bytes, int] | None = None
        self.v4 = bytearray()
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

    def insert(self, identity: bytes, kind: PeerKind, rng: random.Random) -> int:
        """A new row, which is put anywhere in its run."""
        row = len(self.ids)
        self.ids.append(identity)
        self.v4 += _NONE4
        if self.v6 is not None:
            self.v6 += _NONE6
        self.seen.append(0.0)
        if self.index is not None:
            self.index[identity] = row
        elif row >= _INDEX_FROM:
            self.index = {name: place for place, name in enumerate(self.ids)}
        row = self.move(row, kind)
        first, end = self._run(kind)
        other = first + int(rng.random() * (end - first))
        self._swap(row, other)
        return other

    def _run(self, kind: PeerKind) -> tuple[int, int]:
        if kind is _DOWNLOADER:
            return 0, self.partials_from
        if kind is _PARTIAL_SEED:
            return self.partials_from, self.seeds_from
        return self.seeds_from, len(self.ids)

    def remove(self, row: int) -> None:
        last = len(self.ids) - 1
        self._swap(self.move(row, PeerKind.SEED), last)
        identity = self.ids.pop()
        if self.index is not None:
            del self.index[identity]
        del self.v4[6 * last :]
        if self.v6 is not None:
            del self.v6[18 * last :]
        self.seen.pop()

    def move(self, row: int, kind: PeerKind) -> int:
        """Bring a row into the run of `kind`: a swap at each border that it crosses."""
        first, end = self._run(kind)
        if first <= row < end:
            return row
        if kind is not _SEED and row >= self.seeds_from:
            self._swap(row, self.seeds_from)
            row = self.seeds_from
            self.seeds_from += 1
        if kind is _DOWNLOADER and row >= self.partials_from:
            self._swap(row, self.partials_from)
            row = self.partials_from
            self.partials_from += 1
        if kind is not _DOWNLOADER and row < self.partials_from:
            self.partials_from -= 1
            self._swap(row, self.partials_from)
            row = self.partials_from
        if kind is _SEED and row < self.seeds_from:
            self.seeds_from -= 1
            self._swap(row, self.seeds_from)
            row = self.seeds_from
        return row

    def _swap(self, one: int, other: int) -> None:
        if one == other:
            return
        ids, seen = self.ids, self.seen
        ids[one], ids[other] = ids[other], ids[one]
        seen[one], seen[other] = seen[other], seen[one]
        if self.index is not None:
            self.index[ids[one]] = one
            self.index[ids[other]] = other
        _swap_cells(self.v4, 6, one, other)
        if self.v6 is not None:
            _swap_cells(self.v6, 18, one, other)

    def touch(self, row: int, address: bytes, now: float) -> None:
        """Its peer was heard, from `address`: 6 or 18 bytes."""
        self.seen[row] = now
        if len(address) == 6:
            self.v4[6 * row : 6 * row + 6] = address
            return
        if self.v6 is None:
            self.v6 = bytearray(18 * len(self.ids))
        self.v6[18 * row : 18 * row + 18] = address

    def renew(self, identity: bytes, kind: PeerKind, address: bytes, now: float) -> int:
        """`touch` for a peer that has a row in the run of `kind`: the row; -1 for any other."""
        row = self.find(identity)
        first, end = self._run(kind)
        if not first <= row < end:
            return -1
        self.touch(row, address, now)
        return row

    def pick(self, row: int, kind: PeerKind, numwant: int, rng: random.Random) -> list[Run]:
        """The rows of up to `numwant` random others for an asker of this kind.

        `row` is the asker's own, -1 when it is not listed.
        """
        count = len(self.ids) if kind is _DOWNLOADER else self.partials_from
        if 0 <= row < count:
            return _sample(row + 1, count, count - 1, numwant, rng)
        return _sample(int(rng.random() * count), count, count, numwant, rng)

    def packed(self, picked: Sequence[Run], own: bytes) -> tuple[bytes, bytes]:
        """Address and port of each, 6 bytes a peer and 18 bytes a peer.

        An address of the family of `own`, the asker's, where the peer has one; that one is
        left out, whoever else is listed under it.
        """
        if self.v6 is None:
            v4 = self.v4
            joined = b"".join([v4[6 * start : 6 * stop] for start, stop in picked])
            if own not in joined:
                return joined, b""
        found = [one for _, one in self.listed(picked, own)]
        return (
            b"".join([one for one in found if len(one) == 6]),
            b"".join([one for one in found if len(one) == 18]),
        )

    def listed(self, picked: Sequence[Run], own: bytes) -> list[tuple[int, bytes]]:
        """The same as rows, each with its address; no address twice."""
        found = {self._address(row, len(own)): row for run in picked for row in range(*run)}
        found.pop(own, None)
        return [(row, address) for address, row in found.items()]

    def _address(self, row: int, width: int) -> bytes:
        """The packed address of `width` bytes, or the other one where there is none."""
        v4 = bytes(self.v4[6 * row : 6 * row + 6])
        if self.v6 is None:
            return v4
        v6 = bytes(self.v6[18 * row : 18 * row + 18])
        return v4 if v4 != _NONE4 and (width == 6 or v6 == _NONE6) else v6

    def expire(self, limit: float, first: int, stop: int) -> int:
        """Drop the rows first-1 .. stop that were last seen before `limit`."""
        seen = self.seen
        dropped = 0
        for row in range(first - 1, stop - 1, -1):  # removing fills a gap from above
            if seen[row] < limit:
                self.remove(row)
                dropped += 1
        return dropped


def _swap_cells(column: bytearray, width: int, one: int, other: int) -> None:
    one, other = one * width, other * width
    held = column[one : one + width]
    column[one : one + width] = column[other : other + width]
    column[other : other + width] = held


def _sample(first: int, end: int, count: int, want: int, rng: random.Random) -> list[Run]:
    """Up to `want` of the `count` numbers from `first` on, which go on at 0 after `end` - 1.

    Each is as likely as any other, over all `first`. Few runs of neighbours, one from each
    part of the whole, in O(want / `_TOGETHER`).
    """
    if count <= want:
        return _around(first, end, count)
    if want <= 0:
        return []
    if count < 2 * max(want, _TOGETHER):
        places = rng.sample(range(first, first + count), want)
        return [run for place in places for run in _around(place, end, 1)]
    draw = rng.random
    few = -(-want // _TOGETHER)
    places_each, rest = divmod(count, few * _TOGETHER)
    part = places_each * _TOGETHER
    first += int(draw() * (rest + 1))  # the rest is left out at either end
    runs = []
    for _ in range(few):
        start = first + int(draw() * places_each) * _TOGETHER
        if start >= end:
            start -= end
        stop = start + (_TOGETHER if want >= _TOGETHER else want)
        if stop <= end:
            runs.append((start, stop))
        else:
            runs += (start, end), (0, stop - end)
        first += part
        want -= _TOGETHER
    return runs


def _around(start: int, end: int, size: int) -> list[Run]:
    """`size` numbers from `start` on, going on at 0 after `end` - 1, in at most two runs."""
    if start >= end:
        start -= end
    stop = start + size
    return [(start, stop)] if stop <= end else [(start, end), (0, stop - end)]
