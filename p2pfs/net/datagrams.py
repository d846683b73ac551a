"""A UDP server: datagrams in, at most one datagram out for each.

Invariant: nothing waits and nothing is queued: a reply that the system does not take at
once is lost, as it may be on the network. A reply leaves from the very address that was
asked, also on a machine that has several; whoever asked would take it from no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from p2pfs.net.listener import is_any_address

__all__ = ["Answer", "DatagramServer"]

Answer: TypeAlias = Callable[[bytes, str, bytes], bytes]
"""Called with a datagram, the IP address that it came from, and the one that it was sent to
(4 or 16 raw bytes; none when that cannot be told). Returns the reply, or nothing."""

_MAX_DATAGRAM: Final = 2048
"""Bytes that are looked at: more than one packet of any common network has."""
_AT_ONCE: Final = 64
"""Datagrams answered in one step of the event loop, so that everything else has its turn."""
_RECEIVE_BUFFER: Final = 1024 * 1024


class DatagramServer:
    """Answers datagrams on `sockets`: bound, non-blocking, and this server's from now on."""

    def __init__(self, answer: Answer, sockets: Sequence[socket.socket]) -> None:
        self._answer = answer
        self._sockets = list(sockets)
        self._watched: list[socket.socket] = []
        self._transports: list[asyncio.DatagramTransport] = []

    async def start(self) -> None:
        """Datagrams are answered once this returns. Raises `OSError`; `close` it then, too."""
        loop = asyncio.get_running_loop()
        while self._sockets:
            sock = self._sockets.pop()
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            try:
                loop.add_reader(sock, _reader(sock, self._answer))
                self._watched.append(sock)
            except NotImplementedError:  # Windows
                transport, _ = await loop.create_datagram_endpoint(
                    lambda: _Protocol(self._answer), sock=sock
                )
                self._transports.append(transport)
            except OSError:
                sock.close()
                raise

    async def close(self) -> None:
        """Stop listening."""
        loop = asyncio.get_running_loop()
        for sock in self._watched:
            loop.remove_reader(sock)
        for one in (*self._watched, *self._sockets):
            one.close()
        for transport in self._transports:
            transport.close()
        self._watched.clear()
        self._sockets.clear()
        self._transports.clear()


class _Note(NamedTuple):
    """How a system says which address a datagram was sent to, and is told where to send from."""

    level: int
    option: int
    kind: int
    place: slice
    """Where in the note the address stands."""
    before: bytes
    after: bytes


def _note_of(sock: socket.socket) -> _Note | None:
    """How it is done for this socket; None where it cannot be, or nothing has to be told."""
    if not is_any_address(str(sock.getsockname()[0])) or not hasattr(sock, "recvmsg"):
        return None
    if sock.family == socket.AF_INET6 and hasattr(socket, "IPV6_RECVPKTINFO"):
        kind = socket.IPV6_PKTINFO
        return _Note(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, kind, slice(16), b"", bytes(4))
    if sock.family == socket.AF_INET and sys.platform == "linux":
        ip_pktinfo = 8  # Python has a name for it only since 3.14
        return _Note(socket.IPPROTO_IP, ip_pktinfo, ip_pktinfo, slice(4, 8), bytes(4), bytes(4))
    return None


def _reader(sock: socket.socket, answer: Answer) -> Callable[[], None]:
    """What answers the datagrams that have arrived."""
    note = _note_of(sock)
    if note is None:
        return _plain_reader(sock, answer)
    level, option, kind, place, before, after = note
    sock.setsockopt(level, option, 1)
    receive, send = sock.recvmsg, sock.sendmsg

    def answer_them() -> None:
        for _ in range(_AT_ONCE):
            try:
                data, notes, _, source = receive(_MAX_DATAGRAM, 64)
            except BlockingIOError:
                return
            except OSError:  # of an earlier reply
                continue
            ours = notes[0][2][place] if notes else b""
            reply = answer(data, source[0], ours)
            if reply:
                told = [(level, kind, before + ours + after)] if ours else []
                try:
                    send([reply], told, 0, source)
                except OSError:  # lost; `suppress` costs half a microsecond
                    continue

    return answer_them


def _plain_reader(sock: socket.socket, answer: Answer) -> Callable[[], None]:
    ours = _bound_to(sock)
    receive, send = sock.recvfrom, sock.sendto

    def answer_them() -> None:
        for _ in range(_AT_ONCE):
            try:
                data, source = receive(_MAX_DATAGRAM)
            except BlockingIOError:
                return
            except OSError:
                continue
            reply = answer(data, source[0], ours)
            if reply:
                try:
                    send(reply, source)
                except OSError:
                    continue

    return answer_them


def _bound_to(sock: socket.socket) -> bytes:
    host = str(sock.getsockname()[0])
    return b"" if is_any_address(host) else socket.inet_pton(sock.family, host.partition("%")[0])


class _Protocol(asyncio.DatagramProtocol):
    """The same where sockets cannot be watched."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._transport: Any = None
        self._ours = b""
        self._full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._ours = _bound_to(transport.get_extra_info("socket"))

    def datagram_received(self, data: bytes, source: tuple[Any, ...]) -> None:
        reply = self._answer(data[:_MAX_DATAGRAM], source[0], self._ours)
        if reply and not self._full:
            self._transport.sendto(reply, source)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
