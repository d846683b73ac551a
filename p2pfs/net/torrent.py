"""One torrent in a client: its exchange, its announces, whom it dials, how far it is.

Invariant: `progress` can be asked for at any time and costs no I/O; `wait` ends only when
every wanted piece is verified and the content has its real name.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from p2pfs.errors import NetworkError, P2pfsError, StorageError
from p2pfs.formats.announce_http import PeerAddress
from p2pfs.formats.bitfield import Bitfield
from p2pfs.formats.extension import UT_PEX, ExtendedHandshake
from p2pfs.formats.file_choice import numbered_files
from p2pfs.formats.metainfo import Metainfo
from p2pfs.geometry import PeerId
from p2pfs.net.content_watch import ContentWatch
from p2pfs.net.dialler import Dialler
from p2pfs.net.exchange import Exchange
from p2pfs.net.housekeeping import RESTS
from p2pfs.net.ledger import Ledger, peer_info
from p2pfs.net.progress import FileProgress, PeerInfo, Progress, Taking, label
from p2pfs.storage.pieces import PieceStore
from p2pfs.swarm.peer import Peer
from p2pfs.swarm.peer_book import Address
from p2pfs.swarm.pex import PeerExchange

if TYPE_CHECKING:
    from p2pfs.net.announcer import Announcer
    from p2pfs.net.connection import Connection
    from p2pfs.net.engine import Client
    from p2pfs.net.web_seed import WebSeeds

__all__ = ["Torrent"]

log = logging.getLogger(__name__)

T = TypeVar("T")

CHECKPOINT_EVERY: Final = 5.0
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
        self._dialler = Dialler(self, self._connect, rng)
        self._ledger = Ledger()
        self.peer_id = peer_id
        self._rng = rng
        self._downloads = wanted is None
        self._wanted = store.wanted if wanted is None else wanted
        self._sequential = False
        self._exchange: Exchange | None = None
        self._web: WebSeeds | None = None
        self._pex: PeerExchange | None = None
        self._watch = ContentWatch(
            store, self._check, self._content_lost, self._content_found, self._rest
        )
        self._done: asyncio.Future[Path] = self._loop.create_future()
        self._error: str | None = None
        self._closing: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._disk_jobs: set[asyncio.Future[Any]] = set()
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
                self,
                self._store,
                self.peer_id,
                client.disk,
                client.assembler,
                client.up_limit,
                self._rng,
                self._wanted,
                client.port,
            )
            self._exchange.transfer.leeching.picker.sequential = self._sequential
            if client.peer_exchange and not self.metainfo.private:
                self._pex = PeerExchange()
                self._exchange.listen(UT_PEX, self._hear_of_others)
        return self._exchange

    def start(self) -> None:
        """Announce, dial and serve; called by the client once."""
        self.announcer.start()
        if not self._store.finished:
            self._begin(self._checkpoint_often(), "checkpoint")
        if self.finished and (self._store.finished or not self._downloads):
            self._done.set_result(self._store.final_path)
        elif self.finished:
            self.completed()
        else:
            self._ask_web_seeds()
            self.wake()

    def _ask_web_seeds(self) -> None:
        """Have the web servers that the torrent names among its sources (BEP 19)."""
        client = self._client
        if not self._downloads or not self.metainfo.web_seeds or not client.web_seeds:
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

    def _begin(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        """Start what `close` ends."""
        task = self._loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # -- what users ask

    @property
    def info_hash(self) -> str:
        """40 hexadecimal digits."""
        return str(self.metainfo.torrent_id)

    @property
    def complete(self) -> bool:
        """Whether every piece is here (a partial seeder never is)."""
        return self._have.complete

    @property
    def finished(self) -> bool:
        """Whether nothing is left to fetch: complete, or a partial seeder."""
        if self._exchange is None:
            return not self._downloads or self._satisfied
        return self._exchange.transfer.finished

    @property
    def _satisfied(self) -> bool:
        """Whether every piece of what was chosen to be downloaded is here."""
        if self._wanted is None:
            return self._have.complete
        return self._downloads and not (self._wanted - self._have).count

    @property
    def left(self) -> int:
        """Bytes that trackers are told are still to come.

        Of a download what is wanted; once that is here all that is missing, so that a part is
        never taken for the whole.
        """
        have = self._have
        if self._downloads and self._wanted is not None and not self._satisfied:
            return self._bytes_of(self._wanted - have)
        return self.metainfo.total_length - self._bytes_of(have)

    def load_in_order(self, sequential: bool = True) -> None:
        """Begin pieces in the order of the content rather than the rarest first."""
        self._sequential = sequential
        if self._exchange is not None:
            self._exchange.transfer.leeching.picker.sequential = sequential

    @property
    def _have(self) -> Bitfield:
        return self._store.verified if self._exchange is None else self._exchange.transfer.have

    @property
    def connected(self) -> Sequence[Peer]:
        """The peers that are there."""
        return () if self._exchange is None else self._exchange.transfer.peers

    @property
    def downloading(self) -> bool:
        """Whether it was opened to be downloaded, complete by now or not."""
        return self._downloads

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
        have, layout, found = self._have, self._store.layout, []
        for number, index in islice(numbered_files(self.metainfo), limit):
            entry, pieces = self.metainfo.files[index], layout.pieces_of(index)
            begin, length = layout.starts[index], layout.geometry.piece_length
            done = sum(
                min((piece + 1) * length, begin + entry.length) - max(piece * length, begin)
                for piece in pieces
                if piece in have
            )
            chosen = self._store.chosen
            found.append(
                FileProgress(
                    number=number,
                    name="/".join(entry.path),
                    size=entry.length,
                    done=done,
                    wanted=self._downloads and (chosen is None or index in chosen),
                    path=self._store.file_path(index),
                )
            )
        return found

    def progress(self, *, files: int = 0) -> Progress:
        """How far it is, now; with the first `files` of its files, if it has several."""
        now = self._loop.time()
        have, peers, finished = self._have, self.connected, self.finished
        geometry = self.metainfo.geometry
        total, pieces = geometry.total_length, geometry.piece_count
        if self._downloads and self._wanted is not None:
            total, pieces = self._bytes_of(self._wanted), self._wanted.count
            have = have & self._wanted
        done = self._bytes_of(have)
        down_rate = sum(peer.down.rate(now) for peer in peers)
        sources = self._ledger.sources(peers)
        if self._web is not None:
            sources += self._web.sources()
            down_rate += self._web.rate(now)
        leeching = None if self._exchange is None else self._exchange.transfer.leeching
        stuck = leeching and not finished and not any(peer.interesting for peer in peers)
        missing = tuple(leeching.picker.unavailable()) if leeching and stuck else ()
        return Progress(
            name=self.name,
            state=self._state(),
            pieces_done=have.count,
            pieces_total=pieces,
            bytes_done=done,
            bytes_total=total,
            down_rate=down_rate,
            up_rate=sum(peer.up.rate(now) for peer in peers),
            eta=(total - done) / down_rate if down_rate > 0 and not finished else None,
            peers=len(peers),
            downloaded=sum(source.bytes_down for source in sources),
            uploaded=sum(source.bytes_up for source in sources),
            wasted=leeching.wasted if leeching else 0,
            hash_failures=leeching.hash_failures if leeching else 0,
            sources=sources,
            missing=missing,
            asked=self._ledger.met,
            error=self._error,
            tracker=self.announcer.status,
            files=tuple(self.files(files)) if files and self.metainfo.multi_file else (),
            files_total=len(self.metainfo.files) - len(self._store.layout.padding),
            web_seeds=self._web.giving if self._web else 0,
            web_problems=self._web.problems() if self._web else (),
        )

    def _bytes_of(self, have: Bitfield) -> int:
        geometry = self.metainfo.geometry
        if have.complete:
            return geometry.total_length
        done = have.count * geometry.piece_length
        last = geometry.piece_count - 1
        if have.count and have[last]:
            done -= geometry.piece_length - geometry.piece_size(last)
        return done

    def _state(self) -> str:
        if self._closing is not None:
            return "stopped"
        if self._error:
            return "error"
        return "seeding" if self.finished else "downloading"

    def peers(self) -> list[PeerInfo]:
        """The connections, in the order in which they came."""
        now = self._loop.time()
        return [peer_info(peer, now) for peer in self.connected]

    def takings(self) -> list[Taking]:
        """The peers that are downloading and want something that is here."""
        now = self._loop.time()
        have = self._have
        return [
            Taking(
                name=self.name,
                info_hash=self.info_hash,
                address=label(peer.listens_at or peer.address),
                client=peer.client,
                share_done=peer.session.peer_has.count / len(have),
                idle=now - peer.took_at,
            )
            for peer in self.connected
            if peer.session.peer_interested and (have - peer.session.peer_has).count
        ]

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
        if self.metainfo.private:
            log.info("%s is private: peers come from its tracker only", self.name)
            return
        self._dialler.add(addresses)

    def called_by(self, address: Address) -> None:
        """Somebody at `address` says that it is in this swarm: believed less (BEP 14)."""
        if not self.metainfo.private:
            self._dialler.called(address)

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
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._dialler.close()
        if self._web is not None:
            await self._web.close()
        await self._watch.close()
        goodbye = self._loop.create_task(self.announcer.stop(), name="goodbye")
        try:
            self._store.break_off()
            if self._exchange is not None:
                await self._exchange.close("the torrent is closed")
            await asyncio.gather(*self._disk_jobs, return_exceptions=True)
            try:
                if self._store.only_read:
                    self._store.close()
                else:
                    await self._on_disk(self._store.close)
            except StorageError as error:
                log.error("%s", error)
        finally:
            await asyncio.gather(goodbye, return_exceptions=True)
            self._client.forget(self)
            if not self._done.done():
                reason = f"{self.name} was closed before it was complete"
                self._done.set_exception(NetworkError(reason))
                self._done.exception()  # nobody need be waiting

    # -- what the exchange tells

    def peer_joined(self, connection: Connection, peer_id: bytes) -> None:
        self._ledger.joined(peer_id)
        if connection.outgoing:
            self._dialler.book.connected(connection.address)
        self._client.torrent_active(self)

    def peer_introduced(self, connection: Connection, handshake: ExtendedHandshake) -> None:
        peer = connection.peer
        assert peer is not None
        peer.client = handshake.client or peer.client
        if peer.listens_at is None and handshake.port:
            peer.listens_at = (connection.address[0], handshake.port)
            self._dialler.book.connected(peer.listens_at)
        if self._pex is not None:
            self._pex.joined(peer, self._loop.time())

    def peer_left(self, connection: Connection) -> None:
        peer = connection.peer
        assert peer is not None
        self._ledger.left(peer)
        if self._pex is not None:
            self._pex.left(peer)
        if peer.listens_at is not None:
            gained = peer.down.total + peer.up.total > 0
            self._dialler.lost(peer.listens_at, failed=not gained)

    def met_ourselves(self, connection: Connection) -> None:
        if connection.outgoing:
            self._dialler.book.is_ourselves(connection.address)

    def is_banned(self, host: str, peer_id: bytes) -> bool:
        return self._dialler.book.is_banned(host, peer_id, self._loop.time())

    def ban(self, host: str, peer_id: bytes) -> None:
        self._dialler.book.ban(host, peer_id, self._loop.time())

    def nothing_to_exchange(self, connection: Connection) -> None:
        peer = connection.peer
        if peer is not None and peer.listens_at is not None:
            self._dialler.book.nothing_to_gain(peer.listens_at)
            if self._pex is not None:
                self._pex.parted(peer, self._loop.time())

    def completed(self) -> None:
        self._begin(self._finish(), "finish")

    def disk_failed(self, error: StorageError | None) -> None:
        self._error = None if error is None else str(error)

    def served(self, number: int) -> None:
        self._watch.served(number)

    def reading_failed(self, number: int) -> None:
        self._watch.reading_failed(number)

    # -- work of its own

    async def _finish(self) -> None:
        """Every wanted piece is there: give the content its name, tell the tracker."""
        if self._done.done():
            return
        while self._satisfied:
            try:
                path = await self._on_disk(_finish, self._store)
            except StorageError as error:
                self.disk_failed(error)
                await asyncio.sleep(CHECKPOINT_EVERY)
                continue
            self.disk_failed(None)
            if self.complete:
                self.announcer.completed()
            else:
                self.announcer.satisfied()
            if self._web is not None:
                await self._web.close()
            if not self._done.done():
                self._done.set_result(path)
            await self._settle()
            return
        if not self._downloads and not self._done.done():  # a partial seeder wants no more
            self._done.set_result(self._store.final_path)

    async def _on_disk(self, call: Callable[..., T], *args: Any) -> T:
        """A storage call that `close` waits for even when its caller is cancelled."""
        return await self._awaited(self._client.disk.run(0, call, *args))

    async def _check(self, call: Callable[..., T], *args: Any) -> T:
        """The same for what may take minutes."""
        return await self._awaited(self._client.disk.check(call, *args))

    async def _awaited(self, job: asyncio.Future[T]) -> T:
        self._disk_jobs.add(job)
        job.add_done_callback(self._disk_jobs.discard)
        return await asyncio.shield(job)

    def _content_lost(self, pieces: list[int]) -> None:
        self._tell_what_is_missing()
        log.error("%s", self._error)
        self.exchange.lost(pieces)
        self.wake()

    def _content_found(self, pieces: list[int]) -> None:
        self._tell_what_is_missing()
        log.warning("%s: %d pieces are right again, and offered", self.path, len(pieces))
        self.exchange.found(pieces)

    def _tell_what_is_missing(self) -> None:
        gone = len(self._watch.missing)
        count = f"{gone} piece{'s' if gone > 1 else ''}"
        told = f"{self.path} changed while it was served: {count} are not offered any more"
        self._error = told if gone else None

    async def _settle(self) -> None:
        """Flush the finished content; until then a start after power loss rechecks it."""
        try:
            await self._on_disk(self._store.settle)
        except StorageError as error:
            log.error("%s", error)
        self._rest()

    def tend(self) -> float:
        """What is to be done a few times a second; see `Tended`."""
        if self._closing is not None:
            return RESTS
        exchange = self._exchange
        if exchange is not None:
            if self._pex is not None:
                self._pex.tick(self.connected, self._loop.time())
            exchange.tick()
        if self._web is not None:
            self._web.look()
        self._look_hungry()
        self._dialler.dial()
        if not self.finished or (exchange is not None and exchange.connections):
            return 0.0
        self._rest()
        return self._dialler.pause

    def wake(self) -> None:
        """There is something to do."""
        self._client.housekeeper.wake(self)

    def _rest(self) -> None:
        """Keep no file open while nobody wants anything of it."""
        used = self._exchange is not None and self._exchange.connections
        if not used and not self._watch.busy and not self._disk_jobs:
            self._store.rest()

    async def _checkpoint_often(self) -> None:
        while not self._store.finished:
            await asyncio.sleep(CHECKPOINT_EVERY)
            try:
                await self._on_disk(self._store.checkpoint)
            except StorageError as error:
                log.error("%s", error)
                self.disk_failed(StorageError(f"{error}; stop, and start again to recheck"))
                self.exchange.suspend()

    def _look_hungry(self) -> None:
        """Ask the tracker for peers sooner while nothing comes in."""
        now = self._loop.time()
        count = sum(peer.down.total for peer in self.connected)
        count += self._web.total if self._web is not None else 0
        if count != self._last_gain[1]:
            self._last_gain = (now, count)
        unserved = not self.finished and now - self._last_gain[0] > HUNGRY_AFTER
        self.announcer.need_peers(unserved)

    def found_peers(self, peers: Iterable[PeerAddress]) -> None:
        """Addresses from a tracker."""
        self._dialler.found(peers)

    def _hear_of_others(self, peer: Peer, payload: bytes) -> None:
        """A message of peer exchange (BEP 11)."""
        assert self._pex is not None
        now = self._loop.time()
        others = self._pex.receive(peer, payload, now, finished=self.finished)
        self._dialler.add(others, hearsay=True)

    def tracker_switched(self) -> None:
        """This torrent is private, and from now on only the other tracker says who is in it."""
        self._dialler.forget_all()
        if self._exchange is not None:
            for connection in list(self._exchange.connections.values()):
                connection.close("another tracker of this private torrent says who is in it")

    def tracker_returned(self) -> None:
        """A tracker may have forgotten what it knew."""
        tell = self.on_tracker_return
        if tell is not None and (self._telling is None or self._telling.done()):
            self._telling = self._begin(self._tell(tell), "tracker return")

    async def _tell(self, tell: Callable[[Torrent], Awaitable[None]]) -> None:
        try:
            await tell(self)
        except P2pfsError as error:
            log.warning("%s: %s", self.name, error)
        except Exception:
            log.exception("a fault in what is done when a tracker returns")

    async def _connect(self, address: Address) -> None:
        await self._client.dial(address, self.exchange)

    def connection_failed(self, connection: Connection) -> None:
        """An outgoing connection that ended before its handshake was through."""
        self._dialler.lost(connection.address, failed=True)


def _finish(store: PieceStore) -> Path:
    return store.finish(durable=False)
