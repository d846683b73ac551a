"""Whom one torrent meets: told of by trackers, by peers (BEP 11) or on the local network (BEP 14).

Invariant: of a private torrent nobody is dialled whom its tracker did not name (BEP 27), and
whoever is banned or was ourselves is not dialled again.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from p2pfs.formats.announce_http import PeerAddress
from p2pfs.formats.extension import UT_PEX, ExtendedHandshake
from p2pfs.net.dialler import Dialler, DiallerOwner
from p2pfs.net.ledger import Ledger
from p2pfs.swarm.peer import Peer
from p2pfs.swarm.peer_book import Address
from p2pfs.swarm.pex import PeerExchange

if TYPE_CHECKING:
    from p2pfs.net.connection import Connection
    from p2pfs.net.exchange import Exchange

__all__ = ["Peers"]

log = logging.getLogger(__name__)


class PeersOwner(DiallerOwner, Protocol):
    """The torrent that meets them."""

    name: str

    def peer_came(self) -> None:
        """There is a peer more."""
        ...


class Peers:
    """`connect` connects to an address, or raises; `pex`: peers tell each other of peers."""

    def __init__(
        self,
        owner: PeersOwner,
        connect: Callable[[Address], Awaitable[None]],
        rng: random.Random,
        *,
        private: bool,
        pex: bool,
    ) -> None:
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._private = private
        self._pex: PeerExchange | None = None
        self._tell_each_other = pex and not private
        self.ledger = Ledger()
        self.dialler = Dialler(owner, connect, rng)

    # -- who tells of them

    def add(self, addresses: Iterable[Address]) -> None:
        """Addresses from whoever uses the torrent; of a private one none are taken."""
        if self._private:
            log.info("%s is private: peers come from its tracker only", self._owner.name)
            return
        self.dialler.add(addresses)

    def called(self, address: Address) -> None:
        """Somebody at `address` says that it is in this swarm: believed less (BEP 14)."""
        if not self._private:
            self.dialler.called(address)

    def found(self, peers: Iterable[PeerAddress]) -> None:
        """Addresses from a tracker."""
        self.dialler.found(peers)

    def listen(self, exchange: Exchange) -> None:
        """Have the peers of `exchange` tell us of others, where that is wanted (BEP 11)."""
        if self._tell_each_other:
            self._pex = PeerExchange()
            exchange.listen(UT_PEX, self._hear_of_others)

    def _hear_of_others(self, peer: Peer, payload: bytes) -> None:
        assert self._pex is not None
        now, finished = self._loop.time(), self._owner.finished
        others = self._pex.receive(peer, payload, now, finished=finished)
        self.dialler.add(others, hearsay=True)

    # -- what the exchange tells

    def joined(self, connection: Connection, peer_id: bytes) -> None:
        self.ledger.joined(peer_id)
        if connection.outgoing:
            self.dialler.book.connected(connection.address)
        self._owner.peer_came()

    def introduced(self, connection: Connection, handshake: ExtendedHandshake) -> None:
        peer = connection.peer
        assert peer is not None
        peer.client = handshake.client or peer.client
        if peer.listens_at is None and handshake.port:
            peer.listens_at = (connection.address[0], handshake.port)
            self.dialler.book.connected(peer.listens_at)
        if self._pex is not None:
            self._pex.joined(peer, self._loop.time())

    def left(self, connection: Connection) -> None:
        peer = connection.peer
        assert peer is not None
        self.ledger.left(peer)
        if self._pex is not None:
            self._pex.left(peer)
        if peer.listens_at is not None:
            gained = peer.down.total + peer.up.total > 0
            self.dialler.lost(peer.listens_at, failed=not gained)

    def met_ourselves(self, connection: Connection) -> None:
        if connection.outgoing:
            self.dialler.book.is_ourselves(connection.address)

    def is_banned(self, host: str, peer_id: bytes) -> bool:
        return self.dialler.book.is_banned(host, peer_id, self._loop.time())

    def ban(self, host: str, peer_id: bytes) -> None:
        self.dialler.book.ban(host, peer_id, self._loop.time())

    def nothing_to_exchange(self, connection: Connection) -> None:
        peer = connection.peer
        if peer is not None and peer.listens_at is not None:
            self.dialler.book.nothing_to_gain(peer.listens_at)
            if self._pex is not None:
                self._pex.parted(peer, self._loop.time())

    # -- from time to time

    def tick(self) -> None:
        """Tell the peers that are there of each other, when that is due."""
        if self._pex is not None:
            self._pex.tick(self._owner.connected, self._loop.time())
