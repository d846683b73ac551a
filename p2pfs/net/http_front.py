"""The front of an HTTP server: short questions are answered as their connections come in.

Invariant: a plain GET for one of the quick paths is answered in the step of the event loop
in which it arrives whole, from the raw socket, with nothing made for the connection; any
other request is handed on with every byte that was read. Connections that say nothing, or
not all, are bounded in number, time and bytes, and they give way to those who do.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from p2pfs.formats.http_head import head_ends, parse_plain_get
from p2pfs.net.http_reply import plain_reply

__all__ = ["HEAD_SECONDS", "MAX_HEAD", "HandOn", "HttpFront", "Quick"]

Quick: TypeAlias = Callable[[bytes, str, bytes], bytes]
"""Called with the raw query of a GET, the IP address that it came from and its `Host` header.
Returns the body of the answer at once."""
HandOn: TypeAlias = Callable[[socket.socket, bytes], None]
"""Takes over a connection and what was read from it."""

HEAD_SECONDS: Final = 10.0
"""Seconds in which the head of a request has to arrive, from the connection or the answer
before."""
MAX_HEAD: Final = 64 * 1024
_MAX_HELD: Final = 8 * 1024 * 1024
"""Bytes of heads that are not whole, all together, beyond which none may be longer than `_READ`."""
_READ: Final = 16 * 1024
_AT_ONCE: Final = 64
"""Connections answered in one step of the event loop, so that everything else has its turn."""
_PAUSE: Final = 0.1
"""Seconds without accepting when the system has no room for more connections."""
_NO_ROOM: Final = frozenset([errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
_DONT_WAIT: Final[int] = getattr(socket, "MSG_DONTWAIT", 0)
_LAST: Final[int] = _DONT_WAIT | getattr(socket, "MSG_MORE", 0)
"""The end of the connection goes into the packet of the answer."""
_TOO_LARGE: Final = b"\r\n".join(
    [
        b"HTTP/1.1 431 Request Header Fields Too Large",
        b"content-length: 0",
        b"connection: close",
        b"",
        b"",
    ]
)

Connection: TypeAlias = socket.SocketType
"""The socket as the system gives it: an object of `socket.socket` costs more than an answer."""


class _Waiting:
    """A connection whose next head is not here yet."""

    __slots__ = ("connection", "read", "since", "source")

    def __init__(self, connection: Connection, source: str, since: float, read: bytes) -> None:
        self.connection = connection
        self.source = source
        self.since = since
        self.read = bytearray(read)


class HttpFront:
    """Accepts on `sockets`: listening, non-blocking, and this front's from now on.

    `quick` are the paths answered here; all other connections go to `hand_on`, which bounds
    their number. `limit` connections at most are held here, beside those answered as they come.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        quick: Mapping[bytes, Quick],
        hand_on: HandOn,
        limit: int,
    ) -> None:
        self._sockets = list(sockets)
        self._quick = quick
        self._hand_on = hand_on
        self._limit = limit
        self._waiting: dict[int, _Waiting] = {}
        """By file descriptor; who has waited longest comes first."""
        self._held = 0
        """Bytes read from those who wait."""
        self._accepting = False
        self._sweeper: asyncio.TimerHandle | None = None
        self._resumer: asyncio.TimerHandle | None = None
        self._sending: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Connections are accepted from now on.

        Raises `NotImplementedError`, and nothing has happened, where the event loop cannot
        watch sockets.
        """
        if not _DONT_WAIT:
            raise NotImplementedError
        self._loop = asyncio.get_running_loop()
        for sock in self._sockets:
            if hasattr(socket, "TCP_DEFER_ACCEPT"):  # a connection comes with its request
                with contextlib.suppress(OSError):
                    sock.setsockopt(
                        socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, int(HEAD_SECONDS) // 2
                    )
        self._resume()

    def close(self) -> None:
        """Stop listening, and close every connection that was not handed on."""
        self._pause()
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()
        for timer in (self._sweeper, self._resumer):
            if timer is not None:
                timer.cancel()
        while self._waiting:
            self._drop_oldest()
        for task in self._sending:
            task.cancel()

    # -- accepting

    def _resume(self) -> None:
        self._resumer = None
        if not self._accepting:
            for sock in self._sockets:
                self._loop.add_reader(sock.fileno(), self._reader(sock))
            self._accepting = True

    def _pause(self) -> None:
        if self._accepting:
            for sock in self._sockets:
                self._loop.remove_reader(sock.fileno())
            self._accepting = False

    def _reader(self, sock: socket.socket) -> Callable[[], None]:
        """What answers the connections that have come."""
        accept, family, kind = _accept_of(sock), int(sock.family), int(socket.SOCK_STREAM)
        new, advance = socket.SocketType, self._advance

        def answer_them() -> None:
            for _ in range(_AT_ONCE):
                try:
                    number, address = accept()
                except BlockingIOError:
                    return
                except OSError as error:
                    if error.errno in _NO_ROOM:
                        self._without_room()
                        return
                    continue  # it is gone already
                connection = new(family, kind, 0, number)
                try:
                    data = connection.recv(_READ, _DONT_WAIT)
                except BlockingIOError:
                    self._wait(connection, address[0], b"")
                except OSError:
                    connection.close()
                else:
                    if data:
                        advance(connection, address[0], data)
                    else:
                        connection.close()
                if not self._accepting:
                    return

        return answer_them

    def _without_room(self) -> None:
        if self._waiting:
            self._drop_oldest()
        self._pause()
        if self._resumer is None:
            self._resumer = self._loop.call_later(_PAUSE, self._resume)

    # -- answering

    def _advance(self, connection: Connection, source: str, data: bytes) -> None:
        """Go as far as possible with a connection on which `data` is all that was read."""
        request = parse_plain_get(data)
        answer = None if request is None else self._quick.get(request.path)
        if request is None or answer is None:
            if _is_for_others(data, 0):
                self._hand_on(_whole(connection), data)
            else:
                self._wait(connection, source, data)
            return
        try:
            body = answer(request.query, source, request.host)
        except Exception:  # that is for the general server to tell
            self._hand_on(_whole(connection), data)
            return
        reply = plain_reply(body, request.keep)
        try:
            sent = connection.send(reply, _DONT_WAIT if request.keep else _LAST)
        except BlockingIOError:
            sent = 0
        except OSError:
            connection.close()
            return
        if sent < len(reply):
            self._send_rest(connection, reply[sent:])
        elif request.keep:
            self._wait(connection, source, b"")
        else:
            connection.close()

    def _send_rest(self, connection: Connection, rest: bytes) -> None:
        """For a client that does not take in its answer: the rest, and then the end."""
        if len(self._sending) >= self._limit:
            connection.close()
            return
        task = self._loop.create_task(_send_all(_whole(connection), rest))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)
        self._make_room()

    # -- connections that say nothing yet

    def _wait(self, connection: Connection, source: str, read: bytes) -> None:
        number = connection.fileno()
        self._waiting[number] = _Waiting(connection, source, self._loop.time(), read)
        self._held += len(read)
        self._loop.add_reader(number, self._read_more, number)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(HEAD_SECONDS, self._sweep)
        self._make_room()

    def _forget(self, number: int) -> _Waiting:
        self._loop.remove_reader(number)
        waiting = self._waiting.pop(number)
        self._held -= len(waiting.read)
        return waiting

    def _read_more(self, number: int) -> None:
        waiting = self._waiting[number]
        try:
            data = waiting.connection.recv(_READ, _DONT_WAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        before = len(waiting.read)
        waiting.read += data
        self._held += len(data)
        if not data:
            self._forget(number).connection.close()
        elif _is_for_others(waiting.read, before):
            self._forget(number)
            self._advance(waiting.connection, waiting.source, bytes(waiting.read))
        elif len(waiting.read) > (MAX_HEAD if self._held <= _MAX_HELD else _READ):
            with contextlib.suppress(OSError):
                waiting.connection.send(_TOO_LARGE, _LAST)
            self._forget(number).connection.close()

    def _make_room(self) -> None:
        if self._waiting and len(self._waiting) + len(self._sending) > self._limit:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        self._forget(next(iter(self._waiting))).connection.close()

    def _sweep(self) -> None:
        self._sweeper = None
        for oldest in list(self._waiting.values()):
            left = oldest.since + HEAD_SECONDS - self._loop.time()
            if left > 0:
                self._sweeper = self._loop.call_later(left, self._sweep)
                return
            self._drop_oldest()


def _is_for_others(data: bytes | bytearray, before: int) -> bool:
    """Whether nothing more has to be waited for; `before` bytes were looked at earlier.

    Either the head is whole, or it will never be one.
    """
    return head_ends(data[max(before - 3, 0) :]) or not data[:1].isalpha()


def _accept_of(sock: socket.socket) -> Callable[[], tuple[int, Any]]:
    """What accepts a connection, and gives its file descriptor and where it came from."""
    if hasattr(sock, "_accept"):
        bare: Callable[[], tuple[int, Any]] = sock._accept
        return bare

    def accept() -> tuple[int, Any]:
        connection, address = sock.accept()
        return connection.detach(), address

    return accept


def _whole(connection: Connection) -> socket.socket:
    sock = socket.socket(fileno=connection.detach())
    sock.setblocking(False)
    return sock


async def _send_all(sock: socket.socket, data: bytes) -> None:
    with sock, contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(HEAD_SECONDS):
            await asyncio.get_running_loop().sock_sendall(sock, data)
