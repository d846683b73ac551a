"""Bytes and file ranges out, chunks in: one connection's socket, as its owner sees it.

Invariant: what is queued goes out in order and unaltered, or the stream closes; a file
that ends early never leaves a message half sent on an open connection.

`SocketStream` owns a non-blocking socket: it receives into one buffer that all streams
of a loop share, and file ranges go out by `sendfile` without passing through Python.
`TransportStream` does the same over an asyncio transport, where a loop cannot watch
sockets (Windows) or the bytes have to be changed on the way.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from typing import Final, Protocol

from p2pfs.errors import NetworkError, StorageError
from p2pfs.net.stream_queue import LOW_WATER, FileRange, FileSource, StreamHandler, StreamQueue
from p2pfs.net.transport_stream import TransportStream

__all__ = [
    "FileSource",
    "SocketStream",
    "Stream",
    "StreamHandler",
    "TransportStream",
    "open_stream",
]

RECEIVE_BUFFER: Final = 1024 * 1024
WRITE_AT_ONCE: Final = 1024 * 1024
"""Bytes after which one stream lets the others have their turn."""

_MORE: Final = getattr(socket, "MSG_MORE", 0)
_FILE_ERRORS: Final = frozenset((errno.EIO, errno.ESTALE))
"""What reading a file may fail with, and a socket does not."""

_NO_SENDFILE: Final = frozenset((errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP))
"""How file systems without `sendfile` say so."""

HAS_SENDFILE: Final = hasattr(os, "sendfile") and hasattr(socket, "AF_UNIX")


class Stream(Protocol):
    """What is written once it is closed is dropped."""

    @property
    def queued(self) -> int:
        """Bytes written and not yet taken by the system."""
        ...

    def write(self, data: bytes) -> None:
        """Queue `data`; it goes out with the next `flush` at the latest."""
        ...

    def send_file(self, source: FileSource, offset: int, length: int) -> None:
        """Queue a range of a file; a file that ends before it does closes the stream."""
        ...

    def flush(self) -> None:
        """Send as much as the system takes; the rest follows by itself."""
        ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def close(self, error: Exception | None = None) -> None:
        """Close at once; what is queued is dropped. `closed` is called unless it was before."""
        ...


_buffers: dict[int, memoryview] = {}


def _shared_buffer(loop: asyncio.AbstractEventLoop) -> memoryview:
    """One receive buffer for a loop: a chunk is used up before the next is received."""
    buffer = _buffers.get(id(loop))
    if buffer is None:
        _buffers.clear()  # a loop that ended leaves its buffer behind
        buffer = _buffers[id(loop)] = memoryview(bytearray(RECEIVE_BUFFER))
    return buffer


class SocketStream(StreamQueue):
    """A stream on a connected, non-blocking socket, driven by the loop's readiness calls.

    For systems with `sendfile`.
    """

    def __init__(self, sock: socket.socket, handler: StreamHandler) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._fd = sock.fileno()
        self._handler = handler
        self._buffer = _shared_buffer(self._loop)
        self._waiting = False
        self._reading = False
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.resume()

    def resume(self) -> None:
        if not self._reading and not self._closed:
            self._reading = True
            self._loop.add_reader(self._fd, self._readable)

    def pause(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._fd)

    def _readable(self) -> None:
        allowance = self._handler.receive_allowance()
        if allowance <= 0:
            self.pause()
            return
        buffer = self._buffer
        try:
            count = self._sock.recv_into(buffer, min(allowance, RECEIVE_BUFFER))
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.close(error)
            return
        if count == 0:
            self._finish(None)
            return
        self._handler.data_received(buffer[:count])

    def flush(self) -> None:
        if not self._waiting and self._queue and not self._closed:
            self._write_some()

    def _writable(self) -> None:
        above = self.queued > LOW_WATER
        self._write_some()
        if above and self.queued <= LOW_WATER and not self._closed:
            self._handler.drained()

    def _write_some(self) -> None:
        queue = self._queue
        budget = WRITE_AT_ONCE
        try:
            while queue and budget > 0:
                sent = self._send_first()
                self.queued -= sent
                budget -= sent
        except (BlockingIOError, InterruptedError):
            pass
        except (OSError, StorageError) as error:
            self.close(error)
            return
        if bool(queue) != self._waiting:
            self._waiting = bool(queue)
            if queue:
                self._loop.add_writer(self._fd, self._writable)
            else:
                self._loop.remove_writer(self._fd)

    def _send_first(self) -> int:
        """Send from the head of the queue: a run of bytes, or of one file range."""
        queue = self._queue
        item = queue[0]
        if isinstance(item, FileRange):
            try:
                sent = self._send_range(item)
            except StorageError:
                item.source.failed()
                raise
            item.offset += sent
            item.length -= sent
            if item.length == 0:
                queue.popleft()
            return sent
        data = queue.popleft()
        assert isinstance(data, bytes)
        if queue and not isinstance(queue[0], FileRange):
            parts = [data]
            while queue and isinstance(queue[0], bytes):
                parts.append(queue.popleft())  # type: ignore[arg-type]
            data = b"".join(parts)
        try:
            sent = self._sock.send(data, _MORE if queue else 0)
        except (BlockingIOError, InterruptedError):
            queue.appendleft(data)
            raise
        if sent < len(data):
            queue.appendleft(data[sent:])
        return sent

    def _send_range(self, item: FileRange) -> int:
        file = item.source.fileno()
        try:
            sent = os.sendfile(self._fd, file, item.offset, item.length)
        except OSError as error:
            if error.errno in _FILE_ERRORS:
                raise StorageError(f"a file cannot be read: {error.strerror}") from error
            if error.errno not in _NO_SENDFILE:
                raise
            sent = self._copy(file, item)
        if sent == 0:
            raise StorageError("a file ended before the block that was promised from it")
        return sent

    def _copy(self, file: int, item: FileRange) -> int:
        """Some of a range of a file that `sendfile` does not take."""
        try:
            data = os.pread(file, min(item.length, LOW_WATER), item.offset)
        except OSError as error:
            raise StorageError(f"a file cannot be read: {error.strerror}") from error
        return self._sock.send(data) if data else 0

    def close(self, error: Exception | None = None) -> None:
        self._finish(error or NetworkError("closed"))

    def _finish(self, error: Exception | None) -> None:
        if self._closed:
            return
        self._closed = True
        self.pause()
        if self._waiting:
            self._loop.remove_writer(self._fd)
        self._queue.clear()
        self.queued = 0
        self._sock.close()
        self._loop.call_soon(self._handler.closed, error)


async def open_stream(
    sock: socket.socket, handler: StreamHandler, *, use_transport: bool | None = None
) -> Stream:
    """A stream on `sock` (connected, non-blocking): the loop's best kind unless told otherwise."""
    loop = asyncio.get_running_loop()
    if use_transport is None:
        use_transport = not HAS_SENDFILE or not hasattr(loop, "add_reader")
    if not use_transport:
        return SocketStream(sock, handler)
    _, stream = await loop.create_connection(lambda: TransportStream(handler), sock=sock)
    loop.call_soon(stream.resume)
    return stream
