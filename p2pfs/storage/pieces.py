"""The pieces of one torrent on the disk: verified, written once, served from there.

Invariant: a piece is in `verified` only after its bytes were found right, written to their
files and entered in the record, in this order; a verified piece is never written again; and
a file of the user is never written to, nor replaced by what was downloaded.

Content in the making lies under a hidden name and gets its real one by `finish`.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from p2pfs.buffers import page_aligned
from p2pfs.errors import StorageError
from p2pfs.formats.bitfield import Bitfield
from p2pfs.formats.metainfo import Metainfo
from p2pfs.storage.changes import Changes
from p2pfs.storage.files import Files, OpenFile
from p2pfs.storage.flushing import Flusher
from p2pfs.storage.handles import HandlePool, Source, SourceCache
from p2pfs.storage.hashing import Progress, recheck, verify_chunks, verify_piece
from p2pfs.storage.identity import Identity
from p2pfs.storage.layout import FileSlice
from p2pfs.storage.places import Places
from p2pfs.storage.resume import ResumeRecord

__all__ = ["PieceStore"]

MAX_OPEN = 64
_CHUNK = 256 * 1024


class PieceStore:
    """One torrent's content; opened by `open_download` or `open_seed`.

    Every method blocks. `write_piece`, `write_block`, `verify_written`, `read` and
    `checkpoint` may run on several threads at once; `source` belongs to the thread that
    serves. `finish`, `settle` and `close` come when no writer is at work.
    """

    def __init__(
        self,
        metainfo: Metainfo,
        places: Places,
        verified: Bitfield,
        *,
        files: Files,
        record: ResumeRecord | None,
        wanted: Bitfield | None = None,
        max_open: int = MAX_OPEN,
    ) -> None:
        self.metainfo = metainfo
        self.wanted = wanted
        """The pieces of the chosen files; None when all are."""
        self.verified = verified
        self.layout = places.layout
        self._unwritten = places.standing | {self.layout.zeros}
        self._places = places
        self._files = files
        self._digests = metainfo.pieces
        self._identity = Identity(metainfo, places, files)
        self._lock = threading.Lock()
        self._writing = threading.Lock()  # the system makes writers of one file spin, not wait
        self._pool = HandlePool(files, self._open_pooled, max_open)
        self._sources = SourceCache(files, places.open_read, max_open, self._check_served)
        self._broken_off = False
        self._changes = Changes(self, self._hashed)
        self._flusher: Flusher | None = None
        if record is not None:
            self._flusher = Flusher(files, places, record, self._pool)
        self.stats = self._identity.stats
        """What the files looked like when they were opened or verified."""

    @staticmethod
    def open_download(
        metainfo: Metainfo,
        output_dir: Path,
        *,
        files: Files | None = None,
        progress: Progress | None = None,
        threads: int | None = None,
        chosen: Collection[int] | None = None,
    ) -> PieceStore:
        """Begin or resume a download into `output_dir` (made when it is not there).

        `chosen` are the numbers of the files to fetch (all by default, padding never); of
        the others nothing gets a name of its own. What is there is rechecked as far as
        needed, and used where it is right. Raises
        `StorageError` when a file of the user stands at the final name and differs, when
        another process downloads the same here, and on disk trouble.
        """
        from p2pfs.storage.opening import open_download

        return open_download(
            metainfo,
            output_dir,
            files=files or Files(),
            progress=progress,
            threads=threads,
            chosen=chosen,
        )

    @staticmethod
    def open_seed(
        metainfo: Metainfo,
        path: Path,
        *,
        have: Bitfield | None = None,
        verify: bool = True,
        files: Files | None = None,
        progress: Progress | None = None,
        threads: int | None = None,
    ) -> PieceStore:
        """Serve the content at `path`, read-only: the file, or the folder with the files.

        `have` are the pieces to serve (all by default); with `verify` they are hashed
        first, and those that differ are not in `verified`. Raises `StorageError` when
        there is nothing that could be the content.
        """
        from p2pfs.storage.seeding import open_seed

        return open_seed(
            metainfo,
            path,
            have=have,
            verify=verify,
            files=files or Files(),
            progress=progress,
            threads=threads,
        )

    @property
    def complete(self) -> bool:
        """Every piece is verified."""
        return self.verified.complete

    @property
    def chosen(self) -> frozenset[int] | None:
        """The numbers of the files to fetch; None when all are."""
        return self._places.chosen

    @property
    def satisfied(self) -> bool:
        """Every piece that is wanted is verified."""
        return self.complete if self.wanted is None else not (self.wanted - self.verified).count

    def file_path(self, number: int) -> Path:
        """Where a file of the torrent is, or will be once it is fetched."""
        return self._places.root.full(self._places.final(number))

    @property
    def finished(self) -> bool:
        """The content has its real name (or is seeded where it lies)."""
        return self._flusher is None or self._flusher.finished

    @property
    def only_read(self) -> bool:
        """Nothing is left to be written or flushed, so that `close` has nothing to wait for."""
        return self._flusher is None or self._flusher.settled

    @property
    def final_path(self) -> Path:
        """Where the content is, or will be once it is complete."""
        return self._places.final_path

    @property
    def content_path(self) -> Path:
        """The same; of a tree with a single file in it, where that file is or will be."""
        return self._places.content_path

    # Writing.

    def write_piece(self, index: int, data: memoryview | bytes | bytearray) -> bool:
        """Verify a whole piece and write it; False (and nothing written) when it is wrong.

        Raises `StorageError` on disk trouble; the piece is then not verified and may be
        tried again.
        """
        if not verify_piece(data, self._digests[20 * index : 20 * index + 20]):
            return False
        if index not in self.verified:
            self._enter(index, self._write(index, 0, data))
        return True

    def write_block(self, index: int, begin: int, data: memoryview | bytes | bytearray) -> None:
        """Put a block of a piece not yet verified on the disk, unadvertised.

        A block of a verified piece is ignored. Raises `StorageError` on disk trouble.
        """
        if index not in self.verified:
            self._write(index, begin, data)

    def verify_written(self, index: int) -> bool:
        """Read back a piece written in blocks; True when it is right, and verified now."""
        if index in self.verified:
            return True
        spans = self.layout.spans(index, 0, self.layout.geometry.piece_size(index))
        if not verify_chunks(self._chunks(spans), self.metainfo.piece_digest(index)):
            return False
        self._enter(index, spans)
        return True

    def _write(
        self, index: int, begin: int, data: memoryview | bytes | bytearray
    ) -> list[FileSlice]:
        if self.finished:
            raise self._read_only()
        spans = self.layout.spans(index, begin, len(data))
        view = data if len(spans) == 1 else memoryview(data)
        place = 0
        for number, offset, length in spans:
            part = view if len(spans) == 1 else view[place : place + length]
            place += length
            if number in self._unwritten:
                self._compare(number, offset, memoryview(part))
                continue
            handle = self._pool.acquire(number)
            try:
                with self._writing:
                    self._files.pwrite(handle, part, offset)
            finally:
                self._pool.release(number)
        return spans

    def _compare(self, number: int, offset: int, part: memoryview) -> None:
        """What is not to be written has to be there already: padding, and files of the user."""
        there = memoryview(bytearray(len(part)))
        self._fill(number, there, offset)
        if there == part:
            return
        if number == self.layout.zeros:
            raise StorageError(
                f"{self.metainfo.name}: padding in the torrent is not zeros, as it has to be"
            )
        path = self._places.root.full(self._places.parts(number))
        raise StorageError(
            f"{path} exists and differs: move it away, or choose another output folder"
        )

    def _enter(self, index: int, spans: Iterable[FileSlice]) -> None:
        if self._flusher is None:
            raise self._read_only()
        zeros = self.layout.zeros
        self._flusher.add(index, [span for span in spans if span.file_index != zeros])
        with self._lock:
            self.verified.add(index)

    def _read_only(self) -> StorageError:
        return StorageError(f"{self.final_path} is only read, not written")

    def drop(self, index: int) -> None:
        """The piece is not what it was (a failed read, a changed file): verified no longer."""
        with self._lock:
            dropped = self.verified.discard(index)
        if dropped and self._flusher is not None:
            self._flusher.drop(index)

    # Reading.

    def slices(self, index: int, begin: int, length: int) -> list[FileSlice]:
        """Where a range of a piece lies, for `source`; `GeometryError` outside the content."""
        return self.layout.spans(index, begin, length)

    def source(self, file_index: int) -> Source:
        """One content file to send from."""
        return self._sources.get(file_index)

    def read(self, index: int, begin: int, length: int) -> bytes:
        """A range of a piece. Raises `StorageError` when it cannot be had whole."""
        spans = self.layout.spans(index, begin, length)
        data = memoryview(bytearray(length))
        place = 0
        for number, offset, count in spans:
            self._fill(number, data[place : place + count], offset)
            place += count
        return bytes(data)

    def read_file(self, file_index: int, offset: int, length: int) -> bytes:
        """A range of one content file, for streams without `sendfile`; errors as for `read`."""
        handle = self._pool.acquire(file_index)
        try:
            self._check_served(file_index, handle)
        except StorageError:
            self._pool.release(file_index)
            self._pool.forget(file_index)
            raise
        self._pool.release(file_index)
        data = bytearray(length)
        self._fill(file_index, memoryview(data), offset)
        return bytes(data)

    def is_warm(self, index: int, begin: int, length: int) -> bool:
        """Whether a range is in memory, as far as its first and last byte tell.

        True also where the system cannot tell. Does not wait for the disk. Raises
        `StorageError` when a file cannot be opened.
        """
        return all(
            self._files.in_memory(self.source(number).fileno(), place)
            for number, offset, count in self.layout.spans(index, begin, length)
            if number != self.layout.zeros
            for place in (offset, offset + count - 1)
        )

    def warm(self, index: int, begin: int, length: int) -> None:
        """Bring a range into memory (the page cache), so that sending it will not wait."""
        for _ in self._chunks(self.layout.spans(index, begin, length)):
            pass

    def _fill(self, number: int, view: memoryview, offset: int) -> None:
        handle = self._pool.acquire(number)
        try:
            if self._files.pread_into(handle, view, offset) != len(view):
                raise StorageError(f"{handle.path} is shorter than it should be")
        finally:
            self._pool.release(number)

    def _chunks(self, spans: Iterable[FileSlice]) -> Iterator[memoryview]:
        buffer = page_aligned(_CHUNK)
        for number, offset, length in spans:
            for start in range(0, length, _CHUNK):
                view = buffer[: min(length - start, _CHUNK)]
                self._fill(number, view, offset + start)
                yield view

    def check_unchanged(self, file_index: int) -> bool:
        """Whether a file is still the one that was verified: size, time and identity.

        Of a file that is being downloaded, whose time we change ourselves: size and identity.
        """
        return self._identity.is_unchanged(file_index, finished=self.finished)

    def _check_served(self, number: int, handle: OpenFile) -> None:
        if self.finished:
            self._identity.check_served(number, handle)

    def recheck_changed(self, numbers: Iterable[int], suspects: Iterable[int] = ()) -> list[int]:
        """Hash what was verified of those of these files that changed; the pieces now lost.

        Files among `suspects` are hashed even when they look as they did.
        For content that is only read. A file that changes once more is noticed once more.
        Raises `StorageError` on trouble other than a missing, short or damaged file.
        """
        return self._changes.recheck(numbers, suspects)

    def find_again(self, indices: Iterable[int]) -> list[int]:
        """Of pieces that `recheck_changed` lost, those that are right again: verified now.

        To be called now and then, after `recheck_changed` had a look at their files. Hashed
        is what lies in files that differ from what they were then, and now and then the
        rest; a file that changed since the last call is being written, and left alone.
        """
        found = self._changes.find_again(indices)
        with self._lock:
            return [index for index in found if self.verified.add(index)]

    def _hashed(self, indices: list[int]) -> Bitfield:
        """Which of these pieces are right on the disk now."""
        return recheck(
            self.layout,
            self._digests,
            self._places.open_read,
            files=self._files,
            indices=indices,
            progress=self._go_on,
        )

    def break_off(self) -> None:
        """Have checks under way, and those to come, end soon, with a `StorageError`."""
        self._broken_off = True

    def _go_on(self, done: int, total: int) -> None:
        if self._broken_off:
            raise StorageError("the check was broken off")

    def remember_stats(self, numbers: Iterable[int] | None = None) -> None:
        """Take what the files look like now as right, for `check_unchanged`."""
        self._identity.remember(self.layout.kept if numbers is None else numbers)

    def _open_pooled(self, number: int) -> OpenFile:
        handle = None if self.finished else self._places.open_write(number)
        if handle is None:
            return self._places.open_read(number)
        try:
            first = self._identity.begin(number, handle)
        except BaseException:
            self._files.close(handle)
            raise
        if first and self._flusher is not None:
            self._flusher.mark_new(self._places.parts(number))
        return handle

    # Keeping.

    def mark_dirty(self, numbers: Iterable[int]) -> None:
        """These files may have content that was not flushed."""
        if self._flusher is not None:
            self._flusher.mark_dirty(number for number in numbers if number != self.layout.zeros)

    def checkpoint(self) -> None:
        """Flush what was written and enter that in the record; cheap when nothing was.

        After a failed flush the system may have forgotten what it could not write, so
        from then on this and `finish` raise; a new start rechecks what is in doubt.
        """
        if self._flusher is not None:
            self._flusher.checkpoint()

    def finish(self, *, durable: bool = True) -> Path:
        """Give the complete content its real name and tell it; done already: just tell it.

        With `durable` it is flushed first and the record removed; without, `settle` does
        that later, and a power loss in between is noticed and repaired at the next start.
        Raises `StorageError` when pieces are missing, the name is taken, or the disk fails.
        """
        if self._flusher is None or self._flusher.finished:
            return self.final_path
        if not self.satisfied:
            wanted = self.wanted or Bitfield.full(len(self.verified))
            missing = (wanted - self.verified).count
            raise StorageError(f"{self.final_path} is not complete: {missing} pieces are missing")
        for number in self._places.fetched:
            if not self.layout.lengths[number]:
                self._pool.acquire(number)  # creates it
                self._pool.release(number)
        if durable or not self._places.whole:  # what is named file by file cannot be taken back
            self._flusher.checkpoint()
        self._identity.check_in_place()
        self.remember_stats()  # a new name changes nothing of this
        self._flusher.finish(self._let_go)
        self.remember_stats()
        if durable:
            self._flusher.settle()
        return self.final_path

    def settle(self) -> None:
        """After `finish(durable=False)`: flush the content, then remove the record."""
        if self._flusher is not None:
            self._flusher.settle()

    def _let_go(self) -> None:
        """Close everything (for systems that cannot rename an open file)."""
        self._pool.close()
        self._sources.close()

    def rest(self) -> None:
        """Close what is open until it is needed again; only for content that is only read.

        Never waits: what is in use stays open. For the thread that serves.
        """
        if self.only_read:
            self._pool.rest()
            self._sources.close()
            self._places.rest()

    def close(self, clean: bool = True) -> None:
        """Let go of all files; `clean` makes a last checkpoint, so that nothing is rechecked.

        Raises `StorageError` when the checkpoint fails; everything is closed even then.
        """
        try:
            if clean and self._flusher is not None:
                self._flusher.checkpoint()
                self._flusher.settle()
        finally:
            self._let_go()
            if self._flusher is not None:
                self._flusher.close()
            self._places.close()
