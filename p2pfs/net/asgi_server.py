"""An HTTP server in the running event loop, on sockets of ours: an ASGI application, and
the quick answers in front of it.

Invariant: the sockets are those that it is given, so that the port is known before, and
the log of the process is left alone. It ends at once: what is idle is closed, and requests
under way are waited for, but not long.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

from p2pfs.errors import ListenError

if TYPE_CHECKING:
    from p2pfs.net.http_front import HttpFront, Quick
    from p2pfs.net.http_general import GeneralServer

__all__ = ["App", "AsgiServer", "Message", "Receive", "Scope", "Send"]

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_MAX_CONNECTIONS = 2048
"""In the front, and as many behind it: neither can take the room of the other."""
_OTHER_FILES = 256
"""File descriptors left to everything else in the process."""
_PATIENCE = 1.0
"""Seconds that closing waits for requests under way."""


class AsgiServer:
    """Serves `app` on `sockets`, which must be listening and belong to this server from now on.

    Plain GETs for the paths in `quick` are answered without the application, on most
    connections: the application has to give the same answers to them.
    """

    def __init__(
        self,
        app: App,
        sockets: Sequence[socket.socket],
        quick: Mapping[bytes, Quick] | None = None,
    ) -> None:
        self._app = app
        self._sockets = list(sockets)
        self._quick = quick or {}
        self._general: GeneralServer | None = None
        self._front: HttpFront | None = None
        self._servers: list[asyncio.Server] = []
        self._loading: asyncio.Future[object] | None = None

    async def start(self) -> None:
        """Requests are answered once this returns; raises `ListenError` for a closed socket."""
        from p2pfs.net.http_front import HttpFront

        if any(sock.fileno() < 0 for sock in self._sockets):
            raise ListenError("the HTTP server was given a closed socket")
        loop = asyncio.get_running_loop()
        front = HttpFront(self._sockets, self._quick, self._take, _connection_limit())
        try:
            front.start()
            self._front = front
            # It takes a third of a second, in which no announce would be answered.
            self._loading = loop.run_in_executor(None, import_module, "p2pfs.net.http_general")
        except NotImplementedError:  # Windows
            protocol = self._behind().protocol
            for sock in self._sockets:
                self._servers.append(await loop.create_server(protocol, sock=sock))
        self._sockets.clear()

    def _behind(self) -> GeneralServer:
        """The server behind the front, made when it is needed."""
        if self._general is None:
            from p2pfs.net.http_general import GeneralServer

            self._general = GeneralServer(self._app, _connection_limit())
        return self._general

    def _take(self, sock: socket.socket, read: bytes) -> None:
        self._behind().take(sock, read)

    async def close(self) -> None:
        """Stops listening at once, and returns when requests under way are answered."""
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()
        if self._front is not None:
            self._front.close()
        for server in self._servers:
            server.close()
        if self._general is not None:
            await self._general.close(_PATIENCE)
        if self._loading is not None:
            await asyncio.wait([self._loading])
        self._general = self._front = self._loading = None
        self._servers.clear()


def _connection_limit() -> int:
    """Connections held in each part at a time, so that file descriptors do not run out.

    The soft limit on those is raised for them, as far as the hard one goes.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return _MAX_CONNECTIONS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * _MAX_CONNECTIONS + _OTHER_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(64, (wanted - _OTHER_FILES) // 2)
