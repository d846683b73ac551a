"""What a torrent tells about itself, as values.

Invariant: snapshots only; nothing here changes once it was handed out. Byte counts are
payload, rates are bytes a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["FileProgress", "PeerInfo", "Progress", "Source", "Taking", "label"]


@dataclass(frozen=True, slots=True)
class Source:
    """What was exchanged with one peer, also after it left."""

    address: str
    client: str
    bytes_down: int
    bytes_up: int


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """One connection. `direction` is `in` or `out`; `pieces` how many the peer has."""

    address: str
    client: str
    direction: str
    down_rate: float
    up_rate: float
    pieces: int
    bytes_down: int
    bytes_up: int
    am_choking: bool
    am_interested: bool
    peer_choking: bool
    peer_interested: bool
    snubbed: bool


@dataclass(frozen=True, slots=True)
class Taking:
    """A download that somebody else has running from us: `name` and `info_hash` of what.

    `share_done`: how much of it the other end has, 0..1, from wherever; `idle`: seconds
    since it last took a block here.
    """

    name: str
    info_hash: str
    address: str
    client: str
    share_done: float
    idle: float


@dataclass(frozen=True, slots=True)
class FileProgress:
    """One file of a torrent: `number` as people are shown it, `done` of `size` bytes verified.

    `name` is its path in the torrent, `path` where it is or will be; `wanted`: it is chosen.
    """

    number: int
    name: str
    size: int
    done: int
    wanted: bool
    path: Path


@dataclass(frozen=True, slots=True)
class Progress:
    """A torrent at one moment; of a download, pieces and bytes are those that are wanted.

    `state`: checking, downloading, seeding, stopped or error. `missing`: the pieces that
    no connected peer has, filled once nothing else is left to fetch; `asked`: the peers
    that were connected since the start. `wasted`: bytes that came and were of no use.
    `error`: what the disk said, while it cannot be written; `web_seeds`: how many web seeds
    are giving (`peers` does not count them), `web_problems`: what is wrong with the others.
    """

    name: str
    state: str
    pieces_done: int
    pieces_total: int
    bytes_done: int
    bytes_total: int
    down_rate: float
    up_rate: float
    eta: float | None
    peers: int
    downloaded: int
    uploaded: int
    wasted: int
    hash_failures: int
    sources: tuple[Source, ...]
    missing: tuple[int, ...]
    asked: int
    error: str | None
    tracker: str
    web_seeds: int = 0
    web_problems: tuple[str, ...] = ()
    files: tuple[FileProgress, ...] = ()
    """The first files of a torrent of several, when asked for."""
    files_total: int = 1
    files_chosen: int | None = None
    """How many of them were chosen to be downloaded; None for all."""


def label(address: tuple[str, int]) -> str:
    """`HOST:PORT`, with IPv6 in brackets."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
