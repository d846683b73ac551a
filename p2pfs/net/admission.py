"""Who is let in: bounds on the connections that strangers can make us hold.

Invariant: never more than `most` connections are counted, never more than `MAX_STRANGERS`
of them without a handshake, and from one public address never more than `MAX_FROM_ONE`
and `MAX_STRANGERS_FROM_ONE`. Loopback and private addresses are only bounded together: a
whole classroom may stand behind one. Where strangers are too many, the oldest one of the
address that has most of them makes way, so that a flood drowns itself and not a newcomer,
who needs a moment only.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from functools import lru_cache
from typing import Final, Protocol

from p2pfs.errors import NetworkError
from p2pfs.formats.reach import Reach, reach_of

__all__ = ["Admission", "default_limit"]

MAX_CONNECTIONS: Final = 2000
MAX_STRANGERS: Final = 200
"""Incoming connections that have not sent their handshake yet."""

MAX_FROM_ONE: Final = 32
"""Connections from one public address."""

MAX_STRANGERS_FROM_ONE: Final = 8


class Visitor(Protocol):
    """A connection, as far as it matters here."""

    @property
    def address(self) -> tuple[str, int]: ...

    def close(self, reason: str) -> None: ...


class Admission:
    """Counts the connections of one client."""

    def __init__(self, most: int = MAX_CONNECTIONS) -> None:
        self.most = most
        self._strangers: dict[Visitor, str] = {}
        self._strangers_of: Counter[str] = Counter()
        self._all: dict[Visitor, str] = {}
        self._all_of: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._all)

    @property
    def strangers(self) -> int:
        """Incoming connections without a handshake."""
        return len(self._strangers)

    def refuse(self, host: str) -> str:
        """Why no connection from `host` is taken now; empty when it is."""
        origin = _origin(host)
        if len(self._all) >= self.most and not self._strangers:
            return "too many connections"
        if _is_public(host):
            if self._all_of[origin] >= MAX_FROM_ONE:
                return "too many connections from this address"
            if self._strangers_of[origin] >= MAX_STRANGERS_FROM_ONE:
                return "too many connections without a handshake from this address"
        return ""

    def came(self, visitor: Visitor) -> None:
        """An incoming connection was taken; a stranger may be closed for it."""
        if len(self._strangers) >= MAX_STRANGERS or len(self._all) >= self.most:
            self._make_room()
        origin = _origin(visitor.address[0])
        self._strangers[visitor] = origin
        self._strangers_of[origin] += 1
        self._count(visitor, origin)

    def went_out(self, visitor: Visitor) -> None:
        """An outgoing connection. Raises `NetworkError` when there are too many already."""
        if len(self._all) >= self.most:
            raise NetworkError("too many connections")
        self._count(visitor, _origin(visitor.address[0]))

    def _count(self, visitor: Visitor, origin: str) -> None:
        self._all[visitor] = origin
        self._all_of[origin] += 1

    def known(self, visitor: Visitor) -> None:
        """It is through its handshake."""
        _take(visitor, self._strangers, self._strangers_of)

    def left(self, visitor: Visitor) -> None:
        """It is closed; to be told as often as one likes."""
        self.known(visitor)
        _take(visitor, self._all, self._all_of)

    def _make_room(self) -> None:
        if not self._strangers:
            return
        [(crowd, _)] = self._strangers_of.most_common(1)
        oldest = next(visitor for visitor, origin in self._strangers.items() if origin == crowd)
        self.left(oldest)
        oldest.close("made way for another connection: no handshake yet")


def _take(visitor: Visitor, origins: dict[Visitor, str], counts: Counter[str]) -> None:
    origin = origins.pop(visitor, None)
    if origin is not None:
        counts[origin] -= 1
        if not counts[origin]:
            del counts[origin]


@lru_cache(maxsize=4096)
def _origin(host: str) -> str:
    """What counts as one address: of IPv6 the network of a subscriber (/64)."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None:
        return str(ipaddress.IPv6Network((address, 64), strict=False))
    return host


@lru_cache(maxsize=4096)
def _is_public(host: str) -> bool:
    try:
        return reach_of(host) is Reach.GLOBAL
    except NetworkError:
        return False


def default_limit() -> int:
    """Connections that this process has descriptors for: half of what it may open."""
    try:
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    except (ImportError, OSError, ValueError):
        return MAX_CONNECTIONS // 4
    return max(32, min(MAX_CONNECTIONS, soft // 2)) if soft > 0 else MAX_CONNECTIONS
