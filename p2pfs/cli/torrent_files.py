"""The .torrent files on disk: found by name, read, and written.

Invariant: a .torrent gets its name when it is whole, and none is overwritten unless the user
asked for that.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from p2pfs.cli.listed_views import SHORT_HASH
from p2pfs.errors import FormatError, MetainfoError, P2pfsError, StorageError

if TYPE_CHECKING:
    from p2pfs.formats.metainfo import Metainfo
    from p2pfs.geometry import TorrentId

__all__ = [
    "TORRENTS",
    "find_kept",
    "is_torrent_file",
    "keep_fetched",
    "keep_torrent",
    "kept_torrent",
    "known_torrent",
    "read_torrent",
    "refuse_overwriting",
    "torrent_path",
    "torrent_place",
    "write_torrent",
]

TORRENTS = Path("torrents")

_MAX_SEARCHED = 500
"""Files of `torrents/` that are read to find one by its hash, the likeliest and newest first."""


def is_torrent_file(text: str) -> bool:
    """Whether a word on the command line means a .torrent file rather than a name."""
    return text.lower().endswith(".torrent")


def read_torrent(path: Path) -> Metainfo:
    """The torrent in a .torrent file.

    Raises `StorageError` when it cannot be read, `MetainfoError` when it cannot be used.
    """
    from p2pfs.formats.bencode import METAINFO_LIMITS
    from p2pfs.formats.metainfo import parse

    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for without end
            raise StorageError(f"cannot read {path}: it is not a regular file")
        with path.open("rb") as file:
            data = file.read(METAINFO_LIMITS.max_bytes + 1)
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        return parse(data)
    except FormatError as error:
        if not data.startswith(b"d"):
            reason = "it does not begin as one does" if data else "it is empty"
            raise MetainfoError(f"{path} is not a .torrent file: {reason}") from error
        raise MetainfoError(f"{path} is not a usable .torrent file: {error}") from error


def torrent_path(name: str) -> Path:
    """Where the .torrent of content called `name` is kept."""
    from p2pfs.formats.paths import MAX_COMPONENT_BYTES, disk_name, shorten

    suffix = ".torrent"
    return TORRENTS / (shorten(disk_name(name), MAX_COMPONENT_BYTES - len(suffix)) + suffix)


def kept_torrent(path: Path) -> Path:
    """Where the .torrent of the content at `path` is kept.

    Raises `StorageError` when that content can have no name in a torrent.
    """
    from p2pfs.formats.paths import safe_component

    try:
        name = path.resolve().name
        if not name:
            raise StorageError(f"{path} has no name to share it under")
        return torrent_path(safe_component(name))
    except FormatError as error:
        raise StorageError(f"{path} cannot be shared: {error}") from error
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, up to Python 3.12
        reason = getattr(error, "strerror", None) or "its links lead in a circle"
        raise StorageError(f"cannot open {path}: {reason}") from error


def torrent_place(output: str | None, shared: Path) -> Path:
    """Where the .torrent of what is `shared` is written: `output`, in it if it is a folder.

    Raises `StorageError` as `kept_torrent`.
    """
    if output is None:
        return kept_torrent(shared)
    place = Path(output)
    in_folder = place.is_dir() or output.endswith(("/", os.sep))
    return place / kept_torrent(shared).name if in_folder else place


def write_torrent(path: Path, metainfo: Metainfo, *, overwrite: bool) -> None:
    """Write a .torrent file in one step, so that a reader sees all of it or none.

    Raises `StorageError` when it cannot be written, or is there and `overwrite` is not set.
    """
    from p2pfs.storage.whole_files import written_aside

    try:
        with written_aside(path, metainfo.to_bytes()) as temporary:
            if overwrite:
                temporary.replace(path)
            else:
                _link_new(temporary, path)
    except FileExistsError as error:
        if os.path.lexists(path):
            raise _taken(path) from None
        raise StorageError(f"cannot write {path}: {path.parent} is a file") from error
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error


def refuse_overwriting(path: Path, shared: Path, *, force: bool) -> None:
    """Refuse to write to `path`, which exists, without `force`, or over what is `shared`.

    A .torrent in a folder that is shared may be written anew. Raises `StorageError` that says
    so, and what to do.
    """
    if path.is_dir():
        raise StorageError(f"{path} is a folder: -o chooses another name")
    if not path.is_file():  # a device, as /dev/null, would be gone from its place
        raise StorageError(f"{path} is no regular file: -o chooses another name")
    try:
        own = shared.resolve() in (path.resolve(), *path.resolve().parents)
        if own and shared.is_dir():
            own = not _is_torrent(path)
    except (OSError, RuntimeError):
        own = False
    if own:
        raise StorageError(f"{path} is part of what is shared: -o chooses a place outside {shared}")
    if not force:
        raise _taken(path)


def _is_torrent(path: Path) -> bool:
    try:
        read_torrent(path)
    except P2pfsError:
        return False
    return True


def _taken(path: Path) -> StorageError:
    return StorageError(f"{path} exists already: --force overwrites it, -o chooses another name")


def _link_new(temporary: Path, path: Path) -> None:
    """Give a file its name unless the name is taken (`FileExistsError`)."""
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        raise
    except (OSError, NotImplementedError):  # file systems without hard links
        with path.open("xb") as file:
            file.write(temporary.read_bytes())


def known_torrent(name: str) -> Metainfo | None:
    """The torrent that `torrents/` keeps under a name, if it does."""
    from p2pfs.formats.paths import safe_component

    try:
        path = torrent_path(safe_component(name))
    except FormatError:
        return None
    return read_torrent(path) if path.is_file() else None


def find_kept(torrent_id: TorrentId, name: str) -> tuple[Path, Metainfo] | None:
    """The .torrent in `torrents/` with this hash, which is probably called `name`."""

    def unlikely(path: Path) -> tuple[bool, bool, float]:
        short = f"@{str(torrent_id)[:SHORT_HASH]}."
        written = 0.0
        with contextlib.suppress(OSError):  # a link to nothing is no reason to miss the others
            written = path.stat().st_mtime
        return short not in path.name, name not in path.name, -written

    with contextlib.suppress(OSError):
        for path in sorted(TORRENTS.glob("*.torrent"), key=unlikely)[:_MAX_SEARCHED]:
            with contextlib.suppress(P2pfsError):
                metainfo = read_torrent(path)
                if metainfo.torrent_id == torrent_id:
                    return path, metainfo
    return None


def keep_fetched(metainfo: Metainfo) -> str:
    """Keep a torrent that was fetched from peers; what the user should know about that.

    A .torrent that is there keeps its name, and this one is NAME@HASH.
    """
    path = torrent_path(metainfo.name)
    if os.path.lexists(path):
        path = _beside(path, metainfo.torrent_id)
    try:
        write_torrent(path, metainfo, overwrite=False)
    except StorageError as error:
        reason = f"{path} is something else" if os.path.lexists(path) else str(error)
        return f"{reason}: the metadata of {metainfo.name} is not kept for another time"
    return f"the metadata of {metainfo.name} is kept in {path}"


def keep_torrent(path: Path, metainfo: Metainfo) -> str | None:
    """Keep a torrent that was just made; what the user should know about that, if anything.

    Another .torrent in its place is set aside, never lost. Sharing does not depend on this:
    where nothing can be written, that is only noted.
    """
    note = None
    try:
        if path.exists():
            if path.is_file() and path.read_bytes() == metainfo.to_bytes():
                return None
            aside = _aside(path)
            path.replace(aside)
            note = f"{path} describes other content: it is {aside} now, and a new one is made"
        write_torrent(path, metainfo, overwrite=False)
    except OSError as error:
        return f"cannot keep a new {path}: {error.strerror or error}"
    except StorageError as error:
        return f"{error}; it is shared all the same" if not path.is_file() else note
    return note


def _beside(path: Path, torrent_id: TorrentId) -> Path:
    """The name next to `path` for what it is called, too: NAME@HASH, as in the catalogue."""
    from p2pfs.formats.paths import MAX_COMPONENT_BYTES, shorten

    mark = f"@{str(torrent_id)[:SHORT_HASH]}{path.suffix}"
    return path.with_name(shorten(path.stem, MAX_COMPONENT_BYTES - len(mark)) + mark)


def _aside(path: Path) -> Path:
    """The name next to `path` that its torrent gets."""
    try:
        known = read_torrent(path)
        free = _beside(path, known.torrent_id)
        if not free.exists() or free.read_bytes() == path.read_bytes():
            return free
    except P2pfsError:
        pass
    number = 1
    while (free := path.with_name(f"{path.name}.old-{number}")).exists():
        number += 1
    return free
