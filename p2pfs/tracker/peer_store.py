"""Who is in which swarm: the `PeerStore` contract and the store in memory.

Invariant: the rows of a swarm stand in three runs, downloaders, then partial seeds, then
seeds, so that counting is subtraction and picking random peers never looks at one that
will not be picked. A peer is one row however many address families it announces from; it
is identified by torrent, peer id and key (without a key: by its address), so nobody can
move or stop the entry of somebody else. Nothing here scans more than it was allowed to.
"""

from __future__ import annotations

import enum
import random
from array import array
from collections import deque
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple, Protocol

from p2pfs.geometry import TorrentId

__all__ = ["Announced", "Counts", "MemoryPeerStore", "PeerKind", "PeerStore", "SwarmPeer"]


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


class Announced(NamedTuple):
    """The outcome of an announce: counts, and random peers in packed form (6 or 18 bytes).

    `peer_ids` runs beside `peers`, if they were asked for.
    """

    counts: Counts
    peers: Sequence[bytes] = ()
    peer_ids: Sequence[bytes] = ()


class PeerStore(Protocol):
    """What a tracker needs to keep; each call is atomic. `now` is monotonic seconds."""

    def announce(
        self,
        torrent_id: TorrentId,
        peer: SwarmPeer,
        kind: PeerKind,
        *,
        now: float,
        numwant: int,
        completed: bool = False,
        with_ids: bool = False,
    ) -> Announced:
        """Enter or refresh `peer` and pick up to `numwant` others for it.

        Whoever wants nothing is handed only those who do; nobody is handed itself. An
        address of the asker's family is preferred. `completed` counts a finished download
        unless the peer was a seed before.
        """

    def remove(self, torrent_id: TorrentId, peer: SwarmPeer) -> Counts:
        """Take `peer` out (it stopped); unknown peers are ignored."""

    def counts(self, torrent_id: TorrentId) -> Counts | None:
        """The counts of one swarm; None when nothing is known of it."""

    def expire(self, now: float, budget: int) -> int:
        """Drop silent peers, looking at no more than `budget` rows; how many were dropped."""


class MemoryPeerStore:
    """Every swarm in this process; a peer is silent after `lifetime` seconds.

    Beyond `max_peers` new peers are answered but not listed, so that invented peers
    cannot take all memory. `rng` picks the peers handed out.
    """

    def __init__(
        self,
        lifetime: float,
        *,
        rng: random.Random | None = None,
        max_peers: int = 2_000_000,
    ) -> None:
        self.lifetime = lifetime
        self.max_peers = max_peers
        self.peer_count = 0
        self._rng = rng or random.Random()
        self._swarms: dict[bytes, _Swarm] = {}
        self._rounds: deque[bytes] = deque()
        """Swarms in the order in which expiry visits them."""
        self._next_row: int | None = None
        self._past: dict[bytes, int] = {}
        """Finished downloads of swarms that are empty now, a bounded number of them."""

    @property
    def torrent_count(self) -> int:
        """Swarms with at least one peer, apart from those that only wait for expiry."""
        return len(self._swarms)

    def announce(
        self,
        torrent_id: TorrentId,
        peer: SwarmPeer,
        kind: PeerKind,
        *,
        now: float,
        numwant: int,
        completed: bool = False,
        with_ids: bool = False,
    ) -> Announced:
        swarm = self._swarms.get(torrent_id.v1)
        listed = peer.port != 0
        row = -1
        if swarm is None:
            if not listed or self.peer_count >= self.max_peers:
                return Announced(self.counts(torrent_id) or Counts())
            swarm = self._swarms[torrent_id.v1] = _Swarm(self._past.pop(torrent_id.v1, 0))
            self._rounds.append(torrent_id.v1)
        if listed:
            identity = peer.identity
            row = swarm.find(identity)
            if completed and (row < 0 or row < swarm.seeds_from):
                swarm.downloaded += 1
            if row >= 0:
                row = swarm.move(row, kind)
            elif self.peer_count < self.max_peers:
                row = swarm.insert(identity, kind)
                self.peer_count += 1
            if row >= 0:
                swarm.touch(row, peer, now)
        peers = swarm.pick(peer, row, kind, numwant, self._rng)
        ids = [swarm.ids[place][:20] for place in peers.values()] if with_ids else ()
        return Announced(swarm.counts(), list(peers), ids)

    def remove(self, torrent_id: TorrentId, peer: SwarmPeer) -> Counts:
        swarm = self._swarms.get(torrent_id.v1)
        if swarm is None:
            return self.counts(torrent_id) or Counts()
        row = swarm.find(peer.identity)
        if row >= 0:
            swarm.remove(row)
            self.peer_count -= 1
        return swarm.counts()

    def counts(self, torrent_id: TorrentId) -> Counts | None:
        swarm = self._swarms.get(torrent_id.v1)
        if swarm is not None:
            return swarm.counts()
        past = self._past.get(torrent_id.v1)
        return None if past is None else Counts(downloaded=past)

    def expire(self, now: float, budget: int) -> int:
        limit = now - self.lifetime
        dropped = 0
        for _ in range(len(self._rounds)):
            if budget <= 0:
                break
            name = self._rounds[0]
            swarm = self._swarms[name]
            first = len(swarm.seen) if self._next_row is None else self._next_row
            stop = max(first - budget, 0)
            dropped += swarm.expire(limit, min(first, len(swarm.seen)), stop)
            budget -= first - stop + 1
            self._next_row = stop or None
            if stop:
                break
            self._rounds.popleft()
            if swarm.seen:
                self._rounds.append(name)
            else:
                self._forget(name)
        self.peer_count -= dropped
        return dropped

    def _forget(self, name: bytes) -> None:
        past = self._swarms.pop(name).downloaded
        if past:
            self._past[name] = past
            if len(self._past) > _MAX_PAST:
                del self._past[next(iter(self._past))]


_MAX_PAST = 65536
_INDEX_FROM = 12
"""Below this many peers a search of the list costs less than a dictionary holds."""
_NONE6 = bytes(18)


class _Swarm:
    """The rows of one torrent as columns: an object for each peer would cost three times this.

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
