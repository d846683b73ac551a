"""Datagrams of local service discovery (BEP 14): who is in which swarms, and at which port.

Invariant: what comes out of `parse` is a port that can be dialled and at most `MAX_HASHES`
info hashes, whatever came in; headers that nobody knows are passed over, and what is written
fits into one packet of any network.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from p2pfs.errors import FormatError

__all__ = ["GROUP4", "GROUP6", "MAX_DATAGRAM", "MAX_HASHES", "PORT", "Search", "encode", "parse"]

GROUP4: Final = "239.192.152.143"
GROUP6: Final = "ff15::efc0:988f"
PORT: Final = 6771

MAX_DATAGRAM: Final = 1400
"""Bytes that are sent at most (BEP 14), and more than are read of what others send."""
MAX_HASHES: Final = 24
"""Info hashes that fit into a datagram beside the rest."""

_START: Final = b"BT-SEARCH * HTTP/1."
_HASH: Final = re.compile(rb"[0-9A-Fa-f]{40}")
_PORT: Final = re.compile(rb"0*([1-9][0-9]{0,4})")
_MAX_COOKIE = 64


class Search(NamedTuple):
    """Whoever sent it takes connections at `port` for the torrents `info_hashes`, 20 bytes each.

    `cookie` is whatever the sender knows its own datagrams by.
    """

    port: int
    info_hashes: tuple[bytes, ...]
    cookie: bytes = b""


def encode(group: str, search: Search) -> bytes:
    """The datagram to the multicast `group`; `ValueError` for more than `MAX_HASHES`."""
    if len(search.info_hashes) > MAX_HASHES:
        raise ValueError(f"{len(search.info_hashes)} info hashes do not fit into a datagram")
    host = f"[{group}]" if ":" in group else group
    lines = [b"BT-SEARCH * HTTP/1.1", b"Host: %b:%d" % (host.encode(), PORT)]
    lines.append(b"Port: %d" % search.port)
    lines += [b"Infohash: %b" % info_hash.hex().encode() for info_hash in search.info_hashes]
    lines.append(b"cookie: %b" % search.cookie)
    return b"\r\n".join([*lines, b"", b"", b""])


def parse(datagram: bytes) -> Search:
    """What a datagram says; raises `FormatError` when it is none of these."""
    head, *lines = datagram[:MAX_DATAGRAM].split(b"\n")
    if not head.upper().startswith(_START):
        raise FormatError("not a search of local service discovery")
    port, cookie = 0, b""
    hashes: dict[bytes, None] = {}
    for line in lines:
        name, _, value = line.partition(b":")
        name, value = name.strip().lower(), value.strip()
        if name == b"port" and (number := _PORT.fullmatch(value)):
            port = int(number[1])
        elif name == b"cookie":
            cookie = value[:_MAX_COOKIE]
        elif name == b"infohash" and _HASH.fullmatch(value) and len(hashes) < MAX_HASHES:
            hashes[bytes.fromhex(value.decode())] = None
    if not 0 < port < 65536:
        raise FormatError("a search without a port")
    if not hashes:
        raise FormatError("a search for nothing")
    return Search(port, tuple(hashes), cookie)
