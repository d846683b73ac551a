"""A peer on a raw socket that says whatever bytes a test wants, and shows what it is told.

Blocking, for a thread of its own. Messages are made here by the layout of BEP 3, so that a
hostile one can be made as easily as a good one.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass

from p2pfs.formats.announce_http import AnnounceRequest, Event, encode_query
from p2pfs.geometry import PeerId, TorrentId

CHOKE, UNCHOKE, INTERESTED, NOT_INTERESTED = 0, 1, 2, 3
HAVE, BITFIELD, REQUEST, PIECE, CANCEL = 4, 5, 6, 7, 8
EXTENDED = 20
EXTENSIONS = bytes((0, 0, 0, 0, 0, 0x10, 0, 0))
"""Reserved bits of one who speaks the extension protocol (BEP 10)."""
KEEP_ALIVE = bytes(4)


def peer_id() -> bytes:
    return b"-XX0000-" + os.urandom(6).hex().encode()


def handshake(info_hash: bytes, own_id: bytes, reserved: bytes = bytes(8)) -> bytes:
    return b"\x13BitTorrent protocol" + reserved + info_hash + own_id


def message(kind: int, body: bytes = b"") -> bytes:
    return struct.pack(">IB", 1 + len(body), kind) + body


def have(piece: int) -> bytes:
    return message(HAVE, struct.pack(">I", piece))


def everything(pieces: int) -> bytes:
    """The bitfield of a seeder."""
    bits = (1 << pieces) - 1
    width = (pieces + 7) // 8
    return message(BITFIELD, (bits << (8 * width - pieces)).to_bytes(width, "big"))


def request(piece: int, begin: int, length: int = 16384) -> bytes:
    return message(REQUEST, struct.pack(">III", piece, begin, length))


def block(piece: int, begin: int, data: bytes) -> bytes:
    return message(PIECE, struct.pack(">II", piece, begin) + data)


@dataclass(frozen=True)
class Told:
    """One message from the other end; `kind` -1 is a keep-alive."""

    kind: int
    body: bytes = b""

    @property
    def triple(self) -> tuple[int, int, int]:
        """Piece, begin and length of a request or a cancel."""
        piece, begin, length = struct.unpack(">III", self.body)
        return piece, begin, length


class Wire:
    """One connection, whoever made it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._data = bytearray()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @classmethod
    def dial(cls, port: int, host: str = "127.0.0.1") -> Wire:
        return cls(socket.create_connection((host, port), 30))

    def send(self, *data: bytes) -> None:
        self.sock.sendall(b"".join(data))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()

    def _need(self, count: int) -> bool:
        """Whether so many bytes are there; False at the end of the stream."""
        while len(self._data) < count:
            try:
                data = self.sock.recv(65536)
            except ConnectionError:
                return False
            if not data:
                return False
            self._data += data
        return True

    def take_handshake(self) -> bytes:
        """The 68 bytes of the other end, or less if it closes."""
        self._need(68)
        taken = bytes(self._data[:68])
        del self._data[:68]
        return taken

    def take(self) -> Told | None:
        """The next message; None at the end. `TimeoutError` after the socket's time-out."""
        if not self._need(4):
            return None
        length = int.from_bytes(self._data[:4], "big")
        if not self._need(4 + length):
            return None
        body = bytes(self._data[4 : 4 + length])
        del self._data[: 4 + length]
        return Told(body[0], body[1:]) if length else Told(-1)


class FakePeer:
    """Listens, shakes hands, and then does what `behave` does, on a thread for each connection.

    What `behave` raises is kept in `trouble`; that the other end left is none.
    """

    def __init__(
        self, info_hash: bytes, behave: Callable[[Wire], None], *, reserved: bytes = bytes(8)
    ) -> None:
        self.info_hash = info_hash
        self.reserved = reserved
        self.peer_id = peer_id()
        self.connections = 0
        self.trouble: list[BaseException] = []
        self._behave = behave
        self._wires: list[Wire] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> FakePeer:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for wire in self._wires:
            wire.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                wire = Wire(self._listener.accept()[0])
                self._wires.append(wire)
                threading.Thread(target=self._serve, args=(wire,), daemon=True).start()

    def _serve(self, wire: Wire) -> None:
        try:
            if len(wire.take_handshake()) < 68:
                return
            self.connections += 1
            wire.send(handshake(self.info_hash, self.peer_id, self.reserved))
            self._behave(wire)
        except OSError:
            pass  # it left
        except BaseException as error:
            self.trouble.append(error)
        finally:
            wire.close()

    def announce(self, url: str) -> None:
        """Tell the tracker that this is a seeder of the torrent."""
        announce(url, TorrentId(self.info_hash), self.port, self.peer_id)


def announce(url: str, torrent_id: TorrentId, port: int, own_id: bytes | None = None) -> None:
    """Announce a seeder of `torrent_id` that listens on `port` of this machine."""
    own_id = own_id or peer_id()
    asked = AnnounceRequest(torrent_id, PeerId(own_id), port, left=0, event=Event.STARTED)
    with urllib.request.urlopen(f"{url}?{encode_query(asked)}", timeout=30) as reply:
        assert b"failure" not in reply.read()
