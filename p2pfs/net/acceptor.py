"""Takes the connections that come in at listening sockets, and says no to uTP at once.

Invariant: every connection that was taken is handed to the owner, and none is taken after
`close`. (A cancelled `sock_accept` of asyncio may lose a connection that it has taken.)
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from typing import Final

from p2pfs.formats import utp
from p2pfs.net.datagrams import DatagramServer
from p2pfs.net.listener import bind_beside

__all__ = ["Acceptor"]

log = logging.getLogger(__name__)

AT_ONCE: Final = 64
"""Connections taken before others have their turn."""

PAUSE: Final = 0.1
"""Seconds to wait when the system has no room for another socket."""

Welcome = Callable[[socket.socket, tuple[str, int]], None]


class Acceptor:
    """`welcome` gets each non-blocking socket and the address of its other end; what it
    raises is written to the log, and costs that connection."""

    def __init__(self, listeners: Sequence[socket.socket], welcome: Welcome) -> None:
        self._loop = asyncio.get_running_loop()
        self._welcome = welcome
        self._listeners = list(listeners)
        self._tasks: list[asyncio.Task[None]] = []
        self._pauses: dict[socket.socket, asyncio.TimerHandle] = {}
        for listener in self._listeners:
            self._watch(listener)
        self._datagrams = _refuse_utp(self._listeners)
        self._starting = self._loop.create_task(self._start_refusing())

    async def _start_refusing(self) -> None:
        try:
            await self._datagrams.start()
        except OSError as error:
            log.info("uTP is not refused: %s", error.strerror or error)
            await self._datagrams.close()

    def _watch(self, listener: socket.socket) -> None:
        self._pauses.pop(listener, None)
        try:
            self._loop.add_reader(listener, self._take, listener)
        except NotImplementedError:  # the Proactor loop of Windows
            self._tasks.append(self._loop.create_task(self._take_forever(listener)))

    def _take(self, listener: socket.socket) -> None:
        for _ in range(AT_ONCE):
            try:
                sock, address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                log.warning("accept: %s", error)
                self._loop.remove_reader(listener)
                self._pauses[listener] = self._loop.call_later(PAUSE, self._watch, listener)
                return
            self._hand_over(sock, address)

    async def _take_forever(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, address = await self._loop.sock_accept(listener)
            except OSError as error:
                log.warning("accept: %s", error)
                await asyncio.sleep(PAUSE)
                continue
            self._hand_over(sock, address)

    def _hand_over(self, sock: socket.socket, address: tuple[str, int]) -> None:
        sock.setblocking(False)
        try:
            self._welcome(sock, address[:2])
        except Exception:
            log.exception("a fault of ours with a connection from %s", address[0])
            sock.close()

    async def close(self) -> None:
        """Take no more, and close the listening sockets."""
        for pause in self._pauses.values():
            pause.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for listener in self._listeners:
            if not self._tasks:
                self._loop.remove_reader(listener)
            listener.close()
        self._listeners = []
        self._tasks = []
        await self._starting
        await self._datagrams.close()


def _refuse_utp(listeners: Sequence[socket.socket]) -> DatagramServer:
    """Tells peers that try uTP first to come by TCP: the answer that some never stop to wait for.

    Where another program has the UDP port there is nothing to be told.
    """
    sockets: list[socket.socket] = []
    try:
        sockets = bind_beside(listeners)
    except OSError as error:
        log.info("uTP is not refused: %s", error.strerror or error)
    return DatagramServer(lambda data, _source, _ours: utp.refusal(data), sockets)
