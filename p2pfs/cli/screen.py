"""What a running command says, and the plain lines of one.

Invariant: a screen without a terminal never writes an escape code, and every kind of screen
is told the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from p2pfs.cli import listed_views, views
from p2pfs.cli.text import counted, printable, write_out
from p2pfs.cli.units import format_duration, format_rate, format_size

if TYPE_CHECKING:
    from pathlib import Path

    from p2pfs.net.index_client import Listed
    from p2pfs.net.progress import PeerInfo, Progress
    from p2pfs.net.tried import Fetched

__all__ = ["COMMANDS", "PlainScreen", "Screen", "address_text", "open_screen"]

COMMANDS = {
    "prog": "progress, and what came from whom",
    "peers": "the connections",
    "help": "this list",
    "exit": "leave cleanly",
}

FETCHING = frozenset({"download", "get", "share"})
"""Roles in which what was sent is worth a line only when there was some."""

_LINE_EVERY = 2.0
"""Seconds between two progress lines where there is no terminal."""


def address_text(address: tuple[str, int]) -> str:
    """`127.0.0.1:9000`, `[::1]:9000`."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def success_line(progress: Progress, path: Path) -> str:
    """The line that says a download, or what was chosen of it, is complete and verified."""
    where = path.as_posix()
    if "/" not in where:  # a path drops the folder `.`
        where = f"./{where}"
    what = printable(progress.name)
    if progress.files_chosen is not None:
        what = f"{progress.files_chosen} of {counted(progress.files_total, 'file')} of {what}"
    return f"Successfully Downloaded {what} to {printable(where)}"


class Screen:
    """What both kinds share: where the output goes, and which commands come in."""

    live = False
    colour = False

    def __init__(self, role: str) -> None:
        self.role = role
        self.status: Callable[[], str] = lambda: self.role
        """What stands in the place of a bar while there is no torrent to show."""
        self.brief = False
        """Say only of each download that it is complete: for when there are many."""
        self.latest: Sequence[Progress] = ()
        self.paths: dict[str, Path] = {}
        self.room = asyncio.Event()
        """Cleared while no more lines are wanted; only people type on then."""
        self.room.set()

    def write(self, text: str) -> None:
        """One or several whole lines to standard output, at once."""
        write_out(text + "\n")

    def write_error(self, text: str) -> None:
        """The same to standard error."""
        with contextlib.suppress(OSError, ValueError):
            print(text, file=sys.stderr, flush=True)  # noqa: T201

    async def commands(
        self, handle: Callable[[str], None], ended: Callable[[], None] = lambda: None
    ) -> None:
        """Call `handle` with each line that comes in, until cancelled.

        `ended` is called when no more can come.
        """
        from p2pfs.cli.stdin import read_lines

        async for line in read_lines(ended):
            handle(line)
            await self.room.wait()

    def ask(self, prompt: str) -> None:
        """What the next line that comes in is the answer to."""
        self.write(prompt.strip())

    def watch(self, snapshot: Callable[[], Sequence[Progress]]) -> None:
        """Take the state to draw from here, where something is drawn all the time."""

    def ready(self, addresses: Sequence[tuple[str, int]], **detail: Any) -> None:
        """The server listens: the one line that scripts wait for."""
        raise NotImplementedError

    def note(self, text: str) -> None:
        """Something worth knowing that is neither progress nor an error."""
        raise NotImplementedError

    def progress(self, all_progress: Sequence[Progress], now: float) -> None:
        """The state, twice a second; `now` in seconds."""
        raise NotImplementedError

    def metadata(self, fetched: Fetched) -> None:
        """How far the metadata of a magnet link is, twice a second."""
        raise NotImplementedError

    def report(self, all_progress: Sequence[Progress]) -> None:
        """The answer to `prog`."""
        raise NotImplementedError

    def peers(self, peers: Sequence[tuple[Progress, PeerInfo]]) -> None:
        """The answer to `peers`."""
        raise NotImplementedError

    def help(self) -> None:
        """The answer to `help`."""
        raise NotImplementedError

    def missing(self, progress: Progress) -> None:
        """Nothing is left to fetch but pieces that nobody has."""
        raise NotImplementedError

    def complete(self, progress: Progress, path: Path, seconds: float) -> None:
        """A download is complete and verified."""
        raise NotImplementedError

    def failed(self, name: str, error: str, candidates: Sequence[Listed] = ()) -> None:
        """One of several things asked for went wrong, and the others go on.

        `candidates` are what an ambiguous name may mean.
        """
        raise NotImplementedError

    def choices(self, candidates: Sequence[Listed]) -> None:
        """What an ambiguous name may mean, and how to ask for each."""

    def finish(self, code: int, error: str | None) -> None:
        """The last word, with the exit code."""
        raise NotImplementedError


class PlainScreen(Screen):
    """Lines for people and scripts."""

    def __init__(self, role: str) -> None:
        super().__init__(role)
        self._last_line: float | None = None
        self._last_done: dict[str, int] = {}
        self._last_metadata: dict[str, str] = {}

    def ready(self, addresses: Sequence[tuple[str, int]], **detail: Any) -> None:
        shown = " ".join(address_text(address) for address in addresses)
        more = "".join(f", {printable(str(value))}" for value in detail.values())
        self.write(f"p2pfs {self.role} ready on {shown}{more}")

    def note(self, text: str) -> None:
        self.write(printable(text))

    def progress(self, all_progress: Sequence[Progress], now: float) -> None:
        self.latest = all_progress
        if self._last_line is None:
            self._last_line = now
        if self.live or now - self._last_line < _LINE_EVERY:
            return
        self._last_line = now
        for progress in all_progress:
            if progress.state == "seeding":
                continue
            if self._last_done.get(progress.name) != progress.bytes_done:
                self._last_done[progress.name] = progress.bytes_done
                self.write(views.progress_line(progress))

    def metadata(self, fetched: Fetched) -> None:
        line = views.metadata_line(fetched)
        if not self.live and self._last_metadata.get(fetched.info_hash) != line:
            self._last_metadata[fetched.info_hash] = line
            self.write(line)

    def report(self, all_progress: Sequence[Progress]) -> None:
        for progress in all_progress:
            self.write(views.progress_line(progress))
            if files := views.files_table(progress, colour=self.colour):
                self.write(files)
            self._sources(progress)
            if progress.missing and progress.asked:
                self.missing(progress)

    def _sources(self, progress: Progress) -> None:
        table = views.sources_table(progress, colour=self.colour)
        if table:
            self.write(table)

    def peers(self, peers: Sequence[tuple[Progress, PeerInfo]]) -> None:
        self.write(views.peers_table(peers, colour=self.colour))

    def help(self) -> None:
        self.write("\n".join(f"{name:<6} {text}" for name, text in COMMANDS.items()))

    def missing(self, progress: Progress) -> None:
        self.write(views.describe_missing(progress))

    def complete(self, progress: Progress, path: Path, seconds: float) -> None:
        self.paths[progress.name] = path
        if not self.brief:
            self._sources(progress)
            fetched = min(progress.downloaded, progress.bytes_total)
            if fetched and seconds > 0:
                took = f"{seconds:.2f} s" if seconds < 60 else format_duration(seconds)
                self.write(f"{format_size(fetched)} in {took}, {format_rate(fetched / seconds)}")
        self.write(success_line(progress, path))

    def failed(self, name: str, error: str, candidates: Sequence[Listed] = ()) -> None:
        if candidates:
            self.choices(candidates)
        self.write_error(f"p2pfs: {printable(name)}: {printable(error)}")

    def choices(self, candidates: Sequence[Listed]) -> None:
        self.write_error(listed_views.choices_table(candidates, colour=self.colour))

    def finish(self, code: int, error: str | None) -> None:
        for progress in self.latest:
            if self.role != "tracker" and (self.role not in FETCHING or progress.uploaded):
                self.write(views.upload_line(progress))


def open_screen(role: str, *, as_json: bool, console: bool = True) -> Screen:
    """The screen for this process: JSON, the live console in a terminal, or plain lines."""
    if as_json:
        from p2pfs.cli.json_screen import JsonScreen

        return JsonScreen(role)
    if console:
        from p2pfs.cli.stdin import is_interactive

        if is_interactive():
            from p2pfs.cli.console import ConsoleScreen

            return ConsoleScreen(role)
    return PlainScreen(role)
