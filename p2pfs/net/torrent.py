"""One torrent in a client: its exchange, its announces, its peers and content, how far it is.

Invariant: `progress` can be asked for at any time and costs no I/O; `wait` ends only when
every wanted piece is verified and the content has its real name.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from p2pfs.errors import NetworkError, P2pfsError
from p2pfs.formats.announce_http import PeerAddress
from p2pfs.formats.bitfield import Bitfield
from p2pfs.formats.metainfo import Metainfo
from p2pfs.geometry import PeerId
from p2pfs.net.content_keeper import ContentKeeper
from p2pfs.net.exchange import Exchange
from p2pfs.net.holdings import Holdings
from p2pfs.net.housekeeping import RESTS
from p2pfs.net.peers import Peers
from p2pfs.net.progress import FileProgress, PeerInfo, Progress, Taking
from p2pfs.net.reporting import Reporting
from p2pfs.storage.pieces import PieceStore
from p2pfs.swarm.peer import Peer
from p2pfs.swarm.peer_book import Address

if TYPE_CHECKING:
    from p2pfs.net.announcer import Announcer
    from p2pfs.net.connection import Connection
    from p2pfs.net.engine import Client
    from p2pfs.net.web_seed import WebSeeds

__all__ = ["Torrent"]

log = logging.getLogger(__name__)

LEAVE_PATIENCE: Final = 15.0
"""Seconds for which a tracker is asked again that does not take note of a completion."""

HUNGRY_AFTER: Final = 3.0
"""Seconds without any piece coming in after which more peers are asked for."""


class Torrent:
    """A torrent being downloaded or seeded; made by `Client.download` and `Client.seed`."""

    announcer: Announcer

    def __init__(
        self,
        client: Client,
        store: PieceStore,
        peer_id: PeerId,
        rng: random.Random,
        *,
        wanted: Bitfield | None,
    ) -> None:
        self.metainfo: Metainfo = store.metainfo
        self.name = store.metainfo.shared_name
        self._client = client
        self._store = store
        self._loop = asyncio.get_running_loop()
        self.peer_id = peer_id
        self._rng = rng
        private, pex = self.metainfo.private, client.peer_exchange
        self._peers = Peers(self, self._connect, rng, private=private, pex=pex)
        self._holdings = Holdings(store, wanted)
        self._content = ContentKeeper(self, store, self._holdings, client.disk)
        self._reporting = Reporting(store, self._holdings, self._peers.ledger)
        self._sequential = False
        self._exchange: Exchange | None = None
        self._web: WebSeeds | None = None
        self._done: asyncio.Future[Path] = self._loop.create_future()
        self._closing: asyncio.Task[None] | None = None
        self._last_gain = (self._loop.time(), 0)
        self._telling: asyncio.Task[None] | None = None
        self.on_tracker_return: Callable[[Torrent], Awaitable[None]] | None = None
        """Awaited when a tracker may have forgotten this torrent; one call at a time."""

    @property
    def exchange(self) -> Exchange:
        """Its running side; made when the first peer comes, as most torrents only lie there."""
        if self._exchange is None:
            client = self._client
            self._exchange = Exchange(
                self._peers,
                self._content,
                self._store,
                self.peer_id,
                client.disk,
                client.assembler,
                client.up_limit,
                self._rng,
                self._holdings.wanted,
                client.port,
            )
            self._holdings.transfer = self._exchange.transfer
            self._exchange.transfer.leeching.picker.sequential = self._sequential
            self._peers.listen(self._exchange)
        return self._exchange

    def start(self) -> None:
        """Announce, dial and serve; called by the client once."""
        self.announcer.start()
        self._content.start()
        if self.finished and (self._store.finished or not self.downloading):
            self._done.set_result(self._store.final_path)
        elif self.finished:
            self._content.completed()
        else:
            self._ask_web_seeds()
            self.wake()

    def _ask_web_seeds(self) -> None:
        """Have the web servers that the torrent names among its sources (BEP 19)."""
        client = self._client
        if not self.downloading or not self.metainfo.web_seeds or not client.web_seeds:
            return
        from p2pfs.net.web_seed import WebSeeds

        self._web = WebSeeds(
            self.exchange,
            self.metainfo,
            self._store.layout,
            client.disk,
            client.down_limit,
            self._rng,
            private=client.private_web_seeds,
        )

    # -- what users ask

    @property
    def info_hash(self) -> str:
        """40 hexadecimal digits."""
        return str(self.metainfo.torrent_id)

    @property
    def complete(self) -> bool:
        """Whether every piece is here (a partial seeder never is)."""
        return self._holdings.have.complete

    @property
    def finished(self) -> bool:
        """Whether nothing is left to fetch: complete, or a partial seeder."""
        return self._holdings.finished

    @property
    def left(self) -> int:
        """Bytes that trackers are told are still to come; see `Holdings.left`."""
        return self._holdings.left

    def totals(self) -> tuple[int, int, int]:
        """Bytes (uploaded, downloaded, left), as trackers are told."""
        progress = self.progress()
        return progress.uploaded, progress.downloaded, self.left

    def load_in_order(self, sequential: bool = True) -> None:
        """Begin pieces in the order of the content rather than the rarest first."""
        self._sequential = sequential
        if self._exchange is not None:
            self._exchange.transfer.leeching.picker.sequential = sequential

    @property
    def connected(self) -> Sequence[Peer]:
        """The peers that are there."""
        return () if self._exchange is None else self._exchange.transfer.peers

    @property
    def downloading(self) -> bool:
        """Whether it was opened to be downloaded, complete by now or not."""
        return self._holdings.downloads

    @property
    def path(self) -> Path:
        """Where the content is or will be."""
        return self._store.final_path

    @property
    def content_path(self) -> Path:
        """The same; of a folder with a single file in it, where that file is or will be."""
        return self._store.content_path

    def files(self, limit: int | None = None) -> list[FileProgress]:
        """The files (the first `limit` of them), padding left out."""
        return self._holdings.files(limit)

    def progress(self, *, files: int = 0) -> Progress:
        """How far it is, now; with the first `files` of its files, if it has several."""
        return self._reporting.progress(
            self._loop.time(),
            state=self._state(),
            error=self._content.error,
            tracker=self.announcer.status,
            web=self._web,
            files=files,
        )

    def _state(self) -> str:
        if self._closing is not None:
            return "stopped"
        if self._content.error:
            return "error"
        return "seeding" if self.finished else "downloading"

    def peers(self) -> list[PeerInfo]:
        """The connections, in the order in which they came."""
        return self._reporting.peers(self._loop.time())

    def takings(self) -> list[Taking]:
        """The peers that are downloading and want something that is here."""
        return self._reporting.takings(self._loop.time())

    async def wait(self) -> Path:
        """Until the content is complete; its path. `NetworkError` when it is closed before."""
        return await asyncio.shield(self._done)

    async def updates(self, interval: float = 0.5) -> AsyncIterator[Progress]:
        """Progress every `interval` seconds, a last one when it is complete."""
        while not self._done.done():
            yield self.progress()
            await asyncio.wait([self._done], timeout=interval)
        yield self.progress()

    def add_peers(self, addresses: Iterable[Address]) -> None:
        """Addresses to dial beside those that the tracker tells.

        For a private torrent none are taken: whom it knows, its tracker named (BEP 27).
        """
        self._peers.add(addresses)

    def called_by(self, address: Address) -> None:
        """Somebody at `address` says that it is in this swarm: believed less (BEP 14)."""
        self._peers.called(address)

    def found_peers(self, peers: Iterable[PeerAddress]) -> None:
        """Addresses from a tracker."""
        self._peers.found(peers)

    async def stop_announcing(self) -> None:
        """Leave the trackers, tell the local network no more, and go on serving whoever comes.

        They are told of the completion first if they do not know of it. Takes some seconds
        when they do not answer; raises nothing then.
        """
        self._client.hide_locally(self)
        await self.announcer.stop(LEAVE_PATIENCE)

    @property
    def closing(self) -> bool:
        """Whether `close` was called."""
        return self._closing is not None

    async def close(self) -> None:
        """Leave the swarm: announce `stopped`, close the connections, save the state.

        A second call waits for the first.
        """
        if self._closing is None:
            self._closing = self._loop.create_task(self._close(), name="close")
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self._client.housekeeper.forget(self)
        await self._content.stop()
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.gather(self._telling, return_exceptions=True)
        await self._peers.dialler.close()
        if self._web is not None:
            await self._web.close()
        goodbye = self._loop.create_task(self.announcer.stop(), name="goodbye")
        try:
            self._store.break_off()
            if self._exchange is not None:
                await self._exchange.close("the torrent is closed")
            await self._content.close()
        finally:
            await asyncio.gather(goodbye, return_exceptions=True)
            self._client.forget(self)
            if not self._done.done():
                reason = f"{self.name} was closed before it was complete"
                self._done.set_exception(NetworkError(reason))
                self._done.exception()  # nobody need be waiting

    # -- what its peers and its content tell

    def peer_came(self) -> None:
        self._client.torrent_active(self)

    def ban(self, host: str, peer_id: bytes) -> None:
        """Have nothing to do with a peer."""
        self._peers.ban(host, peer_id)

    def connection_failed(self, connection: Connection) -> None:
        """An outgoing connection that ended before its handshake was through."""
        self._peers.dialler.lost(connection.address, failed=True)

    async def _connect(self, address: Address) -> None:
        await self._client.dial(address, self.exchange)

    @property
    def in_use(self) -> bool:
        """Whether there are peers."""
        return self._exchange is not None and bool(self._exchange.connections)

    @property
    def arrived(self) -> bool:
        """Whether `wait` has ended."""
        return self._done.done()

    async def content_arrived(self, path: Path) -> None:
        if self.complete:
            self.announcer.completed()
        else:
            self.announcer.satisfied()
        if self._web is not None:
            await self._web.close()
        if not self._done.done():
            self._done.set_result(path)

    def content_lost(self, pieces: list[int]) -> None:
        self.exchange.lost(pieces)
        self.wake()

    def content_found(self, pieces: list[int]) -> None:
        self.exchange.found(pieces)

    def suspend(self) -> None:
        self.exchange.suspend()

    # -- work of its own

    def tend(self) -> float:
        """What is to be done a few times a second; see `Tended`."""
        if self._closing is not None:
            return RESTS
        exchange = self._exchange
        if exchange is not None:
            self._peers.tick()
            exchange.tick()
        if self._web is not None:
            self._web.look()
        self._look_hungry()
        self._peers.dialler.dial()
        if not self.finished or self.in_use:
            return 0.0
        self._content.rest()
        return self._peers.dialler.pause

    def wake(self) -> None:
        """There is something to do."""
        self._client.housekeeper.wake(self)

    def _look_hungry(self) -> None:
        """Ask the tracker for peers sooner while nothing comes in."""
        now = self._loop.time()
        count = sum(peer.down.total for peer in self.connected)
        count += self._web.total if self._web is not None else 0
        if count != self._last_gain[1]:
            self._last_gain = (now, count)
        unserved = not self.finished and now - self._last_gain[0] > HUNGRY_AFTER
        self.announcer.need_peers(unserved)

    def tracker_switched(self) -> None:
        """This torrent is private, and from now on only the other tracker says who is in it."""
        self._peers.dialler.forget_all()
        if self._exchange is not None:
            for connection in list(self._exchange.connections.values()):
                connection.close("another tracker of this private torrent says who is in it")

    def tracker_returned(self) -> None:
        """A tracker may have forgotten what it knew."""
        tell = self.on_tracker_return
        if tell is not None and (self._telling is None or self._telling.done()):
            self._telling = self._loop.create_task(self._tell(tell), name="tracker return")

    async def _tell(self, tell: Callable[[Torrent], Awaitable[None]]) -> None:
        try:
            await tell(self)
        except P2pfsError as error:
            log.warning("%s: %s", self.name, error)
        except Exception:
            log.exception("a fault in what is done when a tracker returns")
