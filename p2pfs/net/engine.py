"""The composition root: a client that listens, dials, and runs torrents on one engine.

Invariant: everything a client started (sockets, tasks, threads) ends with `close`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import socket
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final

from p2pfs.errors import NetworkError, StorageError, UsageError
from p2pfs.formats.bitfield import Bitfield
from p2pfs.formats.file_choice import choose_files
from p2pfs.formats.metainfo import Metainfo
from p2pfs.formats.obfuscation import disguised_name
from p2pfs.formats.peer_id import make_peer_id
from p2pfs.net.acceptor import Acceptor
from p2pfs.net.announcers import Announcers
from p2pfs.net.connection import Connection, Party
from p2pfs.net.connections import Connections
from p2pfs.net.disk import Disk
from p2pfs.net.housekeeping import Housekeeper
from p2pfs.net.limits import DownLimit
from p2pfs.net.listener import addresses_of, bind_first_free
from p2pfs.net.progress import PeerInfo, Progress, Source, Taking
from p2pfs.net.store_opening import Checked, StoreOpening
from p2pfs.net.torrent import Torrent
from p2pfs.net.turns import Turns
from p2pfs.storage.assembler import Assembler
from p2pfs.storage.pieces import PieceStore

if TYPE_CHECKING:
    from p2pfs.formats.magnet import Magnet
    from p2pfs.net.local_discovery import LocalDiscovery
    from p2pfs.net.metadata_fetch import MetadataFetch

__all__ = ["Client", "PeerInfo", "Progress", "Source", "Taking", "Torrent"]

log = logging.getLogger(__name__)

ASSEMBLY_BUDGET: Final = 32 * 1024 * 1024
"""Bytes of pieces being put together, in all torrents of a client."""

MIN_RATE: Final = 1000

TrackerReturned = Callable[[Torrent], Awaitable[None]]
"""Awaited when a tracker may have forgotten a torrent; ends with the torrent at the latest."""


class Client:
    """Seeds and downloads any number of torrents. Use as an async context manager.

    `port`: the first of `port_tries` to listen on, 0 for any free one; `bind`: one address
    instead of all; limits in bytes a second, for the whole client. `web_seeds`:
    downloads also take from the web servers that a torrent names (BEP 19), `private_web_seeds`:
    in private networks and on this machine too. `peer_exchange`: peers
    tell each other of peers (BEP 11). Of a private torrent only its own trackers, those of
    its metainfo if it names any, are ever told or asked (BEP 27). `local_discovery`: peers
    on the local network find each other by multicast (BEP 14).
    """

    def __init__(
        self,
        *,
        port: int = 0,
        port_tries: int = 5,
        bind: str | None = None,
        up_limit: float | None = None,
        down_limit: float | None = None,
        web_seeds: bool = True,
        private_web_seeds: bool = False,
        peer_exchange: bool = True,
        local_discovery: bool = False,
    ) -> None:
        for limit in (up_limit, down_limit):
            if limit is not None and limit < MIN_RATE:
                raise UsageError(f"a rate limit must be at least {MIN_RATE} bytes a second")
        if not 0 <= port <= 65535:
            raise UsageError(f"port {port} is outside 0..65535")
        self._first_port = port
        self._port_tries = port_tries
        self._bind = bind
        self._rates = (up_limit, down_limit)
        self.web_seeds = web_seeds
        self.private_web_seeds = private_web_seeds
        self.peer_exchange = peer_exchange
        self.local_discovery = local_discovery
        self._local: LocalDiscovery | None = None
        self._rng = random.Random(os.urandom(16))
        self._torrents: dict[bytes, Torrent] = {}
        self._fetches: dict[bytes, MetadataFetch] = {}
        self._names: dict[bytes, bytes] = {}
        """The info hashes of both, by how disguised handshakes name them."""
        self._sockets: list[socket.socket] = []
        self._acceptor: Acceptor | None = None
        self._reserved: set[bytes] = set()
        self._destinations: dict[Path, Torrent] = {}
        self._closing: asyncio.Task[None] | None = None
        self.addresses: list[tuple[str, int]] = []
        """Host and port of each listening socket."""
        self.port = 0

    async def start(self) -> None:
        """Listen. Raises `ListenError` when every port is taken."""
        self._sockets = bind_first_free(self._bind, self._first_port, self._port_tries)
        self.addresses = addresses_of(self._sockets)
        self.port = self.addresses[0][1]
        self.disk = Disk(self._disk_pressure)
        self.assembler = Assembler(ASSEMBLY_BUDGET)
        self.down_limit = DownLimit(self._rates[1])
        self.housekeeper = Housekeeper()
        self._turns = Turns(self._rates[0])
        self.up_limit = self._turns.limit
        self._stores = StoreOpening(self.disk)
        self._connections = Connections(
            self._bind,
            self.disk,
            self.down_limit,
            self.find_exchange,
            self._names.get,
            self._dial_failed,
        )
        families = {int(sock.family) for sock in self._sockets}
        self._announcers = Announcers(self.port, families, self._rng)
        self._acceptor = Acceptor(self._sockets, self._connections.welcome)
        if self.local_discovery:
            from p2pfs.net.local_discovery import LocalDiscovery

            self._local = LocalDiscovery(self.addresses, self._heard_locally)
            self._local.start()

    async def close(self) -> None:
        """Leave every swarm and let go of everything. May be called more than once."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close(), name="close")
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        if self._acceptor is None:
            return
        await self._acceptor.close()
        await self._stores.close()
        if self._local is not None:
            await self._local.close()
        ended = [fetch.close() for fetch in list(self._fetches.values())]
        ended += [torrent.close() for torrent in list(self._torrents.values())]
        for outcome in await asyncio.gather(*ended, return_exceptions=True):
            if isinstance(outcome, Exception):
                log.error("while a torrent was closed", exc_info=outcome)
        await self._connections.close()
        await self._announcers.close()
        await self.housekeeper.close()
        await self.disk.close()
        self._sockets = []

    async def __aenter__(self) -> Client:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def torrents(self) -> list[Torrent]:
        return [torrent for torrent in self._torrents.values() if not torrent.closing]

    def takings(self) -> list[Taking]:
        """The downloads that others have running from here."""
        return [
            taking for torrent in self._turns if not torrent.closing for taking in torrent.takings()
        ]

    async def seed(
        self,
        metainfo: Metainfo,
        path: Path | str,
        *,
        have: Bitfield | None = None,
        trackers: Sequence[str] = (),
        verify: bool = True,
        progress: Checked | None = None,
        on_tracker_return: TrackerReturned | None = None,
        announce_locally: bool = True,
    ) -> Torrent:
        """Seed the content at `path`: all of it, or as a partial seeder the pieces in `have`.

        With `verify` it is hashed first, and what differs is not offered. `trackers` are
        asked before those of the metainfo. `progress` is told (bytes checked, bytes in
        all), on a worker thread. `on_tracker_return` is awaited when a tracker answers
        again, or anew, and may have forgotten what it knew. Without `announce_locally` the
        local network is not told of it; who asks there is connected to all the same. Raises
        `StorageError`, `UsageError`.
        """

        def open_store(told: Checked) -> PieceStore:
            return PieceStore.open_seed(
                metainfo, Path(path), have=have, verify=verify, progress=told
            )

        nothing = Bitfield(metainfo.geometry.piece_count)
        torrent = await self._add(metainfo, open_store, progress, trackers, wanted=nothing)
        torrent.on_tracker_return = on_tracker_return
        if announce_locally:
            self._announce_locally(torrent)
        return torrent

    async def download(
        self,
        metainfo: Metainfo,
        output_dir: Path | str = "output",
        *,
        trackers: Sequence[str] = (),
        progress: Checked | None = None,
        on_tracker_return: TrackerReturned | None = None,
        files: Sequence[str | int] = (),
        sequential: bool = False,
    ) -> Torrent:
        """Download into `output_dir`, resuming what is there; `Torrent.wait` tells the end.

        `files` chooses some of its files, by patterns, numbers or indices (`choose_files`);
        `sequential`: in the order of the content, not the rarest piece first. `progress` is
        told how far the check of what is there is; this and `on_tracker_return` as for
        `seed`. Raises `StorageError`, `UsageError`.
        """
        chosen = choose_files(metainfo, files) if files else None

        def open_store(told: Checked) -> PieceStore:
            return PieceStore.open_download(
                metainfo, Path(output_dir), progress=told, chosen=chosen
            )

        torrent = await self._add(metainfo, open_store, progress, trackers, wanted=None)
        torrent.load_in_order(sequential)
        torrent.on_tracker_return = on_tracker_return
        self._announce_locally(torrent)
        return torrent

    def fetch_metadata(self, magnet: Magnet, *, trackers: Sequence[str] = ()) -> MetadataFetch:
        """Ask peers for the metadata of a torrent; `trackers` are asked before those of the link.

        Once it is there, `download` or `seed` take over its connections. Raises `UsageError`
        when the torrent is open already, and `NetworkError` when the client is closed.
        """
        from p2pfs.net.metadata_fetch import MetadataFetch

        if self._closing is not None:
            raise NetworkError("the client is closed")
        key = magnet.torrent_id.v1
        if key in self._torrents or key in self._reserved or key in self._fetches:
            raise UsageError(f"{magnet.shown} is open in this client already")
        fetch = MetadataFetch(self, magnet, make_peer_id(os.urandom), self._rng)
        fetch.announcer = self._announcers.of_fetch(fetch, trackers)
        self._fetches[key] = fetch
        self._names[disguised_name(key)] = key
        fetch.start()
        if self._local is not None:
            self._local.add(key)
        return fetch

    def forget_fetch(self, fetch: MetadataFetch) -> None:
        """A fetch has ended, or its torrent has taken over."""
        self._fetches.pop(fetch.info_hash, None)
        self._forget_name(fetch.info_hash)
        if self._local is not None and fetch.info_hash not in self._torrents:
            self._local.remove(fetch.info_hash)

    async def download_magnet(
        self,
        magnet: Magnet,
        output_dir: Path | str = "output",
        *,
        trackers: Sequence[str] = (),
        progress: Checked | None = None,
        files: Sequence[str | int] = (),
        sequential: bool = False,
    ) -> Torrent:
        """Fetch the metadata from peers, however long that takes, and download what it says.

        Without `files` those that the link selects, if it does (BEP 53). Arguments as for
        `download`. Raises what that raises, `MetainfoError` and `BencodeError` for metadata
        that nobody can use.
        """
        from p2pfs.formats.magnet import selected_files

        fetch = self.fetch_metadata(magnet, trackers=trackers)
        try:
            metainfo = await fetch.wait()
            return await self.download(
                metainfo,
                output_dir,
                trackers=trackers,
                progress=progress,
                files=files or selected_files(magnet, metainfo),
                sequential=sequential,
            )
        finally:
            await fetch.close()

    async def _add(
        self,
        metainfo: Metainfo,
        open_store: Callable[[Checked], PieceStore],
        progress: Checked | None,
        trackers: Sequence[str],
        *,
        wanted: Bitfield | None,
    ) -> Torrent:
        key = metainfo.torrent_id.v1
        if key in self._torrents or key in self._reserved:
            raise UsageError(f"{metainfo.shared_name} is open in this client already")
        self._reserved.add(key)
        try:
            store = await self._stores.open(open_store, progress)
            try:
                fetch = await self._fetch_of(metainfo)
                self._check_room(store, wanted)
            except BaseException:
                with contextlib.suppress(StorageError):
                    store.close()
                raise
            torrent = self._run(store, trackers, wanted=wanted, fetch=fetch)
            if wanted is None:
                self._destinations[store.content_path] = torrent
            if fetch is not None:
                try:
                    await fetch.hand_over(torrent)
                except BaseException:
                    await asyncio.gather(torrent.close(), return_exceptions=True)
                    raise
            return torrent
        finally:
            self._reserved.discard(key)

    async def _fetch_of(self, metainfo: Metainfo) -> MetadataFetch | None:
        """The fetch that a torrent can take over; awaits the end of one that it cannot.

        Who is in a private torrent is for its trackers to say, not for those of a link.
        """
        key = metainfo.torrent_id.v1
        while (fetch := self._fetches.get(key)) and (metainfo.private or fetch.closing):
            await fetch.close()
        return fetch

    def _check_room(self, store: PieceStore, wanted: Bitfield | None) -> None:
        """Whether the torrent of `store` may run here, as things are now."""
        if self._closing is not None:
            raise NetworkError("the client is closed")
        if wanted is None and store.content_path in self._destinations:
            raise UsageError(
                f"another torrent is being downloaded to {store.content_path}: "
                "choose another folder for this one"
            )

    def _run(
        self,
        store: PieceStore,
        trackers: Sequence[str],
        *,
        wanted: Bitfield | None,
        fetch: MetadataFetch | None,
    ) -> Torrent:
        metainfo = store.metainfo
        peer_id = make_peer_id(os.urandom) if fetch is None else fetch.peer_id
        torrent = Torrent(self, store, peer_id, self._rng, wanted=wanted)
        if fetch is not None:
            torrent.announcer = self._announcers.pass_on(fetch, torrent, trackers)
        else:
            torrent.announcer = self._announcers.of_torrent(torrent, trackers)
        key = metainfo.torrent_id.v1
        self._torrents[key] = torrent
        self._names[disguised_name(key)] = key
        torrent.start()
        return torrent

    def _announce_locally(self, torrent: Torrent) -> None:
        if self._local is not None and not torrent.metainfo.private and not torrent.closing:
            self._local.add(torrent.metainfo.torrent_id.v1)

    def hide_locally(self, torrent: Torrent) -> None:
        """The local network is not told of it any more."""
        if self._local is not None:
            self._local.remove(torrent.metainfo.torrent_id.v1)

    def _heard_locally(self, info_hash: bytes, address: tuple[str, int]) -> None:
        """Somebody on the local network has this torrent, or wants it."""
        torrent = self._torrents.get(info_hash)
        if torrent is None:
            fetch = self._fetches.get(info_hash)
            if fetch is not None:
                fetch.add_peers([address], hearsay=True)
        elif not torrent.closing:
            torrent.called_by(address)

    def forget(self, torrent: Torrent) -> None:
        """A torrent is closed."""
        self.hide_locally(torrent)
        self._torrents.pop(torrent.metainfo.torrent_id.v1, None)
        self._forget_name(torrent.metainfo.torrent_id.v1)
        if torrent.downloading:
            self._destinations.pop(torrent.content_path, None)
        self._turns.forget(torrent)

    def _forget_name(self, key: bytes) -> None:
        if key not in self._torrents and key not in self._fetches:
            self._names.pop(disguised_name(key), None)

    def torrent_active(self, torrent: Torrent) -> None:
        """A torrent has a peer."""
        self.housekeeper.wake(torrent)
        self._turns.add(torrent)

    # -- connections

    async def dial(self, address: tuple[str, int], party: Party) -> None:
        """Connect to a peer. Raises `OSError`, `TimeoutError`, `NetworkError`."""
        await self._connections.dial(address, party)

    def find_exchange(self, info_hash: bytes) -> Party | None:
        """Who takes connections for a torrent, if it is open."""
        torrent = self._torrents.get(info_hash)
        if torrent is None:
            fetch = self._fetches.get(info_hash)
            return None if fetch is None else fetch.exchange
        return None if torrent.closing else torrent.exchange

    def _dial_failed(self, party: Party, connection: Connection) -> None:
        dialled = self._torrents.get(party.info_hash) or self._fetches.get(party.info_hash)
        if dialled is not None:
            dialled.connection_failed(connection)

    def _disk_pressure(self, busy: bool) -> None:
        if not busy:
            self._connections.resume()
