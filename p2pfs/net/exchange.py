"""Carries out, for one torrent, what its `Transfer` decides: connections, and what they send.

Invariant: after every event the transfer's effects are carried out and what its sessions
have to send is on its way; work for one connection never raises into another.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

from p2pfs.errors import FormatError, NetworkError, P2pfsError, StorageError
from p2pfs.formats.allowed_fast import allowed_fast_set
from p2pfs.formats.bitfield import Bitfield
from p2pfs.formats.endpoint import pack_host
from p2pfs.formats.extension import (
    DONT_HAVE,
    MAX_RUN_LENGTH,
    UPLOAD_ONLY,
    UT_METADATA,
    ExtendedHandshake,
    offer,
)
from p2pfs.formats.peer_id import client_name
from p2pfs.formats.wire import Handshake
from p2pfs.geometry import BLOCK_LENGTH, PeerId
from p2pfs.net.disk import Disk
from p2pfs.net.limits import UpLimit
from p2pfs.net.piece_writer import PieceWriter
from p2pfs.net.readahead import ReadAhead
from p2pfs.net.sending import Contents, Sender
from p2pfs.storage.assembler import Assembler
from p2pfs.storage.pieces import PieceStore
from p2pfs.swarm.effects import Close, Completed, Effect, Forget, Heard, Learned, Store, Verify
from p2pfs.swarm.metadata_serving import MetadataServing
from p2pfs.swarm.peer import Peer
from p2pfs.swarm.session import Session
from p2pfs.swarm.transfer import Transfer
from p2pfs.swarm.uploads import MAX_QUEUED

if TYPE_CHECKING:
    from p2pfs.net.connection import Connection

__all__ = ["ContentOwner", "Exchange", "PeersOwner", "packed_host", "settle_duplicate"]

log = logging.getLogger(__name__)

MAX_PEERS: Final = 1000
"""Connections of one torrent; an idle one costs memory, and a message now and then."""

MAX_TAKEN_BACK: Final = 256
"""Lost pieces of which peers are told one by one."""

IDLE_AFTER: Final = 60.0
"""Seconds in which a peer should have exchanged something, when others want its place."""

PRESUMED_DEAD: Final = 20.0
"""Seconds of silence after which a new connection of the same peer replaces the old one."""

SETTLED: Final = 1.0
"""Seconds after which two ends have not dialled each other at the same time: what runs stays."""


class PeersOwner(Protocol):
    """What an exchange tells whoever knows the peers of the torrent."""

    def joined(self, connection: Connection, peer_id: bytes) -> None: ...

    def introduced(self, connection: Connection, handshake: ExtendedHandshake) -> None: ...

    def left(self, connection: Connection) -> None: ...

    def met_ourselves(self, connection: Connection) -> None: ...

    def is_banned(self, host: str, peer_id: bytes) -> bool: ...

    def ban(self, host: str, peer_id: bytes) -> None: ...

    def nothing_to_exchange(self, connection: Connection) -> None: ...


class ContentOwner(Protocol):
    """What an exchange tells whoever keeps the content of the torrent."""

    def completed(self) -> None:
        """Every wanted piece is there."""
        ...

    def served(self, number: int) -> None:
        """Content file `number` is being sent from."""
        ...

    def reading_failed(self, number: int) -> None:
        """Content file `number` could not be read as promised."""
        ...

    def disk_failed(self, error: StorageError | None) -> None:
        """Writing failed, or (None) works again."""
        ...


class Exchange:
    """The running side of one torrent's transfer."""

    def __init__(
        self,
        peers: PeersOwner,
        content: ContentOwner,
        store: PieceStore,
        peer_id: PeerId,
        disk: Disk,
        assembler: Assembler,
        up_limit: UpLimit,
        rng: random.Random,
        wanted: Bitfield | None,
        port: int,
    ) -> None:
        self._peers = peers
        self._keeper = content
        self._writer = PieceWriter(self, store, disk, assembler)
        self._loop = asyncio.get_running_loop()
        self._geometry = store.metainfo.geometry
        self.info_hash = store.metainfo.torrent_id.v1
        self.peer_id = peer_id
        self._listeners: dict[bytes, Callable[[Peer, bytes], None]] = {}
        self._metadata = MetadataServing(store.metainfo.info_bytes)
        gives_metadata = not store.metainfo.private  # as other clients have it
        self._introduction = ExtendedHandshake(
            client=client_name(peer_id),
            port=port,
            reqq=MAX_QUEUED,
            run_length=MAX_RUN_LENGTH,
            messages=offer(DONT_HAVE, UPLOAD_ONLY),
            metadata_size=len(store.metainfo.info_bytes) if gives_metadata else 0,
        )
        if gives_metadata:
            self.listen(UT_METADATA, self._hear_of_metadata)
        self.transfer = Transfer(self._geometry, store.verified.copy(), rng, wanted=wanted)
        self.connections: dict[Peer, Connection] = {}
        self._readahead = ReadAhead(store, disk, self.push_soon)
        self._sender = Sender(
            self.connections,
            self.transfer.serving,
            self._metadata,
            Contents(store, self._writer, content),
            self._readahead,
            up_limit,
        )
        self._closed = False

    def handshake(self) -> Handshake:
        return Handshake(self.info_hash, self.peer_id)

    def listen(self, name: bytes, hear: Callable[[Peer, bytes], None]) -> None:
        """Whoever joins from now on may send us messages called `name` (BEP 10).

        `hear` is given the payload as it came; what it raises closes the connection.
        """
        self._listeners[name] = hear
        messages = offer(DONT_HAVE, UPLOAD_ONLY, *self._listeners)
        self._introduction = replace(self._introduction, messages=messages)

    # -- connections

    def join(
        self, connection: Connection, handshake: Handshake, session: Session | None = None
    ) -> Peer:
        """A connection is through its handshake; `session` is one that goes on from before.

        Raises `NetworkError` when it is not wanted.
        """
        peer_id, host = handshake.peer_id, connection.address[0]
        if peer_id == self.peer_id:
            self._peers.met_ourselves(connection)
            raise NetworkError("connected to ourselves")
        if self._peers.is_banned(host, peer_id):
            raise NetworkError("banned: it sent data that failed the hash")
        now = self._loop.time()
        if self._closed or (len(self.connections) >= MAX_PEERS and not self._make_room(now)):
            raise NetworkError("no more connections for this torrent")
        settle_duplicate(self.connections, self.peer_id, connection, peer_id, now)
        your_ip = packed_host(host)
        peer = Peer(
            session
            or Session(self._geometry, now, extended=handshake.extended, fast=handshake.fast),
            connection.address,
            peer_id,
            now,
            outgoing=connection.outgoing,
            fast_set=allowed_fast_set(your_ip, self.info_hash, self._geometry.piece_count),
            piece=min(self._geometry.piece_length, self._geometry.total_length) // BLOCK_LENGTH,
        )
        self.connections[peer] = connection
        self.transfer.join(peer, replace(self._introduction, your_ip=your_ip))
        self._peers.joined(connection, peer_id)
        self.push_soon()
        return peer

    def _make_room(self, now: float) -> bool:
        """Close the oldest of the connections that brought nothing to either end so far."""
        for peer, connection in self.connections.items():
            if now - peer.connected_at < IDLE_AFTER:
                break  # those behind it are younger
            if not (peer.down.total or peer.up.total or connection.closing):
                connection.close("made way for a newcomer: nothing was exchanged")
                return True
        return False

    def left(self, connection: Connection) -> None:
        """The connection is closed; called once, by the connection."""
        peer = connection.peer
        if peer is None or self.connections.pop(peer, None) is None:
            return
        log.info("%s left: %s", connection.address, connection.closing)
        self._metadata.left(peer)
        self.transfer.leave(peer, self._loop.time())
        self._peers.left(connection)
        self.settle()

    def found(self, pieces: Iterable[int]) -> None:
        """Pieces that were lost and are right again."""
        for piece in pieces:
            self.transfer.verified(piece, [], self._loop.time())
        self.settle()

    def lost(self, pieces: Collection[int]) -> None:
        """Pieces that are not what they were.

        Peers that can be told stay; the others come back to hear what is left, and so do
        those to whom something is on its way, which may be of those pieces.
        """
        told = {
            peer
            for peer, connection in self.connections.items()
            if DONT_HAVE in peer.session.peer_extensions
            and not peer.session.has_data_to_send
            and not connection.stream.queued
        }
        for piece in pieces:
            self.transfer.lost(piece)
        for peer, connection in list(self.connections.items()):
            if peer not in told or len(pieces) > MAX_TAKEN_BACK:
                connection.close("content changed under us")
        self.settle()

    def received(self, connection: Connection, data: memoryview) -> None:
        """Bytes of a joined peer."""
        peer = connection.peer
        if peer is None or peer not in self.connections:
            return
        now = self._loop.time()
        events = peer.session.receive_data(data, now)
        self.transfer.receive(peer, events, now)
        self.settle()

    def tick(self) -> None:
        """A few times a second."""
        self.transfer.tick(self._loop.time())
        self.settle()

    # -- output

    def settle(self) -> None:
        """Carry out the effects of what just happened, and send what it left to send."""
        effects = self.transfer.take_effects()
        if effects:
            for effect in effects:
                try:
                    self._carry_out(effect)
                except Exception:
                    log.exception("a fault of ours in %s", type(effect).__name__)
        self.push_soon()

    def push_soon(self) -> None:
        self._sender.push_soon()

    def serve_one(self) -> int:
        """Answer one request, in its turn under an upload limit; its bytes, 0 for none."""
        return self._sender.serve_one()

    # -- effects

    def _carry_out(self, effect: Effect) -> None:
        if type(effect) is Store:
            self._writer.keep(effect.block, effect.data)
        elif isinstance(effect, Verify):
            self._writer.verify(effect.piece, digests=effect.digests)
        elif isinstance(effect, Forget):
            self._writer.forget(effect.piece)
        elif isinstance(effect, Learned):
            connection = self.connections.get(effect.peer)
            if connection is not None:
                self._peers.introduced(connection, effect.handshake)
        elif isinstance(effect, Heard):
            self._hear(effect)
        elif isinstance(effect, Completed):
            self._keeper.completed()
        elif isinstance(effect, Close):
            self._close_peer(effect)

    def _hear(self, effect: Heard) -> None:
        connection = self.connections.get(effect.peer)
        if connection is None:
            return
        try:
            self._listeners[effect.name](effect.peer, effect.payload)
        except P2pfsError as error:
            connection.close(str(error))

    def _hear_of_metadata(self, peer: Peer, payload: bytes) -> None:
        self._metadata.heard(peer, payload, self._loop.time())

    def _close_peer(self, effect: Close) -> None:
        peer = effect.peer
        if effect.banned:  # also when it has left: it may come back
            log.warning("%s is banned: %s", peer.address, effect.reason)
            self._peers.ban(peer.address[0], peer.peer_id)
        connection = self.connections.get(peer)
        if connection is None:
            return
        if effect.redundant:
            self._peers.nothing_to_exchange(connection)
        connection.close(effect.reason)

    # -- what the writer tells

    def piece_checked(self, piece: int, right: bool, digests: list[bytes]) -> None:
        now = self._loop.time()
        if right:
            self.transfer.verified(piece, digests, now)
        else:
            log.warning("piece %d failed its hash", piece)
            self.transfer.rejected(piece, digests, now)
        self.settle()

    def piece_lost(self, piece: int) -> None:
        self.transfer.leeching.write_failed(piece)

    def writing_failed(self, error: StorageError) -> None:
        self._keeper.disk_failed(error)
        self.suspend()

    def writing_works(self) -> None:
        self._keeper.disk_failed(None)
        self.transfer.leeching.resume()
        self.tick()

    def suspend(self) -> None:
        """Ask for nothing more; what we have is served all the same."""
        self.transfer.leeching.suspend()
        self.settle()

    # -- the end

    async def close(self, reason: str) -> None:
        """Close every connection and wait for the pieces at the disk."""
        self._closed = True
        for connection in list(self.connections.values()):
            connection.close(reason)
        await self._readahead.close()
        await self._writer.close()


def settle_duplicate(
    connections: Mapping[Peer, Connection],
    own_id: bytes,
    connection: Connection,
    peer_id: bytes,
    now: float,
) -> None:
    """Two ends that dial each other at once keep the connection of the end with the greater id.

    Raises `NetworkError` when it is the new `connection` that has to go.
    """
    ours_wins = own_id > peer_id
    replaced: list[Connection] = []
    for peer, other in connections.items():
        if peer.peer_id != peer_id or other.closing:
            continue
        silent_for = now - peer.session.last_received_at
        if silent_for < PRESUMED_DEAD and (
            now - peer.connected_at >= SETTLED
            or connection.outgoing == other.outgoing
            or connection.outgoing != ours_wins
        ):
            raise NetworkError("connected to this peer already")
        replaced.append(other)
    for other in replaced:
        other.close("replaced by the other connection to the same peer")


def packed_host(host: str) -> bytes:
    """The raw bytes of an address; none of a name that was dialled."""
    try:
        return pack_host(host)
    except FormatError:
        return b""
