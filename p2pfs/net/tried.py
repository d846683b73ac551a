"""What was tried to find somebody who has the metadata of a torrent, and what came of it.

Invariant: no more than `MAX_REMEMBERED` of each kind are remembered, whoever says how many.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from p2pfs.formats.ut_metadata import MAX_METADATA
from p2pfs.net.progress import label
from p2pfs.swarm.peer_book import Address

__all__ = ["Fetched", "Tried"]

MAX_REMEMBERED: Final = 1000

NAMED: Final = 3
"""Addresses that could not be reached, which are named in an explanation."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """How far it is: `peers` are connected, `sources` of them may give metadata; sizes in bytes.

    `tried`: who was asked so far, and what came of it, in a phrase.
    """

    name: str
    info_hash: str
    peers: int
    sources: int
    bytes_done: int
    bytes_total: int
    tracker: str
    tried: str


class Tried:
    """Addresses that are known, peers that were met, and those that gave wrong metadata."""

    def __init__(self) -> None:
        self._heard: dict[Address, bool] = {}  # and whether it is hearsay
        self._met: set[bytes] = set()
        self._unreached: dict[Address, str] = {}
        self._banned: dict[tuple[str, bytes], None] = {}

    def heard_of(self, address: Address, *, hearsay: bool) -> None:
        """`hearsay`: from whoever says so, not from a tracker or the user."""
        if address in self._heard or len(self._heard) < MAX_REMEMBERED:
            self._heard[address] = hearsay and self._heard.get(address, True)

    def known(self, *, hearsay: bool) -> Iterator[Address]:
        """The addresses that are, or are not, hearsay alone."""
        return (address for address, is_hearsay in self._heard.items() if is_hearsay == hearsay)

    def resolved(self, name: Address) -> None:
        """The peer at a name has addresses now."""
        self._heard.pop(name, None)
        self._unreached.pop(name, None)

    def unreached(self, address: Address, reason: str) -> None:
        """Nobody there could be met, for this reason."""
        if address in self._unreached or len(self._unreached) < MAX_REMEMBERED:
            self._unreached[address] = reason

    def met(self, peer_id: bytes, dialled: Address | None) -> None:
        """A peer is there, at the address that was `dialled` if it was."""
        if len(self._met) < MAX_REMEMBERED:
            self._met.add(peer_id)
        if dialled is not None:
            self._unreached.pop(dialled, None)

    def ban(self, host: str, peer_id: bytes) -> None:
        """A peer gave wrong metadata."""
        if len(self._banned) < MAX_REMEMBERED:
            self._banned[host, peer_id] = None

    @property
    def banned(self) -> Iterator[tuple[str, bytes]]:
        """Host and peer id of each."""
        return iter(self._banned)

    def explain(self, tracker: str, *, too_large: int, no_source: bool) -> str:
        """In a phrase: `tracker` is what the trackers said.

        `too_large`: bytes of metadata that peers speak of, if that is too much. `no_source`: of
        those that are connected nobody gives any.
        """
        parts = [tracker]
        if too_large:
            parts.append(
                f"peers speak of {too_large / 1e6:.0f} MB of metadata, and no more than "
                f"{MAX_METADATA / 1e6:.0f} MB are taken"
            )
        known, met = len(self._heard), len(self._met)
        if not known and not met:
            parts.append("no peer is known")
        if known:
            parts.append(f"{known} {'address' if known == 1 else 'addresses'} of peers known")
        if met:
            parts.append(f"{met} {'peer' if met == 1 else 'peers'} met")
        if no_source and not too_large:
            parts.append(
                "none of those connected gives metadata, which nobody does for a private torrent: "
                "that needs its .torrent"
            )
        if self._banned:
            parts.append(f"{len(self._banned)} gave wrong metadata")
        tried = list(self._unreached.items())[:NAMED]
        parts += [f"{label(address)}: {reason}" for address, reason in tried]
        return "; ".join(parts)
