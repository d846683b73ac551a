"""What there is to share: the files of a folder, a single file, or a whole tree.

Invariant: an item is a regular file, or a tree of them, that no link was followed to; our
own working files and hidden names are never items, so nothing half-made is shared. An
item's `signature` changes whenever its content may have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from p2pfs.errors import FormatError, StorageError
from p2pfs.formats.metainfo import FileEntry, Metainfo, build
from p2pfs.formats.paths import MAX_DEPTH, safe_component
from p2pfs.storage.creating import hash_tree, resolved
from p2pfs.storage.files import Files, FileStat, Parts, Root

__all__ = [
    "QUIET",
    "FileSource",
    "FolderSource",
    "Item",
    "Scan",
    "Settling",
    "Source",
    "TreeSource",
    "describe",
    "is_unchanged",
]

QUIET: Final = 2.0
"""Seconds for which nobody may have written to a file before it is shared."""

_UNREADABLE: Final = "it may not be read: give this user the right to"

Signature = tuple[tuple[str, FileStat], ...]


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to share, which becomes one torrent.

    `name` is what it is listed as; `root` and `parts` say where it is, `tree` that it is a
    folder with all that is in it.
    """

    name: str
    root: Path
    parts: Parts
    signature: Signature
    tree: bool = False

    @property
    def path(self) -> Path:
        """Where the content is."""
        return self.root.joinpath(*self.parts)

    @property
    def seed_path(self) -> Path:
        """What to seed its torrent from: of a file in a tree, the topmost folder."""
        return self.path if self.tree else self.root / self.parts[0]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(found.size for _, found in self.signature)

    @property
    def changed(self) -> float:
        """When it was last written to, in seconds since 1970."""
        return max((found.mtime_ns for _, found in self.signature), default=0) / 1e9


@dataclass(slots=True)
class Scan:
    """What was found, by name; and by path, why something is not shared."""

    items: dict[str, Item] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)


class Source(Protocol):
    """Where items come from. `folder` is what to watch for changes, None for nothing."""

    @property
    def folder(self) -> Path | None: ...

    def scan(self, files: Files) -> Scan:
        """Look at the disk now. Raises `StorageError` when there is nothing to look at."""
        ...


class FolderSource:
    """Each regular file in a folder and in those inside it, under its path from here."""

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()

    @property
    def folder(self) -> Path:
        return self._path

    def scan(self, files: Files) -> Scan:
        scan = Scan()
        with files.rooted(self._path) as root:
            for parts, found in _walk(files, root, scan.problems):
                name = "/".join(parts)
                scan.items[name] = Item(name, self._path, parts, ((name, found),))
        return scan


class FileSource:
    """One file, wherever it is."""

    def __init__(self, path: Path) -> None:
        self._path = resolved(path)

    @property
    def folder(self) -> None:
        return None

    def scan(self, files: Files) -> Scan:
        scan = Scan()
        path = self._path
        with files.rooted(path.parent) as root:
            found = files.stat(root, (path.name,))
            if found is None:
                return scan
            reason = _not_shareable(path.name, found)
            if not reason and not files.readable(root, (path.name,)):
                reason = _UNREADABLE
            if reason:
                scan.problems[str(path)] = reason
            else:
                parts = (path.name,)
                scan.items[path.name] = Item(path.name, path.parent, parts, ((path.name, found),))
        return scan


class TreeSource:
    """A folder as one item; what cannot be shared in it is left out and told."""

    def __init__(self, path: Path) -> None:
        self._path = path.resolve()

    @property
    def folder(self) -> Path:
        return self._path

    def scan(self, files: Files) -> Scan:
        scan = Scan()
        with files.rooted(self._path) as root:
            walked = _walk(files, root, scan.problems)
        if walked:
            signature = tuple(("/".join(parts), found) for parts, found in walked)
            name = self._path.name
            scan.items[name] = Item(name, self._path.parent, (name,), signature, tree=True)
        return scan


def describe(item: Item, progress: Callable[[int, int], None] | None = None) -> Metainfo:
    """Hash an item: its torrent, the same whoever makes it of the same content and name.

    Raises `StorageError`, also when it is written to meanwhile.
    """
    tree = hash_tree(item.path, progress=progress, hidden=False)
    name, *rest = item.parts
    files = tree.files
    if rest:
        files = (FileEntry(tuple(rest), tree.files[0].length),)
    return build(
        name=tree.name if item.tree else name,
        files=files,
        multi_file=item.tree or bool(rest),
        piece_length=tree.piece_length,
        pieces=tree.pieces,
    )


def is_unchanged(item: Item, files: Files) -> bool:
    """Whether every file of an item still looks as its signature says."""
    with files.rooted(item.root) as root:
        for name, found in item.signature:
            parts = (*item.parts, *name.split("/")) if item.tree else item.parts
            if files.stat(root, parts) != found:
                return False
    return True


def _walk(files: Files, root: Root, problems: dict[str, str]) -> list[tuple[Parts, FileStat]]:
    """The regular files below `root` that can be shared, in the order of their paths."""
    found: list[tuple[Parts, FileStat]] = []
    waiting: list[Parts] = [()]
    while waiting:
        folder = waiting.pop()
        try:
            entries = files.list_folder(root, folder)
        except StorageError as error:
            if not folder:
                raise
            problems["/".join(folder)] = str(error)
            continue
        for name, entry, _ in entries:
            if name.startswith("."):
                continue
            parts = (*folder, name)
            reason = _not_shareable(name, entry, len(parts))
            if reason:
                problems["/".join(parts)] = reason
            elif entry.is_folder:
                waiting.append(parts)
            elif not files.readable(root, parts):
                problems["/".join(parts)] = _UNREADABLE
            else:
                found.append((parts, entry))
    found.sort(key=lambda one: [part.encode() for part in one[0]])
    return found


def _not_shareable(name: str, entry: FileStat, depth: int = 1) -> str:
    """Why not; empty when it can be shared."""
    try:
        safe_component(name)
    except FormatError as error:
        return str(error)
    if not entry.is_folder and not entry.is_file:
        return "it is a link or no regular file"
    if depth > MAX_DEPTH:
        return f"it is more than {MAX_DEPTH} folders deep"
    return ""


class Settling:
    """Tells when what is being written has been left alone for `quiet` seconds."""

    def __init__(self, quiet: float = QUIET) -> None:
        self._quiet = quiet
        self._since: dict[str, tuple[Signature, float]] = {}

    def ready(
        self, items: Mapping[str, Item], now: float, wall: float
    ) -> tuple[list[Item], float | None]:
        """Those of `items` that may be shared, and in how many seconds to look again.

        `now` is monotonic, `wall` seconds since 1970: what is seen for the first time and
        was last written to long before is ready at once.
        """
        ready: list[Item] = []
        wait: float | None = None
        since: dict[str, tuple[Signature, float]] = {}
        for name, item in items.items():
            before = self._since.get(name)
            if before is not None and before[0] == item.signature:
                seen = before[1]
            else:
                age = wall - item.changed if before is None else 0.0
                seen = now - min(max(age, 0.0), self._quiet)
            left = seen + self._quiet - now
            if left <= 0:
                ready.append(item)
            else:
                wait = left if wait is None else min(wait, left)
            since[name] = (item.signature, seen)
        self._since = since
        return ready, wait
