"""Under which address this machine is reached from elsewhere.

Invariant: nothing is sent to find that out: the system is asked which of our addresses its
routes would use, and where there are no routes, which addresses its interfaces have.
"""

from __future__ import annotations

import ipaddress
import socket
from functools import lru_cache

from p2pfs.errors import NetworkError
from p2pfs.formats.reach import Reach, reach_of
from p2pfs.net.listener import is_any_address

__all__ = ["address_for", "reachable_address", "reached_at", "route_to"]

_ELSEWHERE = ("192.0.2.1", "2001:db8::1")
"""Addresses for documentation: nobody's, but routes are decided for them as for any other."""


@lru_cache(maxsize=1024)
def route_to(target: str) -> str | None:
    """The address of this machine that `target` would be talked to from; None without a route."""
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((target, 9))  # UDP: picks a source address and sends nothing
            return str(probe.getsockname()[0])
    except OSError:
        return None


def reached_at(bind: str | None, advertise: str | None = None) -> str:
    """The address under which others reach what listens on `bind` (none: everywhere).

    `advertise` is what the user says it is, if anything.
    """
    if advertise is not None:
        return advertise
    return reachable_address() if is_any_address(bind) else str(bind)


def reachable_address() -> str:
    """An address of this machine that others can reach; 127.0.0.1 when it has none.

    The one of the default route; in a network without one, that of an interface. IPv4 first.
    """
    for found in (*map(route_to, _ELSEWHERE), *_of_interfaces()):
        if found is not None and _is_reachable(found):
            return found
    return "127.0.0.1"


def _of_interfaces() -> list[str]:
    import ifaddr

    known = [one.ip for adapter in ifaddr.get_adapters() for one in adapter.ips]
    return [one for one in known if isinstance(one, str)] + [
        one[0] for one in known if not isinstance(one, str)
    ]


def _is_reachable(address: str) -> bool:
    try:
        return reach_of(address) in (Reach.GLOBAL, Reach.PRIVATE)
    except NetworkError:
        return False


def address_for(host_header: bytes, source: str) -> str | None:
    """The address of this machine that somebody at `source`, who asked us by HTTP, can use.

    The one that the `Host` header names, if it is one; else the one that the system would
    answer from. A name in the header is not looked up.
    """
    named = _literal(host_header[:64])
    return named if named is not None else route_to(source)


@lru_cache(maxsize=1024)
def _literal(host_header: bytes) -> str | None:
    text = host_header.decode("latin-1")
    bare = text[1:].partition("]")[0] if text.startswith("[") else text.partition(":")[0]
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return None
    unusable = address.is_loopback or address.is_unspecified or address.is_multicast
    return None if unusable else str(address)
