"""A server that answers whatever bytes a test wants, and a client that sends them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

Answer = bytes | Callable[[bytes, asyncio.StreamWriter], object]


@contextlib.asynccontextmanager
async def raw_server(*answers: Answer, host: str = "127.0.0.1") -> AsyncIterator[RawServer]:
    """Serves `answers` to one connection after the other, the last one for ever.

    An answer is bytes, or a function that is called (and awaited if need be) with the
    head of the request and the writer.
    """
    server = RawServer(list(answers))
    await server.start(host)
    try:
        yield server
    finally:
        await server.close()


class RawServer:
    """`requests` holds the head of every request, in order."""

    def __init__(self, answers: list[Answer]) -> None:
        self.requests: list[bytes] = []
        self.port = 0
        self._answers = answers
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self, host: str) -> None:
        self._server = await asyncio.start_server(self._serve, host, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.requests.append(head)
            answer = self._answers[min(len(self.requests), len(self._answers)) - 1]
            if isinstance(answer, bytes):
                writer.write(answer)
            else:
                result = answer(head, writer)
                if asyncio.iscoroutine(result):
                    await result
            await writer.drain()
        writer.close()
        self._writers.discard(writer)


def reply(
    body: bytes, *, status: str = "200 OK", headers: str = "", length: int | None = None
) -> bytes:
    """A whole HTTP answer."""
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body) if length is None else length}\r\n"
    return f"{head}{headers}Connection: close\r\n\r\n".encode() + body


async def exchange(port: int, request: bytes, host: str = "127.0.0.1") -> tuple[int, bytes, bytes]:
    """Send bytes, read until the end; status, head and body of the answer."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(request)
        answer = await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]), head, body


async def ask(
    port: int,
    target: str,
    *,
    method: str = "GET",
    body: bytes = b"",
    headers: str = "",
    host: str = "127.0.0.1",
) -> tuple[int, bytes, bytes]:
    """One well-formed request; status, head and body of the answer."""
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    name = "" if "Host:" in headers else "Host: tracker\r\n"
    head = f"{method} {target} HTTP/1.1\r\n{name}Connection: close\r\n{length}{headers}\r\n"
    return await exchange(port, head.encode() + body, host)
