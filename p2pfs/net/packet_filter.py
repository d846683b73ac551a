"""Has the system drop datagrams that cannot mean anything, before they wait for us (Linux).

Invariant: only what would be ignored anyway is dropped; where the system cannot do it, it is
ignored by us. Random packets at speed would else push those of honest people out of the queue.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys

__all__ = ["drop_above"]

_SO_ATTACH_FILTER = 26
_UDP_HEADER = 8
_LOAD_WORD, _JUMP_IF_GREATER, _RETURN = 0x20, 0x25, 0x06  # classic BPF
_INSTRUCTION = struct.Struct("HBBI")


def drop_above(sock: socket.socket, offset: int, largest: int) -> bool:
    """Drop what has a 32-bit number above `largest` at `offset`, or ends before it.

    `sock` is a UDP socket. Returns whether the system does it.
    """
    if sys.platform != "linux":
        return False
    import ctypes

    program = b"".join(
        _INSTRUCTION.pack(*instruction)
        for instruction in (
            (_LOAD_WORD, 0, 0, _UDP_HEADER + offset),  # past the end: dropped
            (_JUMP_IF_GREATER, 1, 0, largest),
            (_RETURN, 0, 0, 0xFFFF),
            (_RETURN, 0, 0, 0),
        )
    )
    kept = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("HP", len(program) // _INSTRUCTION.size, ctypes.addressof(kept))
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, described)
        return True
    return False
