"""What a node says and hears: lines from a person or a script, events, downloads, the end.

Invariant: no line that comes in is lost: what is typed while nothing is asked is the answer
to the next question, and so is the end of input (Ctrl-D). Only printable text goes out.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2pfs.cli import listed_views
from p2pfs.cli.json_screen import JsonScreen
from p2pfs.cli.screen import Screen
from p2pfs.cli.session import Session
from p2pfs.cli.text import printable

if TYPE_CHECKING:
    from p2pfs.net.engine import Torrent
    from p2pfs.net.index_client import Listed
    from p2pfs.net.node import Node, NodeEvent
    from p2pfs.net.progress import Taking

__all__ = ["Events", "LineFront"]

_TICK = 0.5
_GIVE_UP_AFTER = 60.0
"""Seconds without any peer to download from."""

_WARN_AFTER = 5.0
_SHARED_WITHIN = 30.0
"""Seconds until a complete download is shared too."""

_TOGETHER = 0.3
"""Seconds in which events are gathered."""

_AHEAD = 100
"""Lines that are read before they are asked for; what comes from a pipe waits in it then."""

_EACH = 3
"""Events of a kind that get a line each."""


class LineFront:
    """A screen, and the lines that come in to it. Use as an async context manager."""

    def __init__(self, screen: Screen) -> None:
        self.screen = screen
        self.events = Events(screen)
        self._lines: deque[str | None] = deque()
        self._ended = False
        self._prompt = ""
        self._came = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> LineFront:
        self._reader = asyncio.ensure_future(self._read())
        return self

    async def __aexit__(self, *exception: object) -> None:
        self.events.flush()
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)

    async def _read(self) -> None:
        try:
            await self.screen.commands(self._put, self._input_ended)
        finally:
            self._end()

    def _put(self, line: str | None) -> None:
        self._lines.append(line)
        self._came.set()
        if len(self._lines) >= _AHEAD:
            self.screen.room.clear()

    def _input_ended(self) -> None:
        """In a terminal somebody typed Ctrl-D, and can type on; elsewhere this was all."""
        if not self.screen.live:
            self._end()
        else:
            self.say(f"{self._prompt}^D")
            self._put(None)

    def _end(self) -> None:
        self._ended = True
        self._came.set()

    # -- questions and answers

    def say(self, text: str) -> None:
        self.events.flush()
        self.screen.write(text)

    def choices(self, candidates: Sequence[Listed]) -> None:
        self.say(listed_views.choices_table(candidates, colour=self.screen.colour))

    async def ask(self, prompt: str) -> str | None:
        self.screen.ask(prompt)
        self._prompt = prompt
        try:
            return await self.next_line()
        finally:
            self._prompt = ""
            if self.screen.live:
                self.screen.ask("")

    async def next_line(self) -> str | None:
        """The next line; None for the end of input, for ever when no more can come."""
        while not self._lines:
            if self._ended:
                if self._reader is not None and self._reader.done():
                    self._reader.result()  # a fault of the console is no end of the input
                return None
            self._came.clear()
            await self._came.wait()
        self.screen.room.set()
        return self._lines.popleft()

    def _heard(self, word: str) -> bool:
        """Whether `word` came in as a line; it is taken away then, and the others stay."""
        for line in self._lines:
            if line is not None and line.strip().lower() == word:
                self._lines.remove(line)
                return True
        return False

    # -- downloads

    async def follow(self, torrent: Torrent, folder: Path) -> str | None:
        shared = self.events.expect(torrent.name)
        session = Session(self.screen, downloads=[torrent], output=folder, stay=False, listen=False)
        running = _start(session.run())
        trouble = _start(self._trouble(torrent))
        try:
            await asyncio.wait([running, trouble], return_when=asyncio.FIRST_COMPLETED)
            reason = None if running.done() else trouble.result()
            if running.done():
                running.result()
                await asyncio.wait([shared], timeout=_SHARED_WITHIN)
        finally:
            for task in (running, trouble):
                task.cancel()
            await asyncio.gather(running, trouble, return_exceptions=True)
            shared.cancel()
            self.screen.watch(lambda: ())
            self.screen.latest = ()
        if reason is not None:
            await torrent.close()
        return reason

    async def _trouble(self, torrent: Torrent) -> str:
        """Until there is a reason to give a download up: that reason."""
        loop = asyncio.get_running_loop()
        gained = (-1, loop.time())
        warned = False
        while True:
            progress = torrent.progress()
            if progress.error:
                return progress.error
            if self._heard("stop"):
                return "stopped"
            if progress.downloaded != gained[0] or (progress.peers and not progress.missing):
                gained = (progress.downloaded, loop.time())
            alone = loop.time() - gained[1]
            if alone >= _GIVE_UP_AFTER:
                return "nobody who has the rest of it can be reached"
            if alone >= _WARN_AFTER and not warned and progress.state == "downloading":
                warned = True
                self.say(
                    f"nobody who has the rest of {printable(progress.name)} can be reached now; "
                    f"waiting up to {_GIVE_UP_AFTER:g} seconds (stop gives up at once)"
                )
            await asyncio.sleep(_TICK)

    # -- the end

    async def finish_serving(self, node: Node, grace: float) -> None:
        """Say what is waited for, and wait: `grace` seconds, then for downloads from here."""
        screen = self.screen
        told: set[tuple[str, str]] = set()

        def tell(takings: list[Taking], left: float) -> None:
            new = [one for one in takings if (one.name, one.address) not in told]
            if isinstance(screen, JsonScreen):
                if new:
                    screen.event("waiting", seconds=left, takings=[_object(one) for one in takings])
            else:
                for one in new:
                    self.say(f"waiting for {_taking_text(one)}")
            told.update((one.name, one.address) for one in new)
            if screen.live:
                screen.ask(f"quitting, {left:.0f} s> " if left else "quitting> ")

        if isinstance(screen, JsonScreen):
            screen.event("quitting", seconds=grace)
        else:
            self.say(
                f"quitting in {grace:g} s, later if downloads from here are not finished by then; "
                "Ctrl-C leaves at once"
            )
        await node.finish_serving(grace, tell)


def _start(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    return asyncio.get_running_loop().create_task(work)


def _taking_text(taking: Taking) -> str:
    who = f"{printable(taking.address)} ({printable(taking.client)})"
    return f"{who}, which downloads {printable(taking.name)} ({taking.share_done:.0%} done)"


def _object(taking: Taking) -> dict[str, Any]:
    return {
        "name": taking.name,
        "address": taking.address,
        "client": taking.client,
        "percent": int(taking.share_done * 1000) / 10,
    }


class Events:
    """Tells what happens to a node: each event as JSON, or lines, few for many at once.

    Until `start` only problems are told: what there is at the start is no event.
    """

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._started = False
        self._gathered: dict[tuple[str, str], list[str]] = {}
        """Names by kind of event and text."""
        self._flushing: asyncio.TimerHandle | None = None
        self._expected: dict[str, asyncio.Future[None]] = {}

    def start(self) -> None:
        """From now on everything is told."""
        self._started = True

    def expect(self, name: str) -> asyncio.Future[None]:
        """Done when a download of this name is shared, or that went wrong."""
        future = self._expected[name] = asyncio.get_running_loop().create_future()
        return future

    def __call__(self, event: NodeEvent) -> None:
        """Take an event of the node."""
        if event.kind in ("complete", "problem"):
            expected = self._expected.pop(event.name, None)
            if expected is not None and not expected.done():
                expected.set_result(None)
        if isinstance(self._screen, JsonScreen):
            self._screen.event(
                event.kind,
                name=event.name,
                text=event.text,
                size=event.size,
                info_hash=event.info_hash,
            )
        elif event.kind == "problem":
            self._gather(event.kind, event.name, _reason(event.name, event.text))
        elif event.kind in _TITLES:
            if self._started:
                self._gather(event.kind, event.name)
        elif event.kind in _LINES:
            self.flush()
            parts = (_LINES[event.kind], event.name, event.text)
            self._screen.note(": ".join(part for part in parts if part))

    def _gather(self, kind: str, name: str, text: str = "") -> None:
        self._gathered.setdefault((kind, text), []).append(name)
        if self._flushing is None:
            loop = asyncio.get_running_loop()
            self._flushing = loop.call_later(_TOGETHER, self.flush)

    def flush(self) -> None:
        """Write what was gathered."""
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        gathered, self._gathered = self._gathered, {}
        for (kind, text), names in gathered.items():
            if kind == "problem":
                parts = (kind, _some(names), text)
                self._screen.note(": ".join(part for part in parts if part))
                continue
            one, many = _TITLES[kind]
            if len(names) <= _EACH:
                for name in names:
                    self._screen.note(f"{one}: {name}")
            else:
                self._screen.note(f"{many.format(len(names))}: {_some(names)}")


def _some(names: Sequence[str]) -> str:
    """`a, b, c and 9 more`."""
    shown = ", ".join(names[:_EACH])
    return f"{shown} and {len(names) - _EACH} more" if len(names) > _EACH else shown


def _reason(name: str, text: str) -> str:
    """What is wrong, without the name that stands before it already."""
    own = f"the name '{printable(name.rpartition('/')[2])}' "
    text = printable(text)
    return f"its name {text.removeprefix(own)}" if text.startswith(own) else text


_TITLES = {
    "shared": ("shared", "shared {} files"),
    "withdrawn": ("no longer shared", "{} files are no longer shared"),
    "changed": ("changed, shared anew once it is quiet", "{} files have changed"),
}
_LINES = {
    "index_lost": "no index at the moment, it is tried again and again",
    "index_back": "the index is there again",
}
