"""Who is in which swarm: the `PeerStore` contract and the store in memory.

Invariant: every call is atomic and none scans more than it was allowed to: an announce
costs what it hands out, expiry what its budget says.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from p2pfs.geometry import TorrentId
from p2pfs.tracker.newcomers import Newcomers
from p2pfs.tracker.swarm_table import Counts, PeerKind, SwarmPeer, SwarmTable

__all__ = ["Announced", "Counts", "MemoryPeerStore", "PeerKind", "PeerStore", "SwarmPeer"]


class Announced(NamedTuple):
    """The outcome of an announce: counts, and random peers in packed form.

    `peers` are 6 bytes each, `peers6` 18; `listed` are address and peer id of each of them,
    if they were asked for.
    """

    counts: Counts
    peers: bytes = b""
    peers6: bytes = b""
    listed: Sequence[tuple[bytes, bytes]] = ()


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
        seeds_too: bool = False,
    ) -> Announced:
        """Enter or refresh `peer` and pick up to `numwant` others for it.

        Whoever wants nothing is handed only those who do, unless `seeds_too`; nobody is handed
        itself. An address of the asker's family is preferred. `completed` counts a finished
        download unless the peer was a seed before. A `now` of infinity enters a peer that is
        never silent: it stays until it is removed.
        """

    def renew(
        self,
        info_hash: bytes,
        identity: bytes,
        kind: PeerKind,
        address: bytes,
        *,
        now: float,
        numwant: int,
    ) -> tuple[Counts, bytes, bytes] | None:
        """`announce` for a peer that is listed as that `kind` already: counts, `peers`, `peers6`.

        None for any other peer, and nothing is done then. `address` is packed, with its port.
        """

    def remove(self, torrent_id: TorrentId, peer: SwarmPeer) -> Counts:
        """Take `peer` out (it stopped); unknown peers are ignored."""

    def counts(self, torrent_id: TorrentId) -> Counts | None:
        """The counts of one swarm; None when nothing is known of it."""

    def expire(self, now: float, budget: int) -> int:
        """Drop silent peers, looking at no more than `budget` rows; how many were dropped."""


class MemoryPeerStore:
    """Every swarm in this process; a peer is silent after `lifetime` seconds.

    Beyond `max_peers`, and in new swarms beyond `max_torrents`, new peers are answered but
    not listed, so that invented ones cannot take all memory (about 600 MiB at most). Nor are
    those beyond `max_new` that one source brings within a `lifetime`, so that nobody takes
    up that room alone. `rng` picks the peers handed out. `with_content` are the info hashes
    of swarms that have at least one seed or partial seed; `content_changes` counts how often
    they changed.
    """

    def __init__(
        self,
        lifetime: float,
        *,
        rng: random.Random | None = None,
        max_peers: int = 2_000_000,
        max_torrents: int = 400_000,
        max_new: int = 50_000,
    ) -> None:
        self.lifetime = lifetime
        self.max_peers = max_peers
        self.max_torrents = max_torrents
        self._newcomers = Newcomers(max_new, lifetime)
        self.peer_count = 0
        self._rng = rng or random.Random()
        self._swarms: dict[bytes, SwarmTable] = {}
        self._rounds: deque[bytes] = deque()
        """Swarms in the order in which expiry visits them."""
        self._next_row: int | None = None
        self._past: dict[bytes, int] = {}
        """Finished downloads of swarms that are empty now, a bounded number of them."""
        self.with_content: set[bytes] = set()
        self.content_changes = 0
        self._changed: set[bytes] = set()

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
        seeds_too: bool = False,
    ) -> Announced:
        swarm = self._swarms.get(torrent_id.v1)
        listed = peer.port != 0
        admitted = False
        row = -1
        if swarm is None:
            room = len(self._swarms) < self.max_torrents
            admitted = listed and room and self._admits(peer, now)
            if not admitted:
                return Announced(self.counts(torrent_id) or Counts())
            swarm = self._swarms[torrent_id.v1] = SwarmTable(self._past.pop(torrent_id.v1, 0))
            self._rounds.append(torrent_id.v1)
        if listed:
            before = swarm.partials_from, swarm.seeds_from, swarm.downloaded
            identity = peer.identity
            row = swarm.find(identity)
            if completed and (row < 0 or row < swarm.seeds_from):
                swarm.downloaded += 1
            new = row < 0
            if not new:
                row = swarm.move(row, kind)
            elif admitted or self._admits(peer, now):
                row = swarm.insert(identity, kind, self._rng)
                self.peer_count += 1
            if row >= 0:
                swarm.touch(row, peer.address, now)
            if new or before != (swarm.partials_from, swarm.seeds_from, swarm.downloaded):
                self._note(torrent_id.v1, swarm)
        taker = PeerKind.DOWNLOADER if seeds_too else kind
        picked = swarm.pick(row, taker, numwant, self._rng)
        if with_ids:
            found = swarm.listed(picked, peer.address)
            with_id = [(address, swarm.ids[place][:20]) for place, address in found]
            return Announced(swarm.counts(), listed=with_id)
        return Announced(swarm.counts(), *swarm.packed(picked, peer.address))

    def renew(
        self,
        info_hash: bytes,
        identity: bytes,
        kind: PeerKind,
        address: bytes,
        *,
        now: float,
        numwant: int,
    ) -> tuple[Counts, bytes, bytes] | None:
        swarm = self._swarms.get(info_hash)
        if swarm is None:
            return None
        row = swarm.renew(identity, kind, address, now)
        if row < 0:
            return None
        peers, peers6 = swarm.packed(swarm.pick(row, kind, numwant, self._rng), address)
        return swarm.counts(), peers, peers6

    def _admits(self, peer: SwarmPeer, now: float) -> bool:
        """Whether one more peer may be listed; whoever is never silent has a lease for that."""
        return self.peer_count < self.max_peers and (
            now == math.inf or self._newcomers.admit(peer.host, now)
        )

    def remove(self, torrent_id: TorrentId, peer: SwarmPeer) -> Counts:
        swarm = self._swarms.get(torrent_id.v1)
        if swarm is None:
            return self.counts(torrent_id) or Counts()
        row = swarm.find(peer.identity)
        if row >= 0:
            swarm.remove(row)
            self.peer_count -= 1
            self._note(torrent_id.v1, swarm)
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
            silent = swarm.expire(limit, min(first, len(swarm.seen)), stop)
            if silent:
                self._note(name, swarm)
            dropped += silent
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

    def take_changed(self) -> set[bytes]:
        """The info hashes of the swarms whose counts changed since the last call."""
        changed, self._changed = self._changed, set()
        return changed

    def restore(self, torrent_id: TorrentId, downloaded: int) -> None:
        """Go on counting the finished downloads of a torrent, which has no peers yet."""
        if torrent_id.v1 not in self._swarms:
            self._remember(torrent_id.v1, downloaded)

    def _note(self, name: bytes, swarm: SwarmTable) -> None:
        self._changed.add(name)
        has_content = len(swarm.ids) > swarm.partials_from
        if has_content == (name in self.with_content):
            return
        if has_content:
            self.with_content.add(name)
        else:
            self.with_content.remove(name)
        self.content_changes += 1

    def _forget(self, name: bytes) -> None:
        past = self._swarms.pop(name).downloaded
        if past:
            self._remember(name, past)

    def _remember(self, name: bytes, past: int) -> None:
        self._past[name] = past
        if len(self._past) > _MAX_PAST:
            del self._past[next(iter(self._past))]


_MAX_PAST = 131_072
