"""Giving the metadata of a torrent to peers that know its hash alone (BEP 9).

Invariant: of verified metadata alone pieces go out, to each peer no more than `COPIES` of it
and one more every `AGAIN_AFTER` seconds, and only as fast as it takes them.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from p2pfs.errors import WireError
from p2pfs.formats import ut_metadata
from p2pfs.formats.extension import UT_METADATA
from p2pfs.formats.ut_metadata import PIECE_LENGTH
from p2pfs.swarm.peer import Peer

__all__ = ["MAX_REJECTED", "MetadataServing"]

COPIES: Final = 2
"""How often each peer may have all of it: once, and once more for what went wrong."""

AGAIN_AFTER: Final = 60.0
"""Seconds in which a peer may have all of it once more: it may have had bad luck with others."""

MAX_QUEUED: Final = 128
"""Pieces that one peer may have asked for and not got; more are rejected."""

MAX_REJECTED: Final = 1_000
"""Rejects after which a peer that goes on asking is closed."""


class _Account:
    __slots__ = ("at", "left", "queue", "rejected")

    def __init__(self, left: float, now: float) -> None:
        self.left = left  # bytes that it may still have, at the time `at`
        self.at = now
        self.queue: deque[int] = deque()
        self.rejected = 0


class MetadataServing:
    """`metadata`: the info dictionary, verified."""

    def __init__(self, metadata: bytes) -> None:
        self._metadata = metadata
        self._geometry = ut_metadata.pieces_of(len(metadata))
        self._accounts: dict[Peer, _Account] = {}

    def heard(self, peer: Peer, payload: bytes, now: float) -> None:
        """A message of the exchange at `now`, in seconds of a monotonic clock.

        Raises `WireError` when the peer is to be closed for it.
        """
        message = ut_metadata.parse(payload)
        if not isinstance(message, ut_metadata.Request):
            return
        account = self._accounts.get(peer)
        if account is None:
            account = self._accounts[peer] = _Account(COPIES * len(self._metadata), now)
        gained = len(self._metadata) * (now - account.at) / AGAIN_AFTER
        account.left = min(COPIES * len(self._metadata), account.left + gained)
        account.at = now
        piece = message.piece
        known = piece < self._geometry.piece_count
        size = self._geometry.piece_size(piece) if known else 0
        if known and size <= account.left and len(account.queue) < MAX_QUEUED:
            account.left -= size
            account.queue.append(piece)
            return
        account.rejected += 1
        if account.rejected > MAX_REJECTED:
            raise WireError("too many requests for metadata")
        peer.session.send_extended(UT_METADATA, ut_metadata.encode_reject(piece))

    def serve(self, peer: Peer) -> int:
        """Send one piece that the peer asked for: its bytes, 0 when there is none to send."""
        account = self._accounts.get(peer)
        if account is None or not account.queue:
            return 0
        piece = account.queue.popleft()
        start = piece * PIECE_LENGTH
        data = self._metadata[start : start + PIECE_LENGTH]
        payload = ut_metadata.encode_data(piece, len(self._metadata), data)
        peer.session.send_extended(UT_METADATA, payload)
        return len(data)

    def left(self, peer: Peer) -> None:
        self._accounts.pop(peer, None)
