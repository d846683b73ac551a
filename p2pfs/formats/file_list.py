"""The files inside an info dictionary (BEP 3, BEP 47).

Invariant: every path that leaves this module is safe, no two are one file, and every
length is a number from 0 on.
"""

from __future__ import annotations

from dataclasses import dataclass

from p2pfs.errors import MetainfoError
from p2pfs.formats.bencode import Value
from p2pfs.formats.paths import SafeNames, disk_paths, safe_path

__all__ = ["MAX_FILES", "FileEntry", "read_files", "read_length"]

MAX_FILES = 100_000


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file: its safe path below the torrent's folder, and its length in bytes.

    The path of a single-file torrent is `(name,)`. What the file is called on disk is
    decided for all files together by `paths.disk_paths`. `padding`: nothing but zeros, which
    nobody has to be asked for (BEP 47).
    """

    path: tuple[str, ...]
    length: int
    padding: bool = False


def read_length(entry: dict[bytes, Value]) -> int:
    """The length of a file in bytes; raises `MetainfoError` unless it is a number from 0 on."""
    length = entry.get(b"length")
    if not isinstance(length, int) or length < 0:
        raise MetainfoError("the length of a file is missing or not a number from 0 on")
    return length


def read_files(listed: Value) -> tuple[FileEntry, ...]:
    """The value of `files`, checked; raises `MetainfoError`.

    Symbolic links (BEP 47) own no bytes and are left out: we never create any. Padding
    files get names of their own, because those of one length usually share one path.
    """
    if not isinstance(listed, list) or not listed:
        raise MetainfoError("the list of files is empty, or not a list")
    if len(listed) > MAX_FILES:
        raise MetainfoError(f"{len(listed)} files are more than the {MAX_FILES} accepted")
    known, pads = SafeNames(), 0
    files = []
    for entry in listed:
        if not isinstance(entry, dict):
            raise MetainfoError("an entry in the list of files is not a dictionary")
        parts = entry.get(b"path.utf-8")
        if not isinstance(parts, list):
            parts = entry.get(b"path")
        if not isinstance(parts, list):
            raise MetainfoError("the path of a file is missing or not a list")
        if set(map(type, parts)) - {bytes}:
            raise MetainfoError("the path of a file has a part that is not a string")
        path = safe_path(parts, known)  # type: ignore[arg-type]
        length = read_length(entry)
        padding = False
        attributes = entry.get(b"attr", b"")  # BEP 47
        if isinstance(attributes, bytes) and attributes:
            if b"l" in attributes:
                if length:
                    raise MetainfoError("a symbolic link owns bytes")
                continue
            if b"p" in attributes:
                padding = True
                pads += 1
                path = (".pad", f"{pads}-{length}")
        files.append(FileEntry(path, length, padding))
    if not files:
        raise MetainfoError("the list of files has nothing but symbolic links")
    disk_paths(file.path for file in files)
    return tuple(files)
