"""Fetching the metadata of a torrent that is known by its hash alone (BEP 9).

Invariant: nothing a peer says is believed before the SHA-1 of the whole is right: how large
the metadata is and each piece of it are its word only. Peers that claim one size work on it
together; when what came from several is wrong, each is asked for all of it alone, and who
then gave wrong bytes is convicted by that. What is held unverified is bounded.
"""

from __future__ import annotations

import hashlib
from typing import Final

from p2pfs.errors import WireError
from p2pfs.formats import ut_metadata
from p2pfs.formats.extension import UT_METADATA
from p2pfs.formats.ut_metadata import MAX_METADATA, Data, Reject
from p2pfs.geometry import TorrentId
from p2pfs.swarm.attempts import NEVER, Attempt, Attempts, Key
from p2pfs.swarm.metadata_serving import MAX_REJECTED
from p2pfs.swarm.peer import Peer

__all__ = ["MetadataFetching"]

WINDOW: Final = 4
"""Pieces asked of one peer at a time, once it has given one."""

ANSWER_WITHIN: Final = 10.0
"""Seconds after which a piece is asked of others too, and its peer has to rest."""

DOUBLE_AFTER: Final = 3.0
"""Seconds after which a peer with nothing else to do is asked for what another owes."""

REST: Final = 5.0
MAX_REST: Final = 240.0
"""Seconds for which a peer that rejected, or did not answer, is left alone: more each time."""

UNASKED: Final = 64
"""Pieces of metadata that were not asked for, borne before the peer is given up."""

MAX_MIXED: Final = 100
MAX_LAPSES: Final = 8


class _Source:
    """A peer that understands the exchange; `size` is what it claims, 0 while unknown."""

    __slots__ = (
        "asked",
        "claim",
        "gave",
        "lapses",
        "late",
        "refused",
        "resized",
        "rests_until",
        "size",
        "told",
        "unasked",
    )

    def __init__(self) -> None:
        self.claim = -1  # of its handshakes, the last
        self.size = 0
        self.told = 0  # the size that its data came with
        self.gave = False
        self.resized = False  # its data was believed more than its handshake, once
        self.asked: dict[int, float] = {}
        self.late: set[int] = set()
        self.lapses = 0
        self.rests_until = 0.0
        self.unasked = 0
        self.refused = 0  # requests of the peer, which we cannot serve


class MetadataFetching:
    """`now` is in seconds of a monotonic clock; requests go out by the sessions of the peers."""

    def __init__(self, torrent_id: TorrentId) -> None:
        self._digest = torrent_id.v1
        self._sources: dict[Peer, _Source] = {}
        self._attempts = Attempts()
        self._mixed: dict[int, list[tuple[int, bytes, Peer]]] = {}
        self.result: bytes | None = None
        """The info dictionary, once its hash is right."""
        self.convicted: list[tuple[Peer, str]] = []
        """Peers that gave wrong bytes, with what they did; for the owner to take and to close."""
        self.too_large = 0
        """The largest size that was claimed and is beyond what is taken, in bytes."""

    @property
    def sources(self) -> int:
        """Peers that may be asked: they understand the exchange and said nothing impossible."""
        return sum(
            UT_METADATA in peer.session.peer_extensions and source.size >= 0
            for peer, source in self._sources.items()
        )

    @property
    def done(self) -> tuple[int, int]:
        """Bytes that came of the attempt that is furthest, and its size; (0, 0) before any."""
        if self.result is not None:
            return len(self.result), len(self.result)
        best = self._attempts.furthest
        return (0, 0) if best is None else (best.held, best.size)

    @property
    def held(self) -> int:
        """Bytes held of all attempts, not verified yet."""
        return self._attempts.held

    def lapses(self, peer: Peer) -> int:
        """How often in a row it did not give what it was asked for; `MAX_LAPSES` if it never can.

        0 also for one whose turn to be asked has not come.
        """
        source = self._sources.get(peer)
        if source is None or source.size < 0 or UT_METADATA not in peer.session.peer_extensions:
            return MAX_LAPSES
        return source.lapses

    def joined(self, peer: Peer) -> None:
        self._sources[peer] = _Source()

    def left(self, peer: Peer, now: float) -> None:
        """What it owed is asked of others at once; what it gave still counts."""
        source = self._sources.pop(peer, None)
        if source is not None:
            self._release(peer, source)
            self._attempts.drop((source.size, peer))
            self.tick(now)

    def introduced(self, peer: Peer, now: float) -> None:
        """An extended handshake of the peer came."""
        source = self._sources.get(peer)
        if source is None or self.result is not None:
            return
        claim = peer.session.introduction.metadata_size
        if claim != source.claim:
            source.claim = claim
            self._resize(peer, source, claim)
        self.tick(now)

    def heard(self, peer: Peer, payload: bytes, now: float) -> None:
        """A message of the exchange; raises `WireError` when the peer is to be closed for it."""
        message = ut_metadata.parse(payload)
        source = self._sources.get(peer)
        if source is None or message is None:
            return
        if isinstance(message, ut_metadata.Request):
            source.refused += 1
            if source.refused > MAX_REJECTED:
                raise WireError("too many requests for metadata that is not here")
            peer.session.send_extended(UT_METADATA, ut_metadata.encode_reject(message.piece))
        elif self.result is not None:
            return
        elif isinstance(message, Reject):
            if message.piece in source.asked:
                self._lapse(peer, source, now)
                self.tick(now)
        else:
            self._take(peer, source, message, now)
            if self.result is None and peer in self._sources:
                self._ask(peer, source, now)

    def tick(self, now: float) -> None:
        """To be called about once a second, too: what is late is asked of others."""
        if self.result is not None:
            return
        for peer, source in self._sources.items():
            if any(now - sent >= ANSWER_WITHIN for sent in source.asked.values()):
                source.late.update(source.asked)
                self._lapse(peer, source, now)
        self._take_turns(now)
        in_turn = sorted(self._sources.items(), key=lambda one: one[1].lapses)
        for peer, source in in_turn:  # who was not tried before those who failed
            self._ask(peer, source, now)

    # -- what to ask of whom

    def _ask(self, peer: Peer, source: _Source, now: float) -> None:
        if now < source.rests_until or UT_METADATA not in peer.session.peer_extensions:
            return
        if source.size == 0:  # it did not say: some know all the same, and tell with the data
            if not source.asked:
                self._send(peer, source, 0, now)
            return
        attempt = self._attempts.running(self._key(peer, source))
        if attempt is None:
            return
        window = WINDOW if source.gave else 1
        for piece, asked_at in attempt.missing.items():
            if len(source.asked) >= window:
                return
            if piece not in source.asked and now - asked_at >= DOUBLE_AFTER:
                attempt.missing[piece] = now
                self._send(peer, source, piece, now)

    def _send(self, peer: Peer, source: _Source, piece: int, now: float) -> None:
        source.asked[piece] = now
        peer.session.send_extended(UT_METADATA, ut_metadata.encode_request(piece))

    def _lapse(self, peer: Peer, source: _Source, now: float) -> None:
        """It did not answer as hoped: others are asked, and it a little later."""
        self._release(peer, source)
        source.rests_until = now + min(MAX_REST, REST * 2.0**source.lapses)
        source.lapses = min(source.lapses + 1, MAX_LAPSES)

    def _release(self, peer: Peer, source: _Source) -> None:
        """Nothing is expected of the peer any more."""
        attempt = self._attempts.running(self._key(peer, source))
        for piece in source.asked:
            if attempt is not None and piece in attempt.missing:
                attempt.missing[piece] = NEVER
        source.asked.clear()

    def _key(self, peer: Peer, source: _Source) -> Key:
        return source.size, peer if source.size in self._mixed else None

    def _take_turns(self, now: float) -> None:
        wanted = {
            self._key(peer, source): None
            for peer, source in self._sources.items()
            if source.size > 0 and UT_METADATA in peer.session.peer_extensions
        }
        self._attempts.update(wanted, now)

    # -- what comes

    def _resize(self, peer: Peer, source: _Source, size: int) -> None:
        """The peer claims another size than it did."""
        self._release(peer, source)
        self._attempts.drop((source.size, peer))
        source.late.clear()
        if size > MAX_METADATA:
            self.too_large = max(self.too_large, size)
            size = -1
        source.size = size

    def _take(self, peer: Peer, source: _Source, message: Data, now: float) -> None:
        piece, total, data = message
        if piece in source.asked:
            del source.asked[piece]
        elif piece in source.late:
            source.late.discard(piece)
        else:
            source.unasked += 1
            if source.unasked > UNASKED:
                raise WireError("too many pieces of metadata that nobody asked for")
            return
        source.lapses, source.gave = 0, True
        source.told = total
        if source.size == 0:
            self._resize(peer, source, total)
            self._take_turns(now)
            if source.size <= 0:
                self._lapse(peer, source, now)
                return
        geometry = ut_metadata.pieces_of(source.size)
        if piece >= geometry.piece_count or len(data) != geometry.piece_size(piece):
            self._doubt(peer, source, "a piece of metadata has another length than it has to have")
            return
        key = self._key(peer, source)
        attempt = self._attempts.running(key)
        if attempt is not None and attempt.add(piece, data, peer, now):
            self._attempts.drop(key)
            self._check(attempt, now)

    def _check(self, attempt: Attempt, now: float) -> None:
        """All of it is there: right, or somebody gave wrong bytes."""
        pieces = [attempt.pieces[piece] for piece in range(len(attempt.pieces))]
        whole = b"".join(data for data, _ in pieces)
        if hashlib.sha1(whole).digest() == self._digest:
            self.result = whole
            self._convict_who_differed(pieces)
            return
        givers = {giver: None for _, giver in pieces}
        if len(givers) == 1:
            (giver,) = givers
            source = self._sources.get(giver)
            if source is None:
                self.convicted.append((giver, "its metadata failed the hash"))
            else:
                self._doubt(giver, source, "its metadata failed the hash")
            return
        if len(self._mixed) >= MAX_MIXED:
            del self._mixed[next(iter(self._mixed))]
        self._mixed[attempt.size] = [
            (piece, hashlib.sha1(data).digest(), giver)
            for piece, (data, giver) in enumerate(pieces)
        ]
        for peer, source in self._sources.items():
            if source.size == attempt.size:
                self._release(peer, source)
        self._take_turns(now)
        for piece, (data, giver) in enumerate(pieces):  # its word as before, now by itself
            alone = self._attempts.running((attempt.size, giver))
            if alone is not None:
                alone.add(piece, data, giver, now)

    def _convict_who_differed(self, right: list[tuple[bytes, Peer]]) -> None:
        """With the right metadata at hand it is known who spoiled an attempt of this size."""
        size = sum(len(data) for data, _ in right)
        told = self._mixed.pop(size, [])
        liars = {
            giver
            for piece, digest, giver in told
            if hashlib.sha1(right[piece][0]).digest() != digest
        }
        self.convicted += [(liar, "its metadata failed the hash") for liar in liars]

    def _doubt(self, peer: Peer, source: _Source, reason: str) -> None:
        """What the peer gave is wrong: its data is believed once if it tells another size."""
        if 0 < source.told <= MAX_METADATA and source.told != source.size and not source.resized:
            source.resized = True
            self._resize(peer, source, source.told)
            return
        self._release(peer, source)
        self._attempts.drop((source.size, peer))
        del self._sources[peer]
        self.convicted.append((peer, reason))
