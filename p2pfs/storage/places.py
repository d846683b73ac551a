"""What the files of one torrent are called on this disk, before and after completion.

Invariant: content in the making has a hidden name that bears the torrent's info hash, so
that two torrents of one name never meet; a real name is only ever taken when it is free.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path

from p2pfs.errors import StorageError
from p2pfs.formats.metainfo import Metainfo
from p2pfs.formats.paths import MAX_COMPONENT_BYTES, disk_name, disk_paths, shorten
from p2pfs.storage.files import Files, FileStat, OpenFile, Parts, Root
from p2pfs.storage.layout import Layout
from p2pfs.storage.resume import ResumeRecord

__all__ = ["Places", "hidden_name"]

_CHUNK = 256 * 1024


def hidden_name(metainfo: Metainfo, kind: str) -> str:
    """The name of our working file: kind is `part` (content), `resume` (the record) or
    `rest` (see `Layout.rest`).

    It begins with a dot, names the content for people, and cannot be the name of content.
    """
    tail = f".{metainfo.torrent_id.v1.hex()[:16]}.p2pfs-{kind}"
    return "." + shorten(disk_name(metainfo.name), MAX_COMPONENT_BYTES - 1 - len(tail)) + tail


class Places:
    """Names of one torrent's files below an opened root, which it owns.

    File i is at `top + inner[i]`; `final_top` is what `top` becomes by `finish`, unless
    `choose` said that only some files are to get their real names.
    """

    def __init__(
        self,
        files: Files,
        root: Root,
        layout: Layout,
        *,
        top: Parts,
        final_top: Parts,
        inner: Sequence[Parts],
        rest: Parts = (),
    ) -> None:
        self._files = files
        self.root = root
        self.layout = layout
        self.top = top
        self.final_top = final_top
        self.inner = inner
        self.rest_parts = rest
        self._hidden_top = top
        self._moved: set[int] = set()
        self.standing: frozenset[int] = frozenset()
        """Files that had their real names from the start: of the user, and only read."""
        self._staying: frozenset[int] = frozenset()
        self.chosen: frozenset[int] | None = None
        self._merged = False
        self._lock = threading.Lock()

    @classmethod
    def of_download(cls, files: Files, root: Root, metainfo: Metainfo) -> Places:
        """The places of a download into `root`."""
        inner: list[Parts] = [()]
        if metainfo.multi_file:
            inner = disk_paths(entry.path for entry in metainfo.files)
        return cls(
            files,
            root,
            Layout.of(metainfo.files, metainfo.geometry),
            top=(hidden_name(metainfo, "part"),),
            final_top=(disk_name(metainfo.name),),
            inner=inner,
            rest=(hidden_name(metainfo, "rest"),),
        )

    def choose(
        self,
        layout: Layout,
        standing: Collection[int],
        staying: Collection[int],
        chosen: frozenset[int] | None,
    ) -> None:
        """Say what becomes of each file, before any is written; `chosen` are wanted (None: all).

        `standing` have their real names, `staying` keep their hidden ones, because they are
        not wanted now; the `absent` ones of `layout` get none.
        """
        self.layout = layout
        self.standing = frozenset(standing)
        self._moved = set(standing)
        self._staying = frozenset(staying)
        self.chosen = chosen

    @property
    def whole(self) -> bool:
        """Whether all files get their real names together."""
        return self.all_chosen and not self.standing

    @property
    def all_chosen(self) -> bool:
        """Whether every file has its real name in the end."""
        return not (self._staying or self.layout.absent)

    @property
    def fetched(self) -> list[int]:
        """The files that get their real names by `finish`."""
        return [
            number
            for number in self.layout.stored
            if number not in self.standing and number not in self._staying
        ]

    @property
    def final_path(self) -> Path:
        """Where the content is once it is complete."""
        return self.root.full(self.final_top)

    @property
    def content_path(self) -> Path:
        """The same; of a tree with a single file in it, where that file is."""
        return self.root.full(self.final(0)) if len(self.inner) == 1 else self.final_path

    def parts(self, number: int) -> Parts:
        """What file `number` is called now."""
        if number == self.layout.rest:
            return self.rest_parts
        if number in self._staying:
            return self._hidden_top + self.inner[number]
        if number in self._moved:
            return self.final(number)
        return self.top + self.inner[number]

    def has_moved(self, number: int) -> bool:
        """Whether file `number` has its real name although others have not."""
        return number in self._moved

    def look_afresh(self) -> None:
        """Resolve every name anew: folders may not be where they were."""
        self._files.forget_folders(self.root)

    def final(self, number: int) -> Parts:
        """What file `number` is called in the end."""
        return self.final_top + self.inner[number]

    def stat(self, number: int) -> FileStat | None:
        """What is at the present place of a file; None when nothing is."""
        if number == self.layout.zeros:
            return None
        with self._lock:
            return self._files.stat(self.root, self.parts(number))

    def open_read(self, number: int) -> OpenFile:
        """Open a file at its present place for reading."""
        if number == self.layout.zeros:
            return self._files.open_zeros(self.root, self.layout.geometry.piece_length)
        with self._lock:
            return self._files.open_read(self.root, self.parts(number))

    def open_write(self, number: int) -> OpenFile | None:
        """Open a file at its hidden name, creating it; None when it is only read."""
        if number == self.layout.zeros:
            return None
        with self._lock:
            if self.top == self.final_top or number in self._moved:
                return None
            return self._files.open_write(self.root, self.parts(number), create=True)

    def open_final(self, number: int) -> OpenFile:
        """Open a file at its real name for reading, whatever our state is."""
        if number == self.layout.zeros:
            return self.open_read(number)
        return self._files.open_read(self.root, self.final(number))

    def finish(self, record: ResumeRecord, let_go: Callable[[], None]) -> None:
        """Move the content to its real name, which has to be free.

        A folder that is there already is filled up: files in it that are equal stay,
        one that differs is a `StorageError`. `let_go` closes open files where the system
        does not rename those.
        """
        if not self.whole:
            standing = self._standing()
            with self._lock:
                if os.name == "nt":
                    let_go()
                self._merge(standing)
                self.top = self.final_top
            return
        here = self._files.stat(self.root, self.top)
        if here is None:
            raise StorageError(f"{self.root.full(self.top)} was removed by another program")
        merged = here.is_folder and self._has_final_folder()
        standing = self._standing() if merged else set()
        with self._lock:
            if os.name == "nt":
                let_go()
            record.finishing(here.inode)
            if not merged:
                merged = not self._rename(here)
                standing = self._standing() if merged else set()
            if merged:
                self._merge(standing)
            self.top = self.final_top

    def _rename(self, here: FileStat) -> bool:
        """Give the content its name; False when a folder has got that name just now."""
        try:
            self._files.rename_new(self.root, self.top, self.final_top)
        except StorageError:
            if here.is_folder and self._has_final_folder():
                return False
            raise
        return True

    def _has_final_folder(self) -> bool:
        there = self._files.stat(self.root, self.final_top)
        return there is not None and there.is_folder

    def take_back(self) -> None:
        """Undo `finish`: the content gets its hidden name again, and nothing else does."""
        if not self._has_final_folder() or self._alone(self.final_top):
            self._files.rename_new(self.root, self.final_top, self.top)
            return
        for number in range(len(self.inner)):
            if self._files.stat(self.root, self.final(number)) is not None:
                self._files.rename_new(self.root, self.final(number), self.top + self.inner[number])
        self._remove_folders(self.final_top)

    def _alone(self, folder: Parts) -> bool:
        """Whether nothing but our files is in a folder at the real name."""
        own = {self.final(number) for number in range(len(self.inner))}
        own |= {parts[:depth] for parts in own for depth in range(len(parts))}
        unseen = [folder]
        while unseen:
            where = unseen.pop()
            for name, found, _ in self._files.list_folder(self.root, where):
                parts = (*where, name)
                if parts not in own:
                    return False
                if found.is_folder:
                    unseen.append(parts)
        return True

    def _standing(self) -> set[int]:
        """The files that are at their real names already, equal to ours."""
        standing = set()
        for number in self.fetched:
            if number in self._moved:  # by an earlier attempt
                continue
            if self._files.stat(self.root, self.final(number)) is None:
                continue
            if not self._equal(number):
                raise StorageError(
                    f"{self.root.full(self.final(number))} exists and differs: "
                    "move it away, or choose another output folder"
                )
            standing.add(number)
        return standing

    def _merge(self, standing: set[int]) -> None:
        self._merged = True
        for number in self.standing:  # what was begun of it before it stood there
            self._files.unlink(self.root, self._hidden_top + self.inner[number])
        for number in self.fetched:
            if number in self._moved:
                continue
            if number in standing:
                self._files.unlink(self.root, self.parts(number))
            else:
                self._files.rename_new(self.root, self.parts(number), self.final(number))
            self._moved.add(number)
        self.remove_folders()

    def _equal(self, number: int) -> bool:
        with_mine = self._files.open_read(self.root, self.parts(number))
        try:
            theirs = self.open_final(number)
            try:
                if self._files.fstat(theirs).size != self._files.fstat(with_mine).size:
                    return False
                return all(
                    left == right
                    for left, right in zip(
                        self._content(with_mine), self._content(theirs), strict=False
                    )
                )
            finally:
                self._files.close(theirs)
        finally:
            self._files.close(with_mine)

    def _content(self, handle: OpenFile) -> Iterator[memoryview]:
        buffer = memoryview(bytearray(_CHUNK))
        offset = 0
        while count := self._files.pread_into(handle, buffer, offset):
            offset += count
            yield buffer[:count]

    def remove_folders(self) -> None:
        """Remove the folders of the hidden tree, innermost first; what is not ours stays."""
        self._remove_folders(self._hidden_top)

    def _remove_folders(self, top: Parts) -> None:
        folders = {top + inner[:depth] for inner in self.inner for depth in range(len(inner))}
        for folder in sorted(folders, key=len, reverse=True):
            try:
                self._files.remove_folder(self.root, folder)
            except StorageError:
                continue

    def remove_parts(self) -> None:
        """Remove what is left at hidden names."""
        self.remove_rest()
        for inner in self.inner:
            self._files.unlink(self.root, self.top + inner)
        self.remove_folders()

    def remove_rest(self) -> None:
        """Remove what was kept of files that were not chosen."""
        if self.rest_parts:
            self._files.unlink(self.root, self.rest_parts)

    def sync_final(self, new_folders: Iterable[Parts]) -> None:
        """Make the real names survive a power loss; `new_folders` had not been flushed yet."""
        depth = len(self.top)
        folders: set[Parts] = {()}
        if self.all_chosen:
            for folder in new_folders:
                folders.add(self.final_top + folder[depth:] if folder else ())
        if self._merged:
            for number in self.fetched:
                inner = self.inner[number]
                folders.update(self.final_top + inner[:deep] for deep in range(len(inner)))
        for folder in sorted(folders, key=len, reverse=True):
            self._files.sync_folder(self.root, folder)

    def rest(self) -> None:
        """Have nothing open until a file is looked at again."""
        self._files.rest(self.root)

    def close(self) -> None:
        """Close the root."""
        self._files.close_root(self.root)
