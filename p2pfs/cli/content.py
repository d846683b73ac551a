"""What a name on the command line stands for: content to share, a torrent to fetch.

Invariant: a .torrent in `torrents/` is used for content only after all of the content was
hashed and matches it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from p2pfs.cli.text import printable
from p2pfs.cli.torrent_files import is_torrent_file, keep_torrent, kept_torrent, read_torrent
from p2pfs.errors import MetainfoError, StorageError, UsageError

if TYPE_CHECKING:
    from p2pfs.formats.metainfo import Metainfo
    from p2pfs.geometry import TorrentId
    from p2pfs.storage.creating import HashedTree

__all__ = [
    "OUTPUT",
    "SEEDS",
    "Described",
    "Shared",
    "build_metainfo",
    "check_name",
    "find_shared",
    "metainfo_for",
]

SEEDS = Path("seeds")
OUTPUT = Path("output")

HashProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Shared:
    """Content to share. `torrent` is the .torrent that the user gave for it, if any."""

    path: Path
    torrent: Path | None = None


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
    beside it, here, or in `output/`; several that describe one content are shared each.
    Raises `StorageError` when there is nothing to share, and what `read_torrent` raises.
    """
    if not words:
        everything = [Shared(path) for path in sorted(_listed(SEEDS)) if _visible(path)]
        if not everything:
            raise StorageError(
                f"there is nothing to share in {SEEDS}/: put files there, or name one with -f"
            )
        return everything
    plain = [_content(word) for word in words if not is_torrent_file(word)]
    described: dict[tuple[Path, TorrentId], Shared] = {}
    for word in words:
        if is_torrent_file(word):
            torrent = Path(word)
            metainfo = read_torrent(torrent)
            path = _content_of(torrent, metainfo, plain)
            described[path, metainfo.torrent_id] = Shared(path, torrent)
    by_torrent = {path for path, _ in described}
    alone = dict.fromkeys(path for path in plain if path not in by_torrent)
    return [*map(Shared, alone), *described.values()]


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(f"cannot open {folder}: {error.strerror or error}") from error


def _visible(path: Path) -> bool:
    return not path.name.startswith(".")


def _content(word: str) -> Path:
    if not word:
        raise UsageError("the name of what to share is empty")
    for path in (Path(word), SEEDS / word):
        if path.exists():
            return path
    raise StorageError(
        f"there is no {word} to share: looked for {Path(word)} and {SEEDS / word}; "
        "give the path of a file or folder, or put it into seeds/"
    )


def _content_of(torrent: Path, metainfo: Metainfo, given: Sequence[Path]) -> Path:
    from p2pfs.formats.paths import disk_name

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


@dataclass(frozen=True, slots=True)
class Described:
    """The torrent of shared content; `hashed` when all of the content was hashed for it.

    `note` is what the user should know about how it came about, if anything.
    """

    metainfo: Metainfo
    hashed: bool
    note: str | None = None


def metainfo_for(shared: Shared, progress: HashProgress | None = None) -> Described:
    """The torrent of shared content.

    The .torrent the user gave (its content is not hashed here), else the one in
    `torrents/` when it matches the content, else a new one, which is kept there.
    """
    from p2pfs.storage.creating import hash_tree

    if shared.torrent is not None:
        return Described(read_torrent(shared.torrent), hashed=False)
    kept = kept_torrent(shared.path)
    known: Metainfo | None = None
    if kept.exists():
        try:
            known = read_torrent(kept)
        except (MetainfoError, StorageError):
            known = None
    if known is not None:
        length = known.geometry.piece_length
        tree = hash_tree(shared.path, length, progress=progress, leave_out=kept)
        files = [(file.path, file.length) for file in known.files]  # whatever their modes
        same_files = (known.name, files, known.multi_file) == (
            tree.name,
            [(file.path, file.length) for file in tree.files],
            tree.multi_file,
        )
        if same_files and known.pieces == tree.pieces:
            return Described(known, hashed=True)
    made = build_metainfo(hash_tree(shared.path, progress=progress, leave_out=kept))
    return Described(made, hashed=True, note=keep_torrent(kept, made))


def check_name(name: str) -> None:
    """Refuse what is neither a name nor a .torrent; raises `UsageError`."""
    if not name or printable(name) != name or "/" in name or "\\" in name:
        raise UsageError(
            f"'{printable(name)}' is not a name in a catalogue: "
            "give the name alone, or the path of a .torrent file"
        )
