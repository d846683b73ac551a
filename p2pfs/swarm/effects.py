"""What the decisions of this floor ask of the one above.

Invariant: an effect is plain data; carrying one out never calls back into the transfer
that asked for it before `take_effects` has been drained.
"""

from __future__ import annotations

from typing import NamedTuple

from p2pfs.formats.extension import ExtendedHandshake
from p2pfs.geometry import BlockRequest
from p2pfs.swarm.peer import Peer

__all__ = ["Close", "Completed", "Effect", "Forget", "Heard", "Learned", "Store", "Verify"]


class Store(NamedTuple):
    """Keep `data` as `block` of a piece in progress; valid only until more data is received."""

    block: BlockRequest
    data: memoryview


class Verify(NamedTuple):
    """Every block of `piece` was stored: hash it, write it, report what came of it.

    `digests`: the SHA-1 of each block is wanted even when the piece is right.
    """

    piece: int
    digests: bool


class Forget(NamedTuple):
    """What was stored of `piece` is of no use."""

    piece: int


class Close(NamedTuple):
    """End the connection. `banned`: its data failed the hash; `redundant`: nothing to exchange."""

    peer: Peer
    reason: str
    banned: bool = False
    redundant: bool = False


class Learned(NamedTuple):
    """The peer told of itself (BEP 10): its client, the port it listens on."""

    peer: Peer
    handshake: ExtendedHandshake


class Heard(NamedTuple):
    """The peer sent a message of an extension that is not understood on this floor (BEP 10)."""

    peer: Peer
    name: bytes
    payload: bytes


class Completed(NamedTuple):
    """Every wanted piece is verified."""


Effect = Store | Verify | Forget | Close | Learned | Heard | Completed
