"""The menu of nodes on the emulated screens of real pseudo-terminals."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.terminal import Terminal

pytestmark = pytest.mark.slow

SIZE = 1_500_000
MENU = "5. Sleep 10 seconds"
LONG_AGO = 1_600_000_000


@pytest.fixture
def nodes(swarm: Any) -> Iterator[Any]:
    """Opens nodes in terminals, beside an index; node 1 has `content.bin`."""
    index = swarm.start("index", "--host", "127.0.0.1", "-d", "0", "--no-mdns", "--json")
    index.event("ready")
    for number in (1, 2, 3):
        (swarm.folder / f"p{number}").mkdir()
    content = swarm.folder / "p1" / "content.bin"
    content.write_bytes(bytes(range(250)) * (SIZE // 250))
    os.utime(content, (LONG_AGO, LONG_AGO))
    opened: list[Terminal] = []

    def open_node(number: int | None, *more: str) -> Terminal:
        own = () if number is None else ("--id", str(number))
        terminal = Terminal(swarm.folder, "node", *own, "--bind", "127.0.0.1", *more)
        opened.append(terminal)
        return terminal

    yield open_node
    for terminal in opened:
        terminal.end()


def test_three_nodes_are_driven_by_their_menus(nodes: Any, swarm: Any) -> None:
    first = nodes(1, "--up-limit", "500k", "--quit-grace", "1")
    first.until("^node 1> *$")
    second = nodes(None, "--quit-grace", "0")
    second.until("^ID of this node")
    second.type("two\r")
    second.until("'two' is not the ID of a node")
    second.type("2\r")
    second.until("^node 2> *$")
    third = nodes(3, "--quit-grace", "0")
    third.until("^node 3> *$")

    second.type("list\r")
    second.until("^content.bin$")
    second.type("download\r")
    second.until("^name of the file to download: *$")
    second.type("content.bin\r")
    second.until(r"^content.bin \[#*-*\] +[1-9][0-9.]* %")
    assert second.bar().startswith("content.bin [")
    first.until("^node 1: sharing 1 file, 1 download from here")
    first.type("4\r")
    first.until(r"^waiting for 127.0.0.1:\d+ \(p2pfs .*\), which downloads content.bin")
    second.until("^Successfully Downloaded content.bin to p2/content.bin$")
    assert first.wait() == 0
    second.until("^node 2: sharing 1 file *$")

    third.type("2\r")
    third.until("^name of the file")
    third.type("content.bin\r")
    third.until("^Successfully Downloaded content.bin to p3/content.bin$")
    second.type("sleep\r")
    second.until("^serving only for 10 seconds$")
    second.type("3\rcontent.bin nix\r")
    second.until("^deleted: content.bin$")
    second.until("^not deleted: nix: there is no file of this name here$")
    for terminal in (second, third):
        terminal.type("quit\r")
        assert terminal.wait() == 0
        assert terminal.is_as_before()
    assert not (swarm.folder / "p2" / "content.bin").exists()
    third_copy = (swarm.folder / "p3" / "content.bin").read_bytes()
    assert third_copy == (swarm.folder / "p1" / "content.bin").read_bytes()


def test_what_happens_is_told_above_what_is_being_typed(nodes: Any, swarm: Any) -> None:
    node = nodes(2)
    node.until("^node 2> *$")
    node.type("li")
    node.until("^node 2> li$")

    (swarm.folder / "p2" / "new.txt").write_bytes(b"new")
    node.until("^shared: new.txt$")

    assert node.input_line() == "node 2> li"
    node.type("st\r")
    node.until("^new.txt$")


def test_ctrl_c_quits_with_grace_and_a_second_one_gives_the_terminal_back_at_once(
    nodes: Any, swarm: Any
) -> None:
    node = nodes(1)
    node.until("^node 1> *$")
    node.type("half a li")
    node.until("half a li")

    node.type("\x03")
    node.until("^quitting in 10 s")
    node.until("^quitting, [0-9]+ s> half a li$")
    assert node.process.poll() is None
    node.type("\x03")

    assert node.wait() == 130
    assert node.is_as_before()
    assert not any("Traceback" in line for line in node.lines())
    assert not (swarm.folder / "config" / "p1.config").exists()


def test_ctrl_c_while_quitting_by_the_menu_leaves_at_once(nodes: Any, swarm: Any) -> None:
    node = nodes(1)
    node.until("^node 1> *$")
    node.type("quit\r")
    node.until("^quitting in 10 s")

    node.type("\x03")

    assert node.wait() == 130
    assert node.is_as_before()
    assert not (swarm.folder / "config" / "p1.config").exists()


def test_ctrl_d_is_the_end_of_input_back_to_the_menu_and_out_of_it(nodes: Any, swarm: Any) -> None:
    node = nodes(1, "--quit-grace", "0")
    node.until("^node 1> *$")
    for entry, question in (("2", "name of the file to download:"), ("3", "names of the files")):
        node.type(f"{entry}\r")
        node.until(f"^{question}.* *$")
        node.type("\x04")
        node.until(rf"^{question}.*\^D$")
        node.until("^node 1> *$")

    node.type("half\x04")
    node.until("^node 1> half$")
    assert node.process.poll() is None
    node.type("\x15\x04")

    assert node.wait() == 0
    assert node.is_as_before()


def test_ctrl_d_instead_of_an_id_ends_it(nodes: Any) -> None:
    node = nodes(None)
    node.until("^ID of this node")

    node.type("\x04")

    assert node.wait() == 2
    node.until("no ID of the node was given: say it with --id, as in --id 1")
    assert node.is_as_before()


def test_ctrl_d_while_it_sleeps_counts_afterwards(nodes: Any) -> None:
    node = nodes(1, "--quit-grace", "0")
    node.until("^node 1> *$")
    node.type("5\r")
    node.until("^serving only for 10 seconds$")

    node.type("\x04")
    node.until(r"^\^D$")

    assert node.wait() == 0


def test_ctrl_z_stops_a_node_and_fg_brings_the_menu_back(nodes: Any, swarm: Any) -> None:
    shell = swarm.folder / "shell.sh"
    command = f"{shlex.quote(sys.executable)} -m p2pfs node --id 1 --bind 127.0.0.1 --quit-grace 0"
    shell.write_text(f"set -m\n{command}\necho stopped\nread -r line\nfg\n")
    terminal = Terminal(swarm.folder, program=("bash", str(shell)))
    try:
        terminal.until("^node 1> *$")
        terminal.type("\x1a")
        terminal.until("^stopped$")
        terminal.type("on\n")
        terminal.until("^node 1: sharing 1 file")
        terminal.type("list\r")
        terminal.until("^content.bin$")
        terminal.type("4\r")
        assert terminal.wait() == 0
    finally:
        terminal.end()
