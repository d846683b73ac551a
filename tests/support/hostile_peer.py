"""Peers that say anything in any order: legal messages, and more or less often what is none.

They keep a memory of the connection, so that what they say is not only noise: they answer
requests that they got, right or wrong or twice, take back what they asked for, and repeat
what they said. The same seed says the same in answer to the same.
"""

from __future__ import annotations

import contextlib
import random
import select
import socket
import struct
import threading
import time

from p2pfs.formats.metainfo import Metainfo
from tests.support import fake_peer
from tests.support.fake_peer import Told, message

SUGGEST, HAVE_ALL, HAVE_NONE, REJECT, ALLOWED_FAST = 13, 14, 15, 16, 17
RESERVED = bytes((0, 0, 0, 0, 0, 0x10, 0, 0x04))
HUGE = 2**32 - 1
TOLD_AT_ONCE = 40
"""Messages sent in one go at most."""
MOST_TOLD = 2000
"""Messages after which a connection is given up though the other end bears it."""
PATIENCE = 2.0
"""Seconds in which nothing moves after which it is given up as well."""


class Liar:
    """What one connection says next, given what it was told so far."""

    def __init__(self, rng: random.Random, metainfo: Metainfo, content: bytes) -> None:
        self._rng = rng
        self._info_hash = metainfo.torrent_id.v1
        self._geometry = metainfo.geometry
        self._content = content
        self._wanted: list[tuple[int, int, int]] = []  # what it was asked for
        self._asked: list[bytes] = []  # what it asked for
        self._said: list[bytes] = []
        self._folly = rng.choice((0.0, 0.002, 0.02, 0.3))
        self._honesty = rng.choice((0.0, 0.5, 1.0))  # share of right blocks
        self.reserved = rng.choice((bytes(8), fake_peer.EXTENSIONS, RESERVED, RESERVED))

    def greeting(self) -> bytes:
        """The handshake and, mostly, what it claims to have."""
        rng = self._rng
        if rng.random() < 0.02:
            return rng.randbytes(rng.randrange(1, 200))
        said = fake_peer.handshake(self._info_hash, fake_peer.peer_id(), self.reserved)
        if rng.random() < 0.02:
            return said[: rng.randrange(68)]
        return said + (b"" if rng.random() < 0.1 else self._field())

    def hear(self, told: Told) -> None:
        if told.kind == fake_peer.REQUEST:
            self._wanted.append(told.triple)

    def say(self) -> bytes:
        """One message, or what pretends to be one."""
        folly = self._rng.random() < self._folly
        said = self._rng.choice(self._NONSENSE if folly else self._SENSE)(self)
        self._said = [*self._said[-20:], said]
        return said

    # -- what is legal, by its form at least

    def _piece(self) -> int:
        return self._rng.randrange(self._geometry.piece_count)

    def _index(self) -> bytes:
        return struct.pack(">I", self._piece())

    def _triple(self) -> bytes:
        piece = self._piece()
        block = self._geometry.block(piece, self._rng.randrange(self._geometry.block_count(piece)))
        return struct.pack(">III", *block)

    def _field(self) -> bytes:
        count, rng = self._geometry.piece_count, self._rng
        fields = [fake_peer.everything(count), message(5, rng.randbytes((count + 7) // 8))]
        if self.reserved == RESERVED:
            fields += [message(HAVE_ALL), message(HAVE_NONE)]
        return rng.choice(fields)

    def _flag(self) -> bytes:
        return message(self._rng.randrange(4))

    def _have(self) -> bytes:
        return message(fake_peer.HAVE, self._index())

    def _request(self) -> bytes:
        body = self._triple()
        self._asked = [*self._asked[-50:], body]
        return message(fake_peer.REQUEST, body)

    def _cancel(self) -> bytes:
        known = self._asked and self._rng.random() < 0.8
        body = self._rng.choice(self._asked) if known else self._triple()
        return message(fake_peer.CANCEL, body)

    def _answer(self) -> bytes:
        """A block that it was asked for: right, wrong, and sometimes once more."""
        if not self._wanted:
            return fake_peer.KEEP_ALIVE
        number = self._rng.randrange(len(self._wanted))
        piece, begin, length = self._wanted[number]
        if self._rng.random() < 0.95:
            del self._wanted[number]
        start = piece * self._geometry.piece_length + begin
        data = self._content[start : start + length]
        if self._rng.random() >= self._honesty:
            data = bytes(length)
        return fake_peer.block(piece, begin, data)

    def _refuse(self) -> bytes:
        if not self._wanted or self.reserved != RESERVED:
            return self._have()
        triple = self._wanted.pop(self._rng.randrange(len(self._wanted)))
        return message(REJECT, struct.pack(">III", *triple))

    def _advise(self) -> bytes:
        if self.reserved != RESERVED:
            return self._have()
        return message(self._rng.choice((SUGGEST, ALLOWED_FAST)), self._index())

    def _extended(self) -> bytes:
        if self.reserved == bytes(8):
            return self._flag()
        number = self._rng.randrange(5)
        payload = (
            b"d1:md11:lt_donthavei7e11:ut_metadatai8e6:ut_pexi9ee4:reqqi50ee",
            b"d8:msg_typei0e5:piecei%dee" % self._rng.randrange(3),
            b"d5:added6:\x7f\0\0\1\0\x097:added.f1:\0e",
            self._index(),
            bytes((self._rng.randrange(2),)),
        )[number]
        return message(fake_peer.EXTENDED, bytes((number,)) + payload)

    def _port(self) -> bytes:
        return message(9, b"\x1a\xe1")

    _SENSE = (
        _flag, _flag, _have, _have, _request, _request, _request, _cancel, _answer, _answer,
        _answer, _refuse, _advise, _extended, _port,
    )  # fmt: skip

    # -- what is not

    def _wrong_length(self) -> bytes:
        said = self.say()
        claimed = self._rng.choice((0, 1, 2, len(said), 16393, 1 << 20, 1 << 31, HUGE))
        return struct.pack(">I", claimed) + said[4:]

    def _cut(self) -> bytes:
        said = self.say()
        return said[: self._rng.randrange(len(said) + 1)]

    def _noise(self) -> bytes:
        return self._rng.randbytes(self._rng.randrange(1, 300))

    def _any_id(self) -> bytes:
        return message(self._rng.randrange(256), self._rng.randbytes(self._rng.choice((0, 4, 12))))

    def _beyond(self) -> bytes:
        kind = self._rng.choice((4, 6, 7, 8, SUGGEST, REJECT, ALLOWED_FAST))
        far = struct.pack(">III", *(self._rng.choice((0, 1, self._piece(), HUGE)) for _ in "123"))
        return message(kind, far[: 4 if kind in {4, SUGGEST, ALLOWED_FAST} else 12])

    def _odd_extended(self) -> bytes:
        number, size = self._rng.choice((0, 1, 2, 3, 4, 255)), self._rng.choice((0, 3, 200))
        return message(fake_peer.EXTENDED, bytes((number,)) + self._rng.randbytes(size))

    def _again(self) -> bytes:
        return self._rng.choice(self._said or [self._flag()])

    def _unasked(self) -> bytes:
        return message(self._rng.choice((7, REJECT)), self._triple())

    _NONSENSE = (
        _wrong_length, _cut, _noise, _any_id, _beyond, _odd_extended, _again, _unasked, _field,
    )  # fmt: skip


class Hostile:
    """One connection after the other to `port`, from addresses of its own; counts what it says.

    `said`: messages that went out while the other end was there; `closed`: connections that
    the other end closed.
    """

    def __init__(self, port: int, metainfo: Metainfo, content: bytes, seed: int) -> None:
        self.said = self.closed = self.connections = 0
        self._port = port
        self._metainfo = metainfo
        self._content = content
        self._rng = random.Random(seed)

    def run(self, messages: int) -> None:
        """Until so many messages more are out."""
        until = self.said + messages
        while self.said < until:
            with contextlib.suppress(OSError):
                self._connect(until)

    def _connect(self, limit: int) -> None:
        rng = self._rng
        own = f"127.{rng.randrange(1, 255)}.{rng.randrange(256)}.{rng.randrange(1, 255)}"
        with socket.create_connection(("127.0.0.1", self._port), 10, (own, 0)) as sock:
            self.connections += 1
            if rng.random() < 0.3:  # leaves with a reset
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.setblocking(False)
            talk = _Talk(sock, Liar(rng, self._metainfo, self._content))
            until = min(limit, self.said + rng.randrange(1, MOST_TOLD))
            while talk.open and self.said < until:
                self.said += talk.go_on(rng.randrange(1, TOLD_AT_ONCE))
                talk.listen(rng.choice((0.0, 0.0, 0.001, 0.01)))
            if rng.random() < 0.8:
                talk.see_out()
            self.closed += talk.ended


class _Talk:
    """What goes over one socket, both ways, as fast as the other end takes it."""

    def __init__(self, sock: socket.socket, liar: Liar) -> None:
        self.open = True
        self.ended = False
        """Whether the other end closed."""
        self._sock = sock
        self._liar = liar
        self._out = bytearray(liar.greeting())
        self._in = bytearray()
        self._greeted = False

    def go_on(self, count: int) -> int:
        """Say `count` things more and hear what there is; how many of them went out."""
        self._out += b"".join([self._liar.say() for _ in range(count)])
        while self._out and self.open:
            self._move([self._sock], PATIENCE)
        return 0 if self._out else count

    def listen(self, seconds: float) -> None:
        """Hear what there is, and what comes in this time if there is nothing."""
        if self.open:
            self._move([], seconds)

    def see_out(self) -> None:
        """Say that nothing more is to come, and wait until the other end has heard it all."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)
        while self.open:
            self._move([], PATIENCE)

    def _move(self, sending: list[socket.socket], seconds: float) -> None:
        readable, writable, _ = select.select([self._sock], sending, [], seconds)
        try:
            if writable:
                del self._out[: self._sock.send(self._out)]
            if readable:
                self._hear()
        except OSError:
            self.open, self.ended = False, True
        if seconds >= PATIENCE and not (readable or writable):
            self.open = False

    def _hear(self) -> None:
        data = self._sock.recv(1 << 18)
        if not data:
            self.open, self.ended = False, True
        self._in += data
        if not self._greeted:
            if len(self._in) < 68:
                return
            self._greeted = True
            del self._in[:68]
        while len(self._in) >= 4:
            length = int.from_bytes(self._in[:4], "big")
            if len(self._in) < 4 + length:
                return
            if length:
                self._liar.hear(Told(self._in[4], bytes(self._in[5 : 4 + length])))
            del self._in[: 4 + length]


def torment(hostile: list[Hostile], messages: int, seconds: float) -> None:
    """All of them at once, each with its share of `messages`; fails if it takes longer."""
    share = (messages - 1) // len(hostile) + 1
    threads = [threading.Thread(target=one.run, args=(share,), daemon=True) for one in hostile]
    for thread in threads:
        thread.start()
    end = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
        assert not thread.is_alive(), f"only {sum(one.said for one in hostile)} messages went out"
