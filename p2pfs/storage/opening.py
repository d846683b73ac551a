"""How a download finds its content on the disk: resumed, rechecked, taken over or refused.

Invariant: nothing becomes verified here but by a hash taken now, or by a record whose
checkpoint came after the flush of a file that has not changed since. What stands at the
real name and differs is the user's: it is never touched.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path

from p2pfs.errors import StorageError
from p2pfs.formats.bitfield import Bitfield
from p2pfs.formats.metainfo import Metainfo
from p2pfs.storage.files import Files, FileStat, OpenFile, Parts
from p2pfs.storage.hashing import Progress, recheck
from p2pfs.storage.pieces import PieceStore
from p2pfs.storage.places import Places, hidden_name
from p2pfs.storage.resume import Loaded, ResumeRecord

__all__ = ["open_download"]


def open_download(
    metainfo: Metainfo,
    output_dir: Path,
    *,
    files: Files,
    progress: Progress | None = None,
    threads: int | None = None,
) -> PieceStore:
    """See `PieceStore.open_download`."""
    root = files.open_root(output_dir, create=True)
    try:
        opening = _Opening(metainfo, Places.of_download(files, root, metainfo), files)
        opening.progress, opening.threads = progress, threads
        return opening.open()
    except BaseException:
        files.close_root(root)
        raise


class _Opening:
    """One `open_download` on its way."""

    progress: Progress | None = None
    threads: int | None = None

    def __init__(self, metainfo: Metainfo, places: Places, files: Files) -> None:
        self._metainfo = metainfo
        self._places = places
        self._files = files
        self._layout = places.layout
        self._record_parts: Parts = (hidden_name(metainfo, "resume"),)

    def open(self) -> PieceStore:
        places, files = self._places, self._files
        begun = files.stat(places.root, self._record_parts) is not None
        if not begun and not self._standing():
            return self._whole()
        record, loaded = ResumeRecord.open(
            files,
            places.root,
            self._record_parts,
            self._metainfo.torrent_id,
            self._metainfo.geometry,
        )
        try:
            self._undo_finishing(loaded)
            if not self._standing():
                with contextlib.suppress(StorageError):  # untidy, not wrong
                    places.remove_parts()
                    record.remove()
                record.close()
                return self._whole()
            return self._restored(record, loaded)
        except BaseException:
            record.close()
            raise

    def _whole(self) -> PieceStore:
        """The content has its real name and is right."""
        self._places.top = self._places.final_top
        store = PieceStore(
            self._metainfo,
            self._places,
            Bitfield.full(self._metainfo.geometry.piece_count),
            files=self._files,
            record=None,
        )
        store.stats.update(self._seen)
        return store

    def _undo_finishing(self, loaded: Loaded) -> None:
        """A stop between the new name and the end of its record: take the hidden name back.

        The flush may not have come about, so the pieces in doubt are rechecked as ever.
        What was edited after that stop is the user's, and stays.
        """
        places, files = self._places, self._files
        final = files.stat(places.root, places.final_top)
        if final is None or loaded.finishing != final.inode:
            return
        for number in range(len(self._layout.lengths)):
            found = files.stat(places.root, places.final(number))
            if found is not None and found.mtime_ns > loaded.record_time:
                return
        part = files.stat(places.root, places.top)
        if part is None:
            places.take_back()
        elif part.inode == final.inode and final.is_file:
            files.unlink(places.root, places.final_top)  # the second of two names

    def _standing(self) -> bool:
        """Look at what has the real name: False when that is the whole content.

        True when it is nothing, or a folder in which files are missing. `StorageError`
        when something in it differs from the torrent.
        """
        places, files, layout = self._places, self._files, self._layout
        top = files.stat(places.root, places.final_top)
        self._present: set[int] = set()
        self._seen: dict[int, FileStat | None] = {}
        if top is None:
            return True
        if self._metainfo.multi_file and not top.is_folder:
            raise self._taken(f"{places.final_path} is not a folder")
        for number, length in enumerate(layout.lengths):
            found = files.stat(places.root, places.final(number))
            if found is None:
                continue
            path = places.root.full(places.final(number))
            if not found.is_file:
                raise self._taken(f"{path} is not a regular file")
            if found.size != length:
                raise self._taken(f"{path} has {found.size} bytes where the torrent has {length}")
            self._present.add(number)
            self._seen[number] = found
        whole = [
            index
            for index in self._pieces_of(self._present)
            if all(
                span.file_index in self._present
                for span in layout.spans(index, 0, layout.geometry.piece_size(index))
            )
        ]
        right = self._recheck(whole, places.open_final)
        for index in whole:
            if index not in right:
                span = layout.spans(index, 0, layout.geometry.piece_size(index))[0]
                raise self._taken(
                    f"{places.root.full(places.final(span.file_index))} "
                    f"differs from the torrent (piece {index})"
                )
        return len(self._present) < len(layout.lengths)

    def _taken(self, what: str) -> StorageError:
        return StorageError(f"{what}: move it away, or choose another output folder")

    def _restored(self, record: ResumeRecord, loaded: Loaded) -> PieceStore:
        """The store, with what is right of the content in the making."""
        verified, doubtful = self._sort_out(loaded)
        claimed = Bitfield(len(verified)) if loaded.fresh else verified | doubtful
        found = self._recheck(doubtful, self._places.open_read)
        verified = verified | found
        if loaded.fresh:
            record.begin(self._metainfo.torrent_id, self._metainfo.geometry, found)
        elif lost := list(claimed - verified):
            record.drop(lost)
        store = PieceStore(self._metainfo, self._places, verified, files=self._files, record=record)
        store.stats.update(self._begun)
        store.mark_dirty(self._files_of(found))
        try:
            self._take_over(store)
            store.checkpoint()
            if store.complete:
                store.finish()
        except BaseException:
            store.close(clean=False)
            raise
        return store

    def _sort_out(self, loaded: Loaded) -> tuple[Bitfield, Bitfield]:
        """The pieces to trust, and those to recheck."""
        count = self._metainfo.geometry.piece_count
        stats = [self._places.stat(number) for number in range(len(self._layout.lengths))]
        self._begun = {number: found for number, found in enumerate(stats) if found is not None}
        if loaded.fresh:
            there = {number for number, found in enumerate(stats) if found and found.size}
            return Bitfield(count), Bitfield.of(count, self._pieces_of(there))
        written_since = self._files_of(loaded.unsettled)
        doubtful = loaded.unsettled.copy()
        for number, found in enumerate(stats):
            length = self._layout.lengths[number]
            plausible = (
                found is not None
                and found.size == length
                and (
                    found.mtime_ns == loaded.stamps.get(number)
                    or (number in written_since and found.mtime_ns <= loaded.record_time)
                )
            )
            if not plausible:
                for index in self._layout.pieces_of(number):
                    if index in loaded.settled:
                        doubtful.add(index)
        return loaded.settled - doubtful, doubtful

    def _take_over(self, store: PieceStore) -> None:
        """Copy what a folder at the real name has of pieces that are not verified yet."""
        if not self._present:
            return
        for index in self._pieces_of(self._present):
            if index in store.verified:
                continue
            data = self._read_anywhere(index)
            if data is not None:
                store.write_piece(index, data)

    def _read_anywhere(self, index: int) -> memoryview | None:
        places, files = self._places, self._files
        size = self._layout.geometry.piece_size(index)
        data = memoryview(bytearray(size))
        place = 0
        for number, offset, length in self._layout.spans(index, 0, size):
            opened = places.open_final if number in self._present else places.open_read
            try:
                handle = opened(number)
            except StorageError:
                return None
            try:
                got = files.pread_into(handle, data[place : place + length], offset)
            finally:
                files.close(handle)
            if got != length:
                return None
            place += length
        return data

    def _recheck(self, indices: Iterable[int], opened: Callable[[int], OpenFile]) -> Bitfield:
        wanted = list(indices)
        return recheck(
            self._layout,
            self._metainfo.pieces,
            opened,
            files=self._files,
            indices=wanted,
            threads=self.threads,
            progress=self.progress if wanted else None,
        )

    def _pieces_of(self, numbers: Iterable[int]) -> list[int]:
        found: set[int] = set()
        for number in numbers:
            found.update(self._layout.pieces_of(number))
        return sorted(found)

    def _files_of(self, pieces: Iterable[int]) -> set[int]:
        layout = self._layout
        return {
            span.file_index
            for index in pieces
            for span in layout.spans(index, 0, layout.geometry.piece_size(index))
        }
