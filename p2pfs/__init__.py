"""p2pfs as a library: the engine that the commands use, typed and asyncio.

Invariant: importing the package costs nothing: every public name is loaded when it is
first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from p2pfs.errors import (
        BencodeError,
        CatalogueError,
        FormatError,
        ListenError,
        MagnetError,
        MetainfoError,
        NetworkError,
        P2pfsError,
        StorageError,
        TrackerError,
        UsageError,
    )
    from p2pfs.formats.bitfield import Bitfield
    from p2pfs.formats.magnet import Magnet
    from p2pfs.formats.magnet import parse as parse_magnet
    from p2pfs.formats.metainfo import Metainfo
    from p2pfs.formats.metainfo import parse as parse_torrent
    from p2pfs.formats.selection import select_pieces
    from p2pfs.net.engine import Client, PeerInfo, Progress, Torrent
    from p2pfs.net.tracker_http import TrackerServer as Tracker
    from p2pfs.storage.creating import make_metainfo as make_torrent

__version__ = "0.1.0"

_HOMES = {
    "Bitfield": "p2pfs.formats.bitfield:Bitfield",
    "Client": "p2pfs.net.engine:Client",
    "Magnet": "p2pfs.formats.magnet:Magnet",
    "Metainfo": "p2pfs.formats.metainfo:Metainfo",
    "PeerInfo": "p2pfs.net.engine:PeerInfo",
    "Progress": "p2pfs.net.engine:Progress",
    "Torrent": "p2pfs.net.engine:Torrent",
    "Tracker": "p2pfs.net.tracker_http:TrackerServer",
    "make_torrent": "p2pfs.storage.creating:make_metainfo",
    "parse_magnet": "p2pfs.formats.magnet:parse",
    "parse_torrent": "p2pfs.formats.metainfo:parse",
    "select_pieces": "p2pfs.formats.selection:select_pieces",
} | {
    name: f"p2pfs.errors:{name}"
    for name in (
        "BencodeError",
        "CatalogueError",
        "FormatError",
        "ListenError",
        "MagnetError",
        "MetainfoError",
        "NetworkError",
        "P2pfsError",
        "StorageError",
        "TrackerError",
        "UsageError",
    )
}

__all__ = [
    "BencodeError",
    "Bitfield",
    "CatalogueError",
    "Client",
    "FormatError",
    "ListenError",
    "Magnet",
    "MagnetError",
    "Metainfo",
    "MetainfoError",
    "NetworkError",
    "P2pfsError",
    "PeerInfo",
    "Progress",
    "StorageError",
    "Torrent",
    "Tracker",
    "TrackerError",
    "UsageError",
    "__version__",
    "make_torrent",
    "parse_magnet",
    "parse_torrent",
    "select_pieces",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module, _, attribute = home.partition(":")
    value = getattr(import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
