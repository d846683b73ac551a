"""The exception tree of p2pfs.

Invariant: whatever goes wrong for a reason outside this program (bytes from the
network, files, disks, trackers, what a user typed) is raised as a `P2pfsError`
with a message that a person can act on; anything else that escapes is a bug.
"""

from __future__ import annotations

__all__ = [
    "BencodeError",
    "CatalogueError",
    "FormatError",
    "GeometryError",
    "ListenError",
    "MagnetError",
    "MetainfoError",
    "NetworkError",
    "P2pfsError",
    "ResumeError",
    "StorageError",
    "TrackerError",
    "UsageError",
    "WireError",
]


class P2pfsError(Exception):
    """Root of every error that p2pfs raises on purpose."""


class UsageError(P2pfsError):
    """A value the caller chose cannot be used (the command line exits with 2)."""


class GeometryError(P2pfsError):
    """Sizes that describe no torrent: a piece length of 0, an index past the end."""


class FormatError(P2pfsError):
    """Bytes from outside break the format they claim to follow."""


class BencodeError(FormatError):
    """Not bencode (BEP 3), or beyond the limits set for this place."""


class MetainfoError(FormatError):
    """Bencode, but not a metainfo file that can be used safely."""


class MagnetError(FormatError):
    """A magnet link that names no torrent that can be used."""


class WireError(FormatError):
    """A peer broke the wire protocol; the connection is to be closed."""


class TrackerError(P2pfsError):
    """A tracker cannot be reached, refused, or answered nonsense."""


class CatalogueError(TrackerError):
    """A name is not in the catalogue, or means more than one thing."""


class NetworkError(P2pfsError):
    """A host cannot be resolved or reached."""


class ListenError(NetworkError):
    """None of the ports asked for can be listened on."""


class StorageError(P2pfsError):
    """A file cannot be opened, read or written; `disk_full` says it was for want of space."""

    def __init__(self, message: str, *, disk_full: bool = False) -> None:
        super().__init__(message)
        self.disk_full = disk_full


class ResumeError(StorageError):
    """A resume record cannot be trusted; the content is rechecked instead."""
