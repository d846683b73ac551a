"""A torrent that is known by its hash alone: announced, its peers dialled, its metadata fetched.

Invariant: nothing of the torrent touches the disk before its metadata is verified and has
passed the checks that every metainfo passes; then `hand_over` moves the connections to the
ordinary torrent as they are.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from p2pfs.errors import FormatError, NetworkError, P2pfsError
from p2pfs.formats.announce_http import PeerAddress
from p2pfs.formats.magnet import Magnet
from p2pfs.formats.metainfo import Metainfo, parse_info
from p2pfs.geometry import PeerId
from p2pfs.net.bare_exchange import BareExchange
from p2pfs.net.dialler import Dialler
from p2pfs.net.exchange import packed_host
from p2pfs.net.housekeeping import RESTS
from p2pfs.net.tried import Fetched, Tried
from p2pfs.swarm.peer import Peer
from p2pfs.swarm.peer_book import Address

if TYPE_CHECKING:
    from p2pfs.net.announcer import Announcer
    from p2pfs.net.connection import Connection
    from p2pfs.net.engine import Client
    from p2pfs.net.torrent import Torrent

__all__ = ["UNKNOWN_LEFT", "MetadataFetch"]

UNKNOWN_LEFT: Final = 16 * 1024
"""Bytes that are left to download as trackers are told, while nobody knows how many are."""

RESOLVE_AGAIN: Final = 30.0
"""Seconds after which a name that could not be resolved is tried again; longer each time."""

MAX_RESOLVE_AGAIN: Final = 600.0


class MetadataFetch:
    """Made by `Client.fetch_metadata`; `wait` gives the metainfo."""

    announcer: Announcer

    def __init__(self, client: Client, magnet: Magnet, peer_id: PeerId, rng: random.Random) -> None:
        self.magnet = magnet
        self.info_hash = magnet.torrent_id.v1
        self.peer_id = peer_id
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._dialler = Dialler(self, self._connect, rng)
        self.exchange = BareExchange(
            self,
            magnet.torrent_id,
            peer_id,
            port=client.port,
            peer_exchange=client.peer_exchange,
        )
        self._tried = Tried()
        self._done: asyncio.Future[Metainfo] = self._loop.create_future()
        self._checking: asyncio.Task[None] | None = None
        self._resolving: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Announce and dial; called by the client once."""
        self.announcer.start()
        self._resolving = self._loop.create_task(self._dial_named(), name="peers of the link")
        self.wake()

    # -- what users ask

    @property
    def connected(self) -> Sequence[Peer]:
        """The peers that are there."""
        return tuple(self.exchange.connections)

    @property
    def finished(self) -> bool:
        """Whether the metadata is there, or cannot be used."""
        return self._done.done()

    def progress(self) -> Fetched:
        """How far it is, now."""
        fetching, peers = self.exchange.fetching, len(self.connected)
        done, total = fetching.done
        return Fetched(
            name=self.magnet.shown,
            info_hash=str(self.magnet.torrent_id),
            peers=peers,
            sources=fetching.sources,
            bytes_done=done,
            bytes_total=total,
            tracker=self.announcer.status,
            tried=self._tried.explain(
                self.announcer.status,
                too_large=fetching.too_large,
                no_source=peers > 0 and not fetching.sources,
            ),
        )

    async def wait(self) -> Metainfo:
        """Until the metadata is there; the torrent, with the trackers and web seeds of the link.

        Raises `MetainfoError` or `BencodeError` for metadata that nobody can use, and
        `NetworkError` when this is closed before.
        """
        return await asyncio.shield(self._done)

    def add_peers(self, addresses: Iterable[Address], *, hearsay: bool = False) -> None:
        """Addresses to dial; `hearsay`: of whoever says so."""
        addresses = list(addresses)
        for address in addresses:
            self._tried.heard_of(address, hearsay=hearsay)
        self._dialler.add(addresses, hearsay=hearsay)

    def found_peers(self, peers: Iterable[PeerAddress]) -> None:
        """Addresses from a tracker."""
        peers = list(peers)
        for peer in peers:
            self._tried.heard_of((peer.host, peer.port), hearsay=False)
        self._dialler.found(peers)

    async def _dial_named(self) -> None:
        """The peers that the link names; of a name all its addresses, once it has some."""
        named = list(self.magnet.peers)
        pause = RESOLVE_AGAIN
        while named := [one for one in named if not await self._dial_at(*one)]:
            await asyncio.sleep(pause)
            pause = min(2 * pause, MAX_RESOLVE_AGAIN)

    async def _dial_at(self, host: str, port: int) -> bool:
        """Whether the address of the peer is known now."""
        if packed_host(host):
            self.add_peers([(host, port)])
            return True
        try:
            found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, ValueError) as error:
            self._tried.unreached((host, port), _reason(error))
            self._tried.heard_of((host, port), hearsay=False)
            return False
        self._tried.resolved((host, port))
        self.add_peers((str(address[0]), port) for *_, address in found)
        return True

    async def _connect(self, address: Address) -> None:
        try:
            await self._client.dial(address, self.exchange)
        except (OSError, P2pfsError, ValueError) as error:
            self._tried.unreached(address, _reason(error))
            raise

    # -- what the exchange tells

    def peer_joined(self, connection: Connection, peer_id: bytes) -> None:
        self._tried.met(peer_id, connection.address if connection.outgoing else None)
        if connection.outgoing:
            self._dialler.book.connected(connection.address)

    def peer_listens(self, address: Address) -> None:
        self._dialler.book.connected(address)

    def peer_left(self, listened_at: Address | None) -> None:
        if listened_at is not None:
            self._dialler.lost(listened_at, failed=True)

    def met_ourselves(self, connection: Connection) -> None:
        if connection.outgoing:
            self._dialler.book.is_ourselves(connection.address)

    def is_banned(self, host: str, peer_id: bytes) -> bool:
        return self._dialler.book.is_banned(host, peer_id, self._loop.time())

    def ban(self, host: str, peer_id: bytes) -> None:
        self._dialler.book.ban(host, peer_id, self._loop.time())
        self._tried.ban(host, peer_id)

    def heard_of(self, addresses: Iterable[Address]) -> None:
        self.add_peers(addresses, hearsay=True)

    def fetched(self, metadata: bytes) -> None:
        self._checking = self._loop.create_task(self._check(metadata), name="metadata")

    def connection_failed(self, connection: Connection) -> None:
        """An outgoing connection that ended before its handshake was through."""
        self._tried.unreached(connection.address, connection.closing)
        self._dialler.lost(connection.address, failed=True)

    # -- what follows from it

    async def _check(self, metadata: bytes) -> None:
        """The one door: metadata whose hash is right may be hostile all the same."""
        try:
            metainfo = await asyncio.to_thread(_parse, metadata, self.magnet)
        except FormatError as error:
            self._done.set_exception(error)
            self._done.exception()  # nobody need be waiting
        else:
            self._done.set_result(metainfo)

    def tend(self) -> float:
        """What is to be done a few times a second; see `Tended`."""
        if self._closing is not None:
            return RESTS
        self.exchange.tick()
        if not self.finished:
            self._dialler.dial()
            self.announcer.need_peers(not self.exchange.fetching.sources)
        return 0.0

    def wake(self) -> None:
        """There is something to do."""
        self._client.housekeeper.wake(self)

    # -- the end

    async def hand_over(self, torrent: Torrent) -> None:
        """Let `torrent`, which has the metadata, go on with the connections and what is known."""
        for host, peer_id in self._tried.banned:
            torrent.ban(host, peer_id)
        self.exchange.hand_over(torrent.exchange, torrent.metainfo.geometry)
        torrent.add_peers(self._tried.known(hearsay=False))
        for address in self._tried.known(hearsay=True):
            torrent.called_by(address)
        await self.close(leave=False)

    @property
    def closing(self) -> bool:
        """Whether its end has begun."""
        return self._closing is not None

    async def close(self, *, leave: bool = True) -> None:
        """End it, whatever its state; `leave`: the trackers are told. May be called again."""
        if self._closing is None:
            self._closing = self._loop.create_task(self._close(leave), name="close")
        await asyncio.shield(self._closing)

    async def _close(self, leave: bool) -> None:
        self.exchange.close("the torrent is closed")
        self._client.housekeeper.forget(self)
        tasks = [task for task in (self._resolving, self._checking) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._dialler.close()
        if leave:
            await self.announcer.stop()
        self._client.forget_fetch(self)
        if not self._done.done():
            reason = f"{self.magnet.shown} was closed before its metadata was there"
            self._done.set_exception(NetworkError(reason))
            self._done.exception()


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        known = os.strerror(error.errno) if error.errno > 0 else error.strerror
        return known or str(error)
    return str(error) or "no answer in time"


def _parse(metadata: bytes, magnet: Magnet) -> Metainfo:
    return parse_info(
        metadata, trackers=[[url] for url in magnet.trackers], web_seeds=magnet.web_seeds
    )
