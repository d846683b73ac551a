"""Peer exchange in one torrent (BEP 11): whom to tell each peer about, and whom to believe.

Invariant: what a peer was told is exactly what we were connected to when it was told last,
less what did not fit: who comes is added once and who goes is dropped once, at most `MOST`
each at a time and not more often than once in `EVERY` seconds. Nobody learns of an address,
nor are we made to dial one, that is nearer than the peer that is told or tells: no private
address goes out to the internet, and none comes in from there.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from p2pfs.errors import NetworkError, WireError
from p2pfs.formats.extension import UT_PEX
from p2pfs.formats.reach import Reach, reach_of
from p2pfs.formats.ut_pex import REACHABLE, WANTS_NOTHING, PexMessage, encode, parse
from p2pfs.swarm.peer import Peer
from p2pfs.swarm.peer_book import Address

__all__ = ["PeerExchange"]

EVERY: Final = 60.0
"""Seconds between two messages to a peer."""
FIRST_AFTER: Final = 3.0
"""Seconds until a new peer is told of others: one message then names them all."""
LOOK_EVERY: Final = 5.0
"""Seconds until it is looked again whether there is something to tell."""

MOST: Final = 50
"""Peers added, and peers dropped, in one message."""

MAX_RECEIVED: Final = 6
"""Messages that are taken from a peer in a minute; one more ends the connection."""
MAX_BELIEVED: Final = 50
"""Peers that one peer can name until it drops some."""

FEW: Final = 25
"""Peers of a family, below which those are named too whom we left for lack of interest."""
PARTED_FOR: Final = 600.0
"""Seconds for which those are remembered."""


class _Known(NamedTuple):
    flags: int
    rank: int


class _Parted(NamedTuple):
    known: _Known
    at: float


class _Ear:
    """What one peer has been told, and what it has told."""

    __slots__ = ("believed", "due_at", "received_at", "told", "told_at")

    def __init__(self, due_at: float) -> None:
        self.due_at = due_at
        self.told: dict[Address, None] = {}
        self.told_at = -math.inf
        self.believed: dict[Address, None] = {}
        self.received_at: deque[float] = deque(maxlen=MAX_RECEIVED)


class PeerExchange:
    """For a torrent that is not private; `now` is in monotonic seconds."""

    def __init__(self) -> None:
        self._ears: dict[Peer, _Ear] = {}
        self._due_at = math.inf
        self._parted: dict[bool, dict[Address, _Parted]] = {False: {}, True: {}}
        """By whether it is IPv6: the last `FEW` peers whom we left for lack of interest."""

    def joined(self, peer: Peer, now: float) -> None:
        self._ears[peer] = _Ear(now + FIRST_AFTER)
        self._due_at = min(self._due_at, now + FIRST_AFTER)

    def left(self, peer: Peer) -> None:
        self._ears.pop(peer, None)

    def parted(self, peer: Peer, now: float) -> None:
        """We leave a peer because neither end wants anything: others may, so they hear of it.

        Else nobody would hear of a seed from a seed (BEP 11, underpopulated lists).
        """
        known = _known(peer)
        if known is None or peer.listens_at is None:
            return
        parted = self._parted[":" in peer.listens_at[0]]
        parted.pop(peer.listens_at, None)
        parted[peer.listens_at] = _Parted(known, now)
        if len(parted) > FEW:
            del parted[next(iter(parted))]

    # -- telling

    def tick(self, peers: Iterable[Peer], now: float) -> None:
        """To be called often: what is due goes to the sessions of `peers`."""
        if now < self._due_at:
            return
        connected = {
            peer.listens_at: known
            for peer in peers
            if peer.listens_at is not None and (known := _known(peer)) is not None
        }
        for peer, ear in self._ears.items():
            if ear.due_at <= now:
                ear.due_at = now + (EVERY if self._tell(peer, ear, connected, now) else LOOK_EVERY)
        self._due_at = min((ear.due_at for ear in self._ears.values()), default=math.inf)

    def _tell(self, peer: Peer, ear: _Ear, connected: dict[Address, _Known], now: float) -> bool:
        """Whether there was something to tell, to a peer that listens."""
        if UT_PEX not in peer.session.peer_extensions:
            return False
        dropped = [address for address in ear.told if address not in connected][:MOST]
        around = {**self._missed(ear, connected, now), **connected}
        rank, wants_nothing = _rank_of(peer), _wants_nothing(peer)
        added: dict[Address, int] = {}
        for address, known in around.items():
            if (
                address not in ear.told
                and address != peer.listens_at
                and known.rank >= rank
                and not (wants_nothing and known.flags & WANTS_NOTHING)
            ):
                added[address] = known.flags
                if len(added) == MOST:
                    break
        if not added and not dropped:
            return False
        for address in dropped:
            del ear.told[address]
        ear.told.update(dict.fromkeys(added))
        ear.told_at = now
        return peer.session.send_extended(UT_PEX, encode(PexMessage(added, tuple(dropped))))

    def _missed(
        self, ear: _Ear, connected: dict[Address, _Known], now: float
    ) -> dict[Address, _Known]:
        """Whom we left since this peer was told last, of families where we know few."""
        missed: dict[Address, _Known] = {}
        for is_ipv6, parted in self._parted.items():
            if parted and sum((":" in host) == is_ipv6 for host, _ in connected) < FEW:
                since = max(ear.told_at, now - PARTED_FOR)
                missed |= {address: one.known for address, one in parted.items() if one.at > since}
        return missed

    # -- being told

    def receive(
        self, peer: Peer, payload: bytes, now: float, *, finished: bool
    ) -> Sequence[Address]:
        """Addresses that a message brings; those of seeds only unless we have `finished`.

        Raises `WireError` for what is no such message, and for one too many.
        """
        ear = self._ears.get(peer)
        if ear is None:
            return ()
        times = ear.received_at
        if len(times) == MAX_RECEIVED and now - times[0] < EVERY:
            raise WireError(f"more than {MAX_RECEIVED} peer exchanges a minute")
        times.append(now)
        message = parse(payload)
        for address in message.dropped:
            ear.believed.pop(address, None)
        rank = _rank_of(peer)
        hosts = {host for host, _ in ear.believed}
        news = []
        for address, flags in message.added.items():
            if len(ear.believed) >= MAX_BELIEVED:
                break
            theirs = _rank(address[0])
            if theirs is None or theirs < rank or address in ear.believed:
                continue
            if theirs == _PUBLIC and address[0] in hosts:
                continue  # many ports of one host: nobody is to be flooded by way of us
            ear.believed[address] = None
            hosts.add(address[0])
            if not (finished and flags & WANTS_NOTHING):
                news.append(address)
        return news


_RANKS: Final = {Reach.LOOPBACK: 0, Reach.PRIVATE: 1, Reach.GLOBAL: 2}
_PUBLIC: Final = _RANKS[Reach.GLOBAL]


def _rank(host: str) -> int | None:
    """How far away an address is; None for one that is of no use to others."""
    try:
        return _RANKS.get(reach_of(host))
    except NetworkError:
        return None


def _rank_of(peer: Peer) -> int:
    """The same of a peer: on this link as in a private network, by name as far away."""
    try:
        return _RANKS.get(reach_of(peer.address[0]), _RANKS[Reach.PRIVATE])
    except NetworkError:
        return _PUBLIC


def _known(peer: Peer) -> _Known | None:
    """What others can be told of a peer, if anything."""
    rank = None if peer.listens_at is None else _rank(peer.listens_at[0])
    if rank is None:
        return None
    return _Known(WANTS_NOTHING * _wants_nothing(peer) | REACHABLE * peer.outgoing, rank)


def _wants_nothing(peer: Peer) -> bool:
    session = peer.session
    return session.peer_has.complete or session.introduction.upload_only
