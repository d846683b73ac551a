"""Bytes and file ranges out, chunks in: one connection's socket, as its owner sees it.

Invariant: what is queued goes out in order and unaltered, or the stream closes; a file
that ends early never leaves a message half sent on an open connection.

`SocketStream` owns a non-blocking socket: it receives into one buffer that all streams
of a loop share; long file ranges go out by `sendfile`, short ones many in a call.
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

from p2pfs.buffers import page_aligned
from p2pfs.errors import NetworkError, StorageError
from p2pfs.net.gathering import FILE_ERRORS, GATHERED, SHORT, gather, short_read
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

_LEAST_GATHERED: Final = 4096

_MORE: Final = getattr(socket, "MSG_MORE", 0)
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


_buffers: dict[int, tuple[memoryview, memoryview]] = {}


def _shared_buffers(loop: asyncio.AbstractEventLoop) -> tuple[memoryview, memoryview]:
    """To receive into and to send from, for a loop: used up before the next stream's turn."""
    buffers = _buffers.get(id(loop))
    if buffers is None:
        _buffers.clear()  # a loop that ended leaves its buffers behind
        buffers = page_aligned(RECEIVE_BUFFER), page_aligned(GATHERED)
        _buffers[id(loop)] = buffers
    return buffers


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
        self._buffer, self._outgoing = _shared_buffers(self._loop)
        self._room = GATHERED
        """Bytes to gather: what the system does not take of them is read again."""
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
                budget -= self._send_first()
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
        """Send from the head of the queue: one long file range, or what is before the next.

        Returns how much of this stream's turn that was.
        """
        item = self._queue[0]
        if isinstance(item, FileRange) and item.length > SHORT:
            return self._send_range(item)
        return self._send_gathered()

    def _send_gathered(self) -> int:
        room = self._room
        size = gather(self._queue, self._outgoing[:room])
        probing = size == room < GATHERED
        more = size < self.queued and not probing
        try:
            sent = self._sock.send(self._outgoing[:size], _MORE if more else 0)
        except (BlockingIOError, InterruptedError):
            sent = 0
        self._took(sent)
        if sent < size:
            self._room = max(sent, room // 2, _LEAST_GATHERED)
            return WRITE_AT_ONCE
        if probing:
            self._room = min(2 * room, GATHERED)
            return WRITE_AT_ONCE
        return sent

    def _send_range(self, item: FileRange) -> int:
        try:
            sent = os.sendfile(self._fd, item.source.fileno(), item.offset, item.length)
            if sent == 0:
                raise short_read()
        except OSError as error:
            if error.errno in _NO_SENDFILE:
                return self._send_gathered()
            if error.errno not in FILE_ERRORS:
                raise
            item.source.failed()
            raise StorageError(f"a file cannot be read: {error.strerror}") from error
        except StorageError:
            item.source.failed()
            raise
        self._took(sent)
        return sent

    def _took(self, count: int) -> None:
        """The system took that many bytes of the queue."""
        queue = self._queue
        self.queued -= count
        while count:
            item = queue[0]
            length = len(item) if isinstance(item, bytes) else item.length
            if length > count:
                if isinstance(item, bytes):
                    queue[0] = item[count:]
                else:
                    item.offset += count
                    item.length -= count
                return
            queue.popleft()
            count -= length

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
