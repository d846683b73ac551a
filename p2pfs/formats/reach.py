"""From how far an IP address can be reached.

Invariant: IPv4 inside IPv6 is looked through, so that an address has the same reach in
whatever form it comes; what no single host of a network has is `FORBIDDEN`.
"""

from __future__ import annotations

import enum
import ipaddress
from typing import Final

from p2pfs.errors import NetworkError

__all__ = ["Reach", "reach_of"]


class Reach(enum.Enum):
    """From how far an address can be reached."""

    GLOBAL = "public"
    PRIVATE = "private"
    LOOPBACK = "loopback"
    FORBIDDEN = "link-local, multicast or reserved"


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_SHARED: Final = ipaddress.IPv4Network("100.64.0.0/10")
_METADATA: Final = frozenset(
    ipaddress.ip_address(text) for text in ("169.254.169.254", "100.100.100.200", "fd00:ec2::254")
)
"""Where clouds hand out credentials to whoever asks from inside."""


def reach_of(host: str) -> Reach:
    """The reach of an IP address in text; IPv4 inside IPv6 is looked through.

    Raises `NetworkError` when `host` is not an IP address.
    """
    try:
        address: _Address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        raise NetworkError(f"{host!r} is not an IP address") from None
    address = _inner(address)
    if address in _METADATA or address.is_link_local or address.is_multicast:
        return Reach.FORBIDDEN
    if address.is_loopback:
        return Reach.LOOPBACK
    if address.is_unspecified or (address.is_reserved and not address.is_global):
        return Reach.FORBIDDEN
    if isinstance(address, ipaddress.IPv4Address) and (
        address.packed[0] == 0 or address in _SHARED
    ):
        return Reach.PRIVATE if address.packed[0] else Reach.FORBIDDEN
    return Reach.GLOBAL if address.is_global else Reach.PRIVATE


def _inner(address: _Address) -> _Address:
    """The IPv4 address that an IPv6 one stands for, if it does."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64:
        return ipaddress.IPv4Address(address.packed[12:])
    return address
