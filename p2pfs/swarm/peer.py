"""One connected peer, as the decisions of a torrent see it.

Invariant: a `Peer` lives exactly as long as its connection; it is compared by identity.
"""

from __future__ import annotations

from collections.abc import Sequence

from p2pfs.formats.peer_id import client_name
from p2pfs.swarm.pipeline import Pipeline
from p2pfs.swarm.rates import RateMeter
from p2pfs.swarm.session import Session
from p2pfs.swarm.uploads import UploadQueue

__all__ = ["Peer"]


class Peer:
    """State of one connection: the session, both queues, both rates (payload bytes)."""

    __slots__ = (
        "__weakref__",
        "address",
        "client",
        "connected_at",
        "down",
        "fast_set",
        "interesting",
        "joined_complete",
        "listens_at",
        "outgoing",
        "peer_id",
        "pipeline",
        "refused",
        "rests_until",
        "retry_at",
        "session",
        "took_at",
        "up",
        "uploads",
        "wasted",
    )

    def __init__(
        self,
        session: Session,
        address: tuple[str, int],
        peer_id: bytes,
        now: float,
        *,
        outgoing: bool = False,
        fast_set: Sequence[int] = (),
        piece: int = 1,
    ) -> None:
        """`piece`: how many blocks a piece of the torrent has."""
        self.session = session
        self.address = address
        self.peer_id = peer_id
        self.outgoing = outgoing
        self.fast_set = fast_set
        """Pieces that it may be granted while it is choked (BEP 6)."""
        self.client = client_name(peer_id)
        """What it calls itself; untrusted text."""
        self.listens_at: tuple[str, int] | None = address if outgoing else None
        """Where it takes connections, once that is known."""
        self.connected_at = now
        self.pipeline = Pipeline(piece=piece)
        self.uploads = UploadQueue()
        self.down = RateMeter(now)
        self.up = RateMeter(now)
        self.took_at = now
        """When it was last sent a block, or came."""
        self.wasted = 0
        """Payload bytes that came in and were not wanted (any more)."""
        self.interesting = 0
        """Pieces it has that we need."""
        self.joined_complete = False
        """Whether it is counted as having everything since it said so."""
        self.refused: dict[int, float] = {}
        """Pieces of which it rejected a request, and until when it is not asked for them."""
        self.rests_until = 0.0
        """Before this time it is asked for nothing: it has just rejected something."""
        self.retry_at = 0.0
        """Before this time no further end-game requests are looked for."""

    def __repr__(self) -> str:
        return f"<Peer {self.address[0]}:{self.address[1]}>"
