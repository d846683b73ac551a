"""An ASGI application on sockets of our own, in the running event loop.

Invariant: everything that depends on the inside of granian is in this module. Its
embedded server opens its sockets itself, which hides the port it got for port 0 and
allows two servers on one port; so it is handed sockets that are already listening.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from p2pfs.errors import ListenError

if TYPE_CHECKING:
    from granian.server.embed import Server

__all__ = ["AsgiServer", "Message", "Receive", "Scope", "Send"]

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_BACKLOG = 1024
_HEADER_TIMEOUT = 10_000
"""Milliseconds in which the head of a request has to arrive."""
_MAX_HEAD = 64 * 1024
_MAX_CONNECTIONS = 4096
_OTHER_FILES = 256
"""File descriptors left to everything else in the process."""
_PATIENCE = 1.0
"""Seconds that closing waits for requests under way."""

_HOLDER_ARGUMENTS: tuple[object, ...] = ()
"""What a socket holder takes beside the handle: whether it is a Unix socket, and its backlog."""
if sys.platform.startswith(("linux", "freebsd")):
    _HOLDER_ARGUMENTS = (False, _BACKLOG)
elif os.name == "posix":
    _HOLDER_ARGUMENTS = (False,)

_lingering: set[asyncio.Task[None]] = set()


class AsgiServer:
    """Serves `app` on `sockets`, which must be listening and belong to this server from now on."""

    def __init__(self, app: App, sockets: Sequence[socket.socket]) -> None:
        self._app = app
        self._sockets = list(sockets)
        self._servers: list[Server] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Requests are answered once this returns; raises `ListenError` when granian fails."""
        if any(sock.fileno() < 0 for sock in self._sockets):  # granian would abort the process
            raise ListenError("the HTTP server was given a closed socket")
        connections = _connection_limit(len(self._sockets))
        for sock in self._sockets:
            server = _granian(self._app, sock, connections)
            self._servers.append(server)
            self._tasks.append(asyncio.ensure_future(server.serve()))
        self._sockets.clear()
        await asyncio.sleep(0)  # granian takes the sockets in the first step of its tasks
        for task in self._tasks:
            if task.done():
                reason = task.exception()
                await self.close()
                raise ListenError(f"the HTTP server does not start: {reason}") from reason

    async def close(self) -> None:
        """Stops listening at once, and returns when requests under way are answered.

        A connection on which only half a request has arrived is not waited for: granian
        drops it when its time for the head of a request is over.
        """
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()
        for server in self._servers:
            server.stop()  # type: ignore[no-untyped-call]
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=_PATIENCE)
            for task in late:
                _lingering.add(task)
                task.add_done_callback(_lingering.discard)
        self._servers.clear()
        self._tasks.clear()


def _connection_limit(servers: int) -> int:
    """Connections for each server, so that file descriptors do not run out.

    Without any left, granian's accept loop runs hot. It raises the soft limit itself.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return _MAX_CONNECTIONS
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if files == resource.RLIM_INFINITY:
        return _MAX_CONNECTIONS
    return max(64, min(_MAX_CONNECTIONS, (files - _OTHER_FILES) // servers))


def _granian(app: App, sock: socket.socket, connections: int) -> Server:
    from granian.constants import HTTPModes, Interfaces
    from granian.http import HTTP1Settings
    from granian.log import LogLevels
    from granian.net import SocketHolder  # type: ignore[attr-defined]
    from granian.server.embed import Server

    holder: Any = SocketHolder

    class OnSocket(Server):
        def _init_shared_socket(self) -> None:
            self._ssp = None
            self._shd = holder(sock.detach(), *_HOLDER_ARGUMENTS)

    return OnSocket(
        app,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        websockets=False,
        backlog=_BACKLOG,
        backpressure=connections,
        http1_settings=HTTP1Settings(
            header_read_timeout=_HEADER_TIMEOUT, max_buffer_size=_MAX_HEAD
        ),
        log_level=LogLevels.critical,
        # Any other logging configuration would close the handlers of the whole process.
        log_dictconfig={"incremental": True, "handlers": {}, "loggers": {}},
        log_enabled=False,
    )
