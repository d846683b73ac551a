"""A running swarm command: watches its torrents, obeys the console, knows when it is done.

Invariant: a download counts as done only when the engine says its content is complete and
verified; `exit`, a signal and completion all leave by the same way out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2pfs.cli.text import printable
from p2pfs.errors import P2pfsError

if TYPE_CHECKING:
    from p2pfs.cli.screen import Screen
    from p2pfs.net.engine import PeerInfo, Progress, Torrent

__all__ = ["Session", "StoppedEarly"]

_log = logging.getLogger(__name__)

_TICK = 0.5
FILES_SHOWN = 20
"""Files of a torrent that `prog` lists."""

_MISSING_SETTLES = 1.0
"""Seconds for which the missing pieces must stay the same before they are told."""

_GOES_ON = "stopped before the end: the same command goes on from here"


class StoppedEarly(P2pfsError):
    """`exit` came while a download was not complete."""


class Session:
    """Torrents that run, and the screen they are shown on.

    `output` is the folder of the downloads, as the user wrote it; `stay` keeps it running
    after every download is complete, until `exit`. `feed` starts further downloads as it
    goes (`add`, `complete`, `drop`), and has to end before the session is done. One that
    does not `listen` leaves the lines that come in to others. `also` are torrents that come
    and go by themselves, `status` what to say while there is none.
    """

    def __init__(
        self,
        screen: Screen,
        *,
        seeds: Sequence[Torrent] = (),
        downloads: Sequence[Torrent] = (),
        output: Path,
        stay: bool,
        feed: Callable[[Session], Coroutine[Any, Any, None]] | None = None,
        listen: bool = True,
        also: Callable[[], Sequence[Torrent]] = tuple,
        status: Callable[[], str] | None = None,
    ) -> None:
        self._screen = screen
        self._downloads = list(downloads)
        self._torrents: dict[Torrent, float] = {}
        self._dropped: list[Progress] = []
        self._output = output
        self._stay = stay
        self._feed = feed
        self._listen = listen
        self._also = also
        self._status = status
        self._leaving = asyncio.Event()
        self._told: dict[str, tuple[tuple[int, ...], float, bool]] = {}
        self._errors: set[tuple[str, str]] = set()
        for torrent in (*seeds, *downloads):
            self.add(torrent)

    def add(self, torrent: Torrent) -> None:
        """Show this torrent too, from now on."""
        self._torrents[torrent] = time.monotonic()

    async def drop(self, torrent: Torrent) -> None:
        """Close a torrent; it is shown no more, but counted in the end."""
        if self._torrents.pop(torrent, None) is not None:
            self._dropped.append(torrent.progress())
        await torrent.close()

    def snapshot(self) -> list[Progress]:
        """The state of every torrent now."""
        return [torrent.progress() for torrent in self._all()]

    def _all(self) -> list[Torrent]:
        return [*self._torrents, *self._also()]

    async def run(self) -> int:
        """Until complete, `exit` or cancelled; returns the exit code.

        Raises the engine's `StorageError` when a download cannot go on, and `StoppedEarly`.
        """
        self._screen.watch(self.snapshot)
        background: list[asyncio.Task[Any]] = [self._start(self._tick())]
        if self._listen:
            background.append(self._start(self._screen.commands(self._obey)))
        completions = [self._start(self.complete(torrent)) for torrent in self._downloads]
        if self._feed is not None:
            completions.append(self._start(self._feed(self)))
        leaving = self._start(self._leaving.wait())
        stopped = False
        try:
            await self._wait(background, completions, leaving)
        except asyncio.CancelledError:
            stopped = self._listen
            raise
        finally:
            with contextlib.suppress(Exception):
                self._screen.latest = [*self._dropped, *self.snapshot()]
            for task in (*background, *completions, leaving):
                task.cancel()
            await asyncio.gather(*background, *completions, leaving, return_exceptions=True)
            unfinished = not self._stay and any(task.cancelled() for task in completions)
            if unfinished and stopped:
                self._screen.note(_GOES_ON)
        if unfinished:
            raise StoppedEarly(_GOES_ON)
        return 0

    @staticmethod
    def _start(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return asyncio.get_running_loop().create_task(work)

    async def _wait(
        self,
        background: list[asyncio.Task[Any]],
        completions: list[asyncio.Task[Any]],
        leaving: asyncio.Task[Any],
    ) -> None:
        pending = {*background, *completions, leaving}
        while not self._leaving.is_set():
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            if not self._stay and all(task.done() for task in completions):
                return

    async def complete(self, torrent: Torrent) -> None:
        """Wait for a download, and tell that it is complete. Raises what its `wait` raises."""
        await torrent.wait()
        seconds = time.monotonic() - self._torrents[torrent]
        path = self._output / torrent.content_path.relative_to(torrent.path.parent)
        self._screen.complete(torrent.progress(), path, seconds)

    async def _tick(self) -> None:
        while True:
            now = time.monotonic()
            state = self.snapshot()
            self._screen.progress(state, now)
            for progress in state:
                self._watch_missing(progress, now)
                self._watch_error(progress)
            await asyncio.sleep(_TICK)

    def _watch_missing(self, progress: Progress, now: float) -> None:
        """Tell about missing pieces once they have stayed the same for a moment."""
        pieces = progress.missing
        before, since, told = self._told.get(progress.name, ((), now, False))
        if not pieces or pieces != before:
            self._told[progress.name] = (pieces, now, not pieces)
        elif not told and now - since >= _MISSING_SETTLES and progress.asked:
            self._told[progress.name] = (pieces, since, True)
            self._screen.missing(progress)

    def _watch_error(self, progress: Progress) -> None:
        for error in (progress.error, *progress.web_problems):
            if error and (progress.name, error) not in self._errors:
                self._errors.add((progress.name, error))
                self._screen.note(f"{progress.name}: {printable(error)}")

    def _obey(self, line: str) -> None:
        word = line.strip().lower()
        if word in ("exit", "quit"):
            self._leaving.set()
        elif word == "prog":
            if self._status is not None:
                self._screen.note(self._status())
            self._screen.report([torrent.progress(files=FILES_SHOWN) for torrent in self._all()])
        elif word == "peers":
            self._screen.peers(self._peers())
        elif word in ("help", "?"):
            self._screen.help()
        elif word:
            self._screen.note(f"unknown command '{printable(word)[:40]}'; help lists the commands")

    def _peers(self) -> list[tuple[Progress, PeerInfo]]:
        return [(torrent.progress(), peer) for torrent in self._all() for peer in torrent.peers()]
