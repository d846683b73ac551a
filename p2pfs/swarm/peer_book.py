"""The addresses heard of for one torrent: whom to dial, when, and whom never.

Invariant: an address is dialled at most once at a time and waits longer after each
failure; our own addresses and banned peers are not dialled. Bans are on (host, peer id)
and run out; a public host is banned as a whole only after `HOST_BANS` different peers
there. Private addresses never are: a whole classroom may stand behind one. What other
peers say (hearsay) fills `MAX_HEARSAY` of the book, takes the place of nothing else, and
is given up after `HEARSAY_TRIES`, until a tracker says the same or the peer comes itself.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

__all__ = ["Address", "PeerBook"]

Address = tuple[str, int]
"""Host (numeric) and port."""

MAX_KNOWN: Final = 2000
MAX_HEARSAY: Final = 500
HEARSAY_TRIES: Final = 3
CALL_EVERY: Final = 60.0
"""Seconds after which whoever calls again is tried again."""
CALL_EVERY_SEED: Final = 900.0
"""The same of one with whom there was nothing to exchange: by now it may be another one."""
FIRST_RETRY: Final = 5.0
MAX_RETRY: Final = 600.0
BAN_FOR: Final = 3600.0
HOST_BANS: Final = 4


@dataclass(slots=True)
class _Entry:
    next_at: float
    tried_at: float = -math.inf
    failures: int = 0
    connected: bool = False
    dialling: bool = False
    useless: bool = False

    @property
    def waits(self) -> bool:
        """Whether it is to be dialled some time."""
        return not (self.connected or self.dialling or self.useless)


class PeerBook:
    """Addresses with their history, bounded to `MAX_KNOWN`."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._entries: dict[Address, _Entry] = {}
        self._hearsay: set[Address] = set()
        self._own: set[Address] = set()
        self._bans: dict[tuple[str, bytes], float] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def heard_of(self, address: Address, now: float, *, hearsay: bool = False) -> bool:
        """Whether the address was new and taken. Hearing of one again clears no back-off.

        `hearsay`: from whoever says so, not from a tracker or the user.
        """
        if address in self._own or not 0 < address[1] < 65536:
            return False
        entry = self._entries.get(address)
        if entry is not None:
            if address in self._hearsay and not hearsay:
                self._hearsay.remove(address)
                entry.next_at = now if entry.next_at == math.inf else entry.next_at
            return False
        if hearsay and len(self._hearsay) >= MAX_HEARSAY:
            if not self._make_room(self._hearsay):
                return False
        elif len(self._entries) >= MAX_KNOWN and not (
            self._make_room(self._hearsay, failed=hearsay)
            or (not hearsay and self._make_room(self._entries))
        ):
            return False
        self._entries[address] = _Entry(now)
        if hearsay:
            self._hearsay.add(address)
        return True

    def called(self, address: Address, now: float) -> bool:
        """Whether `address`, which has just said itself that it is there, is to be dialled.

        It counts as hearsay, since it may be somebody else who says so; but whoever was
        away or complete may be back as a downloader, so that it is tried at once.
        """
        entry = self._entries.get(address)
        if entry is None:
            return self.heard_of(address, now, hearsay=True)
        rest = CALL_EVERY_SEED if entry.useless else CALL_EVERY
        if entry.connected or entry.dialling or now - entry.tried_at < rest:
            return False
        entry.useless = False
        entry.next_at = now
        return True

    def _make_room(self, among: Collection[Address], *, failed: bool = True) -> bool:
        """Forget the one of `among` that failed most; without `failed`, one that did not, too."""
        worst = max(
            (a for a in among if not (self._entries[a].connected or self._entries[a].dialling)),
            key=lambda a: self._entries[a].failures,
            default=None,
        )
        if worst is None or (failed and self._entries[worst].failures == 0):
            return False
        del self._entries[worst]
        self._hearsay.discard(worst)
        return True

    def to_dial(self, count: int, now: float) -> list[Address]:
        """Up to `count` addresses that are due: who failed least first, hearsay after the rest."""
        due = [
            address
            for address, entry in self._entries.items()
            if entry.next_at <= now and entry.waits
        ]
        self._rng.shuffle(due)
        due.sort(key=lambda address: (self._entries[address].failures, address in self._hearsay))
        for address in due[:count]:
            self._entries[address].dialling = True
            self._entries[address].tried_at = now
        return due[:count]

    def next_at(self) -> float:
        """When the next address is due; infinity when none is going to be."""
        return min((e.next_at for e in self._entries.values() if e.waits), default=math.inf)

    def connected(self, address: Address) -> None:
        """A session with whoever listens at `address` is running, whoever dialled."""
        if address not in self._entries and not self.heard_of(address, 0.0):
            return
        entry = self._entries[address]
        entry.dialling, entry.connected = False, True
        self._hearsay.discard(address)

    def disconnected(self, address: Address, now: float, *, failed: bool) -> None:
        """A dial or a session to `address` ended; `failed`: with nothing gained."""
        entry = self._entries.get(address)
        if entry is None:
            return
        entry.dialling = entry.connected = False
        entry.tried_at = now
        entry.failures = entry.failures + 1 if failed else 1
        wait = min(MAX_RETRY, FIRST_RETRY * 2.0 ** min(entry.failures - 1, 10))
        entry.next_at = now + wait * self._rng.uniform(0.8, 1.2)
        if address in self._hearsay and entry.failures >= HEARSAY_TRIES:
            entry.next_at = math.inf

    def nothing_to_gain(self, address: Address) -> None:
        """Both ends are complete: not dialled again until `gain_possible`."""
        if address in self._entries:
            self._entries[address].useless = True

    def gain_possible(self) -> None:
        """We need pieces again: everybody may be of use."""
        for entry in self._entries.values():
            entry.useless = False

    def is_ourselves(self, address: Address) -> None:
        """A handshake came back with our own peer id."""
        self._own.add(address)
        self._entries.pop(address, None)
        self._hearsay.discard(address)

    def forget_all(self) -> None:
        """Know nobody any more but ourselves; who is banned stays so."""
        self._entries.clear()
        self._hearsay.clear()

    def ban(self, host: str, peer_id: bytes, now: float) -> None:
        self._bans[host, peer_id] = now + BAN_FOR

    def is_banned(self, host: str, peer_id: bytes, now: float) -> bool:
        """Whether this peer, or too many peers of its host, sent data that failed."""
        self._bans = {key: until for key, until in self._bans.items() if until > now}
        if (host, peer_id) in self._bans:
            return True
        if sum(1 for banned, _ in self._bans if banned == host) < HOST_BANS:
            return False
        try:
            return ip_address(host).is_global
        except ValueError:
            return False
