"""Giving the metadata of a torrent to peers that know its hash alone (BEP 9).

Invariant: of verified metadata alone pieces go out, to each connection no more than `COPIES` of
it, to each address `HOST_COPIES` however often it comes back, and one more every `AGAIN_AFTER`
seconds; and only as fast as they take them.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from p2pfs.errors import FormatError, WireError
from p2pfs.formats import ut_metadata
from p2pfs.formats.endpoint import pack_host
from p2pfs.formats.extension import UT_METADATA
from p2pfs.formats.ut_metadata import PIECE_LENGTH
from p2pfs.swarm.peer import Peer

__all__ = ["MAX_REJECTED", "MetadataServing"]

COPIES: Final = 2
"""How often each peer may have all of it: once, and once more for what went wrong."""

HOST_COPIES: Final = 16
"""How often all peers of one address may: several people share one, and so do test swarms."""

AGAIN_AFTER: Final = 60.0
"""Seconds in which either may have all of it once more: it may have had bad luck with others."""

MAX_HOSTS: Final = 1_000
"""Addresses of which it is remembered what they had; those that asked last."""

MAX_QUEUED: Final = 128
"""Pieces that one peer may have asked for and not got; more are rejected."""

MAX_REJECTED: Final = 1_000
"""Rejects after which a peer that goes on asking is closed."""


class _Budget:
    """Bytes that somebody may still have of `size`, at the time `at`: at most `copies` of it."""

    __slots__ = ("_most", "_size", "at", "left")

    def __init__(self, size: int, copies: int, now: float) -> None:
        self._size = size
        self._most = self.left = float(copies * size)
        self.at = now

    def gain(self, now: float) -> None:
        self.give_back(self._size * (now - self.at) / AGAIN_AFTER)
        self.at = now

    def give_back(self, amount: float) -> None:
        self.left = min(self._most, self.left + amount)


class _Account:
    __slots__ = ("budget", "queue", "rejected")

    def __init__(self, budget: _Budget) -> None:
        self.budget = budget
        self.queue: deque[int] = deque()
        self.rejected = 0


class MetadataServing:
    """`metadata`: the info dictionary, verified."""

    def __init__(self, metadata: bytes) -> None:
        self._metadata = metadata
        self._geometry = ut_metadata.pieces_of(len(metadata))
        self._accounts: dict[Peer, _Account] = {}  # who was served longest ago first
        self._hosts: dict[bytes, _Budget] = {}  # who asked longest ago first

    def heard(self, peer: Peer, payload: bytes, now: float) -> None:
        """A message of the exchange at `now`, in seconds of a monotonic clock.

        Raises `WireError` when the peer is to be closed for it.
        """
        message = ut_metadata.parse(payload)
        if not isinstance(message, ut_metadata.Request):
            return
        account = self._accounts.get(peer)
        if account is None:
            account = _Account(_Budget(len(self._metadata), COPIES, now))
            self._accounts[peer] = account
        account.budget.gain(now)
        budgets = (account.budget, self._budget_of_host(peer, now))
        piece = message.piece
        known = piece < self._geometry.piece_count
        size = self._geometry.piece_size(piece) if known else 0
        allowed = all(size <= budget.left for budget in budgets)
        if known and allowed and len(account.queue) < MAX_QUEUED:
            for budget in budgets:
                budget.left -= size
            account.queue.append(piece)
            return
        account.rejected += 1
        if account.rejected > MAX_REJECTED:
            raise WireError("too many requests for metadata")
        peer.session.send_extended(UT_METADATA, ut_metadata.encode_reject(piece))

    def _budget_of_host(self, peer: Peer, now: float) -> _Budget:
        host = _host_of(peer)
        budget = self._hosts.pop(host, None)
        if budget is None:
            budget = _Budget(len(self._metadata), HOST_COPIES, now)
        budget.gain(now)
        self._hosts[host] = budget
        while True:
            oldest, known = next(iter(self._hosts.items()))
            if len(self._hosts) <= MAX_HOSTS and now - known.at < HOST_COPIES * AGAIN_AFTER:
                return budget
            del self._hosts[oldest]

    @property
    def waiting(self) -> list[Peer]:
        """Those who asked for pieces that they have not got, in their turn."""
        return [peer for peer, account in self._accounts.items() if account.queue]

    def serve(self, peer: Peer) -> int:
        """Send one piece that the peer asked for: its bytes, 0 when there is none to send."""
        account = self._accounts.get(peer)
        if account is None or not account.queue:
            return 0
        self._accounts[peer] = self._accounts.pop(peer)
        piece = account.queue.popleft()
        start = piece * PIECE_LENGTH
        data = self._metadata[start : start + PIECE_LENGTH]
        payload = ut_metadata.encode_data(piece, len(self._metadata), data)
        peer.session.send_extended(UT_METADATA, payload)
        return len(data)

    def left(self, peer: Peer) -> None:
        """It is gone; what it asked for and did not get is not counted for its address."""
        account = self._accounts.pop(peer, None)
        host = self._hosts.get(_host_of(peer))
        if account is not None and host is not None:
            host.give_back(sum(map(self._geometry.piece_size, account.queue)))


def _host_of(peer: Peer) -> bytes:
    """What counts as one address: of IPv6 the network of a subscriber (/64)."""
    host = peer.address[0]
    try:
        return pack_host(host)[:8]
    except FormatError:
        return host.encode()
