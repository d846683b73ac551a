"""The one rule on names: what a torrent may call its files, and what they are called on disk.

Invariant: a path that passed `safe_path` stays inside the folder that it is joined to,
on every platform; and what `disk_paths` returns are distinct files, where names are to be
portable also when case and Unicode normalisation do not count. The mapping depends on
nothing but the names and the platform.

`safe_*` refuse what can only be an attack or a mistake. `disk_*` change what is honest
but cannot, or should not, be the name of a file: where that matters characters and
names that Windows reserves, everywhere invisible and direction-changing characters and
names longer than 255 bytes.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final

from p2pfs.errors import MetainfoError

__all__ = [
    "HIDDEN_MARK",
    "MAX_COMPONENT_BYTES",
    "MAX_DEPTH",
    "PORTABLE",
    "SafeNames",
    "disk_name",
    "disk_paths",
    "safe_component",
    "safe_path",
    "shorten",
]

PORTABLE: Final = sys.platform in ("win32", "cygwin", "darwin")
"""Whether names have to do where case does not count or Windows' rules hold. Elsewhere
content keeps its own names, so that a shared folder arrives as it was."""

MAX_COMPONENT_BYTES = 255
MAX_NAME_LENGTH = 4096
"""Bytes (or characters) of a name as it comes; up to here it is cut, beyond it is refused."""
MAX_DEPTH = 64
MAX_PATH_BYTES = 4000
MAX_DIRECTORIES = 200_000

HIDDEN_MARK = ".p2pfs-"
"""Part of the names of our own working files; the name of content never has it on disk."""

_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f/\\]|^[A-Za-z]:")
# Characters that are not seen or that turn the direction of the text: "gpj.exe" shown as
# "exe.jpg". Listed, not asked of unicodedata, so that every Python maps alike.
_INVISIBLE = re.compile(
    r"[\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    r"\U000e0000-\U000e007f]"
)
_CONTROLS = re.compile(r"[\x80-\x9f\u2028\u2029]")
_NOT_ON_WINDOWS = re.compile(r"[\"*:<>?|]")
_RESERVED = re.compile(
    r"(?:CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|CLOCK\$|(?:COM|LPT)[0-9¹²³]) *(?:\.|$)", re.IGNORECASE
)
_HIDDEN = re.compile(re.escape(HIDDEN_MARK), re.IGNORECASE)
_UNDECODABLE = re.compile("[\udc80-\udcff]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def safe_component(name: bytes | str) -> str:
    """One component of a path, as text, unless it could lead out of its folder.

    Bytes are read as UTF-8; a byte that is none becomes `%XX`, so that names in older
    encodings stay apart. Raises `MetainfoError` for an empty name, `.`, `..`, a slash or
    backslash, a control character, a drive letter with its colon, and more than 4,096 bytes.
    """
    if len(name) > MAX_NAME_LENGTH:
        raise MetainfoError(
            f"a name of {len(name)} bytes is longer than the {MAX_NAME_LENGTH} accepted"
        )
    if isinstance(name, bytes):
        try:
            text = name.decode()
        except UnicodeDecodeError:
            text = _UNDECODABLE.sub(
                lambda found: f"%{ord(found[0]) - 0xDC00:02X}",
                name.decode(errors="surrogateescape"),
            )
    else:
        text = name
        if _SURROGATE.search(text):
            raise MetainfoError(f"the name {_shown(text)} is not valid Unicode")
    if text in ("", ".", ".."):
        raise MetainfoError(f"{_shown(text)} is not a usable name for a file or folder")
    bad = _FORBIDDEN.search(text)
    if bad:
        place = "at its start" if ":" in bad[0] else "in it"
        raise MetainfoError(
            f"the name {_shown(text)} has {_shown(bad[0])} {place}, which is not allowed"
        )
    return text


class SafeNames(dict[bytes, str]):
    """Names already found safe, for torrents where thousands of files share their folders."""

    def __missing__(self, raw: bytes) -> str:
        name = self[raw] = safe_component(raw)
        return name


def safe_path(components: Sequence[bytes], known: SafeNames | None = None) -> tuple[str, ...]:
    """A relative path of safe components.

    Raises `MetainfoError` for an unsafe component, for none, for more than 64, and
    for more than 4,000 bytes in all.
    """
    if not components:
        raise MetainfoError("a file has an empty path")
    if len(components) > MAX_DEPTH:
        raise MetainfoError(
            f"a path of {len(components)} components is deeper than the {MAX_DEPTH} accepted"
        )
    names = SafeNames() if known is None else known
    path = tuple([names[component] for component in components])
    if len(components) * (MAX_COMPONENT_BYTES + 1) > MAX_PATH_BYTES:
        size = sum(min(len(component), MAX_COMPONENT_BYTES) + 1 for component in components)
        if size > MAX_PATH_BYTES:
            raise MetainfoError(
                f"a path of {size} bytes is longer than the {MAX_PATH_BYTES} accepted"
            )
    return path


def disk_name(component: str, *, portable: bool = PORTABLE) -> str:
    """What a safe component is called on disk: the same name wherever that is possible.

    Invisible and direction-changing characters are left out, control characters become
    `_`, and at most 255 bytes of UTF-8 are kept. A portable name also does without what
    Windows cannot store: `"*:<>?|` become `_`, names of devices (`CON`, `nul.txt`) get a
    leading `_`, trailing dots and spaces go. Mapping twice changes nothing more.
    """
    name = component
    if not name.isascii():
        name = _CONTROLS.sub("_", _INVISIBLE.sub("", name))
    name = _HIDDEN.sub("_" + HIDDEN_MARK[1:], name)
    if portable:
        name = _NOT_ON_WINDOWS.sub("_", name).rstrip(". ")
        if _RESERVED.match(name):
            name = "_" + name
    return shorten("_" if name in ("", ".", "..") else name)


def shorten(name: str, limit: int = MAX_COMPONENT_BYTES) -> str:
    """The name cut to `limit` bytes of UTF-8, keeping a short extension."""
    if len(name) <= limit and name.isascii():
        return name
    raw = name.encode()
    if len(raw) <= limit:
        return name
    stem, dot, extension = name.rpartition(".")
    tail = dot + extension
    if not stem or len(tail.encode()) > min(32, limit // 2):
        stem, tail = name, ""
    stem = stem.encode()[: limit - len(tail.encode())].decode(errors="ignore")
    return (stem + tail).rstrip(". ") or "_"


def disk_paths(
    paths: Iterable[tuple[str, ...]], *, portable: bool = PORTABLE
) -> list[tuple[str, ...]]:
    """Where the files of one torrent lie, in the order given, relative to its folder.

    Names that would be one file are told apart as `name (2).txt`, in order; when the
    paths are to be portable, also names that differ by case or Unicode normalisation
    alone. Raises `MetainfoError` when a path comes twice, when a file is also the folder
    of another, and beyond 200,000 folders.
    """
    folders: dict[tuple[int, str], tuple[int, str]] = {}  # folder, component: its number, name
    files: set[tuple[int, str]] = set()
    taken: dict[tuple[int, str], int] = {}  # folder, name as compared: how often
    mapped: list[tuple[str, ...]] = []

    def key_of(folder: int, name: str) -> tuple[int, str]:
        return (folder, _folded(name) if portable else name)

    def name_in(folder: int, component: str) -> str:
        name = plain = disk_name(component, portable=portable)
        key = first_key = key_of(folder, plain)
        while key in taken:
            taken[first_key] += 1
            name = _numbered(plain, taken[first_key])
            key = key_of(folder, name)
        taken[key] = 1
        return name

    for path in paths:
        folder = 0
        names = []
        for component in path[:-1]:
            here = (folder, component)
            known = folders.get(here)
            if known is None:
                if here in files:
                    raise MetainfoError(f"{_shown(component)} is both a file and a folder")
                if len(folders) == MAX_DIRECTORIES:
                    raise MetainfoError(f"more than {MAX_DIRECTORIES} folders")
                known = folders[here] = (len(folders) + 1, name_in(folder, component))
            folder = known[0]
            names.append(known[1])
        here = (folder, path[-1])
        if here in files:
            raise MetainfoError(f"the file {_shown('/'.join(path))} is listed twice")
        if here in folders:
            raise MetainfoError(f"{_shown(path[-1])} is both a file and a folder")
        files.add(here)
        names.append(name_in(folder, path[-1]))
        mapped.append(tuple(names))
    return mapped


def _folded(name: str) -> str:
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _numbered(name: str, number: int) -> str:
    stem, dot, extension = name.rpartition(".")
    if not stem:
        stem, dot, extension = name, "", ""
    mark = f" ({number}){dot}{extension}"
    if len(mark.encode()) > MAX_COMPONENT_BYTES // 2:
        stem, mark = name, f" ({number})"
    return shorten(stem, MAX_COMPONENT_BYTES - len(mark.encode())) + mark


def _shown(text: str) -> str:
    """In quotes, as it is as far as it prints."""
    short = text if len(text) <= 80 else text[:77] + "..."
    return "'" + "".join(mark if mark.isprintable() else ascii(mark)[1:-1] for mark in short) + "'"
