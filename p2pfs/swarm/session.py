"""One peer connection after its handshake, sans-IO: bytes in, events out, data to send.

Invariant: the four choke/interest flags, the peer's bitfield and the set of outstanding
requests are exactly what the bytes so far imply; nothing else changes them. A block is
reported as `requested` only for the exact (piece, begin, length) that was asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
    PeerHaves,
    PeerLost,
    PeerRejected,
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

REPETITIONS: Final = 64
"""Have alls after the first message before more of them count as breaches: each takes few bytes
and, of a peer that takes pieces back, much time."""

STRIKES: Final = 64
"""Harmless breaches (unasked blocks, requests that cannot be served) borne before closing."""

MAX_REFUSED: Final = 4096
"""Requests of a choked peer that are rejected until it has been unchoked again (BEP 6): what
it had on the way when it was choked, and a good deal more."""

MAX_ALLOWED: Final = 64
"""Pieces that a peer allows us while it chokes, of which we take notice."""


_UNCHOKED: Final = PeerUnchoked()


class Session:
    """Created when both handshakes are through; `now` is in monotonic seconds.

    `extended`: both ends speak the extension protocol; `fast`: the fast extension (BEP 6).
    """

    def __init__(
        self, geometry: Geometry, now: float, *, extended: bool = False, fast: bool = False
    ) -> None:
        self.geometry = geometry
        self.extended = extended
        self.fast = fast
        self.peer_has = Bitfield(geometry.piece_count)
        self.am_choking = True
        self.am_interested = False
        self.peer_choking = True
        self.peer_interested = False
        self.outstanding: dict[BlockRequest, float] = {}
        """Requests sent and not yet answered, and when each was wanted last."""
        self.owed = 0
        """Blocks of 16 KiB in `outstanding`."""
        self.allowed: set[int] = set()
        """Pieces that the peer lets us ask for while it chokes; it need not have them."""
        self.granted: dict[int, int] = {}
        """Pieces that the peer may ask for while we choke: how many more blocks of each."""
        self.introduction = ExtendedHandshake()
        """What the peer has said of itself so far (BEP 10)."""
        self.run_length = BLOCK_LENGTH
        """The longest request that both ends agreed on, in bytes."""
        self.last_received_at = now
        self.last_block_at = now
        self._last_sent_at = now
        self._decoder = wire.Decoder((geometry.piece_count + 7) // 8, fast=fast)
        self._out: list[bytes | BlockRequest] = []
        self._rejected: list[BlockRequest] = []  # to be told after all that is in `_out`
        self._refused = 0  # requests rejected since we choked
        self._taken_back: dict[BlockRequest, int] = {}  # how many answers to each may come
        self._forgotten = 0  # requests taken back that are not in there any more
        self._strikes = 0
        self._introductions = 0
        self._repetitions = 0
        self._offered: dict[int, bytes] = {}  # what we said we understand, by our ids
        self._field_due = True  # nothing came yet that has to follow the bitfield
        self._breached = False

    @property
    def same_dialect(self) -> bool:
        """Whether the peer is one of ours: a reject then means that others have the piece."""
        return self.fast and self.run_length > BLOCK_LENGTH

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
                    continue
                if type(message) is wire.Request and not self._field_due:
                    event = self._receive_request(message.block)
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
        elif self._was_taken_back(block):
            events.append(BlockArrived(block, payload, None))
        else:
            self._strike("blocks that nobody asked for")

    def _receive(self, message: wire.Message) -> Event | None:
        if self._field_due:
            return self._receive_early(message)
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
                lost = () if self.fast else tuple(self.outstanding)
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
            case wire.Reject(block):
                return self._receive_reject(block)
            case wire.AllowedFast(piece) | wire.Suggest(piece):
                self._receive_advice(piece, allowed=isinstance(message, wire.AllowedFast))
                return None
            case wire.Extended():
                return self._receive_extended(message)
            case wire.Bitfield() | wire.HaveAll():
                return self._receive_more(message)
            case wire.HaveNone():
                raise WireError("have none after the first message")
            case _:
                return None

    def _receive_early(self, message: wire.Message) -> Event | None:
        """A message before it is known what the peer has, or may be taken for nothing."""
        match message:
            case wire.KeepAlive() | wire.Port():
                return None
            case wire.Extended():
                return self._receive_extended(message)
            case wire.Bitfield() | wire.HaveAll():
                self.peer_has = self._field_in(message)
            case wire.HaveNone():
                pass
            case _:
                if self.fast:
                    raise WireError("the first message has to say what the peer has")
                self._field_due = False
                return self._receive(message)
        self._field_due = False
        return PeerBitfield(self.peer_has.copy())

    def _field_in(self, message: wire.Bitfield | wire.HaveAll) -> Bitfield:
        """The pieces that `message` names."""
        if isinstance(message, wire.HaveAll):
            return Bitfield.full(self.geometry.piece_count)
        field = Bitfield.from_bytes(message.data, self.geometry.piece_count)
        if field.spare_bits_were_set:
            self._strike("bitfields with spare bits set")
        return field

    def _receive_more(self, message: wire.Bitfield | wire.HaveAll) -> Event | None:
        """In place of many haves, as aria2 tells of its progress; it takes nothing back."""
        if isinstance(message, wire.HaveAll):
            self._repetitions += 1
            if self._repetitions > REPETITIONS:
                self._strike("messages that it has everything")
        if self.peer_has.complete:
            return None
        more = self._field_in(message) - self.peer_has
        if not more.count:
            return None
        self.peer_has = self.peer_has | more
        return PeerHaves(more)

    def _receive_reject(self, block: BlockRequest) -> Event | None:
        """Each request gets one answer, so what was taken back is answered before what was not."""
        if self._was_taken_back(block):
            return None
        if self.outstanding.pop(block, None) is not None:
            self.owed -= blocks_in(block)
            if self.peer_choking:
                self.allowed.discard(block.piece)
            return PeerRejected(block)
        if not self._forgotten:
            raise WireError("a reject of what was not asked for")
        self._forgotten -= 1
        return None

    def _receive_advice(self, piece: int, *, allowed: bool) -> None:
        """Allowed fast, or a suggestion, which changes nothing."""
        if piece >= self.geometry.piece_count:
            self._strike("pieces allowed or suggested that do not exist")
        elif allowed and len(self.allowed) < MAX_ALLOWED:
            self.allowed.add(piece)

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
        lost: tuple[BlockRequest, ...] = ()
        if not self.fast:
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
            self.reject((block,))
            self._strike("requests that no torrent of this size can answer")
            return None
        if self.am_choking and not self._use_grant(block):
            self._refused += self.fast
            if self._refused > MAX_REFUSED:
                raise WireError("too many requests while choked")
            self.reject((block,))
            return None
        return BlockRequested(block)

    def _use_grant(self, block: BlockRequest) -> bool:
        """Whether `block` may be asked for although we choke, and that it was."""
        left = self.granted.get(block.piece, 0) - blocks_in(block)
        if left < 0:
            return False
        self.granted[block.piece] = left
        return True

    def _strike(self, what: str) -> None:
        self._strikes += 1
        if self._strikes > STRIKES:
            raise WireError(f"too many {what}")

    def data_to_send(self) -> list[bytes | BlockRequest]:
        """What is to go out, in order: raw bytes, and blocks whose content follows there."""
        out, self._out = self._out, []
        if self._rejected:
            out.append(wire.encode_rejects(self._rejected))
            self._rejected.clear()
        return out

    @property
    def has_data_to_send(self) -> bool:
        return bool(self._out or self._rejected)

    def send_bitfield(self, have: Bitfield) -> None:
        """Only as the first message; all or none are said in short where that is understood.

        Without the fast extension an empty bitfield need not be sent (BEP 3).
        """
        if self.fast and have.complete:
            self._out.append(wire.HAVE_ALL)
        elif have.count:
            self._out.append(wire.encode_bitfield(have.to_bytes()))
        elif self.fast:
            self._out.append(wire.HAVE_NONE)

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
            self._refused = 0
            self._out.append(wire.CHOKE)

    def unchoke(self) -> None:
        if self.am_choking:
            self.am_choking = False
            self._out.append(wire.UNCHOKE)

    def grant(self, pieces: Sequence[int]) -> None:
        """Let the peer ask for each block of `pieces` twice while we choke (BEP 6)."""
        if self.fast and pieces:
            self.granted = {piece: 2 * self.geometry.block_count(piece) for piece in pieces}
            self._out.append(wire.encode_allowed_fast(self.granted))

    def reject(self, blocks: Iterable[BlockRequest]) -> None:
        """Requests of the peer that are not going to be answered; it hears of that if it can."""
        if self.fast:
            self._rejected += blocks

    def set_interested(self, interested: bool) -> None:
        if interested != self.am_interested:
            self.am_interested = interested
            self._out.append(wire.INTERESTED if interested else wire.NOT_INTERESTED)

    def request(self, blocks: Iterable[BlockRequest], now: float) -> None:
        """Ask for `blocks`: outstanding until each arrives, is cancelled or choked.

        Those that are outstanding already stay so: one request has one answer.
        """
        outstanding = self.outstanding
        before = len(outstanding)
        if not before:
            self.last_block_at = now  # a peer is only late once it owes something
        blocks = list(blocks)
        outstanding.update(dict.fromkeys(blocks, now))
        if len(outstanding) < before + len(blocks):
            blocks = list(outstanding)[before:]  # new keys are at the end
        if blocks:
            self.owed += sum(map(blocks_in, blocks))
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
            before = taken_back.pop(block, 0)
            taken_back[block] = before + 1 if self.fast else 1
        while len(taken_back) > TAKEN_BACK:
            self._forgotten += taken_back.pop(next(iter(taken_back)))

    def _was_taken_back(self, block: BlockRequest) -> bool:
        """Whether this answers a request that was taken back, which counts as answered then."""
        left = self._taken_back.get(block, 0)
        if left > 1:
            self._taken_back[block] = left - 1
        elif left:
            del self._taken_back[block]
        return left > 0

    def send_block(self, block: BlockRequest) -> None:
        self._out.append(wire.block_header(block))
        self._out.append(block)

    def tick(self, now: float) -> None:
        """Keep-alives and the silence limit; raises `WireError` when the peer is gone."""
        if now - self.last_received_at >= SILENCE_LIMIT:
            raise WireError(f"silent for {SILENCE_LIMIT:.0f} s")
        if self.has_data_to_send:
            return
        if now - self._last_sent_at >= KEEP_ALIVE_AFTER:
            self._out.append(wire.KEEP_ALIVE)

    def sent(self, now: float) -> None:
        """Told by the owner when `data_to_send` has gone out."""
        self._last_sent_at = now
