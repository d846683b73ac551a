"""HTTP in general, for an ASGI application: connections in any state, bodies, keep-alive.

Invariant: everything that depends on the inside of aiohttp's server is in this module. It
says nothing to the log of the process, and gives away no version.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, cast
from urllib.parse import unquote

from aiohttp import ClientError
from aiohttp.web_exceptions import HTTPException
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response
from aiohttp.web_server import Server

from p2pfs.net.http_front import HEAD_SECONDS, MAX_HEAD

if TYPE_CHECKING:
    from p2pfs.net.asgi_server import App, Message, Scope

__all__ = ["GeneralServer"]

_IDLE_SECONDS = 20.0
"""Seconds from an answer to the next whole head; our own clients wait for less."""
_LINGERING = 10.0
"""Seconds in which a body that nobody wanted is still read, so that the answer is seen."""

_SILENT = logging.Logger("http")
_SILENT.disabled = True


class GeneralServer:
    """Answers with `app` whatever connections it is given.

    Where it accepts them itself, there are `limit` at a time.
    """

    def __init__(self, app: App, limit: int) -> None:
        self._app = app
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._server = Server(self._answer, loop=self._loop)
        self._joining: set[asyncio.Task[None]] = set()

    def protocol(self) -> asyncio.Protocol:
        """What speaks on a new connection."""
        if len(self._server.connections) >= self._limit:
            return _Refusal()
        return _Protocol(self._server, self._loop, b"", lambda: None)

    def take(self, sock: socket.socket, read: bytes, ended: Callable[[], None]) -> None:
        """Serve a connection on which `read` has arrived; `ended` is called at its end."""
        task = self._loop.create_task(self._join(sock, read, ended))
        self._joining.add(task)
        task.add_done_callback(self._joining.discard)

    async def _join(self, sock: socket.socket, read: bytes, ended: Callable[[], None]) -> None:
        protocol = _Protocol(self._server, self._loop, read, ended)
        try:
            await self._loop.connect_accepted_socket(lambda: protocol, sock)
        except OSError:  # it is gone already
            sock.close()
            protocol.ended()

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
        return exchange.response()


class _Refusal(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).abort()


class _Protocol(RequestHandler):
    """One connection; `read` is what arrived on it before. Its first head has a time limit."""

    def __init__(
        self,
        server: Server,
        loop: asyncio.AbstractEventLoop,
        read: bytes,
        ended: Callable[[], None],
    ) -> None:
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=_IDLE_SECONDS,
            logger=_SILENT,
            access_log=None,  # type: ignore[arg-type]
            max_line_size=MAX_HEAD,
            max_field_size=MAX_HEAD,
            lingering_time=_LINGERING,
            auto_decompress=False,
        )
        self._before = read
        self._tell: Callable[[], None] | None = ended
        self._limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        abort = cast("asyncio.Transport", transport).abort  # uvloop's is none by class
        self._limit = self._loop.call_later(HEAD_SECONDS, abort)
        if self._before:
            before, self._before = self._before, b""
            self.data_received(before)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self.began()
        self.ended()

    def began(self) -> None:
        """A request is here, and takes the time that the application gives it."""
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    def ended(self) -> None:
        """Tell it, once."""
        tell, self._tell = self._tell, None
        if tell is not None:
            tell()


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
        fields = [(b"server", b"p2pfs"), *self._start["headers"]]
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
