"""A torrent from a file or a folder: list, hash, describe.

Invariant: the same content, names and options give the same bytes, whoever makes them:
files are ordered by their path's UTF-8 bytes, component by component.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from p2pfs.errors import FormatError, StorageError
from p2pfs.formats.file_list import FileEntry, write_files
from p2pfs.formats.metainfo import Metainfo, build, default_piece_length
from p2pfs.formats.paths import HIDDEN_MARK, safe_component
from p2pfs.geometry import Geometry
from p2pfs.storage.digesting import Digesting
from p2pfs.storage.files import Files, Listed, OpenFile, Parts, Root
from p2pfs.storage.hashing import Progress
from p2pfs.storage.layout import Layout

_LISTED_WITH_TIME = os.name != "nt"
"""Whether listing a folder tells a file's time as looking at it does. Its number is not asked for:
some file systems give a file a new one each time they meet it."""

__all__ = ["HashedTree", "hash_tree", "make_metainfo", "resolved"]


@dataclass(frozen=True, slots=True)
class HashedTree:
    """What a torrent says about content. `pieces` has 20 bytes for each piece; `skipped`
    are paths left out because they are links or no regular files, or had to be."""

    name: str
    files: tuple[FileEntry, ...]
    multi_file: bool
    piece_length: int
    pieces: bytes
    skipped: tuple[str, ...] = ()


def hash_tree(
    path: Path,
    piece_length: int | None = None,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
    files: Files | None = None,
    hidden: bool = True,
    pad: bool = False,
    modes: bool = False,
    leave_out: Path | None = None,
) -> HashedTree:
    """Hash a file or a folder on all cores, reading everything once.

    `piece_length` is in bytes (by default it goes by the size); `progress` gets (bytes
    done, bytes in all). Links and special files inside a folder are left out and named
    in `skipped`; without `hidden` so is what has a name that begins with a dot. Raises
    `StorageError` for what cannot be read, for names that no torrent can have, for nothing
    to share, and when a file changes meanwhile; `MetainfoError` for files that no torrent can
    have together. What is large is hashed by child processes, if this process has one thread
    (Linux only). With `pad` every file of a folder begins
    with a piece, by padding before it (BEP 47); with `modes` it is told which files may be
    executed by their owner. A file at `leave_out` in a folder is left out, too, and named.
    """
    files = files or Files()
    real = resolved(path)
    multi_file = real.is_dir()
    if not real.name:
        raise StorageError(f"{path} has no name to share it under")
    with files.rooted(real if multi_file else real.parent) as root:
        skipped: list[str] = []
        if multi_file:
            found = _tree(files, root, skipped, hidden, _parts_below(real, leave_out))
            if not found:
                raise StorageError(f"there is no file to share in {path}")
        else:
            found = [_single(files, root, real.name, path)]
        _check_name(real.name, real)
        entries: Sequence[FileEntry] = [
            FileEntry(parts, one.found.size, executable=modes and one.executable)
            for parts, one in found
        ]
        total = sum(entry.length for entry in entries)
        length = default_piece_length(total) if piece_length is None else piece_length
        if pad and multi_file:
            entries = _padded(entries, Geometry(total, length).piece_length)
        digesting = _digesting(files, root, found, entries, length, threads, progress)
        pieces, listed = digesting.run(
            beside=lambda: write_files(entries) if multi_file else tuple(entries)
        )
        return HashedTree(real.name, listed, multi_file, length, pieces, tuple(skipped))


def make_metainfo(
    path: Path | str,
    *,
    piece_length: int | None = None,
    name: str | None = None,
    trackers: Iterable[Iterable[str]] = (),
    private: bool = False,
    web_seeds: Iterable[str] = (),
    comment: str | None = None,
    created_by: str | None = None,
    creation_date: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
    files: Files | None = None,
    pad: bool = False,
    modes: bool = True,
) -> Metainfo:
    """The torrent of a file or a folder. Parameters and errors as for `hash_tree`; also
    `MetainfoError` when the result would not be a usable torrent."""
    tree = hash_tree(
        Path(path),
        piece_length,
        threads=threads,
        progress=progress,
        files=files,
        pad=pad,
        modes=modes,
    )
    name = tree.name if name is None else name
    entries = tree.files if tree.multi_file else (replace(tree.files[0], path=(name,)),)
    return build(
        name=name,
        files=entries,
        multi_file=tree.multi_file,
        piece_length=tree.piece_length,
        pieces=tree.pieces,
        private=private,
        trackers=trackers,
        web_seeds=web_seeds,
        comment=comment,
        created_by=created_by,
        creation_date=creation_date,
    )


def resolved(path: Path) -> Path:
    """Where a path leads that the user gave, links followed; `StorageError` when nowhere."""
    try:
        return path.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, up to Python 3.12
        reason = getattr(error, "strerror", None) or "its links lead in a circle"
        raise StorageError(f"cannot open {path}: {reason}") from error


def _check_name(name: str, path: Path, parts: Parts = ()) -> None:
    try:
        safe_component(name)
    except FormatError as error:
        raise StorageError(f"{str(path.joinpath(*parts))!a} cannot be shared: {error}") from error


def _parts_below(folder: Path, path: Path | None) -> Parts:
    """Where in `folder` the file at `path` is; empty when it is elsewhere."""
    try:
        real = None if path is None else path.resolve()
    except (OSError, RuntimeError):  # RuntimeError: a loop of links, up to Python 3.12
        return ()
    return real.relative_to(folder).parts if real and folder in real.parents else ()


def _single(files: Files, root: Root, name: str, path: Path) -> tuple[Parts, Listed]:
    """The file that the user named `path`."""
    _check_name(name, root.path)
    standing = files.stat(root, (name,))
    if standing is None or not standing.is_file:
        raise StorageError(f"{path} is neither a regular file nor a folder")
    return (name,), Listed(name, standing, files.may_execute(root, (name,)))


def _tree(
    files: Files, root: Root, skipped: list[str], hidden: bool, leave_out: Parts
) -> list[tuple[Parts, Listed]]:
    """Each file, in order: a folder's come where its name does among those beside it."""
    found: list[tuple[Parts, Listed]] = []
    waiting: list[tuple[Parts, Iterator[Listed]]] = [((), _ordered(files, root, ()))]
    while waiting:
        folder, entries = waiting[-1]
        for entry in entries:
            name, stat, _ = entry
            parts = (*folder, name)
            if name.startswith("."):
                if HIDDEN_MARK in name:
                    continue
                if not hidden:
                    skipped.append("/".join(parts))
                    continue
            if parts == leave_out or not (stat.is_file or stat.is_folder):
                skipped.append("/".join(parts))
                continue
            _check_name(name, root.path, parts)
            if stat.is_folder:
                waiting.append((parts, _ordered(files, root, parts)))
                break
            found.append((parts, entry))
        else:
            waiting.pop()
    skipped.sort()
    return found


def _ordered(files: Files, root: Root, folder: Parts) -> Iterator[Listed]:
    """What is in a folder, by the bytes of its names (those that are no text are refused)."""
    listed = files.list_folder(root, folder)
    listed.sort(key=lambda entry: entry.name.encode(errors="surrogatepass"))
    return iter(listed)


def _padded(entries: Iterable[FileEntry], piece_length: int) -> list[FileEntry]:
    """The same files, each beginning with a piece; one without bytes needs no padding."""
    padded: list[FileEntry] = []
    place = pads = 0
    for entry in entries:
        if entry.length and (gap := -place % piece_length):
            pads += 1
            padded.append(FileEntry((".pad", f"{pads}-{gap}"), gap, padding=True))
            place += gap
        padded.append(entry)
        place += entry.length
    return padded


def _digesting(
    files: Files,
    root: Root,
    found: Iterable[tuple[Parts, Listed]],
    entries: Sequence[FileEntry],
    piece_length: int,
    threads: int | None,
    progress: Progress | None,
) -> Digesting:
    """How to hash `entries`, each of which has to stay what was found."""
    geometry = Geometry(sum(entry.length for entry in entries), piece_length)
    layout = Layout.of(entries, geometry)
    paths = [entry.path for entry in entries]
    listed = {parts: one.found for parts, one in found}

    def opened(number: int) -> OpenFile:
        if number == layout.zeros:
            return files.open_zeros(root, geometry.piece_length)
        path = paths[number]
        handle = files.open_read(root, path)
        now, before = handle.found, listed[path]
        if now.size != before.size or (_LISTED_WITH_TIME and now.mtime_ns != before.mtime_ns):
            files.close(handle)
            raise _changed(handle)
        return handle

    def closing(number: int, handle: OpenFile) -> None:
        if files.fstat(handle) != handle.found:
            raise _changed(handle)

    return Digesting(layout, opened, closing, files=files, threads=threads, progress=progress)


def _changed(handle: OpenFile) -> StorageError:
    return StorageError(f"{handle.path} changed while it was hashed: try again")
