"""Peer ids (BEP 20): making ours, naming the client behind others'.

Invariant: whatever a peer put into its id, `client_name` returns printable ASCII.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from p2pfs.geometry import PeerId

__all__ = ["client_name", "make_peer_id"]

PREFIX: Final = b"-PF0100-"

_CLIENTS: Final = {
    b"PF": "p2pfs",
    b"LT": "libtorrent",
    b"lt": "rtorrent",
    b"TR": "Transmission",
    b"qB": "qBittorrent",
    b"A2": "aria2",
    b"DE": "Deluge",
    b"UT": "uTorrent",
    b"BT": "BitTorrent",
    b"WW": "WebTorrent",
    b"AZ": "Vuze",
    b"BI": "BiglyBT",
    b"KT": "KTorrent",
    b"rQ": "rqbit",
}

_AZUREUS = re.compile(rb"-([A-Za-z0-9]{2})([0-9A-Za-z]{4})-")
_ARIA2 = re.compile(rb"A2-([0-9]+)-([0-9]+)-([0-9]+)-")


def make_peer_id(random_bytes: Callable[[int], bytes]) -> PeerId:
    """A new id in the common form: `-XX0100-` and 12 random bytes."""
    return PeerId(PREFIX + random_bytes(12))


def client_name(peer_id: bytes) -> str:
    """The client's name and version as its id tells them; `unknown` otherwise."""
    if aria := _ARIA2.match(peer_id):
        return "aria2 " + ".".join(part.decode() for part in aria.groups())
    match = _AZUREUS.match(peer_id)
    if match is None:
        return "unknown"
    code, version = match.groups()
    name = _CLIENTS.get(code, code.decode())
    digits = [str(int(chr(character), 36)) for character in version]
    while len(digits) > 2 and digits[-1] == "0":
        digits.pop()
    return f"{name} {'.'.join(digits)}"
