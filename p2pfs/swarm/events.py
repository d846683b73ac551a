"""What a session tells its owner.

Invariant: events are plain data, in the order in which the bytes that brought them came.
"""

from __future__ import annotations

from typing import NamedTuple

from p2pfs.formats.bitfield import Bitfield
from p2pfs.formats.extension import ExtendedHandshake
from p2pfs.geometry import BlockRequest

__all__ = [
    "BlockArrived",
    "BlockCancelled",
    "BlockRequested",
    "Breached",
    "Event",
    "Extended",
    "InterestChanged",
    "PeerBitfield",
    "PeerChoked",
    "PeerExtended",
    "PeerHave",
    "PeerHaves",
    "PeerLost",
    "PeerRejected",
    "PeerUnchoked",
    "PeerUploadOnly",
]


class PeerHave(NamedTuple):
    """The peer has one piece more."""

    piece: int


class PeerHaves(NamedTuple):
    """The peer has all of these pieces more: at least one, and none that it had."""

    pieces: Bitfield


class PeerLost(NamedTuple):
    """The peer has one piece less (BEP 54); it will not answer `lost`."""

    piece: int
    lost: tuple[BlockRequest, ...]


class PeerBitfield(NamedTuple):
    """The peer said which pieces it has, `has`; `PeerHave` and `PeerHaves` after it add some.

    Also for the shorter words of the fast extension (BEP 6): all, or none.
    """

    has: Bitfield


class PeerChoked(NamedTuple):
    """The peer will not answer `lost` any more (BEP 3: choking discards requests).

    With the fast extension nothing is lost by that: each request is answered or rejected.
    """

    lost: tuple[BlockRequest, ...]


class PeerUnchoked(NamedTuple):
    pass


class PeerExtended(NamedTuple):
    """What the peer has said of itself so far (BEP 10); it may say more later."""

    handshake: ExtendedHandshake


class PeerUploadOnly(NamedTuple):
    """The peer wants no data (any more), or wants some again (BEP 21)."""

    upload_only: bool


class Extended(NamedTuple):
    """A message called `name`, which we offered to understand; not more is known of `payload`."""

    name: bytes
    payload: bytes


class InterestChanged(NamedTuple):
    interested: bool


class PeerRejected(NamedTuple):
    """The peer will not answer this request (BEP 6), which was outstanding."""

    block: BlockRequest


class BlockRequested(NamedTuple):
    """Inside the torrent and of legal length; whether we have it is not the session's business."""

    block: BlockRequest


class BlockCancelled(NamedTuple):
    block: BlockRequest


class Breached(NamedTuple):
    """The peer broke the protocol and is to be dropped; the last event of its session."""

    reason: str


class BlockArrived(NamedTuple):
    """`waited`: seconds since it was asked for; None when the request was taken back since.

    `data` is only valid until the next `receive_data` of any session.
    """

    block: BlockRequest
    data: memoryview
    waited: float | None


Event = (
    PeerHave
    | PeerHaves
    | PeerLost
    | PeerBitfield
    | PeerChoked
    | PeerUnchoked
    | PeerRejected
    | PeerExtended
    | PeerUploadOnly
    | Extended
    | InterestChanged
    | BlockRequested
    | BlockCancelled
    | BlockArrived
    | Breached
)
