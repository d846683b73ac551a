"""What goes out to the peers of one torrent: messages, metadata, and blocks from the disk.

Invariant: no stream is given more than `SEND_AHEAD` bytes of answers before it has sent what
it has; under an upload limit blocks and metadata go out by `serve_one` alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, Protocol

from p2pfs.errors import StorageError
from p2pfs.geometry import BlockRequest
from p2pfs.net.limits import UpLimit
from p2pfs.net.piece_writer import PieceWriter
from p2pfs.net.readahead import ReadAhead
from p2pfs.net.stream_queue import FileSource
from p2pfs.storage.layout import FileSlice
from p2pfs.storage.pieces import PieceStore
from p2pfs.swarm.metadata_serving import MetadataServing
from p2pfs.swarm.peer import Peer
from p2pfs.swarm.serving import Serving

if TYPE_CHECKING:
    from p2pfs.net.connection import Connection

__all__ = ["MAX_UNREAD", "Contents", "Sender"]

log = logging.getLogger(__name__)

SEND_AHEAD: Final = 256 * 1024
"""Bytes queued on a stream above which no further block is answered."""

MAX_UNREAD: Final = 4 * SEND_AHEAD
"""Bytes queued on a stream that no peer who reads leaves lying."""


class Sender:
    """Sends over `connections` what `serving` and `metadata` decide."""

    def __init__(
        self,
        connections: Mapping[Peer, Connection],
        serving: Serving,
        metadata: MetadataServing,
        contents: Contents,
        readahead: ReadAhead,
        up_limit: UpLimit,
    ) -> None:
        self._connections = connections
        self._serving = serving
        self._metadata = metadata
        self._contents = contents
        self._readahead = readahead
        self._up_limit = up_limit
        self._loop = asyncio.get_running_loop()
        self._pushing = False
        self._metadata_ahead = 0  # bytes; bounded by what one turn takes

    def push_soon(self) -> None:
        """Send what there is, in a later step of the event loop."""
        if not self._pushing:
            self._pushing = True
            self._loop.call_soon(self._push)

    def _push(self) -> None:
        self._pushing = False
        limited = self._up_limit.limited
        for peer, connection in list(self._connections.items()):
            try:
                self._push_to(peer, connection, limited)
            except Exception:
                log.exception("a fault of ours while sending to %s", connection.address)
                connection.close("a fault of ours")
        if limited:
            self._up_limit.pump()

    def _push_to(self, peer: Peer, connection: Connection, limited: bool) -> None:
        while not limited and self._serve_metadata(peer, connection):
            pass
        served = not limited and bool(peer.uploads) and self._serve(peer, connection)
        if peer.session.has_data_to_send:
            self._send(peer, connection)
        if served and peer.uploads and connection.stream.queued < SEND_AHEAD:
            self.push_soon()  # the system took it all: go on after the others' turn

    def _serve_metadata(self, peer: Peer, connection: Connection) -> int:
        """Answer a request for a piece of metadata; its bytes, 0 when there is none to answer."""
        length = self._metadata.serve(peer) if connection.stream.queued < SEND_AHEAD else 0
        if length:
            self._send(peer, connection)
        return length

    def _serve(self, peer: Peer, connection: Connection) -> bool:
        """Answer as many requests as the stream has room for; whether there were any."""
        room = before = SEND_AHEAD - connection.stream.queued
        serving, ready = self._serving, self._readahead.ready
        while room > 0 and (length := serving.serve(peer, ready, room)):
            room -= length
        if room == before:
            return False
        peer.took_at = self._loop.time()
        return True

    def serve_one(self) -> int:
        """Answer the most useful request at hand; its bytes, 0 when there is none to answer.

        Metadata, without which a peer can ask for nothing, takes turns with blocks, as many
        bytes each while both are asked for: who wants much of it keeps nobody from those.
        """
        if self._metadata_ahead <= 0:
            if length := self._serve_one_of_metadata():
                self._metadata_ahead += length
                return length
            return self._serve_one_block()
        if length := self._serve_one_block():
            self._metadata_ahead -= length
            return length
        return self._serve_one_of_metadata()

    def _serve_one_of_metadata(self) -> int:
        for peer in self._metadata.waiting:
            if length := self._serve_metadata(peer, self._connections[peer]):
                return length
        return 0

    def _serve_one_block(self) -> int:
        ready = [
            peer
            for peer, connection in self._connections.items()
            if peer.uploads and connection.stream.queued < SEND_AHEAD
        ]
        served = self._serving.serve_best(ready, self._readahead.ready, self._loop.time())
        if served is None:
            return 0
        peer, length = served
        peer.took_at = self._loop.time()
        self._send(peer, self._connections[peer])
        return length

    def _send(self, peer: Peer, connection: Connection) -> None:
        stream = connection.stream
        opened: dict[int, FileSource] = {}
        try:
            for item in peer.session.data_to_send():
                if isinstance(item, BlockRequest):
                    for number, offset, length in self._contents.slices(item):
                        if number not in opened:
                            opened[number] = self._contents.open(number)
                        stream.send_file(opened[number], offset, length)
                else:
                    stream.write(item)
            stream.flush()
            peer.session.sent(self._loop.time())
            if stream.queued > MAX_UNREAD:
                connection.close("does not read what it is sent")
        except StorageError as error:
            connection.close(str(error))


class ContentOwner(Protocol):
    """Told what happens to the files."""

    def served(self, number: int) -> None:
        """Content file `number` is being sent from."""
        ...

    def reading_failed(self, number: int) -> None:
        """Content file `number` could not be read as promised."""
        ...


class Contents:
    """The content files of a torrent as streams want them."""

    def __init__(self, store: PieceStore, writer: PieceWriter, owner: ContentOwner) -> None:
        self._store = store
        self._writer = writer
        self._owner = owner
        self._opened: dict[int, _Content] = {}

    def slices(self, request: BlockRequest) -> list[FileSlice]:
        """Where the bytes of a block are: file number, offset and length of each part."""
        return self._store.slices(*request)

    def open(self, number: int) -> _Content:
        """File `number`, from which something is about to be sent."""
        self._owner.served(number)
        content = self._opened.get(number)
        if content is None:
            content = self._opened[number] = _Content(
                self._store, number, self._writer, self._owner.reading_failed
            )
        return content


class _Content:
    """One content file as a stream wants it."""

    __slots__ = ("_number", "_source", "_store", "_tell", "_writer")

    def __init__(
        self, store: PieceStore, number: int, writer: PieceWriter, tell: Callable[[int], None]
    ) -> None:
        self._tell = tell
        self._store = store
        self._number = number
        self._writer = writer
        self._source = store.source(number)

    def fileno(self) -> int:
        return self._source.fileno()

    async def read_at(self, offset: int, length: int) -> bytes:
        return await self._writer.on_disk(0, self._store.read_file, self._number, offset, length)

    def failed(self) -> None:
        self._tell(self._number)
