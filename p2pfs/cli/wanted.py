"""What a word on the command line of `get` stands for at the index.

Invariant: a word that is a name is that name, whatever else it could mean; then a folder,
then a pattern. Of folders and patterns only what somebody has now is wanted; a name is
wanted in any case, and waited for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from p2pfs.cli.fetching import read_link
from p2pfs.cli.listed_views import SHORT_HASH
from p2pfs.cli.text import WILDCARDS, counted, literally, printable
from p2pfs.errors import CatalogueError, P2pfsError

if TYPE_CHECKING:
    from p2pfs.net.index_client import IndexClient, Listed

__all__ = ["Found", "find_wanted"]

_GONE = "nobody has them at the moment"
_WAITING = (
    "nobody has it at the moment; it is waited for (Ctrl-C ends that and keeps what is here of it)"
)


@dataclass
class Found:
    """What the words of a command line stand for: `wanted` by info hash, and what is wrong.

    `data` holds the .torrent files that were fetched to find out, `links` the magnet links among
    the words, both by info hash. `notes` are for the user.
    """

    wanted: dict[str, str] = field(default_factory=dict)
    data: dict[str, bytes] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    failures: dict[str, P2pfsError] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """What is going to be fetched, in a phrase."""
        names = list(self.wanted.values())
        return f"fetching {names[0]}" if len(names) == 1 else f"fetching {len(names)} files"


async def find_wanted(index: IndexClient, words: Iterable[str]) -> Found:
    """Look the words up at the index: names first, then folders, then patterns.

    Raises `TrackerError` when the index is not there; a word that nothing is found for is
    among the failures.
    """
    found = Found()
    for word in words:
        try:
            await _find(index, word, found)
        except CatalogueError as error:
            found.failures[word] = error
    return found


async def _find(index: IndexClient, word: str, found: Found) -> None:
    from p2pfs.formats.magnet import is_magnet
    from p2pfs.net.index_client import UnknownError

    if is_magnet(word):
        await _find_linked(index, word, found)
        return
    if not word.strip("/"):
        raise CatalogueError(
            f"'{printable(word)}' is no name: p2pfs ls lists the names that there are"
        )
    folder = word.rstrip("/") + "/"
    if word == folder and await _find_below(index, folder, found):
        return
    try:
        await _find_named(index, word.rstrip("/"), found)
    except UnknownError:
        if word != folder and await _find_below(index, folder, found):
            return
        if WILDCARDS.isdisjoint(word):
            raise
        matching = await index.list(word, everything=True)
        if not matching:
            raise CatalogueError(f"{index.where}: no name matches '{printable(word)}'") from None
        _take(word, matching, found)


async def _find_named(index: IndexClient, word: str, found: Found) -> None:
    from p2pfs.formats.metainfo import parse

    data = await index.fetch(word)
    torrent = parse(data)
    info_hash = str(torrent.torrent_id)
    found.wanted[info_hash] = name = torrent.shared_name
    found.data[info_hash] = data
    listed = await index.list(literally(name))
    if not any(one.info_hash == info_hash and one.live for one in listed):
        found.notes.append(f"{name}: {_WAITING}")


async def _find_linked(index: IndexClient, link: str, found: Found) -> None:
    """What a magnet link names: its metadata from the index if that knows it, else from peers."""
    from p2pfs.net.index_client import UnknownError

    magnet = read_link(link)
    info_hash = str(magnet.torrent_id)
    found.links[info_hash] = link
    try:
        await _find_named(index, info_hash, found)
    except UnknownError:
        found.wanted[info_hash] = magnet.shown


async def _find_below(index: IndexClient, folder: str, found: Found) -> bool:
    """Want what is listed below `folder`, which ends with a slash; whether there is any."""
    listed = await index.list(literally(folder) + "*", everything=True)
    below = [one for one in listed if one.name.startswith(folder)]
    gone = sum(not one.live for one in below)
    if 0 < gone < len(below):
        found.notes.append(f"{folder}: {gone} of {len(below)} names are left out: {_GONE}")
    if below:
        _take(folder, below, found)
    return bool(below)


def _take(word: str, listed: Sequence[Listed], found: Found) -> None:
    """Want what is alive of the list; two contents of one name are the user's to choose from."""
    from p2pfs.net.index_client import AmbiguousError

    names: dict[str, list[Listed]] = {}
    for one in listed:
        if one.live:
            names.setdefault(one.name, []).append(one)
    if not names:
        raise CatalogueError(f"{counted(len(listed), 'name')} for '{printable(word)}', but {_GONE}")
    for name in sorted(names):
        several = names[name]
        if len(several) > 1:
            choices = ", ".join(f"{name}@{one.info_hash[:SHORT_HASH]}" for one in several)
            found.failures[name] = AmbiguousError(
                f"'{printable(name)}' means several contents; ask for one of: {choices}", several
            )
        else:
            found.wanted.setdefault(several[0].info_hash, name)
