"""One peer connection after its handshake, sans-IO: bytes in, events out, data to send.

Invariant: the four choke/interest flags, the peer's bitfield and the set of outstanding
requests are exactly what the bytes so far imply; nothing else changes them. A block is
reported as `requested` only for the exact (piece, begin, length) that was asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from p2pfs.errors import WireError
from p2pfs.formats import extension, wire
from p2pfs.formats.bitfield import Bitfield
from p2pfs.formats.extension import ExtendedHandshake
from p2pfs.geometry import BLOCK_LENGTH, BlockRequest, Geometry, blocks_in
from p2pfs.swarm.events import (
    BlockArrived,
    BlockCancelled,
    BlockRequested,
    Breached,
    Event,
    Extended,
    InterestChanged,
    PeerBitfield,
    PeerChoked,
    PeerExtended,
    PeerHave,
    PeerLost,
    PeerUnchoked,
    PeerUploadOnly,
)

__all__ = ["Session"]

KEEP_ALIVE_AFTER: Final = 100.0
"""Seconds without sending before a keep-alive goes out."""

SILENCE_LIMIT: Final = 125.0
"""Seconds without a byte after which a peer is gone: others send every 120 at the latest."""

TAKEN_BACK: Final = 1000
"""Requests taken back (cancelled, or discarded by a choke) whose blocks are still welcome."""

INTRODUCTIONS: Final = 8
"""Extended handshakes that a peer may send before more of them count as breaches."""

STRIKES: Final = 64
"""Harmless breaches (unasked blocks, requests that cannot be served) borne before closing."""


_UNCHOKED: Final = PeerUnchoked()


class Session:
    """Created when both handshakes are through; `now` is in monotonic seconds.

    `extended`: both ends speak the extension protocol.
    """

    def __init__(self, geometry: Geometry, now: float, *, extended: bool = False) -> None:
        self.geometry = geometry
        self.extended = extended
        self.peer_has = Bitfield(geometry.piece_count)
        self.am_choking = True
        self.am_interested = False
        self.peer_choking = True
        self.peer_interested = False
        self.outstanding: dict[BlockRequest, float] = {}
        """Requests sent and not yet answered, and when each was sent."""
        self.owed = 0
        """Blocks of 16 KiB in `outstanding`."""
        self.introduction = ExtendedHandshake()
        """What the peer has said of itself so far (BEP 10)."""
        self.run_length = BLOCK_LENGTH
        """The longest request that both ends agreed on, in bytes."""
        self.last_received_at = now
        self.last_block_at = now
        self._last_sent_at = now
        self._decoder = wire.Decoder((geometry.piece_count + 7) // 8)
        self._out: list[bytes | BlockRequest] = []
        self._taken_back: dict[BlockRequest, None] = {}
        self._strikes = 0
        self._introductions = 0
        self._offered: dict[int, bytes] = {}  # what we said we understand, by our ids
        self._bitfield_allowed = True
        self._breached = False

    def receive_data(self, data: bytes | memoryview, now: float) -> list[Event]:
        """The events that `data` brings, up to a breach of the protocol if there is one."""
        self.last_received_at = now
        events: list[Event] = []
        if self._breached:
            return events
        try:
            for message in self._decoder.feed(data):
                if type(message) is wire.Block:
                    self._receive_block(message, events, now)
                else:
                    event = self._receive(message)
                    if event is not None:
                        events.append(event)
            if self._decoder.error is not None:
                raise self._decoder.error
        except WireError as error:
            self._breached = True
            events.append(Breached(str(error)))
        return events

    def _receive_block(self, message: wire.Block, events: list[Event], now: float) -> None:
        payload = message.data
        block = BlockRequest(message.piece, message.begin, len(payload))
        sent_at = self.outstanding.pop(block, None)
        if sent_at is not None:
            self.owed -= blocks_in(block)
            self.last_block_at = now
            events.append(BlockArrived(block, payload, now - sent_at))
        elif block in self._taken_back:
            del self._taken_back[block]
            events.append(BlockArrived(block, payload, None))
        else:
            self._strike("blocks that nobody asked for")

    def _receive(self, message: wire.Message) -> Event | None:
        if isinstance(message, wire.Bitfield):
            return self._receive_bitfield(message)
        if isinstance(message, wire.KeepAlive):
            return None
        if isinstance(message, wire.Extended):  # may come before the bitfield
            return self._receive_extended(message)
        self._bitfield_allowed = False
        match message:
            case wire.Request(block):
                return self._receive_request(block)
            case wire.Have(piece):
                if piece >= self.geometry.piece_count:
                    raise WireError(f"have for piece {piece} of {self.geometry.piece_count}")
                return PeerHave(piece) if self.peer_has.add(piece) else None
            case wire.Unchoke():
                was_choking, self.peer_choking = self.peer_choking, False
                return _UNCHOKED if was_choking else None
            case wire.Choke():
                self.peer_choking = True
                lost = tuple(self.outstanding)
                self._forget(lost)
                return PeerChoked(lost)
            case wire.Interested() | wire.NotInterested():
                interested = isinstance(message, wire.Interested)
                if interested == self.peer_interested:
                    return None
                self.peer_interested = interested
                return InterestChanged(interested)
            case wire.Cancel(block):
                return BlockCancelled(block)
            case _:
                return None

    def _receive_bitfield(self, message: wire.Bitfield) -> Event:
        if not self._bitfield_allowed:
            raise WireError("a bitfield that is not the first message")
        self._bitfield_allowed = False
        self.peer_has = Bitfield.from_bytes(message.data, self.geometry.piece_count)
        if self.peer_has.spare_bits_were_set:
            self._strike("a bitfield with spare bits set")
        return PeerBitfield(self.peer_has.copy())

    def _receive_extended(self, message: wire.Extended) -> Event | None:
        if not self.extended:
            raise WireError("an extended message that was not negotiated")
        if message.id == extension.HANDSHAKE_ID:
            return self._receive_introduction(message.payload)
        name = self._offered.get(message.id)
        if name is None:
            return None
        if name == extension.DONT_HAVE:
            return self._receive_dont_have(message.payload)
        if name == extension.UPLOAD_ONLY:
            return self._receive_upload_only(message.payload)
        return Extended(name, message.payload)

    def _receive_introduction(self, payload: bytes) -> Event | None:
        self._introductions += 1
        try:
            self.introduction = extension.parse(payload, self.introduction)
        except WireError as error:
            self._strike(str(error))
            return None
        if self._introductions > INTRODUCTIONS:
            self._strike("extended handshakes")
        self.run_length = self.introduction.run_length
        self._decoder.max_block = max(self._decoder.max_block, self.run_length)
        return PeerExtended(self.introduction)

    def _receive_dont_have(self, payload: bytes) -> Event | None:
        piece = int.from_bytes(payload, "big")
        if len(payload) != 4 or piece >= self.geometry.piece_count:
            self._strike("pieces taken back that do not exist")
            return None
        if not self.peer_has.discard(piece):
            return None
        lost = tuple(block for block in self.outstanding if block.piece == piece)
        self._forget(lost)
        return PeerLost(piece, lost)

    def _receive_upload_only(self, payload: bytes) -> Event | None:
        upload_only = payload[:1] > b"\0"
        if upload_only == self.introduction.upload_only:
            return None
        self.introduction = replace(self.introduction, upload_only=upload_only)
        return PeerUploadOnly(upload_only)

    def _receive_request(self, block: BlockRequest) -> Event | None:
        if block.length > self.run_length or not self.geometry.contains(block):
            self._strike("requests that no torrent of this size can answer")
            return None
        if self.am_choking:
            return None
        return BlockRequested(block)

    def _strike(self, what: str) -> None:
        self._strikes += 1
        if self._strikes > STRIKES:
            raise WireError(f"too many {what}")

    def data_to_send(self) -> list[bytes | BlockRequest]:
        """What is to go out, in order: raw bytes, and blocks whose content follows there."""
        out, self._out = self._out, []
        return out

    @property
    def has_data_to_send(self) -> bool:
        return bool(self._out)

    def send_bitfield(self, have: Bitfield) -> None:
        """Only as the first message; an empty bitfield need not be sent (BEP 3)."""
        if have.count:
            self._out.append(wire.encode_bitfield(have.to_bytes()))

    def send_extended_handshake(self, handshake: ExtendedHandshake) -> None:
        """Say what we are; nothing is sent to a peer without the extension protocol."""
        if self.extended:
            self._offered = {number: name for name, number in handshake.messages.items()}
            payload = extension.encode(handshake)
            self._out.append(wire.encode_extended(extension.HANDSHAKE_ID, payload))

    @property
    def peer_extensions(self) -> Mapping[bytes, int]:
        """The extended messages that the peer understands now, by name: its ids for them."""
        return self.introduction.messages

    def send_extended(self, name: bytes, payload: bytes) -> bool:
        """Send the message called `name`; False, and nothing sent, unless the peer takes it."""
        number = self.peer_extensions.get(name)
        if number is None:
            return False
        self._out.append(wire.encode_extended(number, payload))
        return True

    def send_upload_only(self, upload_only: bool) -> None:
        """Say that we want nothing (any more), or something again (BEP 21)."""
        if self.extended and not self.send_extended(extension.UPLOAD_ONLY, bytes((upload_only,))):
            payload = extension.encode_upload_only(upload_only)
            self._out.append(wire.encode_extended(extension.HANDSHAKE_ID, payload))

    def send_dont_have(self, piece: int) -> bool:
        """Take a piece back that the peer was told of (BEP 54); False if it cannot hear that."""
        return self.send_extended(extension.DONT_HAVE, piece.to_bytes(4, "big"))

    def send_have(self, piece: int) -> None:
        self._out.append(wire.encode_have(piece))

    def choke(self) -> None:
        if not self.am_choking:
            self.am_choking = True
            self._out.append(wire.CHOKE)

    def unchoke(self) -> None:
        if self.am_choking:
            self.am_choking = False
            self._out.append(wire.UNCHOKE)

    def set_interested(self, interested: bool) -> None:
        if interested != self.am_interested:
            self.am_interested = interested
            self._out.append(wire.INTERESTED if interested else wire.NOT_INTERESTED)

    def request(self, blocks: Iterable[BlockRequest], now: float) -> None:
        """Ask for `blocks`: outstanding until each arrives, is cancelled or choked."""
        blocks = list(blocks)
        if not self.outstanding:
            self.last_block_at = now  # a peer is only late once it owes something
        for block in blocks:
            self.outstanding[block] = now
            self.owed += blocks_in(block)
        self._out.append(wire.encode_requests(blocks))

    def cancel(self, blocks: Iterable[BlockRequest]) -> None:
        """Take requests back."""
        cancelled = [block for block in blocks if block in self.outstanding]
        if cancelled:
            self._forget(cancelled)
            self._out.append(wire.encode_cancels(cancelled))

    def _forget(self, blocks: Iterable[BlockRequest]) -> None:
        """Outstanding `blocks` are not expected any more; they may be on their way all the same."""
        taken_back = self._taken_back
        for block in blocks:
            del self.outstanding[block]
            self.owed -= blocks_in(block)
        taken_back.update(dict.fromkeys(blocks))
        while len(taken_back) > TAKEN_BACK:
            del taken_back[next(iter(taken_back))]

    def send_block(self, block: BlockRequest) -> None:
        self._out.append(wire.block_header(block))
        self._out.append(block)

    def tick(self, now: float) -> None:
        """Keep-alives and the silence limit; raises `WireError` when the peer is gone."""
        if now - self.last_received_at >= SILENCE_LIMIT:
            raise WireError(f"silent for {SILENCE_LIMIT:.0f} s")
        if self._out:
            return
        if now - self._last_sent_at >= KEEP_ALIVE_AFTER:
            self._out.append(wire.KEEP_ALIVE)

    def sent(self, now: float) -> None:
        """Told by the owner when `data_to_send` has gone out."""
        self._last_sent_at = now
