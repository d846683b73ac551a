"""Which nodes are there, and what each of them serves: leases that have to be renewed.

Invariant: a node id belongs to one key for as long as its lease lives, and every change
of a lease says which torrents came and which went, so that swarms can follow. `now` is
monotonic seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final, NamedTuple

from p2pfs.errors import CatalogueError
from p2pfs.formats.endpoint import unpack_host
from p2pfs.tracker.rights import Publisher
from p2pfs.tracker.swarm_table import SwarmPeer

__all__ = [
    "LEASE_PREFIX",
    "LIFETIME",
    "MAX_TORRENTS",
    "RENEW_EVERY",
    "Change",
    "IdTaken",
    "Lease",
    "Leases",
    "TooMany",
]

LIFETIME: Final = 30
"""Seconds that a lease lives after its node was heard."""
RENEW_EVERY: Final = 10
UNCONFIRMED_LIFETIME: Final = 60.0
"""Seconds that a lease from before a restart waits for its node."""
MAX_TORRENTS: Final = 100_000
"""Torrents of one node."""
LEASE_PREFIX: Final = b"-PFnode-"
"""How peer ids of leases begin: they tell nodes apart, and are not those of their clients."""
_MAX_NODES = 10_000
_MAX_HELD = 1_000_000


class IdTaken(CatalogueError):
    """Another node has this id; `free_in` and `heard` are seconds."""

    def __init__(self, lease: Lease, now: float) -> None:
        self.lease = lease
        self.heard = max(now - lease.heard, 0.0)
        self.free_in = max(lease.until - now, 0.0)
        super().__init__(self.told(unpack_host(lease.host)))

    def told(self, host: str) -> str:
        """What to tell somebody for whom the other node is on `host`."""
        shown = f"[{host}]" if ":" in host else host
        return (
            f"another node is called {self.lease.node.node_id!r}: the one at "
            f"{shown}:{self.lease.port}, heard {self.heard:.0f} s ago; use another id, or stop "
            f"that one (if it is gone, the id is free in {self.free_in:.0f} s)"
        )


class TooMany(CatalogueError):
    """More nodes or torrents than the index keeps."""


@dataclass(slots=True)
class Lease:
    """One node: `host` is 4 or 16 raw bytes, `torrents` are info hashes of 20 bytes.

    `since` is in seconds since 1970. Not `confirmed`: known from before a restart only.
    """

    node: Publisher
    host: bytes
    port: int
    since: int
    torrents: frozenset[bytes] = frozenset()
    heard: float = 0.0
    until: float = 0.0
    confirmed: bool = True
    seed: SwarmPeer = field(init=False)

    def __post_init__(self) -> None:
        digest = blake2b(self.node.node_id.encode() + b"\0" + self.node.proof, digest_size=20)
        mark = digest.digest()
        self.seed = SwarmPeer(LEASE_PREFIX + mark[:12], mark[12:], self.host, self.port)


class Change(NamedTuple):
    """What swarms have to follow: first `removed` goes, then `added` comes."""

    lease: Lease
    added: Collection[bytes]
    removed: Collection[bytes]
    before: SwarmPeer
    """As what it was in the swarms that it leaves."""


class Leases:
    """All leases by node id."""

    def __init__(self) -> None:
        self._leases: dict[str, Lease] = {}
        self._held: Counter[bytes] = Counter()
        self._doubtful: Counter[bytes] = Counter()
        self._size = 0

    def __len__(self) -> int:
        return len(self._leases)

    def __iter__(self) -> Iterator[Lease]:
        return iter(sorted(self._leases.values(), key=_by_id))

    def get(self, node_id: str) -> Lease | None:
        """The lease of a node, None without one."""
        return self._leases.get(node_id)

    def held(self, torrent: bytes) -> int:
        """How many nodes serve this torrent."""
        return self._held[torrent]

    def doubtful(self, torrent: bytes) -> bool:
        """Whether one of the nodes that serve it has not been heard since the restart."""
        return self._doubtful[torrent] > 0

    def holders(self, torrent: bytes) -> frozenset[Publisher]:
        """The nodes that serve this torrent."""
        return frozenset(one.node for one in self._leases.values() if torrent in one.torrents)

    def register(
        self,
        node: Publisher,
        host: bytes,
        port: int,
        torrents: Iterable[bytes],
        *,
        now: float,
        since: int,
    ) -> tuple[list[Change], bool]:
        """A new lease, or a new list for an old one; the changes in order, and whether it is new.

        Raises `IdTaken` while a lease with another key lives, `TooMany` beyond the limits.
        """
        old = self._leases.get(node.node_id)
        if old is not None and old.node != node and now < old.until:
            raise IdTaken(old, now)
        lease = Lease(node, host, port, since, frozenset(torrents), now, now + LIFETIME)
        before = len(old.torrents) if old else 0
        if len(lease.torrents) > MAX_TORRENTS:
            raise TooMany(f"a node may register {MAX_TORRENTS} torrents at most")
        if self._size - before + len(lease.torrents) > _MAX_HELD or (
            old is None and len(self._leases) >= _MAX_NODES
        ):
            raise TooMany("the index is full: it takes no more nodes, or torrents of nodes")
        if old is None:
            return [self._entered(lease)], True
        if old.seed != lease.seed:
            return [self._taken_out(old), self._entered(lease)], old.node != node
        added, removed = lease.torrents - old.torrents, old.torrents - lease.torrents
        self._confirm(old, now)
        old.torrents = lease.torrents
        self._size += len(added) - len(removed)
        self._held.update(added)
        _take(self._held, removed)
        return [Change(old, added, removed, old.seed)], False

    def renew(self, node: Publisher, host: bytes, now: float) -> Lease | None:
        """The lease, good for another `LIFETIME`; None when the node has to register anew.

        It has to when its address changed. Raises `IdTaken` when the key is another one.
        """
        lease = self._leases.get(node.node_id)
        if lease is None:
            return None
        if lease.node != node:
            raise IdTaken(lease, now)
        if now >= lease.until or (len(host) == len(lease.host) and host != lease.host):
            return None
        self._confirm(lease, now)
        return lease

    def restore(self, leases: Iterable[Lease], now: float) -> list[Change]:
        """Enter leases from before a restart, not confirmed."""
        changes = []
        for lease in leases:
            lease.heard, lease.until, lease.confirmed = now, now + UNCONFIRMED_LIFETIME, False
            changes.append(self._entered(lease))
        return changes

    def unregister(self, node_id: str) -> Change | None:
        """End a lease; None when there is none."""
        lease = self._leases.get(node_id)
        return None if lease is None else self._taken_out(lease)

    def expire(self, now: float) -> list[Change]:
        """End the leases that were not renewed in time."""
        return [self._taken_out(one) for one in list(self._leases.values()) if now >= one.until]

    def _confirm(self, lease: Lease, now: float) -> None:
        lease.heard, lease.until = now, now + LIFETIME
        if not lease.confirmed:
            lease.confirmed = True
            _take(self._doubtful, lease.torrents)

    def _entered(self, lease: Lease) -> Change:
        self._leases[lease.node.node_id] = lease
        self._size += len(lease.torrents)
        self._held.update(lease.torrents)
        if not lease.confirmed:
            self._doubtful.update(lease.torrents)
        return Change(lease, lease.torrents, (), lease.seed)

    def _taken_out(self, lease: Lease) -> Change:
        del self._leases[lease.node.node_id]
        self._size -= len(lease.torrents)
        _take(self._held, lease.torrents)
        if not lease.confirmed:
            _take(self._doubtful, lease.torrents)
        return Change(lease, (), lease.torrents, lease.seed)


def _take(counted: Counter[bytes], torrents: Iterable[bytes]) -> None:
    for torrent in torrents:
        if counted[torrent] > 1:
            counted[torrent] -= 1
        else:
            counted.pop(torrent, None)


def _by_id(lease: Lease) -> tuple[int, str]:
    node_id = lease.node.node_id
    return (int(node_id), "") if node_id.isdigit() and len(node_id) < 10 else (2**31, node_id)
