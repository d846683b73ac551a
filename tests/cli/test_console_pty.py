"""The console on the emulated screen of a real pseudo-terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.terminal import Terminal

NAME = "content.bin"
SIZE = 1_500_000


@pytest.fixture
def terminals(swarm: Any) -> Iterator[Any]:
    """Opens commands in terminals, in a swarm with a seeder that takes three seconds."""
    swarm.content(NAME, SIZE)
    swarm.content("other.bin", SIZE)
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


LATE_CONSOLE = """
import asyncio, pathlib, time
from p2pfs.cli.console import ConsoleScreen

async def main():
    screen = ConsoleScreen("peer")
    while not pathlib.Path("typed").exists():
        time.sleep(0.02)
    said = asyncio.Queue()
    running = asyncio.ensure_future(screen.commands(said.put_nowait))
    line = await said.get()
    running.cancel()
    await asyncio.wait([running])
    print("said", line)

asyncio.run(main())
"""


def test_what_is_typed_before_the_prompt_is_there_stands_behind_it_alone(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, program=(sys.executable, "-c", LATE_CONSOLE))
    try:
        terminal.type("exi")
        terminal.until("^exi$")
        (tmp_path / "typed").touch()
        terminal.until("^p2pfs> exi$")
        terminal.type("t\r")
        terminal.until("^said exit$")
        assert terminal.wait() == 0
        assert terminal.is_as_before()
    finally:
        terminal.end()


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


def test_several_downloads_have_a_bar_each_and_one_for_all(terminals: Any, swarm: Any) -> None:
    terminal = terminals("get", "*.bin", "-o", "out")
    terminal.until(r"^2 files \[#*-*\] +[1-9][0-9.]* %")
    terminal.type("pro")
    terminal.pump(0.6)

    bars = terminal.lines()[-3:]

    assert {line.split(" [")[0] for line in bars[:2]} == {NAME, "other.bin"}
    assert bars[2].startswith("2 files [")
    assert terminal.lines()[-4] == "p2pfs> pro"
    assert terminal.wait() == 0
    assert {line for line in terminal.lines() if line.startswith("Success")} == {
        f"Successfully Downloaded {name} to out/{name}" for name in (NAME, "other.bin")
    }
    assert terminal.is_as_before()
