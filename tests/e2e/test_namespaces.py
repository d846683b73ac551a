"""Two machines: what announces itself over 127.0.0.1 on one is fetched from the other.

The machines are network namespaces joined by one cable, without a default route.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pfs.formats.config_file import parse
from tests.e2e.processes import P2PFS, Lab, Running, no_traceback, until

NAME = "content ä.bin"
SIZE = 3_000_000
HERE, THERE = "10.77.1.1", "10.77.1.2"


def ip(*arguments: str) -> None:
    subprocess.run(("ip", *arguments), check=True, capture_output=True, timeout=30)


def why_not() -> str | None:
    """Why no namespaces can be made here; None when they can."""
    if sys.platform != "linux":
        return "network namespaces are a thing of Linux"
    if os.geteuid() != 0:
        return "network namespaces take root"
    if shutil.which("ip") is None:
        return "the command `ip` is missing (iproute2)"
    name = f"p2pfs-{os.getpid()}-probe"
    try:
        ip("netns", "add", name)
        ip("netns", "del", name)
    except subprocess.CalledProcessError as error:
        return f"no network namespaces here: {error.stderr.decode().strip()}"
    return None


pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


class Machine(Lab):
    """A lab in a network namespace, at `address`."""

    def __init__(self, folder: Path, namespace: str, address: str) -> None:
        super().__init__(folder)
        self.namespace = namespace
        self.address = address

    def p2pfs(self, *arguments: str) -> Running:
        environment = {
            "P2PFS_INDEX": "",
            "P2PFS_TOKEN": "",
            "XDG_CACHE_HOME": str(self.folder / "cache"),
        }
        return self.start("ip", "netns", "exec", self.namespace, *P2PFS, *arguments, **environment)


@contextlib.contextmanager
def cable(first: str, second: str) -> Iterator[None]:
    """Two namespaces that see each other and nothing else, gone afterwards."""
    try:
        for name in (first, second):
            ip("netns", "add", name)
        ip("link", "add", "veth0", "netns", first, "type", "veth", "peer", "veth0", "netns", second)
        for name, address in ((first, HERE), (second, THERE)):
            ip("-n", name, "address", "add", f"{address}/24", "dev", "veth0")
            for device in ("lo", "veth0"):
                ip("-n", name, "link", "set", device, "up")
        yield
    finally:
        for name in (first, second):
            with contextlib.suppress(subprocess.CalledProcessError):
                ip("netns", "del", name)


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[tuple[Machine, Machine]]:
    names = [f"p2pfs-{os.getpid()}-{side}" for side in "ab"]
    with cable(*names), contextlib.ExitStack() as stack:
        made = []
        for name, address in zip(names, (HERE, THERE), strict=True):
            folder = tmp_path / name[-1]
            folder.mkdir()
            made.append(Machine(folder, name, address))
            stack.callback(made[-1].close)
        yield made[0], made[1]


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
