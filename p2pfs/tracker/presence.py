"""Who has what at the moment: swarms, the leases of nodes, and what was known before a restart.

Invariant: a torrent in a lease has its node as a seed in its swarm for as long as the lease
lives, however its swarm came about; what is shown of a torrent counts everybody once, and
says so when some of them have not been heard since the restart.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import NamedTuple

from p2pfs.geometry import TorrentId
from p2pfs.tracker.last_known import LastKnown, Saving, merged
from p2pfs.tracker.leases import Change, Lease, Leases
from p2pfs.tracker.name_index import Entry
from p2pfs.tracker.peer_store import Counts, MemoryPeerStore, PeerKind, SwarmPeer
from p2pfs.tracker.rights import Publisher

__all__ = ["Presence", "Standing"]


class Standing(NamedTuple):
    """What is known of one torrent."""

    counts: Counts
    live: bool
    unconfirmed: bool


class Presence:
    """The state of every torrent in `store`; `listed` says which ones are in the catalogue.

    Without `last_known` nothing is remembered across restarts. Changes of leases reach the
    swarms when `work` is called; that is how a node with very many files does not hold up
    everything else.
    """

    def __init__(
        self,
        store: MemoryPeerStore,
        listed: Callable[[TorrentId], bool],
        last_known: LastKnown | None,
        now: float,
    ) -> None:
        self.leases = Leases()
        self._store = store
        self._listed = listed
        self._last = last_known
        self._queue: deque[Iterator[None]] = deque()
        self._dirty: set[bytes] = set()
        self._dirty_leases: set[str] = set()
        if last_known is not None:
            for key, counts in last_known.saved.items():
                if counts.downloaded:
                    store.restore(TorrentId(key), counts.downloaded)
            self._follow(self.leases.restore(last_known.leases(), now))
            while self.work(1000):
                pass
            self._dirty_leases.clear()

    def standing(self, torrent_id: TorrentId) -> Standing:
        """How many have this torrent or want it."""
        key = torrent_id.v1
        counts = self._store.counts(torrent_id) or Counts()
        unconfirmed = self.leases.doubtful(key)
        before = self._unheard(key)
        if before is not None:
            held = self.leases.held(key)
            heard = counts._replace(complete=max(counts.complete - held, 0))
            if heard.complete + heard.incomplete < before.complete + before.incomplete:
                counts = merged(heard, before)
                counts = counts._replace(complete=counts.complete + held)
                unconfirmed = True
            else:
                self._heard_all(key)
        live = unconfirmed or counts.complete + counts.incomplete > counts.downloaders
        return Standing(counts, live, unconfirmed)

    @property
    def live_changes(self) -> tuple[int, int]:
        """Changes whenever `live_among` may answer differently for the same entries."""
        return self._store.content_changes, len(self._last.unheard) if self._last else 0

    def live_among(self, entries: Iterable[Entry]) -> list[Entry]:
        """Those entries of which somebody has content, or may have. Safe in any thread."""
        content = self._store.with_content
        unheard = self._last.unheard if self._last is not None else {}
        return [
            entry for entry in entries if (key := entry.torrent_id.v1) in content or key in unheard
        ]

    def register(
        self,
        node: Publisher,
        host: bytes,
        port: int,
        torrents: Iterable[bytes],
        *,
        now: float,
        since: int,
    ) -> tuple[Lease, bool]:
        """As `Leases.register`; the lease and whether it is new."""
        changes, new = self.leases.register(node, host, port, torrents, now=now, since=since)
        self._follow(changes)
        return changes[-1].lease, new

    def unregister(self, node_id: str) -> bool:
        """End a lease; whether there was one."""
        change = self.leases.unregister(node_id)
        if change is not None:
            self._follow([change])
        return change is not None

    def expire(self, now: float) -> None:
        """End what has not been heard in time."""
        self._follow(self.leases.expire(now))
        if self._last is not None:
            self._dirty.update(self._last.expire(now))

    def work(self, budget: int) -> bool:
        """Let up to `budget` torrents follow the changes of leases; whether there are more."""
        while self._queue and budget > 0:
            for _ in self._queue[0]:
                budget -= 1
                if budget <= 0:
                    return True
            self._queue.popleft()
        return bool(self._queue)

    def published(self, torrent_id: TorrentId) -> None:
        """A torrent came into the catalogue: what is known of it is to be kept."""
        self._dirty.add(torrent_id.v1)

    def collect(self, saving: Saving, budget: int) -> bool:
        """Put into `saving` what changed and differs from what the database has.

        Looks at up to `budget` torrents; whether there are more.
        """
        self._dirty |= self._store.take_changed()
        if self._last is None:
            self._dirty.clear()
            self._dirty_leases.clear()
            return False
        while self._dirty and budget > 0:
            budget -= 1
            key = self._dirty.pop()
            if self._listed(TorrentId(key)):
                counts = self.standing(TorrentId(key)).counts
                counts = counts._replace(complete=max(counts.complete - self.leases.held(key), 0))
                if counts != self._last.saved.get(key, Counts()):
                    saving.counts[key] = counts
        saving.leases.update((one, self.leases.get(one)) for one in self._dirty_leases)
        self._dirty_leases.clear()
        return bool(self._dirty)

    def save(self, saving: Saving) -> None:
        """Write it; blocks, and may run in any thread."""
        if self._last is not None and saving:
            self._last.save(saving)

    def not_saved(self, saving: Saving) -> None:
        """It could not be written: it is to be tried again."""
        self._dirty.update(saving.counts)
        self._dirty_leases.update(saving.leases)

    def _follow(self, changes: Collection[Change]) -> None:
        for change in changes:
            self._dirty_leases.add(change.lease.node.node_id)
            self._queue.append(self._leave(change.before, change.removed))
            self._queue.append(self._enter(change.lease.seed, change.added))

    def _enter(self, seed: SwarmPeer, torrents: Collection[bytes]) -> Iterator[None]:
        for key in torrents:
            self._store.announce(TorrentId(key), seed, PeerKind.SEED, now=math.inf, numwant=0)
            yield

    def _leave(self, seed: SwarmPeer, torrents: Collection[bytes]) -> Iterator[None]:
        for key in torrents:
            self._store.remove(TorrentId(key), seed)
            yield

    def _unheard(self, key: bytes) -> Counts | None:
        return self._last.unheard.get(key) if self._last is not None else None

    def _heard_all(self, key: bytes) -> None:
        if self._last is not None:
            self._last.unheard.pop(key, None)
