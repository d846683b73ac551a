"""The files inside an info dictionary (BEP 3, BEP 47).

Invariant: every path that leaves this module is safe, no two are one file, and every
length is a number from 0 on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from p2pfs.errors import MetainfoError
from p2pfs.formats.bencode import Value
from p2pfs.formats.paths import SafeNames, disk_paths, safe_path

__all__ = [
    "MAX_FILES",
    "FileEntry",
    "FileList",
    "count_links",
    "encoded",
    "read_attributes",
    "read_files",
    "read_length",
    "write_files",
]

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
    executable: bool = False
    hidden: bool = False

    @property
    def attributes(self) -> bytes:
        """The value of `attr` (BEP 47); empty when there is nothing to say."""
        if not (self.hidden or self.padding or self.executable):
            return b""
        told = ((b"h", self.hidden), (b"p", self.padding), (b"x", self.executable))
        return b"".join(letter for letter, is_so in told if is_so)


def read_length(entry: dict[bytes, Value]) -> int:
    """The length of a file in bytes; raises `MetainfoError` unless it is a number from 0 on."""
    length = entry.get(b"length")
    if not isinstance(length, int) or length < 0:
        raise MetainfoError("the length of a file is missing or not a number from 0 on")
    return length


def read_attributes(entry: dict[bytes, Value]) -> bytes:
    """The letters of `attr` (BEP 47); none when that is no string."""
    attributes = entry.get(b"attr", b"")
    return attributes if isinstance(attributes, bytes) else b""


def count_links(listed: Value) -> int:
    """How many symbolic links a list that `read_files` took has: they are left out."""
    if not isinstance(listed, list):
        return 0
    return sum(1 for entry in listed if isinstance(entry, dict) and b"l" in read_attributes(entry))


def read_files(listed: Value) -> tuple[FileEntry, ...]:
    """The value of `files`, checked; raises `MetainfoError`.

    Symbolic links (BEP 47) own no bytes and are left out: we never create any. Padding
    files get names of their own, because those of one length usually share one path.
    """
    if not isinstance(listed, list) or not listed:
        raise MetainfoError("the list of files is empty, or not a list")
    _check_count(listed)
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
        attributes = read_attributes(entry)
        if not attributes:
            files.append(FileEntry(path, length))
            continue
        if b"l" in attributes:
            if length:
                raise MetainfoError("a symbolic link owns bytes")
            continue
        padding = b"p" in attributes
        if padding:
            pads += 1
            path = (".pad", f"{pads}-{length}")
        files.append(
            FileEntry(
                path,
                length,
                padding=padding,
                executable=b"x" in attributes and not padding,
                hidden=b"h" in attributes,
            )
        )
    if not files:
        raise MetainfoError("the list of files has nothing but symbolic links")
    return _told_apart(files)


class FileList(tuple[FileEntry, ...]):
    """Files as `read_files` has them; `encoded` is the list that it would read."""

    encoded: bytes

    def __new__(cls, files: Iterable[FileEntry], encoded: bytes) -> Self:
        made = super().__new__(cls, files)
        made.encoded = encoded
        return made

    def __getnewargs__(self) -> tuple[tuple[FileEntry, ...], bytes]:
        return tuple(self), self.encoded


def write_files(files: Sequence[FileEntry]) -> FileList:
    """Files of ours, checked and encoded; at once what is a `FileList` already.

    Raises `MetainfoError` for what it would not take. Written here and not by the encoder of any
    value: for thousands of files that, and reading it again, took half of what hashing them did.
    """
    if isinstance(files, FileList):
        return files
    if not files:
        raise MetainfoError("the list of files is empty")
    _check_count(files)
    known, pads = SafeNames(), 0
    checked: list[FileEntry] = []
    out = [b"l"]
    for file in files:
        raw = [encoded(part) for part in file.path]
        safe_path(raw, known)
        if file.length < 0:
            raise MetainfoError("the length of a file is not a number from 0 on")
        attributes = file.attributes
        if file.padding:  # it has the path that BEP 47 gives it
            pads += 1
            raw = [b".pad", b"%d" % file.length]
            file = FileEntry(
                (".pad", f"{pads}-{file.length}"), file.length, padding=True, hidden=file.hidden
            )
        checked.append(file)
        attr = b"4:attr%d:%b" % (len(attributes), attributes) if attributes else b""
        path = b"".join([b"%d:%b" % (len(part), part) for part in raw])
        out.append(b"d%b6:lengthi%de4:pathl%bee" % (attr, file.length, path))
    out.append(b"e")
    return FileList(_told_apart(checked), b"".join(out))


def _check_count(files: Sequence[object]) -> None:
    if len(files) > MAX_FILES:
        raise MetainfoError(f"{len(files)} files are more than the {MAX_FILES} accepted")


def _told_apart(files: Iterable[FileEntry]) -> tuple[FileEntry, ...]:
    """The files, of which no two are one on any disk, and which are not all padding."""
    files = tuple(files)
    if all(file.padding for file in files):
        raise MetainfoError("the list of files has nothing but padding")
    disk_paths(file.path for file in files)
    return files


def encoded(text: str) -> bytes:
    """Text as UTF-8; raises `MetainfoError` when it is none."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise MetainfoError(f"{text!a} is not valid Unicode") from None
