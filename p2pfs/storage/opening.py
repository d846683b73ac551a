"""How a download finds its content on the disk: resumed, rechecked, taken over or refused.

Invariant: nothing becomes verified here but by a hash taken now, or by a record whose
checkpoint came after the flush of a file that has not changed since. What stands at the
real name and differs is the user's: it is never touched.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from p2pfs.errors import StorageError
from p2pfs.formats.bitfield import Bitfield
from p2pfs.formats.metainfo import Metainfo
from p2pfs.storage.files import Files, FileStat, OpenFile, Parts
from p2pfs.storage.hashing import Progress, recheck
from p2pfs.storage.layout import FileSlice, Layout
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
    chosen: Collection[int] | None = None,
) -> PieceStore:
    """See `PieceStore.open_download`."""
    root = files.open_root(output_dir, create=True)
    try:
        opening = _Opening(metainfo, Places.of_download(files, root, metainfo), files)
        opening.progress, opening.threads = progress, threads
        if chosen is not None:
            opening.chosen = frozenset(chosen) - opening.padding
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
        self.padding = self._layout.padding
        self._real = frozenset(self._layout.stored)
        self.chosen = self._real
        self._record_parts: Parts = (hidden_name(metainfo, "resume"),)

    def open(self) -> PieceStore:
        places, files = self._places, self._files
        if not self.chosen <= self._real:
            raise StorageError(f"{self._metainfo.name} has no such file to choose")
        begun = files.stat(places.root, self._record_parts) is not None
        if not begun and not self._standing():
            with contextlib.suppress(StorageError):  # untidy, not wrong
                places.remove_rest()
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
            self._choose()
            return self._restored(record, loaded)
        except BaseException:
            record.close()
            raise

    def _choose(self) -> None:
        """Settle what becomes of each file, by what was chosen and by what is there."""
        places = self._places
        others = self._real - self.chosen - self._present
        staying = {number for number in others if places.stat(number) is not None}
        self._layout = Layout.of(
            self._metainfo.files, self._metainfo.geometry, absent=others - staying
        )
        chosen = None if self.chosen == self._real else self.chosen
        places.choose(self._layout, self._present, staying, chosen)

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
        self._right = Bitfield(layout.geometry.piece_count)
        if top is None:
            return True
        if self._metainfo.multi_file and not top.is_folder:
            raise self._taken(f"{places.final_path} is not a folder")
        for number in sorted(self._real):
            found = files.stat(places.root, places.final(number))
            if found is None:
                continue
            path = places.root.full(places.final(number))
            length = layout.lengths[number]
            if found.is_file and found.size == length:
                self._present.add(number)
                self._seen[number] = found
            elif number not in self.chosen:
                continue  # the user's, and nothing to us
            elif not found.is_file:
                raise self._taken(f"{path} is not a regular file")
            else:
                raise self._taken(f"{path} has {found.size} bytes where the torrent has {length}")
        available = self._present | {layout.zeros}
        whole = [
            index
            for index in layout.touching_any(self._present)
            if all(span.file_index in available for span in self._spans(index))
        ]
        self._right = self._recheck(whole, places.open_final)
        for index in whole:
            if index in self._right:
                continue
            numbers = {span.file_index for span in self._spans(index)} - {layout.zeros}
            if bad := numbers & self.chosen:
                raise self._taken(
                    f"{places.root.full(places.final(min(bad)))} "
                    f"differs from the torrent (piece {index})"
                )
            self._present -= numbers
        return self._present < self._real

    def _spans(self, index: int) -> list[FileSlice]:
        return self._layout.spans(index, 0, self._layout.geometry.piece_size(index))

    def _taken(self, what: str) -> StorageError:
        return StorageError(f"{what}: move it away, or choose another output folder")

    def _restored(self, record: ResumeRecord, loaded: Loaded) -> PieceStore:
        """The store, with what is right of the content in the making."""
        trusted, doubtful = self._sort_out(loaded)
        claimed = Bitfield(len(trusted)) if loaded.fresh else loaded.settled | loaded.unsettled
        found = self._right | self._recheck(doubtful, self._places.open_read)
        verified = trusted | found
        if loaded.fresh:
            record.begin(self._metainfo.torrent_id, self._metainfo.geometry, found)
        else:
            if lost := list(claimed - verified):
                record.drop(lost)
            if new := list(verified - claimed):
                record.add_all(new)
        store = PieceStore(
            self._metainfo,
            self._places,
            verified,
            files=self._files,
            record=record,
            wanted=self._wanted(),
        )
        store.stats.update(self._begun)
        store.mark_dirty({span.file_index for index in found for span in self._spans(index)})
        try:
            self._take_over(store)
            store.checkpoint()
            if store.satisfied:
                store.finish()
        except BaseException:
            store.close(clean=False)
            raise
        return store

    def _wanted(self) -> Bitfield | None:
        if self.chosen == self._real:
            return None
        count = self._metainfo.geometry.piece_count
        return Bitfield.of(count, self._layout.touching_any(self.chosen))

    def _sort_out(self, loaded: Loaded) -> tuple[Bitfield, Bitfield]:
        """The pieces to trust, and those to recheck."""
        layout, count = self._layout, self._metainfo.geometry.piece_count
        stats = {number: self._places.stat(number) for number in layout.kept}
        self._begun = {number: found for number, found in stats.items() if found is not None}
        if loaded.fresh:
            there = layout.touching_any(n for n, found in self._begun.items() if found.size)
            doubtful = Bitfield.of(count, (i for i in there if layout.has_place(i)))
            return Bitfield(count), doubtful - self._right
        written_since = {
            span.file_index
            for index in loaded.unsettled
            if layout.has_place(index)
            for span in self._spans(index)
        }
        doubtful = loaded.unsettled.copy()
        for index in layout.touching_any(self._present):
            doubtful.add(index)
        for number, found in stats.items():
            plausible = (
                found is not None
                and found.size == layout.size_of(number)
                and (
                    found.mtime_ns == loaded.stamps.get(number)
                    or (number in written_since and found.mtime_ns <= loaded.record_time)
                )
            )
            if not plausible:
                for index in layout.touching(number):
                    if index in loaded.settled:
                        doubtful.add(index)
        homeless = Bitfield(count)
        if layout.absent:
            homeless = Bitfield.of(count, (i for i in range(count) if not layout.has_place(i)))
        return loaded.settled - doubtful - homeless, doubtful - self._right - homeless

    def _take_over(self, store: PieceStore) -> None:
        """Bring pieces together that an earlier choice of files kept apart."""
        places, layout = self._places, self._layout
        if self._files.stat(places.root, places.rest_parts) is None:
            return
        for index in layout.slots:
            if index in store.verified or not layout.has_place(index):
                continue
            if store.wanted is not None and index not in store.wanted:
                continue
            for kept in (True, False):
                data = self._read_anywhere(index, kept=kept)
                if data is not None and store.write_piece(index, data):
                    break

    def _read_anywhere(self, index: int, *, kept: bool) -> memoryview | None:
        """A piece from where its parts are; what is `kept` in the rest comes from there.

        Otherwise only what has no file of its own by now.
        """
        places, files, layout = self._places, self._files, self._layout
        size = layout.geometry.piece_size(index)
        data = memoryview(bytearray(size))
        place = 0
        for number, offset, length in layout.content_spans(
            index * layout.geometry.piece_length, size
        ):
            if number in self.padding:
                place += length
                continue
            begun = number in self._begun
            handle: OpenFile | None = None
            try:
                if number in self._present or (begun and not kept):
                    handle = places.open_read(number)
                else:
                    handle = files.open_read(places.root, places.rest_parts)
                    offset = layout.slots[index] * layout.geometry.piece_length + place
                got = files.pread_into(handle, data[place : place + length], offset)
            except StorageError:
                return None
            finally:
                if handle is not None:
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
