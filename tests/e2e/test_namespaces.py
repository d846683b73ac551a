"""Two machines: what announces itself over 127.0.0.1 on one is fetched from the other.

The machines are network namespaces joined by one cable, without a default route.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pfs.formats.config_file import parse
from tests.e2e.processes import Running, no_traceback, until
from tests.support.namespaces import HERE, Machine, two_machines, why_not

NAME = "content ä.bin"
SIZE = 3_000_000


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[tuple[Machine, Machine]]:
    with two_machines(tmp_path) as made:
        yield made


def index_on(machine: Machine, *more: str) -> Running:
    process = machine.p2pfs("index", "-d", "0", "--json", *more)
    machine.tracker_port = process.event("ready")["port"]
    return process


def test_the_index_writes_the_address_that_others_reach(
    machines: tuple[Machine, Machine],
) -> None:
    here, _ = machines
    index_on(here, "--no-mdns")

    written = parse(here.read("config/server.config").decode())

    assert written == {"host": HERE, "port": str(here.tracker_port)}


@pytest.mark.parametrize("command", ["seed", "node", "share"])
def test_what_is_shared_over_loopback_is_fetched_from_the_other_machine(
    machines: tuple[Machine, Machine], command: str
) -> None:
    here, there = machines
    folder = "seeds" if command == "seed" else "p1"
    data = here.content(NAME, SIZE, under=folder)
    os.utime(here.folder / folder / NAME, (0, 0))  # a node waits for what was just written
    index_on(here, "--no-mdns")
    line = {
        "seed": ("seed", "-f", NAME, "-p", "0"),
        "node": ("node", "--id", "1", "--serve"),
        "share": ("share", f"p1/{NAME}"),
    }[command]
    sharing = here.p2pfs(*line, "-i", "127.0.0.1", "-d", str(here.tracker_port), "--json")
    sharing.event("ready")
    where = ("-i", HERE, "-d", str(here.tracker_port))

    listed = there.run("ls", *where)
    fetched = there.run("get", NAME, *where, "-o", "got")

    assert listed.lines == [NAME], str(listed)
    assert fetched.wait() == 0, str(fetched)
    assert there.read(f"got/{NAME}") == data
    no_traceback(sharing, listed, fetched)


def test_sharing_prints_the_one_line_to_type_on_the_other_machine(
    machines: tuple[Machine, Machine],
) -> None:
    here, there = machines
    data = here.content(NAME, SIZE, under="p1")
    os.utime(here.folder / "p1" / NAME, (0, 0))
    sharing = here.p2pfs("share", "p1", "--json")

    command = shlex.split(sharing.event("ready")["command"])

    assert command[0] == "p2pfs"
    fetched = there.run(*command[1:], "-o", "got")
    assert fetched.wait() == 0, str(fetched)
    assert there.read(f"got/{NAME}") == data


def test_a_downloader_on_the_machine_of_the_index_reaches_the_others(
    machines: tuple[Machine, Machine],
) -> None:
    here, there = machines
    data = there.content(NAME, SIZE)
    index_on(here, "--no-mdns")
    port = str(here.tracker_port)
    there.p2pfs("seed", "-f", NAME, "-p", "0", "-i", HERE, "-d", port, "--json").event("ready")

    fetched = here.run("download", NAME, "-p", "0", "-i", "127.0.0.1", "-d", port)

    assert fetched.wait() == 0, str(fetched)
    assert here.read(f"output/{NAME}") == data


def test_an_index_is_found_by_the_other_machine_without_a_word(
    machines: tuple[Machine, Machine],
) -> None:
    here, there = machines
    here.content(NAME, 1000)
    index_on(here)
    here.p2pfs("seed", "-f", NAME, "-p", "0", "--json", "-i", HERE, "-d", str(here.tracker_port))
    here.running[-1].event("ready")

    until(lambda: there.run("ls").lines == [NAME], lambda: str(there.running[-1]))


def test_where_no_index_is_all_that_was_tried_is_said(machines: tuple[Machine, Machine]) -> None:
    _, there = machines

    listed = there.run("ls")

    assert listed.wait() == 2
    (line,) = listed.errors
    assert "config/server.config" in line
    assert "P2PFS_INDEX" in line
    assert "network" in line
