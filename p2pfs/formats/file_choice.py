"""Which files of a torrent somebody wants, as people write it or by their indices.

Invariant: a choice that exists holds at least one file, every word in it stands for one, and
padding is never in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from fnmatch import translate

from p2pfs.errors import UsageError
from p2pfs.formats.metainfo import Metainfo

__all__ = ["choose_files", "numbered_files"]

_NUMBERS = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", re.ASCII)


def numbered_files(metainfo: Metainfo) -> Iterator[tuple[int, int]]:
    """The files that people are shown, as (number from 1 on, index in `metainfo.files`)."""
    shown = 0
    for index, entry in enumerate(metainfo.files):
        if not entry.padding:
            shown += 1
            yield shown, index


def choose_files(metainfo: Metainfo, words: Iterable[str | int]) -> frozenset[int]:
    """The indices of the files that `words` stand for.

    A word is the path of a file or folder in the torrent, a pattern for one (`*.jpg`,
    `disc?/*`), or numbers as `p2pfs show` prints them (`3`, `3-9`, `1,4,7-9`); each is
    compared with every file. An int is an index in `metainfo.files` itself, at no cost.
    Raises `UsageError` for what stands for no file.
    """
    numbers = dict(numbered_files(metainfo))
    paths = {index: "/".join(metainfo.files[index].path) for index in numbers.values()}
    chosen: set[int] = set()
    for word in words:
        if isinstance(word, int):
            if word not in paths:
                raise UsageError(f"{metainfo.name} has no file with the index {word}")
            chosen.add(word)
            continue
        found = _named(word, paths)
        if not found:
            found = _numbered(word, numbers) or set()
        if not found:
            raise UsageError(
                f"{metainfo.name} has no file {word[:80]!r}: p2pfs show numbers its "
                f"{len(numbers)} file{'s' * (len(numbers) != 1)}"
            )
        chosen |= found
    if not chosen:
        raise UsageError("no file was chosen")
    return frozenset(chosen)


def _named(word: str, paths: dict[int, str]) -> set[int]:
    plain = word.rstrip("/")
    exact = {
        index for index, path in paths.items() if path == plain or path.startswith(plain + "/")
    }
    if exact or not plain:
        return exact
    matches = re.compile(f"(?:{translate(plain)})|(?:{translate(plain + '/*')})").match
    return {index for index, path in paths.items() if matches(path)}


def _numbered(word: str, numbers: dict[int, int]) -> set[int] | None:
    """None when it is not made of numbers, or one of them is no file."""
    found: set[int] = set()
    for part in word.replace(",", " ").split():
        match = _NUMBERS.fullmatch(part)
        if match is None:
            return None
        first = int(match[1])
        last = int(match[2] or first)
        if first > last or first < 1 or last > len(numbers):
            return None
        found.update(numbers[number] for number in range(first, last + 1))
    return found
