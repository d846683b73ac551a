"""What a name on the command line stands for: content to share, a torrent to fetch.

Invariant: a .torrent in `torrents/` is used for content only after all of the content was
hashed and matches it; a .torrent gets its name when it is whole.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from p2pfs.cli.text import printable
from p2pfs.errors import FormatError, MetainfoError, StorageError, UsageError

if TYPE_CHECKING:
    from p2pfs.formats.metainfo import Metainfo
    from p2pfs.storage.creating import HashedTree

__all__ = [
    "OUTPUT",
    "SEEDS",
    "TORRENTS",
    "Shared",
    "build_metainfo",
    "check_name",
    "find_shared",
    "is_torrent_file",
    "known_torrent",
    "metainfo_for",
    "read_torrent",
    "refuse_overwriting",
    "torrent_path",
    "write_torrent",
]

SEEDS = Path("seeds")
TORRENTS = Path("torrents")
OUTPUT = Path("output")

HashProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Shared:
    """Content to share. `torrent` is the .torrent that the user gave for it, if any."""

    path: Path
    torrent: Path | None = None


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
        with path.open("rb") as file:
            data = file.read(METAINFO_LIMITS.max_bytes + 1)
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        return parse(data)
    except FormatError as error:
        raise MetainfoError(f"{path} is not a usable .torrent file: {error}") from error


def torrent_path(name: str) -> Path:
    """Where the .torrent of content called `name` is kept."""
    from p2pfs.formats.paths import MAX_COMPONENT_BYTES, disk_name, shorten

    suffix = ".torrent"
    return TORRENTS / (shorten(disk_name(name), MAX_COMPONENT_BYTES - len(suffix)) + suffix)


def write_torrent(path: Path, metainfo: Metainfo, *, overwrite: bool) -> None:
    """Write a .torrent file in one step, so that a reader sees all of it or none.

    Raises `StorageError` when it cannot be written, or is there and `overwrite` is not set.
    """
    data = metainfo.to_bytes()
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".p2pfs-", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        _allow_reading(temporary)
        if overwrite:
            os.replace(temporary, path)  # noqa: PTH105
            temporary = None
        else:
            _link_new(temporary, path)
    except FileExistsError:
        refuse_overwriting(path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def refuse_overwriting(path: Path) -> NoReturn:
    """Raises the `StorageError` that says so, and what to do."""
    raise StorageError(f"{path} exists already: --force overwrites it, -o chooses another name")


def _allow_reading(path: str) -> None:
    """Temporary files are private; a .torrent is as public as the user's mask says."""
    mask = os.umask(0)
    os.umask(mask)
    Path(path).chmod(0o666 & ~mask)


def _link_new(temporary: str, path: Path) -> None:
    """Give a file its name unless the name is taken (`FileExistsError`)."""
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        raise
    except (OSError, NotImplementedError):  # file systems without hard links
        with path.open("xb") as file:
            file.write(Path(temporary).read_bytes())


def build_metainfo(
    tree: HashedTree,
    *,
    private: bool = False,
    trackers: Sequence[str] = (),
    web_seeds: Sequence[str] = (),
    comment: str | None = None,
    creation_date: int | None = None,
) -> Metainfo:
    """The torrent of hashed content; each tracker is a tier of its own (BEP 12)."""
    from p2pfs.formats.metainfo import build

    return build(
        name=tree.name,
        files=tree.files,
        multi_file=tree.multi_file,
        piece_length=tree.piece_length,
        pieces=tree.pieces,
        private=private,
        trackers=[[url] for url in trackers],
        web_seeds=web_seeds,
        comment=comment,
        creation_date=creation_date,
    )


def find_shared(words: Sequence[str]) -> list[Shared]:
    """The content that the words of `-f` stand for; without any, everything in `seeds/`.

    A .torrent goes with the content of its name: another `-f`, or what lies in `seeds/`,
    beside it, here, or in `output/`. Raises `StorageError` when there is nothing to share.
    """
    if not words:
        everything = [Shared(path) for path in sorted(SEEDS.glob("*")) if _visible(path)]
        if not everything:
            raise StorageError(
                f"there is nothing to share in {SEEDS}/: put files there, or name one with -f"
            )
        return everything
    plain = [_content(word) for word in words if not is_torrent_file(word)]
    shared: dict[Path, Shared] = {path: Shared(path) for path in plain}
    for word in words:
        if is_torrent_file(word):
            torrent = Path(word)
            path = _content_of(torrent, plain)
            shared[path] = Shared(path, torrent)
    return list(shared.values())


def _visible(path: Path) -> bool:
    return not path.name.startswith(".")


def _content(word: str) -> Path:
    for path in (Path(word), SEEDS / word):
        if path.exists():
            return path
    raise StorageError(
        f"there is no {word} to share: looked for {Path(word)} and {SEEDS / word}; "
        "give the path of a file or folder, or put it into seeds/"
    )


def _content_of(torrent: Path, given: Sequence[Path]) -> Path:
    from p2pfs.formats.paths import disk_name

    metainfo = read_torrent(torrent)
    name = disk_name(metainfo.name)
    for path in given:
        if path.name in (name, metainfo.name):
            return path
    tried = [SEEDS / name, torrent.parent / name, Path(name), OUTPUT / name]
    for path in tried:
        if path.exists():
            return path
    places = ", ".join(dict.fromkeys(str(path) for path in tried))
    raise StorageError(f"the content of {torrent} is not here: looked for {places}")


def metainfo_for(shared: Shared, progress: HashProgress | None = None) -> tuple[Metainfo, bool]:
    """The torrent of shared content, and whether all of the content was hashed for it.

    The .torrent the user gave (its content is not hashed here), else the one in
    `torrents/` when it matches the content, else a new one, which is written there.
    """
    from p2pfs.storage.creating import hash_tree

    if shared.torrent is not None:
        return read_torrent(shared.torrent), False
    kept = torrent_path(shared.path.resolve().name)
    known: Metainfo | None = None
    if kept.exists():
        try:
            known = read_torrent(kept)
        except (MetainfoError, StorageError):
            known = None
    if known is not None:
        tree = hash_tree(shared.path, known.geometry.piece_length, progress=progress)
        same_files = (known.name, known.files, known.multi_file) == (
            tree.name,
            tree.files,
            tree.multi_file,
        )
        if same_files and known.pieces == tree.pieces:
            return known, True
    made = build_metainfo(hash_tree(shared.path, progress=progress))
    write_torrent(kept, made, overwrite=True)
    return made, True


def known_torrent(name: str) -> Metainfo | None:
    """The torrent that `torrents/` keeps under a name, if it does."""
    from p2pfs.formats.paths import safe_component

    try:
        path = torrent_path(safe_component(name))
    except FormatError:
        return None
    return read_torrent(path) if path.is_file() else None


def check_name(name: str) -> None:
    """Refuse what is neither a name nor a .torrent; raises `UsageError`."""
    if not name or printable(name) != name or "/" in name or "\\" in name:
        raise UsageError(
            f"{name!r} is not a name in a catalogue: "
            "give the name alone, or the path of a .torrent file"
        )
