"""A command in a pseudo-terminal of its own, whose emulated screen can be read."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

pyte = pytest.importorskip("pyte")
fcntl = pytest.importorskip("fcntl", reason="pseudo-terminals need a POSIX system")
pty = pytest.importorskip("pty")
termios = pytest.importorskip("termios")

ROWS, COLUMNS = 24, 100
PATIENCE = 30.0


class Terminal:
    """A command in a terminal of its own; `lines` is what a person would see.

    The arguments are those of `program`, by default `p2pfs`.
    """

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        program: Sequence[str] = (sys.executable, "-m", "p2pfs"),
    ) -> None:
        self.master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (ROWS, COLUMNS))
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        self.process = subprocess.Popen(
            [*program, *arguments],
            cwd=folder,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "TERM": "xterm-256color"},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        self.screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.ByteStream(self.screen)

    def pump(self, seconds: float) -> None:
        """Show what comes for a while."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if select.select([self.master], [], [], min(left, 0.05))[0]:
                self._stream.feed(os.read(self.master, 65536))

    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.screen.display if line.strip()]

    def until(self, pattern: str) -> str:
        """Wait until a line matches; returns it."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for line in self.lines():
                if re.search(pattern, line):
                    return line
            self.pump(0.05)
        raise AssertionError(f"no {pattern!r} on the screen:\n" + "\n".join(self.lines()))

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def bar(self) -> str:
        """The line of the bar, which is the last on the screen."""
        return self.lines()[-1]

    def percent(self) -> float:
        found = re.search(r"([0-9.]+) %", self.bar())
        assert found is not None, self.lines()
        return float(found[1])

    def input_line(self) -> str:
        return self.lines()[-2]

    def wait(self) -> int:
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None and time.monotonic() < deadline:
            self.pump(0.05)
        self.pump(0.1)
        return self.process.wait(0)

    def is_as_before(self) -> bool:
        """Whether the terminal's settings were given back."""
        return termios.tcgetattr(self.slave) == self.before

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE)
        os.close(self.slave)
        os.close(self.master)
