"""HTTP in general, for an ASGI application: connections in any state, bodies, keep-alive.

Invariant: everything that depends on the inside of aiohttp's server is in this module. It
says nothing to the log of the process, and gives away no version. Connections are bounded in
number, and in time while nothing is done for them; those that wait give way to new ones.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING, cast
from urllib.parse import unquote

from aiohttp import ClientError
from aiohttp.web_exceptions import HTTPException
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response, StreamResponse
from aiohttp.web_server import Server

from p2pfs.net.http_front import HEAD_SECONDS, MAX_HEAD

if TYPE_CHECKING:
    from p2pfs.net.asgi_server import App, Message, Scope

__all__ = ["GeneralServer"]

_IDLE_SECONDS = 20.0
"""Seconds from an answer to the next whole head; our own clients wait for less."""
_LINGERING = 10.0
"""Seconds in which a body that nobody wanted is still read, so that the answer is seen."""

_STALLED_SECONDS = 120.0
"""Seconds from an answer to the next request, however slowly that answer is taken in."""
_SERVER = b"p2pfs"
_FULL = b'{"error": "too many requests are under way, try again later"}'
_NO_ROOM = b"\r\n".join(
    [
        b"HTTP/1.1 503 Service Unavailable",
        b"server: " + _SERVER,
        b"content-type: application/json",
        b"retry-after: 10",
        b"content-length: %d" % len(_FULL),
        b"connection: close",
        b"",
        _FULL,
    ]
)

_SILENT = logging.Logger("http")
_SILENT.disabled = True


class GeneralServer:
    """Answers with `app` whatever connections it is given, `limit` at a time."""

    def __init__(self, app: App, limit: int) -> None:
        self._app = app
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._server = Server(self._answer, loop=self._loop)
        self._joining: set[asyncio.Task[None]] = set()
        self._resting: dict[_Protocol, None] = {}
        """Those for which nothing is done; who has waited longest comes first."""

    def protocol(self) -> asyncio.Protocol:
        """What speaks on a new connection."""
        if not self._has_room():
            return _Refusal()
        return _Protocol(self._server, self._loop, self._resting, b"")

    def take(self, sock: socket.socket, read: bytes) -> None:
        """Serve a connection on which `read` has arrived."""
        protocol = (
            _Protocol(self._server, self._loop, self._resting, read)
            if self._has_room()
            else _Refusal()
        )
        task = self._loop.create_task(self._join(sock, protocol))
        self._joining.add(task)
        task.add_done_callback(self._joining.discard)

    def _has_room(self) -> bool:
        """Whether there may be one more connection; the one that waits longest makes way."""
        if len(self._server.connections) + len(self._joining) < self._limit:
            return True
        if not self._resting:
            return False
        next(iter(self._resting)).drop()
        return True

    async def _join(self, sock: socket.socket, protocol: asyncio.Protocol) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: protocol, sock)
        except OSError:  # it is gone already
            sock.close()

    async def close(self, patience: float) -> None:
        """Return when requests under way are answered, after `patience` seconds at most."""
        if self._joining:
            await asyncio.wait(self._joining)
        self._server.pre_shutdown()
        await self._server.shutdown(patience)

    async def _answer(self, request: BaseRequest) -> Response:
        protocol = request.protocol
        assert isinstance(protocol, _Protocol)
        protocol.began()
        exchange = _Exchange(request)
        await self._app(_scope(request), exchange.receive, exchange.send)
        response = exchange.response()
        if protocol.answered():
            response.force_close()
        return response


class _Refusal(asyncio.Protocol):
    """One connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).write(_NO_ROOM)
        transport.close()


class _Protocol(RequestHandler):
    """One connection; `read` is what arrived on it before.

    It enters itself in `resting` while nothing is done for it, and has a time limit then.
    """

    def __init__(
        self,
        server: Server,
        loop: asyncio.AbstractEventLoop,
        resting: dict[_Protocol, None],
        read: bytes,
    ) -> None:
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=_IDLE_SECONDS,
            logger=_SILENT,
            access_log=None,  # type: ignore[arg-type]
            max_line_size=MAX_HEAD,
            lingering_time=_LINGERING,
            auto_decompress=False,
        )
        self._before = read
        self._resting = resting
        self._limit: asyncio.TimerHandle | None = None
        self._half_closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._abort = cast("asyncio.Transport", transport).abort  # uvloop's is none by class
        self._rest(HEAD_SECONDS)
        if self._before:
            before, self._before = self._before, b""
            self.data_received(before)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self.began()

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio takes it
        """A client that has said all may still wait for its answer."""
        self._half_closed = True
        request = self._current_request
        return bool(self._messages) or (request is not None and request.content.is_eof())

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> StreamResponse:
        """The answer to what is no HTTP, or when the application fails."""
        answer = super().handle_error(request, status, exc, message)
        answer.headers["Server"] = _SERVER.decode()
        self.answered()
        return answer

    def began(self) -> None:
        """A request is here, and takes the time that the application gives it."""
        self._resting.pop(self, None)
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    def answered(self) -> bool:
        """The answer is about to be sent; whether it has to be the last one."""
        self._rest(_STALLED_SECONDS)
        return self._half_closed and not self._messages

    def drop(self) -> None:
        """End the connection at once."""
        self.began()
        self._abort()

    def _rest(self, seconds: float) -> None:
        self.began()
        if self.connected:
            self._resting[self] = None
            self._limit = self._loop.call_later(seconds, self._abort)


class _Exchange:
    """One request's side of ASGI; its answer is collected, and sent as a whole."""

    def __init__(self, request: BaseRequest) -> None:
        self._request = request
        self._expected = request.headers.get("Expect", "").lower() == "100-continue"
        self._start: Message | None = None
        self._body: list[bytes] = []

    async def receive(self) -> Message:
        content, transport = self._request.content, self._request.transport
        if self._expected and transport is not None:
            self._expected = False
            transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            part = await content.readany()
        except (OSError, ClientError, HTTPException):
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": part, "more_body": not content.at_eof()}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
        else:
            self._body.append(message.get("body", b""))

    def response(self) -> Response:
        if self._start is None:
            raise RuntimeError("the application did not answer")
        fields = [(b"server", _SERVER), *self._start["headers"]]
        return Response(
            status=self._start["status"],
            headers=[(name.decode("latin-1"), value.decode("latin-1")) for name, value in fields],
            body=b"".join(self._body),
        )


def _scope(request: BaseRequest) -> Scope:
    target = request.raw_path  # as it was sent, unless it names a host
    if target.startswith("/"):
        raw_path, _, query = target.partition("#")[0].partition("?")
    else:
        raw_path, query = request.rel_url.raw_path, request.rel_url.raw_query_string
    peer = request.transport.get_extra_info("peername") if request.transport else None
    return {
        "type": "http",
        "http_version": f"{request.version.major}.{request.version.minor}",
        "method": request.method,
        "scheme": "http",
        "path": unquote(raw_path),
        "raw_path": raw_path.encode("utf-8", "surrogateescape"),
        "query_string": query.encode("utf-8", "surrogateescape"),
        "headers": [(name.lower(), value) for name, value in request.raw_headers],
        "client": tuple(peer[:2]) if peer else ("", 0),
    }
