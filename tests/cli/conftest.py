"""Real processes of the real commands, in a folder of their own, always ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PATIENCE = 30.0
"""Seconds until a test gives up on something that should have happened."""


class Process:
    """A running command; its lines are collected as they come."""

    def __init__(self, arguments: tuple[str, ...], folder: Path) -> None:
        self.arguments = arguments
        self.process = subprocess.Popen(
            [sys.executable, "-m", "p2pfs", *arguments],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self.lines: list[str] = []
        self.errors: list[str] = []
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._collect, args=(pipe, into), daemon=True)
            for pipe, into in (
                (self.process.stdout, self.lines),
                (self.process.stderr, self.errors),
            )
        ]
        for thread in self._threads:
            thread.start()

    def _collect(self, pipe: Any, into: list[str]) -> None:
        for line in pipe:
            with self._changed:
                into.append(line.decode("utf-8", "replace").rstrip("\r\n"))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def line_with(self, text: str) -> str:
        """The first line that holds `text`, as soon as there is one."""
        deadline = time.monotonic() + PATIENCE
        with self._changed:
            while True:
                for line in self.lines:
                    if text in line:
                        return line
                over = not self._threads[0].is_alive() or time.monotonic() > deadline
                assert not over, f"{self.arguments}: no {text!r} in {self.lines} {self.errors}"
                self._changed.wait(0.2)

    def event(self, name: str) -> dict[str, Any]:
        """The first JSON event called `name`."""
        found: dict[str, Any] = json.loads(self.line_with(f'"event": "{name}"'))
        return found

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def close_input(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """The exit code, with all output collected."""
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            said = f"{self.lines} {self.errors}"
            raise AssertionError(f"{self.arguments} does not end: {said}") from None
        for thread in self._threads:
            thread.join(PATIENCE)
        return code

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE)
        for thread in self._threads:
            thread.join(PATIENCE)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()


class Swarm:
    """Starts commands in one folder with a `seeds/` of known content."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[Process] = []
        self.port = 0

    def start(self, *arguments: str) -> Process:
        process = Process(arguments, self.folder)
        self.processes.append(process)
        return process

    def run(self, *arguments: str) -> Process:
        """Start a command and wait for its end."""
        process = self.start(*arguments)
        process.close_input()
        process.wait()
        return process

    def content(self, name: str, size: int) -> bytes:
        """Content in `seeds/`, a function of its name and size."""
        data = bytes((i * 7 + i // 251 + len(name)) % 256 for i in range(size))
        path = self.folder / "seeds" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        return data

    def tracker(self, *more: str) -> Process:
        process = self.start("tracker", "--host", "127.0.0.1", "-d", "0", "--json", *more)
        self.port = process.event("ready")["port"]
        return process

    def where(self) -> tuple[str, ...]:
        """The options that name the tracker, and any free port."""
        return ("-i", "127.0.0.1", "-d", str(self.port), "-p", "0")

    def seed(self, *more: str) -> Process:
        process = self.start("seed", *self.where(), "--json", *more)
        process.event("ready")
        return process


@pytest.fixture
def swarm(tmp_path: Path) -> Iterator[Swarm]:
    made = Swarm(tmp_path)
    yield made
    for process in made.processes:
        process.end()
