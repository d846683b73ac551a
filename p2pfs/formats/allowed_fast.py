"""Which pieces a peer may ask for while it is choked: the allowed fast set of BEP 6.

Invariant: the set depends on the peer's network, the torrent and nothing else, so that all
who offer pieces to a newcomer offer the same ones, and several addresses bring it no more.
"""

from __future__ import annotations

from hashlib import sha1
from typing import Final

__all__ = ["ALLOWED_FAST", "allowed_fast_set"]

ALLOWED_FAST: Final = 10
"""Pieces in a set, and how many pieces a peer may have to be given one."""

_NETWORK4: Final = 3  # bytes of an address that tell networks apart
_NETWORK6: Final = 8


def allowed_fast_set(
    address: bytes, info_hash: bytes, piece_count: int, size: int = ALLOWED_FAST
) -> list[int]:
    """The first `size` pieces (fewer if the torrent has fewer) of the set for a peer.

    `address`: 4 raw bytes, or 16, of which BEP 6 says nothing: then the /64 counts.
    """
    network = _NETWORK4 if len(address) == 4 else _NETWORK6
    state = address[:network].ljust(len(address), b"\0") + info_hash
    found: dict[int, None] = {}
    while len(found) < min(size, piece_count):
        state = sha1(state).digest()
        for start in range(0, 20, 4):
            found[int.from_bytes(state[start : start + 4], "big") % piece_count] = None
    return list(found)[:size]
