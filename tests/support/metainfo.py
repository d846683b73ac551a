"""Metainfo files of small contents that exist nowhere."""

from __future__ import annotations

from p2pfs.formats.metainfo import FileEntry, Metainfo, build


def torrent(name: str, content: int = 0) -> bytes:
    """A file of 1,000 bytes; another `content` (0..255) is another torrent of that name."""
    return described(name, content).to_bytes()


def described(name: str, content: int = 0) -> Metainfo:
    """What `torrent` is the metainfo file of; a name with slashes is a file in a tree."""
    root, *path = name.split("/")
    return build(
        name=root,
        files=[FileEntry(tuple(path) or (root,), 1000)],
        multi_file=bool(path),
        piece_length=16384,
        pieces=bytes([content]) * 20,
    )
