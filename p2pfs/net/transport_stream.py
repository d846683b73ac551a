"""A stream over an asyncio transport, where a loop cannot watch sockets, as on Windows.

Invariant: what is queued goes out in order and unaltered, or the stream closes; no more is
handed over than the owner allows, and nothing before it has its stream.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import cast

from p2pfs.errors import NetworkError, StorageError
from p2pfs.net.stream_queue import LOW_WATER, FileRange, StreamHandler, StreamQueue

__all__ = ["TransportStream"]


class TransportStream(StreamQueue, asyncio.Protocol):
    """A stream on an asyncio transport; file ranges are read on a worker thread."""

    def __init__(self, handler: StreamHandler) -> None:
        super().__init__()
        self._handler = handler
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._clear = asyncio.Event()
        self._clear.set()
        self._writer: asyncio.Task[None] | None = None
        self._held: deque[bytes] = deque()
        """What came in beyond the allowance."""
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # some loops have types of their own
        if self._closed:
            self._transport.abort()
            return
        self._transport.set_write_buffer_limits(high=LOW_WATER)
        self.pause()  # until the owner knows its stream

    def data_received(self, data: bytes) -> None:
        self._held.append(data)
        self._hand_over()

    def _hand_over(self) -> None:
        """Pass on what came in, in pieces no larger than the allowance."""
        while self._held and not self._paused and not self._closed:
            data = self._held.popleft()
            allowance = self._handler.receive_allowance()
            if allowance <= 0:
                self._held.appendleft(data)
                self.pause()
                return
            if allowance < len(data):
                self._held.appendleft(data[allowance:])
                data = data[:allowance]
            self._handler.data_received(memoryview(data))

    def pause(self) -> None:
        if not self._paused and self._transport is not None and not self._closed:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._paused and self._transport is not None and not self._closed:
            self._paused = False
            self._transport.resume_reading()
            self._hand_over()

    def pause_writing(self) -> None:
        self._clear.clear()

    def resume_writing(self) -> None:
        self._clear.set()

    def flush(self) -> None:
        if self._queue and self._writer is None and not self._closed:
            self._writer = self._loop.create_task(self._write_all())

    async def _write_all(self) -> None:
        try:
            while self._queue:
                await self._clear.wait()
                await self._write_first()
        except (OSError, StorageError) as error:
            self.close(error)
        finally:
            self._writer = None

    async def _write_first(self) -> None:
        item = self._queue[0]
        if isinstance(item, FileRange):
            try:
                data = await item.source.read_at(item.offset, item.length)
            except StorageError:
                item.source.failed()
                raise
        else:
            data = item
        self._queue.popleft()
        if self._transport is not None:
            self._transport.write(data)
        above = self.queued > LOW_WATER
        self.queued -= len(data)
        if above and self.queued <= LOW_WATER:
            self._handler.drained()

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish(exc)

    def close(self, error: Exception | None = None) -> None:
        if self._transport is not None:
            self._transport.abort()
        self._finish(error or NetworkError("closed"))

    def _finish(self, error: Exception | None) -> None:
        if self._closed:
            return
        self._closed = True
        if self._writer is not None:
            self._writer.cancel()
        self._queue.clear()
        self._held.clear()
        self.queued = 0
        self._loop.call_soon(self._handler.closed, error)
