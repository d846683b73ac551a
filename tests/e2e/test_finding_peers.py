"""Peers found without a tracker: through peers, and on the local network, ours and libtorrent's.

Where the tracker is gone, a third peer that knows one other finds the one that has it all.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.processes import Lab, Running, until
from tests.support.namespaces import Machine, ip, two_machines, why_not
from tests.support.sockets import has_ipv6

pytestmark = pytest.mark.slow

FOREIGN = Path(__file__).with_name("foreign_client.py")
NAME = "content.bin"
SIZE = 3_000_007

with_libtorrent = pytest.mark.skipif(
    importlib.util.find_spec("libtorrent") is None, reason="libtorrent is not installed"
)
with_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
with_namespaces = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


def foreign(lab: Lab, torrent: str, folder: str, *more: str) -> Running:
    """libtorrent, ready, with its content in `folder`."""
    (lab.folder / folder).mkdir(exist_ok=True)
    process = lab.start(sys.executable, str(FOREIGN), torrent, folder, *more)
    process.event("ready")
    return process


def dials(process: Running, host: str, port: int) -> None:
    """Have libtorrent connect to a peer."""
    process.say(f"connect {host} {port}")


def port_of(process: Running) -> int:
    port: int = process.event("ready")["port"]
    return port


@pytest.fixture(params=["127.0.0.1", pytest.param("::1", marks=with_ipv6)])
def host(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def shared(lab: Lab, host: str) -> str:
    """A .torrent of random content, whose tracker runs."""
    lab.address = host
    lab.tracker()
    lab.content(NAME, SIZE)
    return lab.torrent(f"seeds/{NAME}", "-l", "64KiB")


def tracker_is_gone(lab: Lab) -> None:
    lab.running[0].kill()


def met_by_pex(process: Running, address: str) -> bool:
    """Whether a client of libtorrent had a peer at `address` that another peer told it of."""
    return any(address in event.get("pex", ()) for event in process.events)


@with_libtorrent
def test_libtorrent_finds_a_seed_through_one_of_our_downloaders(
    lab: Lab, shared: str, host: str
) -> None:
    seed = foreign(lab, shared, "seeds", "--listen", host)
    seed_port = port_of(seed)
    seed.event("complete")
    slow = ("--down-limit", "10k", "--up-limit", "10k", "--bind", host)
    middle = lab.p2pfs("download", shared, "-p", "0", "--json", *slow)
    middle.progress(lambda event: event["bytes_done"] > 0)
    tracker_is_gone(lab)
    third = foreign(lab, shared, "theirs", "--listen", host, "--down-limit", "1000000")
    dials(third, host, port_of(middle))

    third.event("complete")

    # Either was told of the other, and whoever was first dialled.
    assert met_by_pex(third, f"{host} {seed_port}") or met_by_pex(seed, f"{host} {port_of(third)}")
    assert lab.read(f"theirs/{NAME}") == lab.read(f"seeds/{NAME}")
    assert middle.last()["bytes_done"] < SIZE / 2


@with_libtorrent
def test_our_downloader_finds_a_seed_through_libtorrent(lab: Lab, shared: str, host: str) -> None:
    bind = ("--bind", host)
    seed = lab.p2pfs("seed", "-f", shared, "-p", "0", "--json", *bind)
    seed.event("ready")
    slow = ("--down-limit", "10000", "--up-limit", "10000", "--listen", host)
    middle = foreign(lab, shared, "theirs", *slow)
    middle.event("progress", lambda event: event["done"] > 0)
    tracker_is_gone(lab)
    third = lab.p2pfs("download", shared, "-p", "0", "--json", *bind)
    dials(middle, host, port_of(third))

    assert third.wait() == 0, str(third)

    assert lab.read(f"output/{NAME}") == lab.read(f"seeds/{NAME}")
    assert middle.last()["done"] < SIZE / 2
    assert seed.leave()["torrents"][0]["uploaded"] > SIZE / 2


# -- on the local network


ON = {"P2PFS_NO_LSD": ""}


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[tuple[Machine, Machine]]:
    with two_machines(tmp_path) as made:
        yield made


def same_torrent(here: Machine, there: Machine, *more: str) -> str:
    """A .torrent on both machines whose tracker is gone; the content is on the first."""
    here.content(NAME, SIZE)
    torrent = here.torrent(f"seeds/{NAME}", *more)
    (there.folder / torrent).write_bytes(here.read(torrent))
    return torrent


def ours(machine: Machine, *arguments: str) -> Running:
    process = machine.start(sys.executable, "-m", "p2pfs", *arguments, "--json", "-p", "0", **ON)
    process.event("ready")
    return process


@with_namespaces
def test_a_peer_on_the_local_network_is_found_without_a_tracker(
    machines: tuple[Machine, Machine],
) -> None:
    here, there = machines
    torrent = same_torrent(here, there)
    ours(here, "seed", "-f", torrent)

    fetched = ours(there, "download", torrent)

    assert fetched.wait() == 0, str(fetched)
    assert there.read(f"output/{NAME}") == here.read(f"seeds/{NAME}")


@with_namespaces
def test_a_torrent_that_names_no_tracker_is_found_on_the_local_network_and_that_is_said(
    machines: tuple[Machine, Machine],
) -> None:
    here, there = machines
    here.content(NAME, SIZE)
    assert here.run("make-torrent", f"seeds/{NAME}", "-o", "bare.torrent").wait() == 0
    (there.folder / "bare.torrent").write_bytes(here.read("bare.torrent"))
    seed = ours(here, "seed", "-f", "bare.torrent")

    fetched = ours(there, "download", "bare.torrent")

    assert fetched.wait() == 0, str(fetched)
    assert there.read(f"output/{NAME}") == here.read(f"seeds/{NAME}")
    for process in (seed, fetched):
        said = process.event("note", lambda event: "names no tracker" in event["text"])["text"]
        assert "on the local network alone" in said


@with_namespaces
@with_ipv6
def test_a_peer_that_has_nothing_but_a_link_local_address_is_found(
    machines: tuple[Machine, Machine],
) -> None:
    here, there = machines
    torrent = same_torrent(here, there)
    for machine in machines:
        ip("-n", machine.namespace, "-4", "address", "flush", "dev", "veth0")
        settled(machine)
    ours(here, "seed", "-f", torrent)

    fetched = ours(there, "download", torrent)

    assert fetched.wait() == 0, str(fetched)
    (source,) = fetched.last("final")["torrents"][0]["sources"]
    assert source["bytes_down"] == SIZE


def settled(machine: Machine) -> None:
    """Until nobody else has claimed its address (duplicate address detection)."""

    def addresses() -> str:
        argv = ("ip", "-n", machine.namespace, "-6", "address", "show", "dev", "veth0")
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout

    until(lambda: "fe80" in addresses() and "tentative" not in addresses(), addresses)


@with_namespaces
@with_libtorrent
def test_libtorrent_finds_our_seeder_on_the_local_network(
    machines: tuple[Machine, Machine],
) -> None:
    here, there = machines
    torrent = same_torrent(here, there)
    seed = ours(here, "seed", "-f", torrent)

    theirs = foreign(there, torrent, "theirs", "--listen", there.address, "--lsd")

    theirs.event("complete")
    assert there.read(f"theirs/{NAME}") == here.read(f"seeds/{NAME}")
    assert seed.leave()["torrents"][0]["uploaded"] >= SIZE


@with_namespaces
@with_libtorrent
def test_our_downloader_finds_a_seed_of_libtorrent_on_the_local_network(
    machines: tuple[Machine, Machine],
) -> None:
    here, there = machines
    torrent = same_torrent(here, there)
    fetched = ours(there, "download", torrent)

    foreign(here, torrent, "seeds", "--listen", here.address, "--lsd").event("complete")

    assert fetched.wait() == 0, str(fetched)
    assert there.read(f"output/{NAME}") == here.read(f"seeds/{NAME}")


class Listener:
    """What arrives on a machine at the group of local discovery, a line for each datagram."""

    CODE = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
sock.bind(("", 6771))
member = socket.inet_aton("239.192.152.143") + socket.inet_aton(sys.argv[1])
sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
print("listening", flush=True)
while True:
    print(sock.recv(2000).decode("ascii", "replace").replace("\\r\\n", " ").lower(), flush=True)
"""

    def __init__(self, machine: Machine) -> None:
        self.process = machine.start(sys.executable, "-c", self.CODE, machine.address)
        self.process.line(lambda line: line == "listening")

    def heard(self, info_hash: str) -> bool:
        return any(info_hash in line for line in self.process.lines)


@with_namespaces
def test_nothing_about_a_private_torrent_goes_to_the_local_network(
    machines: tuple[Machine, Machine],
) -> None:
    here, there = machines
    listener = Listener(there)
    torrent = same_torrent(here, there, "--private")
    here.content("public.bin", SIZE)
    public = here.torrent("seeds/public.bin", output="public.torrent")
    ours(here, "seed", "-f", torrent, "-f", public)

    listener.process.line(lambda line: str(here.metainfo(public).torrent_id) in line)

    assert not listener.heard(str(here.metainfo(torrent).torrent_id))


@with_namespaces
@pytest.mark.parametrize("quiet", ["--no-lsd", "--bind=127.0.0.1"])
def test_nothing_is_sent_where_it_is_not_wanted(
    machines: tuple[Machine, Machine], quiet: str
) -> None:
    here, there = machines
    listener = Listener(there)
    torrent = same_torrent(here, there)
    here.content("loud.bin", SIZE)
    loud = here.torrent("seeds/loud.bin", output="loud.torrent")
    ours(here, "seed", "-f", torrent, quiet)
    ours(here, "seed", "-f", loud)

    listener.process.line(lambda line: str(here.metainfo(loud).torrent_id) in line)

    assert not listener.heard(str(here.metainfo(torrent).torrent_id))


@with_namespaces
@pytest.mark.parametrize("who", ["ours", pytest.param("libtorrent", marks=with_libtorrent)])
def test_a_node_announces_nothing_and_comes_to_whoever_asks(
    machines: tuple[Machine, Machine], who: str
) -> None:
    here, there = machines
    listener = Listener(there)
    torrent = same_torrent(here, there)
    shared = here.folder / "p1" / NAME
    shared.parent.mkdir()
    shared.write_bytes(here.read(f"seeds/{NAME}"))
    os.utime(shared, (0, 0))  # a node waits for what was just written
    here.p2pfs("index", "-d", "0", "--json", "--no-mdns").event("ready")
    node = here.start(sys.executable, "-m", "p2pfs", "node", "--id", "1", "--serve", "--json", **ON)
    node.event("ready")
    here.content("loud.bin", SIZE)
    ours(here, "seed", "-f", here.torrent("seeds/loud.bin", output="loud.torrent"))
    info_hash = str(here.metainfo("loud.torrent").torrent_id)
    listener.process.line(lambda line: info_hash in line)
    assert not listener.heard(str(here.metainfo(torrent).torrent_id))

    if who == "ours":
        assert ours(there, "download", torrent).wait() == 0
    else:
        options = ("--listen", there.address, "--lsd")
        foreign(there, torrent, "output", *options).event("complete")

    assert there.read(f"output/{NAME}") == here.read(f"seeds/{NAME}")
