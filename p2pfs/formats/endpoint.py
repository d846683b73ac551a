"""Where a peer listens: IP addresses and ports in text, and packed as trackers send them.

Invariant: an address has one text form and one packed form here (4 bytes for IPv4, 16 for
IPv6, and IPv4 inside IPv6 is IPv4), so equal endpoints compare equal.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from p2pfs.errors import FormatError
from p2pfs.geometry import PeerId

__all__ = ["PeerAddress", "is_dialable", "is_loopback", "pack_host", "unpack_host", "unpack_peers"]

_MAPPED = bytes(10) + b"\xff\xff"
_LOOPBACK6 = bytes(15) + b"\1"


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """Where a peer listens; `peer_id` only when the tracker told it."""

    host: str
    port: int
    peer_id: PeerId | None = None


@lru_cache(maxsize=8192)
def pack_host(host: str) -> bytes:
    """The 4 or 16 raw bytes of an IP address; raises `FormatError` when it is none."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        raise FormatError(f"{host[:64]!r} is not an IP address") from None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.packed
    return address.packed


@lru_cache(maxsize=8192)
def unpack_host(packed: bytes) -> str:
    """The text of 4 or 16 raw bytes; raises `FormatError` for any other length."""
    if len(packed) == 4:
        return "{}.{}.{}.{}".format(*packed)
    if len(packed) != 16:
        raise FormatError(f"an IP address has 4 or 16 bytes, not {len(packed)}")
    if packed.startswith(_MAPPED):
        return unpack_host(packed[12:])
    return str(ipaddress.IPv6Address(packed))


def is_dialable(packed: bytes) -> bool:
    """Whether one host can have this packed address: not unspecified, not multicast."""
    if len(packed) == 4:
        return 0 < packed[0] < 224
    if packed.startswith(_MAPPED):
        return is_dialable(packed[12:])
    return packed[0] != 0xFF and any(packed)


def is_loopback(packed: bytes) -> bool:
    """Whether this packed address never leaves its machine (127.0.0.0/8, ::1)."""
    return packed[0] == 127 if len(packed) == 4 else packed == _LOOPBACK6


def unpack_peers(packed: bytes, width: int) -> Iterator[PeerAddress]:
    """The peers in a packed list: `width` (4 or 16) bytes of address, two of port (BEP 7, 23).

    What follows the last whole entry is left out, and so is who cannot be dialled.
    """
    stride = width + 2
    for start in range(0, len(packed) - stride + 1, stride):
        host = packed[start : start + width]
        port = int.from_bytes(packed[start + width : start + stride], "big")
        if port and is_dialable(host):
            yield PeerAddress(unpack_host(host), port)
