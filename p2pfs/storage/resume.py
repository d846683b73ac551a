"""The crash-safe record of the pieces that were verified and written.

A header, then entries of 20 bytes that are only ever appended:

    header  magic 8 | version u16 | zero u16 | piece count u32 | piece length u32 |
            total length u64 | info hash 20 | nonce 8 | crc32
    entry   kind u8 | zero 3 | number u32 | value u64 | crc32 (seeded with the header's)

Invariant: an entry is appended after the bytes it speaks of were written, and a checkpoint
entry after the content was flushed; it says up to which byte of this record the pieces are
on the disk for good. What stands behind the first broken entry is not believed. So after a
kill every entry counts, and after a power loss those before the last checkpoint do.
"""

from __future__ import annotations

import os
import struct
import threading
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from p2pfs.errors import ResumeError, StorageError
from p2pfs.formats.bitfield import Bitfield
from p2pfs.geometry import Geometry, TorrentId
from p2pfs.storage.files import Files, OpenFile, Parts, Root

__all__ = ["Loaded", "ResumeRecord"]

MAGIC = b"p2pfsres"
VERSION = 1
_HEADER = struct.Struct(">8sHHIIQ20s8s")
_ENTRY = struct.Struct(">B3xIQ")
_CRC = struct.Struct(">I")
HEADER_SIZE = _HEADER.size + _CRC.size
ENTRY_SIZE = _ENTRY.size + _CRC.size
MAX_SIZE = 1 << 30
_READ_SIZE = ENTRY_SIZE * 50_000

PIECE, DROPPED, STAMP, CHECKPOINT, FINISHING = b"PDTCF"


@dataclass(slots=True)
class Loaded:
    """What a record says: `settled` pieces are on the disk for good, `unsettled` ones were
    written since the last checkpoint. `stamps` are modification times (ns) of files at the
    last checkpoint that saw them change, `record_time` the record's own.
    """

    settled: Bitfield
    unsettled: Bitfield
    stamps: dict[int, int] = field(default_factory=dict)
    record_time: int = 0
    finishing: int | None = None
    """Inode of what was about to get its real name."""
    fresh: bool = True
    """There was no record that can be used."""


class ResumeRecord:
    """An open, locked record. Appending is safe on any thread."""

    def __init__(self, files: Files, root: Root, parts: Parts, handle: OpenFile) -> None:
        self._files = files
        self._root = root
        self._parts = parts
        self._handle = handle
        self._lock = threading.Lock()
        self._seed = 0
        self.position = 0
        """Bytes of the record that are valid: where the next entry goes."""

    @classmethod
    def open(
        cls, files: Files, root: Root, parts: Parts, torrent_id: TorrentId, geometry: Geometry
    ) -> tuple[ResumeRecord, Loaded]:
        """Lock the record, creating it where there is none, and read what it says.

        One that cannot be used is left as it is until `begin` (`Loaded.fresh`), so that a
        stop during the recheck is followed by a recheck. Raises `StorageError` when
        another process has it or the disk refuses.
        """
        handle = _open_locked(files, root, parts)
        record = cls(files, root, parts, handle)
        try:
            found = files.fstat(handle)
            try:
                loaded = record._load(found.size, torrent_id, geometry)
                loaded.record_time = found.mtime_ns
                record._cut(found.size)
            except ResumeError:
                empty = Bitfield(geometry.piece_count)
                loaded = Loaded(empty, empty.copy())
        except BaseException:
            files.close(handle)
            raise
        return record, loaded

    def begin(self, torrent_id: TorrentId, geometry: Geometry, pieces: Iterable[int]) -> None:
        """Write a new record with these pieces, unsettled. Its header, which makes it count,
        comes to the disk last."""
        header = _header(torrent_id, geometry, os.urandom(8))
        self._seed = zlib.crc32(header)
        self.position = HEADER_SIZE
        self._files.truncate(self._handle, 0)
        self.add_all(pieces)
        if self.position > HEADER_SIZE:
            self.sync()
        self._files.pwrite(self._handle, header, 0)
        self.sync()
        self._files.sync_folder(self._root)

    def _cut(self, size: int) -> None:
        """Drop what is not believed: behind new entries it could look right again."""
        if size > self.position:
            self._files.truncate(self._handle, self.position)
            self.sync()

    def _load(self, size: int, torrent_id: TorrentId, geometry: Geometry) -> Loaded:
        if not HEADER_SIZE <= size <= MAX_SIZE:
            raise ResumeError(f"{self._handle.path} is no resume record")
        raw = bytearray(HEADER_SIZE)
        got = self._files.pread_into(self._handle, memoryview(raw), 0)
        nonce = bytes(raw[_HEADER.size - 8 : _HEADER.size])
        if got != HEADER_SIZE or raw != _header(torrent_id, geometry, nonce):
            raise ResumeError(f"{self._handle.path} is damaged, or of another torrent")
        self._seed = zlib.crc32(raw)
        self.position = HEADER_SIZE
        state = _Replay(geometry.piece_count)
        buffer = memoryview(bytearray(_READ_SIZE))
        while True:
            got = self._files.pread_into(self._handle, buffer, self.position)
            whole = got - got % ENTRY_SIZE
            for start in range(0, whole, ENTRY_SIZE):
                raw_entry = buffer[start : start + _ENTRY.size]
                (crc,) = _CRC.unpack_from(buffer, start + _ENTRY.size)
                if zlib.crc32(raw_entry, self._seed) != crc:
                    return state.result()
                if not state.take(self.position, *_ENTRY.unpack(raw_entry)):
                    return state.result()
                self.position += ENTRY_SIZE
            if whole < _READ_SIZE:
                return state.result()

    def _entry(self, kind: int, number: int, value: int = 0) -> bytes:
        body = _ENTRY.pack(kind, number, value)
        return body + _CRC.pack(zlib.crc32(body, self._seed))

    def _append(self, data: bytes) -> None:
        # A failed or torn write leaves `position` alone: the next entry overwrites it.
        with self._lock:
            self._files.pwrite(self._handle, data, self.position)
            self.position += len(data)

    def add(self, index: int) -> None:
        """Piece `index` was verified and written."""
        self._append(self._entry(PIECE, index))

    def add_all(self, indices: Iterable[int]) -> None:
        """The same for many pieces, in one write."""
        self._append(b"".join(self._entry(PIECE, index) for index in indices))

    def drop(self, indices: Iterable[int]) -> None:
        """These pieces are no longer what they were."""
        self._append(b"".join(self._entry(DROPPED, index) for index in indices))

    def checkpoint(self, position: int, stamps: Mapping[int, int]) -> None:
        """All pieces recorded before `position` have been flushed; `stamps` are the
        modification times (ns) of the files flushed. Counts once `sync` has come back."""
        entries = [self._entry(STAMP, number, stamp) for number, stamp in stamps.items()]
        entries.append(self._entry(CHECKPOINT, 0, position))
        self._append(b"".join(entries))

    def sync(self) -> None:
        """Flush the record itself."""
        self._files.sync(self._handle)

    def finishing(self, inode: int) -> None:
        """What has this inode is about to get its real name. Syncs the record."""
        self._append(self._entry(FINISHING, 0, inode))
        self.sync()

    def remove(self) -> None:
        """Delete the record and let go of it: the content has its real name."""
        if os.name == "nt":
            self.close()
        self._files.unlink(self._root, self._parts)
        self.close()

    def close(self) -> None:
        """Let go of the record (and its lock)."""
        self._files.close(self._handle)


class _Replay:
    """The entries of a record, taken one after the other."""

    def __init__(self, piece_count: int) -> None:
        self._count = piece_count
        self._where: dict[int, int] = {}
        self._settled_to = 0
        self._stamps: dict[int, int] = {}
        self._finishing: int | None = None

    def take(self, position: int, kind: int, number: int, value: int) -> bool:
        """Follow one entry; False when it makes no sense."""
        if kind in (PIECE, DROPPED):
            if number >= self._count:
                return False
            self._finishing = None
            if kind == PIECE:
                self._where[number] = position
            else:
                self._where.pop(number, None)
        elif kind == STAMP:
            self._stamps[number] = value
        elif kind == CHECKPOINT:
            if value > position:
                return False
            self._settled_to = max(self._settled_to, value)
        elif kind == FINISHING:
            self._finishing = value
        else:
            return False
        return True

    def result(self) -> Loaded:
        settled, unsettled = Bitfield(self._count), Bitfield(self._count)
        for index, position in self._where.items():
            (settled if position < self._settled_to else unsettled).add(index)
        return Loaded(settled, unsettled, self._stamps, finishing=self._finishing, fresh=False)


def _header(torrent_id: TorrentId, geometry: Geometry, nonce: bytes) -> bytes:
    body = _HEADER.pack(
        MAGIC,
        VERSION,
        0,
        geometry.piece_count,
        geometry.piece_length,
        geometry.total_length,
        torrent_id.v1,
        nonce,
    )
    return body + _CRC.pack(zlib.crc32(body))


def _open_locked(files: Files, root: Root, parts: Parts) -> OpenFile:
    while True:
        handle = files.open_write(root, parts, create=True)
        try:
            if not files.lock(handle):
                raise StorageError(
                    f"another p2pfs is downloading this torrent into {root.path}: "
                    "wait for it, or choose another folder"
                )
            named = files.stat(root, parts)
            if named is not None and named.inode == files.fstat(handle).inode:
                return handle
        except BaseException:
            files.close(handle)
            raise
        files.close(handle)  # removed by its owner between our open and our lock
