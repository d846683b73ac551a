"""Content that the user has, opened to be served where it lies.

Invariant: it is only ever read; what is `verified` was hashed, or promised by the caller.
"""

from __future__ import annotations

import os
from pathlib import Path

from p2pfs.errors import StorageError
from p2pfs.formats.bitfield import Bitfield
from p2pfs.formats.metainfo import Metainfo
from p2pfs.formats.paths import disk_name, disk_paths
from p2pfs.storage.files import Files, NoSuchFile, Parts, Root
from p2pfs.storage.hashing import Progress, recheck
from p2pfs.storage.layout import Layout
from p2pfs.storage.pieces import PieceStore
from p2pfs.storage.places import Places

__all__ = ["open_seed"]


def open_seed(
    metainfo: Metainfo,
    path: Path,
    *,
    files: Files,
    have: Bitfield | None = None,
    verify: bool = True,
    progress: Progress | None = None,
    threads: int | None = None,
) -> PieceStore:
    """See `PieceStore.open_seed`."""
    layout = Layout.of(metainfo.files, metainfo.geometry)
    places = _seed_places(metainfo, path, layout, files)
    try:
        count = metainfo.geometry.piece_count
        verified = Bitfield.full(count) if have is None else have.copy()
        if len(verified) != count:
            raise StorageError(f"{len(verified)} pieces to serve of a torrent of {count}")
        store = PieceStore(metainfo, places, verified, files=files, record=None)
        store.remember_stats()
        for number in layout.stored:
            found = store.stats[number]
            if found is None or not found.is_file or found.size != layout.lengths[number]:
                for index in layout.pieces_of(number):
                    verified.discard(index)
        if verify:
            store.verified = recheck(
                layout,
                metainfo.pieces,
                places.open_read,
                files=files,
                indices=list(verified),
                threads=threads,
                progress=progress,
            )
        store.rest()
        return store
    except BaseException:
        places.close()
        raise


def _seed_places(metainfo: Metainfo, path: Path, layout: Layout, files: Files) -> Places:
    """Where the content that the user points to lies.

    The path itself, links in it included, is the user's choice; inside it none is followed.
    """
    try:
        real = path.resolve(strict=True)
    except OSError as error:
        reason = error.strerror or "it cannot be resolved"
        raise StorageError(f"cannot open {path}: {reason}") from error
    if not metainfo.multi_file and not real.is_dir():
        root = files.open_root(real.parent)
        top: Parts = (real.name,)
        inner: list[Parts] = [()]
        return Places(files, root, layout, top=top, final_top=top, inner=inner)
    if not real.is_dir():
        raise StorageError(f"{path} is a file, but the torrent {metainfo.name!r} is a folder")
    root = files.open_root(real)
    return Places(files, root, layout, top=(), final_top=(), inner=_inner(metainfo, root, files))


def _inner(metainfo: Metainfo, root: Root, files: Files) -> list[Parts]:
    """The files below the folder: by the torrent's own names, or by those made for a disk."""
    raw = [entry.path for entry in metainfo.files]
    mapped = disk_paths(raw)
    prefixes: list[Parts] = [()]
    if metainfo.multi_file:
        prefixes += [(metainfo.name,), (disk_name(metainfo.name),)]
    for prefix in prefixes:
        inner, found = [], False
        for own, made, entry in zip(raw, mapped, metainfo.files, strict=True):
            parts = prefix + made
            if entry.padding:
                inner.append(parts)
                continue
            if own != made and os.name != "nt" and _look(files, root, prefix + own):
                parts = prefix + own
            found = found or _look(files, root, parts)
            inner.append(parts)
        if found:
            return inner
    raise StorageError(f"{root.path} has none of the files of the torrent {metainfo.name!r}")


def _look(files: Files, root: Root, parts: Parts) -> bool:
    try:
        return files.stat(root, parts) is not None
    except NoSuchFile:
        return False
