"""Carries out, for one torrent, what its `Transfer` decides: blocks, files, connections.

Invariant: a piece's bytes are in one place at a time: a buffer being filled, a buffer at a
worker thread, or the disk; only after the worker reports it right does the transfer hear
of it. Work for one connection never raises into another.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final, Protocol, TypeVar

from p2pfs.errors import NetworkError, StorageError
from p2pfs.formats.bitfield import Bitfield
from p2pfs.formats.extension import MAX_RUN_LENGTH, ExtendedHandshake
from p2pfs.formats.peer_id import client_name
from p2pfs.formats.wire import Handshake
from p2pfs.geometry import BlockRequest, PeerId
from p2pfs.net.connection import Connection
from p2pfs.net.disk import Disk
from p2pfs.net.limits import UpLimit
from p2pfs.net.readahead import ReadAhead
from p2pfs.storage.assembler import Assembler
from p2pfs.storage.hashing import block_digests
from p2pfs.storage.pieces import PieceStore
from p2pfs.swarm.effects import Close, Completed, Effect, Forget, Learned, Store, Verify
from p2pfs.swarm.peer import Peer
from p2pfs.swarm.session import Session
from p2pfs.swarm.transfer import Transfer
from p2pfs.swarm.uploads import MAX_QUEUED

__all__ = ["Exchange", "ExchangeOwner"]

log = logging.getLogger(__name__)

SEND_AHEAD: Final = 256 * 1024
"""Bytes queued on a stream above which no further block is answered."""

T = TypeVar("T")

MAX_UNREAD: Final = 4 * SEND_AHEAD
"""Bytes queued on a stream that no peer who reads leaves lying."""

MAX_PEERS: Final = 400
RETRY_WRITES: Final = 5.0

PRESUMED_DEAD: Final = 20.0
"""Seconds of silence after which a new connection of the same peer replaces the old one."""


class ExchangeOwner(Protocol):
    """What an exchange tells the torrent it works for."""

    def peer_joined(self, connection: Connection, peer_id: bytes) -> None: ...

    def peer_introduced(self, connection: Connection, handshake: ExtendedHandshake) -> None: ...

    def peer_left(self, connection: Connection) -> None: ...

    def met_ourselves(self, connection: Connection) -> None: ...

    def is_banned(self, host: str, peer_id: bytes) -> bool: ...

    def ban(self, host: str, peer_id: bytes) -> None: ...

    def nothing_to_exchange(self, connection: Connection) -> None: ...

    def completed(self) -> None: ...

    def served(self, number: int) -> None:
        """Content file `number` is being sent from."""
        ...

    def reading_failed(self) -> None:
        """A content file could not be read as promised."""
        ...

    def disk_failed(self, error: StorageError | None) -> None:
        """Writing failed, or (None) works again."""
        ...


class Exchange:
    """The running side of one torrent's transfer."""

    def __init__(
        self,
        owner: ExchangeOwner,
        store: PieceStore,
        peer_id: PeerId,
        disk: Disk,
        assembler: Assembler,
        up_limit: UpLimit,
        rng: random.Random,
        wanted: Bitfield | None,
        port: int,
    ) -> None:
        self._owner = owner
        self._store = store
        self._disk = disk
        self._assembler = assembler
        self._up_limit = up_limit
        self._loop = asyncio.get_running_loop()
        self._geometry = store.metainfo.geometry
        self.info_hash = store.metainfo.torrent_id.v1
        self.peer_id = peer_id
        self._introduction = ExtendedHandshake(
            client=client_name(peer_id), port=port, reqq=MAX_QUEUED, run_length=MAX_RUN_LENGTH
        )
        self.transfer = Transfer(self._geometry, store.verified.copy(), rng, wanted=wanted)
        self.connections: dict[Peer, Connection] = {}
        self._readahead = ReadAhead(store, disk, self.push_soon)
        self._contents: dict[int, _Content] = {}
        self._pushing = False
        self._spilled: dict[int, list[asyncio.Future[None]]] = {}
        self._unwritten: dict[int, memoryview] = {}
        self._jobs: set[asyncio.Task[None]] = set()
        self._at_disk: set[asyncio.Future[Any]] = set()
        self._retry: asyncio.TimerHandle | None = None
        self._closed = False

    def handshake(self) -> Handshake:
        return Handshake(self.info_hash, self.peer_id)

    # -- connections

    def join(self, connection: Connection, handshake: Handshake) -> Peer:
        """A connection is through its handshake. Raises `NetworkError` when it is not wanted."""
        peer_id, host = handshake.peer_id, connection.address[0]
        if peer_id == self.peer_id:
            self._owner.met_ourselves(connection)
            raise NetworkError("connected to ourselves")
        if self._owner.is_banned(host, peer_id):
            raise NetworkError("banned: it sent data that failed the hash")
        if self._closed or len(self.connections) >= MAX_PEERS:
            raise NetworkError("no more connections for this torrent")
        self._settle_duplicate(connection, peer_id)
        now = self._loop.time()
        peer = Peer(
            Session(self._geometry, now, extended=handshake.extended),
            connection.address,
            peer_id,
            now,
            outgoing=connection.outgoing,
        )
        self.connections[peer] = connection
        self.transfer.join(peer, self._introduction)
        self._owner.peer_joined(connection, peer_id)
        self.push_soon()
        return peer

    def _settle_duplicate(self, connection: Connection, peer_id: bytes) -> None:
        """Two ends that dialled each other keep the connection of the end with the greater id."""
        for peer, other in self.connections.items():
            if peer.peer_id == peer_id:
                silent_for = self._loop.time() - peer.session.last_received_at
                ours_wins = self.peer_id > peer_id
                if silent_for < PRESUMED_DEAD and (
                    connection.outgoing == other.outgoing or connection.outgoing != ours_wins
                ):
                    raise NetworkError("connected to this peer already")
                other.close("replaced by the other connection to the same peer")
                return

    def left(self, connection: Connection) -> None:
        """The connection is closed; called once, by the connection."""
        peer = connection.peer
        if peer is None or self.connections.pop(peer, None) is None:
            return
        log.info("%s left: %s", connection.address, connection.closing)
        self.transfer.leave(peer, self._loop.time())
        self._owner.peer_left(connection)
        self._settle()

    def reading_failed(self) -> None:
        """A stream could not read what it was to send."""
        self._owner.reading_failed()

    def lost(self, pieces: Iterable[int]) -> None:
        """Pieces that are not what they were: peers come back to hear what is left."""
        for piece in pieces:
            self.transfer.lost(piece)
        for connection in list(self.connections.values()):
            connection.close("content changed under us")
        self._settle()

    def received(self, connection: Connection, data: memoryview) -> None:
        """Bytes of a joined peer."""
        peer = connection.peer
        if peer is None or peer not in self.connections:
            return
        now = self._loop.time()
        events = peer.session.receive_data(data, now)
        self.transfer.receive(peer, events, now)
        self._settle()

    def tick(self) -> None:
        """A few times a second."""
        self.transfer.tick(self._loop.time())
        self._settle()

    # -- output

    def _settle(self) -> None:
        """Carry out the effects of what just happened, and send what it left to send."""
        effects = self.transfer.take_effects()
        if effects:
            for effect in effects:
                self._carry_out(effect)
        self.push_soon()

    def push_soon(self) -> None:
        if not self._pushing:
            self._pushing = True
            self._loop.call_soon(self._push)

    def _push(self) -> None:
        self._pushing = False
        limited = self._up_limit.limited
        for peer, connection in list(self.connections.items()):
            served = not limited and bool(peer.uploads) and self._serve(peer, connection)
            if peer.session.has_data_to_send:
                self._send(peer, connection)
            if served and peer.uploads and connection.stream.queued < SEND_AHEAD:
                self.push_soon()  # the system took it all: go on after the others' turn
        if limited:
            self._up_limit.pump()

    def _serve(self, peer: Peer, connection: Connection) -> bool:
        """Answer as many requests as the stream has room for; whether there were any."""
        queued = before = connection.stream.queued
        serving, ready = self.transfer.serving, self._readahead.ready
        while queued < SEND_AHEAD and (length := serving.serve(peer, ready)):
            queued += length
        return queued > before

    def serve_one(self) -> int:
        """Answer the most useful request at hand; its bytes, 0 when there is none to answer."""
        ready = [
            peer
            for peer, connection in self.connections.items()
            if peer.uploads and connection.stream.queued < SEND_AHEAD
        ]
        served = self.transfer.serving.serve_best(ready, self._readahead.ready)
        if served is None:
            return 0
        peer, length = served
        self._send(peer, self.connections[peer])
        return length

    def _send(self, peer: Peer, connection: Connection) -> None:
        stream = connection.stream
        try:
            for item in peer.session.data_to_send():
                if isinstance(item, BlockRequest):
                    for number, offset, length in self._store.slices(*item):
                        stream.send_file(self._content(number), offset, length)
                else:
                    stream.write(item)
            stream.flush()
            peer.session.sent(self._loop.time())
            if stream.queued > MAX_UNREAD:
                connection.close("does not read what it is sent")
        except StorageError as error:
            connection.close(str(error))

    def _content(self, number: int) -> _Content:
        self._owner.served(number)
        content = self._contents.get(number)
        if content is None:
            content = self._contents[number] = _Content(self._store, number, self._on_disk)
        return content

    # -- effects

    def _carry_out(self, effect: Effect) -> None:
        if type(effect) is Store:
            self._keep(effect)
        elif isinstance(effect, Verify):
            self._verify(effect)
        elif isinstance(effect, Forget):
            self._assembler.drop((self, effect.piece))
            self._spilled.pop(effect.piece, None)
        elif isinstance(effect, Learned):
            connection = self.connections.get(effect.peer)
            if connection is not None:
                self._owner.peer_introduced(connection, effect.handshake)
        elif isinstance(effect, Completed):
            self._owner.completed()
        elif isinstance(effect, Close):
            self._close_peer(effect)

    def _close_peer(self, effect: Close) -> None:
        peer = effect.peer
        if effect.banned:  # also when it has left: it may come back
            log.warning("%s is banned: %s", peer.address, effect.reason)
            self._owner.ban(peer.address[0], peer.peer_id)
        connection = self.connections.get(peer)
        if connection is None:
            return
        if effect.redundant:
            self._owner.nothing_to_exchange(connection)
        connection.close(effect.reason)

    def _keep(self, effect: Store) -> None:
        (piece, begin, _), data = effect
        writes = self._spilled.get(piece)
        if writes is None:
            if self._assembler.begin((self, piece), self._geometry.piece_size(piece)):
                self._assembler.put((self, piece), begin, data)
                return
            writes = self._spilled[piece] = []
        copy = bytes(data)
        writes.append(self._on_disk(len(copy), self._store.write_block, piece, begin, copy))

    def _verify(self, effect: Verify) -> None:
        if effect.piece in self._spilled:
            self._start(self._verify_spilled(effect))
        else:
            buffer = self._assembler.take((self, effect.piece))
            self._start(self._verify_buffer(effect.piece, buffer, effect.digests))

    def _on_disk(self, weight: int, call: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        """A storage call that `close` waits for, whatever becomes of its caller."""
        job = self._disk.run(weight, call, *args)
        self._at_disk.add(job)
        job.add_done_callback(self._at_disk.discard)
        return asyncio.shield(job)

    def _start(self, job: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(job)
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)

    async def _verify_buffer(self, piece: int, buffer: memoryview, digests: bool) -> None:
        try:
            right, found = await self._on_disk(
                len(buffer), _check_and_write, self._store, piece, buffer, digests
            )
        except StorageError as error:
            self._unwritten[piece] = buffer
            self._write_failed(error)
            return
        self._assembler.release(buffer)
        self._report(piece, right, found)

    async def _verify_spilled(self, effect: Verify) -> None:
        piece = effect.piece
        writes = self._spilled.pop(piece)
        try:
            for outcome in await asyncio.gather(*writes, return_exceptions=True):
                if isinstance(outcome, BaseException):
                    raise outcome
            right, found = await self._on_disk(
                0, _check_written, self._store, piece, effect.digests
            )
        except StorageError as error:
            self.transfer.leeching.write_failed(piece)
            self._write_failed(error)
            return
        self._report(piece, right, found)

    def _report(self, piece: int, right: bool, digests: list[bytes]) -> None:
        now = self._loop.time()
        if right:
            self.transfer.verified(piece, digests, now)
        else:
            log.warning("piece %d failed its hash", piece)
            self.transfer.rejected(piece, digests, now)
        self._settle()

    def suspend(self) -> None:
        """Ask for nothing more; what we have is served all the same."""
        self.transfer.leeching.suspend()
        self._settle()

    def _write_failed(self, error: StorageError) -> None:
        """Stop asking for more; what could not be written is kept and tried again."""
        log.error("%s", error)
        self._owner.disk_failed(error)
        self.suspend()
        if self._retry is None and not self._closed:
            self._retry = self._loop.call_later(RETRY_WRITES, self._retry_writes)

    def _retry_writes(self) -> None:
        self._retry = None
        if self._closed:
            return
        if self._unwritten:
            piece = next(iter(self._unwritten))
            self._start(self._write_again(piece))
        else:
            self._writable_again()

    async def _write_again(self, piece: int) -> None:
        buffer = self._unwritten.pop(piece)
        await self._verify_buffer(piece, buffer, digests=True)
        if piece not in self._unwritten:
            if self._unwritten:
                self._retry_writes()
            else:
                self._writable_again()

    def _writable_again(self) -> None:
        self._owner.disk_failed(None)
        self.transfer.leeching.resume()
        self.tick()

    # -- the end

    async def close(self, reason: str) -> None:
        """Close every connection and wait for the pieces at the disk."""
        self._closed = True
        if self._retry is not None:
            self._retry.cancel()
        for connection in list(self.connections.values()):
            connection.close(reason)
        while self._jobs or self._at_disk:
            await asyncio.gather(*self._jobs, *self._at_disk, return_exceptions=True)
        for buffer in self._unwritten.values():
            self._assembler.release(buffer)
        self._unwritten.clear()
        for piece in self.transfer.leeching.picker.in_progress():
            self._assembler.drop((self, piece))


class _Content:
    """One content file as a stream wants it."""

    __slots__ = ("_number", "_on_disk", "_source", "_store")

    def __init__(
        self, store: PieceStore, number: int, on_disk: Callable[..., asyncio.Future[bytes]]
    ) -> None:
        self._store = store
        self._number = number
        self._on_disk = on_disk
        self._source = store.source(number)

    def fileno(self) -> int:
        return self._source.fileno()

    async def read_at(self, offset: int, length: int) -> bytes:
        return await self._on_disk(0, self._store.read_file, self._number, offset, length)


def _check_and_write(
    store: PieceStore, piece: int, buffer: memoryview, digests: bool
) -> tuple[bool, list[bytes]]:
    right = store.write_piece(piece, buffer)
    return right, block_digests(buffer) if digests or not right else []


def _check_written(store: PieceStore, piece: int, digests: bool) -> tuple[bool, list[bytes]]:
    right = store.verify_written(piece)
    found: list[bytes] = []
    if digests or not right:
        size = store.metainfo.geometry.piece_size(piece)
        found = block_digests(store.read(piece, 0, size))
    return right, found
