"""uTP (BEP 29), as far as saying no to it: whoever asks for a connection is told at once.

Invariant: a reply is never longer than what it answers, and nothing answers a reply.
"""

from __future__ import annotations

import struct
from typing import Final

__all__ = ["refusal"]

_HEADER: Final = struct.Struct(">BBHIIIHH")
"""Type and version, extension, connection id, time, difference, window, sequence, acknowledged."""

_SYN: Final = 0x41
"""Type 4 of version 1: the first packet of a connection."""

_RESET: Final = 0x31
"""Type 3 of version 1: there is no such connection."""


def refusal(datagram: bytes) -> bytes:
    """The 20 bytes that end the connection which `datagram` asks for; none for any other."""
    if len(datagram) < _HEADER.size or datagram[0] != _SYN:
        return b""
    _, _, connection, _, _, _, sequence, _ = _HEADER.unpack_from(datagram)
    return _HEADER.pack(_RESET, 0, connection, 0, 0, 0, 0, sequence)
