"""The menu of a node: what a line means, and what each entry does.

Invariant: whatever is typed and whatever goes wrong, the menu comes back, until `quit` or
the end of the input; each question takes exactly one line, so that scripts can drive it.
"""

from __future__ import annotations

import asyncio
import enum
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from p2pfs.cli.replaced import watch_for_another
from p2pfs.cli.run import error_text
from p2pfs.cli.text import printable, quoted
from p2pfs.errors import P2pfsError, UsageError

if TYPE_CHECKING:
    from p2pfs.net.engine import Torrent
    from p2pfs.net.index_client import Listed
    from p2pfs.net.node import NodeFile

__all__ = ["Choice", "Front", "Menu", "Sharer", "parse_choice", "parse_name", "split_names"]


class Choice(enum.Enum):
    """The entries, with their titles; the first word of a title chooses it too."""

    LIST = "List the available files"
    DOWNLOAD = "Download a file"
    DELETE = "Delete a file of mine"
    QUIT = "Quit"
    SLEEP = "Sleep 10 seconds"


_ENTRIES = list(Choice)
_WORDS = [choice.value.split()[0].lower() for choice in _ENTRIES]
MENU = "\n".join(f"{number}. {choice.value}" for number, choice in enumerate(_ENTRIES, 1))


def parse_choice(line: str) -> Choice | None:
    """The entry that a line chooses, by number or word; None when it is none of them."""
    text = line.strip().lower().rstrip(".")
    if text in _WORDS:
        return _ENTRIES[_WORDS.index(text)]
    if text == "exit":
        return Choice.QUIT
    if text.isascii() and text.isdecimal() and len(text) <= 9 and 1 <= int(text) <= len(_ENTRIES):
        return _ENTRIES[int(text) - 1]
    return None


def split_names(line: str) -> list[str]:
    """Names separated by spaces, with quotes as in a shell; each once.

    Raises `UsageError` when a quote is not closed.
    """
    words = shlex.shlex(line, posix=True)
    words.whitespace_split = True
    words.commenters = ""
    try:
        return list(dict.fromkeys(words))
    except ValueError:
        raise UsageError(
            "a quote is not closed: put a name with spaces or quotes in it between double "
            'quotes, as in "my file.txt"'
        ) from None


def parse_name(line: str) -> str:
    """The one name that a line holds: as it stands, or between quotes."""
    text = line.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        try:
            words = split_names(text)
        except UsageError:
            return text
        if len(words) == 1:
            return words[0]
    return text


class Sharer(Protocol):
    """What the menu needs of a node."""

    def files(self) -> list[NodeFile]: ...

    async def listed(self, pattern: str | None = None) -> list[Listed]: ...

    async def fetch(self, wanted: str) -> Torrent: ...

    async def delete(self, names: Sequence[str]) -> dict[str, str | None]: ...


class Front(Protocol):
    """Whom the menu talks to."""

    async def ask(self, prompt: str) -> str | None:
        """The next line that comes in; None for the end of input."""
        ...

    def say(self, text: str) -> None:
        """One or several whole printable lines."""
        ...

    def choices(self, candidates: Sequence[Listed]) -> None:
        """What an ambiguous name may mean."""
        ...

    async def follow(self, torrent: Torrent, folder: Path) -> str | None:
        """Show a download until it is complete and shared, or (why) given up and closed."""
        ...


class Menu:
    """The menu of node `number`, whose files are in `folder`; `pause` is how long it sleeps."""

    def __init__(
        self, number: int, node: Sharer, front: Front, folder: Path, *, pause: float = 10.0
    ) -> None:
        self._node = node
        self._front = front
        self._folder = folder
        self._pause = pause
        self._prompt = f"node {number}> "
        self._actions = {
            Choice.LIST: self._list,
            Choice.DOWNLOAD: self._download,
            Choice.DELETE: self._delete,
            Choice.SLEEP: self._sleep,
        }

    async def run(self) -> None:
        """Obey until `quit` or the end of the input."""
        self._front.say(MENU)
        while (line := await self._front.ask(self._prompt)) is not None:
            choice = parse_choice(line)
            if choice is Choice.QUIT:
                return
            if choice is not None:
                await self._do(choice)
            elif line.strip():
                self._front.say(
                    f"there is no entry '{printable(line.strip())[:40]}': type a number from 1 to "
                    f"{len(_ENTRIES)}, or one of: {', '.join(_WORDS)}"
                )
                continue
            self._front.say(MENU)

    async def _do(self, choice: Choice) -> None:
        try:
            await self._actions[choice]()
        except (P2pfsError, OSError) as error:
            candidates: Sequence[Listed] = getattr(error, "candidates", ())
            if candidates:
                self._front.choices(candidates)
            self._front.say(error_text(error))

    async def _list(self) -> None:
        names = sorted({one.name for one in await self._node.listed()})
        if not names:
            self._front.say("no files are shared at the moment")
            return
        self._front.say("\n".join(printable(name) for name in names))

    async def _download(self) -> None:
        line = await self._front.ask("name of the file to download: ")
        if not line:
            return
        torrent = await self._node.fetch(parse_name(line))
        say, listed = self._front.say, self._node.listed
        async with watch_for_another(torrent, listed, say, "stop, then download"):
            reason = await self._front.follow(torrent, self._folder)
        if reason is not None:
            self._front.say(
                f"{printable(torrent.name)} is not complete: {printable(reason)}; "
                "download it again to go on from here"
            )

    async def _delete(self) -> None:
        files = self._node.files()
        shown = {printable(file.name): file.name for file in files}
        if files:
            self._front.say("\n".join(quoted(name) for name in shown))
        else:
            self._front.say("this node has no files")
        line = await self._front.ask("names of the files to delete, separated by spaces: ")
        names = [shown.get(name, name) for name in split_names(line or "")]
        for name, reason in (await self._node.delete(names) if names else {}).items():
            what = "deleted" if reason is None else "not deleted"
            why = "" if reason is None else f": {printable(reason)}"
            self._front.say(f"{what}: {printable(name)}{why}")

    async def _sleep(self) -> None:
        self._front.say(f"serving only for {self._pause:g} seconds")
        await asyncio.sleep(self._pause)
