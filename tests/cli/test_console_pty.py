"""The console on the emulated screen of a real pseudo-terminal."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pyte = pytest.importorskip("pyte")
fcntl = pytest.importorskip("fcntl", reason="pseudo-terminals need a POSIX system")
pty = pytest.importorskip("pty")
termios = pytest.importorskip("termios")

ROWS, COLUMNS = 24, 100
PATIENCE = 30.0
NAME = "content.bin"
SIZE = 1_500_000


class Terminal:
    """A command in a terminal of its own; `lines` is what a person would see."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (ROWS, COLUMNS))
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        self.process = subprocess.Popen(
            [sys.executable, "-m", "p2pfs", *arguments],
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


@pytest.fixture
def terminals(swarm: Any) -> Iterator[Any]:
    """Opens commands in terminals, in a swarm with a seeder that takes three seconds."""
    swarm.content(NAME, SIZE)
    swarm.tracker()
    swarm.seed("--up-limit", "500k")
    opened: list[Terminal] = []

    def open_terminal(command: str, *more: str) -> Terminal:
        terminal = Terminal(swarm.folder, command, *swarm.where(), *more)
        opened.append(terminal)
        return terminal

    yield open_terminal
    for terminal in opened:
        terminal.end()


def test_typing_stays_readable_while_the_bar_moves(terminals: Any, swarm: Any) -> None:
    terminal = terminals("download", NAME)
    terminal.until(r"[1-9][0-9.]* %")
    shares = []
    typed = ""
    for letter in "prog":
        terminal.type(letter)
        typed += letter
        terminal.pump(0.35)
        assert terminal.input_line() == f"p2pfs> {typed}"
        assert terminal.bar().startswith(NAME)
        assert terminal.screen.cursor.x == len(f"p2pfs> {typed}")
        shares.append(terminal.percent())
    assert shares == sorted(shares)
    assert shares[-1] > shares[0]
    terminal.type("\r")
    terminal.until(r"^content\.bin: downloading [0-9.]+ %, \d+/92 pieces")
    terminal.until(r"received +share +sent")
    assert f"p2pfs> {typed}" in terminal.lines()
    assert terminal.wait() == 0
    assert f"Successfully Downloaded {NAME} to output/{NAME}" in terminal.lines()
    assert terminal.is_as_before()
    assert (swarm.folder / "output" / NAME).stat().st_size == SIZE


def test_peers_help_and_exit_are_obeyed(terminals: Any) -> None:
    terminal = terminals("peer", "-f", NAME)
    terminal.until(r"[1-9][0-9.]* %")
    terminal.type("peers\r")
    terminal.until(r"direction +has")
    terminal.until(r"out +92/92")
    terminal.type("hlep\r")
    terminal.until("unknown command 'hlep'")
    terminal.type("help\r")
    terminal.until("^exit +leave cleanly")
    terminal.type("exit\r")
    assert terminal.wait() == 0
    assert terminal.is_as_before()


def test_a_typing_error_can_be_mended(terminals: Any) -> None:
    terminal = terminals("peer", "-f", NAME)
    terminal.until("^p2pfs> *$")
    terminal.type("exix")
    terminal.until("^p2pfs> exix$")
    terminal.type("\x7f")
    terminal.until("^p2pfs> exi$")
    terminal.type("t\r")
    assert terminal.wait() == 0


def test_the_prompt_comes_back_after_a_line_longer_than_the_screen(terminals: Any) -> None:
    terminal = terminals("peer", "-f", NAME)
    terminal.until("^p2pfs> *$")
    terminal.type("prog " * 40)
    terminal.until("prog prog prog")
    terminal.type("\x15")
    terminal.until("^p2pfs> *$")


def test_lines_that_are_pasted_are_obeyed_one_by_one(terminals: Any) -> None:
    terminal = terminals("peer", "-f", NAME)
    terminal.until("^p2pfs> *$")
    terminal.type("\x1b[200~help\nhlep\n\x1b[201~\r")
    terminal.until("^exit +leave cleanly")
    terminal.until("unknown command 'hlep'")


def test_the_end_of_input_is_not_exit_and_ctrl_c_stops_cleanly(terminals: Any) -> None:
    terminal = terminals("peer", "-f", NAME)
    terminal.until(r"[1-9][0-9.]* %")
    terminal.type("\x04")
    terminal.pump(0.5)
    assert terminal.process.poll() is None
    terminal.type("\x03")
    assert terminal.wait() == 130
    assert terminal.is_as_before()
    assert not any("Traceback" in line for line in terminal.lines())


def test_a_signal_gives_the_terminal_back(terminals: Any) -> None:
    terminal = terminals("peer", "-f", NAME)
    terminal.until(r"[1-9][0-9.]* %")
    terminal.type("half a li")
    terminal.process.terminate()
    assert terminal.wait() == 143
    assert terminal.is_as_before()
