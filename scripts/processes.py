"""Processes of `p2pfs` that say what they do in JSON, for benchmarks.

Invariant: every process that was started has ended when the `Processes` that started it
is left, whatever happened meanwhile; nothing sleeps where a line can be waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Any

END_WITHIN = 3.0
"""Seconds that a process has for ending when it is asked to."""

LINE_LIMIT = 16 * 1024 * 1024


class ProcessError(Exception):
    """A process ended, or did not say in time what was waited for."""


class Process:
    """One command; `events` are the objects that it printed, each with its `at` in seconds."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.events: list[dict[str, Any]] = []
        self._process = process
        self._log = log
        self._news = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict) and "event" in event:
                    self.events.append({**event, "at": time.monotonic()})
                    self._news.set()
        await self._process.wait()
        self._news.set()

    def found(self, kind: str) -> list[dict[str, Any]]:
        """The events of this kind so far."""
        return [event for event in self.events if event["event"] == kind]

    async def says(self, kind: str, seconds: float) -> dict[str, Any]:
        """The first event of this kind; raises `ProcessError` when none comes."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    self._news.clear()
                    found = self.found(kind)
                    if found:
                        return found[0]
                    if self._reader.done():
                        raise ProcessError(self._told(f"ended before it said {kind!r}"))
                    await self._news.wait()
        except TimeoutError:
            raise ProcessError(self._told(f"did not say {kind!r} within {seconds:.0f} s")) from None

    async def ended(self, seconds: float) -> None:
        """Wait for its end; raises `ProcessError` unless that is a good one."""
        try:
            async with asyncio.timeout(seconds):
                await asyncio.shield(self._reader)
        except TimeoutError:
            raise ProcessError(self._told(f"did not end within {seconds:.0f} s")) from None
        if self._process.returncode:
            raise ProcessError(self._told(f"ended with exit code {self._process.returncode}"))

    def _told(self, what: str) -> str:
        """`what` went wrong, with the last lines that the process wrote."""
        errors = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
        return "\n  ".join([f"{self.name} {what}", *self._unfinished(), *errors])

    def _unfinished(self) -> list[str]:
        """How far the downloads are that are not complete."""
        last = {event["name"]: event for event in self.found("progress")}
        for event in self.found("complete"):
            last.pop(event["name"], None)
        return [
            f"{name}: {event['state']}, {event['percent']} %, {event['peers']} peers"
            for name, event in last.items()
        ]

    def ask_to_end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    async def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)

    async def leave(self, seconds: float) -> None:
        """Wait so long for its end; after that it is killed."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), seconds)
        await self.kill()


class Processes:
    """Starts `p2pfs` commands in `folder`, and ends them all when it is left."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[Process] = []
        self._starting: set[asyncio.Task[Process]] = set()

    async def __aenter__(self) -> Processes:
        return self

    async def __aexit__(self, *_: object) -> None:
        while self._starting:  # a start that was cancelled has a process all the same
            await asyncio.gather(*self._starting, return_exceptions=True)
        for process in self._running:
            process.ask_to_end()
        await asyncio.gather(*(process.leave(END_WITHIN) for process in self._running))

    async def start(self, name: str, *arguments: object) -> Process:
        """`p2pfs ARGUMENTS --json`; what it writes to standard error goes to NAME.log."""
        starting = asyncio.create_task(self._start(name, arguments))
        self._starting.add(starting)
        starting.add_done_callback(self._starting.discard)
        return await asyncio.shield(starting)

    async def _start(self, name: str, arguments: tuple[object, ...]) -> Process:
        log = self._folder / f"{name}.log"
        with log.open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "p2pfs", *map(str, arguments), "--json"),
                cwd=self._folder,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                limit=LINE_LIMIT,
            )
        started = Process(name, process, log)
        self._running.append(started)
        return started
