"""A peer connection for a torrent whose metadata is not known yet, sans-IO.

Invariant: what the peer says of its pieces is kept within `MAX_PIECES` bits and believed
nowhere: when the metadata is known, `resume` makes an ordinary session, which is fed with all
of it and judges it. We have nothing and say so; so nothing is asked for and nothing served.
"""

from __future__ import annotations

from typing import Final

from p2pfs.errors import WireError
from p2pfs.formats import extension, wire
from p2pfs.formats.bitfield import Bitfield
from p2pfs.geometry import Geometry
from p2pfs.swarm.events import Event
from p2pfs.swarm.session import MAX_ALLOWED, Session

__all__ = ["MAX_PIECES", "BareSession"]

MAX_PIECES: Final = 1 << 21
"""Pieces that a torrent without metadata may turn out to have."""

_NOTHING: Final = Geometry(0, 1)


class _Decoder(wire.Decoder):
    """Takes bitfields of any number of pieces."""

    def __init__(self, *, fast: bool) -> None:
        super().__init__(MAX_PIECES // 8, fast=fast)

    def _check(self, length: int, kind: int) -> None:
        if kind != wire.ID_BITFIELD or not 1 <= length <= 1 + MAX_PIECES // 8:
            super()._check(length, kind)

    @property
    def unfinished(self) -> bytes:
        """The beginning of a message of which the rest has not come."""
        return bytes(self._partial)


class BareSession(Session):
    """As `Session`, of which only the extension protocol and what keeps it alive is of use."""

    def __init__(self, now: float, *, extended: bool = False, fast: bool = False) -> None:
        super().__init__(_NOTHING, now, extended=extended, fast=fast)
        self._decoder: _Decoder = _Decoder(fast=fast)
        self._field = bytearray()  # the bits of the pieces that it has
        self._whole_field = False  # they came in a bitfield, so their number is its word
        self._has_all = False

    def greet(self) -> None:
        """Say that we have nothing, where that has to be said (BEP 6)."""
        if self.fast:
            self._out.append(wire.HAVE_NONE)

    def _receive(self, message: wire.Message) -> Event | None:
        match message:
            case wire.KeepAlive() | wire.Port():
                return None
            case wire.Extended():
                return self._receive_extended(message)
            case wire.Bitfield(data):
                self._add_all(data)
            case wire.HaveAll():
                self._has_all = True
            case wire.HaveNone():
                if not self._field_due:
                    raise WireError("have none after the first message")
            case _:
                if self.fast and self._field_due:
                    raise WireError("the first message has to say what the peer has")
                self._keep(message)
        self._field_due = False
        return None

    def _keep(self, message: wire.Message) -> None:
        """What matters once the metadata is known."""
        match message:
            case wire.Have(piece):
                self._add(piece)
            case wire.Choke():
                self.peer_choking = True
            case wire.Unchoke():
                self.peer_choking = False
            case wire.Interested() | wire.NotInterested():
                self.peer_interested = isinstance(message, wire.Interested)
            case wire.AllowedFast(piece):
                if len(self.allowed) < MAX_ALLOWED:
                    self.allowed.add(piece)
            case wire.Request(block):
                self.reject((block,))
                self._strike("requests to one who has nothing")
            case wire.Reject():
                raise WireError("a reject of what was not asked for")
            case _:  # cancels, suggestions
                pass

    def _add(self, piece: int) -> None:
        if piece >= MAX_PIECES:
            raise WireError(f"have for piece {piece} of a torrent that cannot be so large")
        place = piece // 8
        if place >= len(self._field):
            self._field += bytes(place + 1 - len(self._field))
        self._field[place] |= 0x80 >> piece % 8

    def _add_all(self, data: bytes) -> None:
        """A bitfield, also a later one: it takes nothing back."""
        width = len(data)
        if width < len(self._field) or (self._whole_field and width > len(self._field)):
            raise WireError("a bitfield of another size than what came before it")
        both = int.from_bytes(self._field.ljust(width, b"\0"), "big") | int.from_bytes(data, "big")
        self._field[:] = both.to_bytes(width, "big")
        self._whole_field = True

    def resume(self, geometry: Geometry, now: float) -> tuple[Session, bytes]:
        """The session that goes on from here, and what it has to receive first."""
        session = _Resumed(geometry, now, extended=self.extended, fast=self.fast)
        return session, b"".join([*self._said(geometry), self._decoder.unfinished])

    def _said(self, geometry: Geometry) -> list[bytes]:
        """What the peer said so far, in short."""
        said = []
        if self._has_all:
            said.append(wire.HAVE_ALL)
        elif self._field or self._whole_field:
            width = 0 if self._whole_field else (geometry.piece_count + 7) // 8
            said.append(wire.encode_bitfield(bytes(self._field).ljust(width, b"\0")))
        elif self.fast and not self._field_due:
            said.append(wire.HAVE_NONE)
        if self._introductions:
            payload = extension.encode(self.introduction)
            said.append(wire.encode_extended(extension.HANDSHAKE_ID, payload))
        if self.allowed:
            said.append(wire.encode_allowed_fast(self.allowed))
        if not self.peer_choking:
            said.append(wire.UNCHOKE)
        if self.peer_interested:
            said.append(wire.INTERESTED)
        return said


class _Resumed(Session):
    """A session whose peer has heard already that we had nothing."""

    def send_bitfield(self, have: Bitfield) -> None:
        for piece in have:
            self.send_have(piece)
