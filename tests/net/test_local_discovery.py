"""Clients of one network find each other by multicast (BEP 14), here over the loopback."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from p2pfs.errors import FormatError
from p2pfs.formats.local_search import GROUP4, PORT, Search, encode, parse
from p2pfs.net import local_discovery
from p2pfs.net.engine import Client, Torrent
from p2pfs.net.local_discovery import MAX_HEARD, LocalDiscovery
from p2pfs.storage.creating import make_metainfo
from p2pfs.swarm import local_announcing
from tests.support.sockets import why_no_multicast
from tests.support.swarm import KIB, LOCAL, Sample, Swarm, done, make_sample
from tests.support.waiting import until

pytestmark = [
    pytest.mark.loops("uvloop"),
    pytest.mark.skipif(why_no_multicast() is not None, reason=str(why_no_multicast())),
]
both_loops = pytest.mark.loops("uvloop", "asyncio")


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is put off."""
    monkeypatch.setattr(local_announcing, "GATHER", 0.0)
    monkeypatch.setattr(local_discovery, "START_AFTER", 0.0)


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    """Content that nobody else on this machine has, who may be heard as well."""
    return make_sample(tmp_path / "content", seed=int.from_bytes(os.urandom(8), "big"))


class Network:
    """Whatever is said on the loopback."""

    def __init__(self) -> None:
        self.heard: list[Search] = []
        self._discovery = LocalDiscovery([(LOCAL, 9)], lambda info_hash, address: None)
        self._discovery._hear = self._listen  # type: ignore[method-assign]

    def _listen(self, link: object, datagram: bytes, source: str, ours: bytes) -> bytes:
        with contextlib.suppress(FormatError):
            self.heard.append(parse(datagram))
        return b""

    async def __aenter__(self) -> Network:
        self._discovery.start()
        await until(lambda: self._discovery._servers)
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._discovery.close()

    def ports_of(self, info_hash: bytes) -> list[int]:
        """The ports under which a torrent was announced."""
        return [search.port for search in self.heard if info_hash in search.info_hashes]

    def say(self, *datagrams: bytes) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(LOCAL))
            for datagram in datagrams:
                sock.sendto(datagram, (GROUP4, PORT))

    def search(self, port: int, *info_hashes: bytes) -> None:
        self.say(encode(GROUP4, Search(port, info_hashes, b"other")))


@pytest.fixture
async def network(nothing_left: None) -> AsyncIterator[Network]:
    async with Network() as made:
        yield made


async def listening(client: Client) -> None:
    """Until what is said from now on is heard."""
    local = client._local
    assert local is not None
    await until(lambda: local._servers)


def known(torrent: Torrent) -> set[tuple[str, int]]:
    return set(torrent._peers.dialler.book._entries)


@both_loops
async def test_a_downloader_finds_a_seeder_on_the_same_network(
    swarm: Swarm, sample: Sample
) -> None:
    await swarm.seed(sample, local_discovery=True)
    _, torrent = await swarm.download(sample, local_discovery=True)

    (path,) = await done(torrent)

    assert sample.is_at(path)


async def test_a_seeder_that_comes_later_is_found_too(swarm: Swarm, sample: Sample) -> None:
    client, torrent = await swarm.download(sample, local_discovery=True)
    await listening(client)

    await swarm.seed(sample, local_discovery=True)

    await done(torrent)


async def test_torrents_are_announced_together_with_the_port_that_takes_connections(
    swarm: Swarm, tmp_path: Path, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_announcing, "GATHER", 0.2)
    seed = int.from_bytes(os.urandom(8), "big")
    samples = [make_sample(tmp_path / str(n), KIB, seed=seed + n) for n in range(5)]
    client = await swarm.client(local_discovery=True)
    for one in samples:
        await swarm.seed(one, client=client)

    await until(lambda: network.ports_of(samples[0].info_hash))

    (search,) = [one for one in network.heard if samples[0].info_hash in one.info_hashes]
    assert search.port == client.port
    assert set(search.info_hashes) == {one.info_hash for one in samples}


async def test_nobody_is_asked_who_did_not_ask_for_it(
    swarm: Swarm, sample: Sample, network: Network
) -> None:
    """The library is silent by default."""
    client, torrent = await swarm.seed(sample)

    network.search(7777, sample.info_hash)
    await until(lambda: network.ports_of(sample.info_hash))

    assert client._local is None
    assert known(torrent) == set()
    assert network.ports_of(sample.info_hash) == [7777]


async def test_of_a_private_torrent_nothing_is_said_and_nothing_believed(
    swarm: Swarm, sample: Sample, network: Network
) -> None:
    secret = make_metainfo(sample.path, piece_length=16 * KIB, private=True)
    client = await swarm.client(local_discovery=True)
    torrent = await client.seed(secret, sample.path)
    _, public = await swarm.seed(sample, client=client)
    await until(lambda: network.ports_of(sample.info_hash))

    network.search(7777, secret.torrent_id.v1, sample.info_hash)
    await until(lambda: known(public) == {(LOCAL, 7777)})

    assert known(torrent) == set()
    assert network.ports_of(secret.torrent_id.v1) == [7777]


async def test_a_seed_that_is_not_announced_still_comes_to_those_who_ask(
    swarm: Swarm, sample: Sample, network: Network
) -> None:
    client = await swarm.client(local_discovery=True)
    await client.seed(sample.metainfo, sample.path, verify=False, announce_locally=False)
    await listening(client)
    other, torrent = await swarm.download(sample, local_discovery=True)

    await done(torrent)

    assert set(network.ports_of(sample.info_hash)) == {other.port}


async def test_a_torrent_that_is_announced_no_more_is_not_told_of_here_either(
    swarm: Swarm, sample: Sample, monkeypatch: pytest.MonkeyPatch, network: Network
) -> None:
    monkeypatch.setattr(local_announcing, "EVERY", 0.1)
    monkeypatch.setattr(local_announcing, "EARLY", 0.0)
    client, torrent = await swarm.seed(sample, local_discovery=True)
    await until(lambda: len(network.ports_of(sample.info_hash)) == 2)

    await torrent.stop_announcing()

    assert client._local is not None
    assert client._local._plan.next_at == float("inf")


async def test_what_a_client_says_itself_it_does_not_take_for_a_peer(
    swarm: Swarm, sample: Sample, network: Network
) -> None:
    _, torrent = await swarm.seed(sample, local_discovery=True)
    await until(lambda: network.ports_of(sample.info_hash))
    network.search(7777, sample.info_hash)

    await until(lambda: known(torrent))

    assert known(torrent) == {(LOCAL, 7777)}


async def test_junk_is_passed_over(swarm: Swarm, sample: Sample, network: Network) -> None:
    client, torrent = await swarm.seed(sample, local_discovery=True)
    await listening(client)

    network.say(b"", b"\xff" * 1400, b"BT-SEARCH * HTTP/1.1\r\n\r\n", os.urandom(5000))
    network.search(7777, sample.info_hash)

    await until(lambda: known(torrent) == {(LOCAL, 7777)})


async def test_of_a_flood_a_bounded_part_is_read(nothing_left: None) -> None:
    heard: list[bytes] = []
    discovery = LocalDiscovery([(LOCAL, 9)], lambda info_hash, address: heard.append(info_hash))
    link = next(iter(local_discovery._links([(LOCAL, 9)])))
    datagram = encode(GROUP4, Search(1, (bytes(20),)))

    for _ in range(10 * MAX_HEARD):
        discovery._hear(link, datagram, LOCAL, b"")

    assert len(heard) <= 2 * MAX_HEARD


LAN = ["192.168.1.5/24", "2600:1:2:3::5/64", "fe80::5/64"]


def link_of(addresses: Sequence[str]) -> local_discovery._Link:
    interfaces = [ipaddress.ip_interface(one) for one in addresses]
    networks = tuple(one.network for one in interfaces)
    return local_discovery._Link(str(interfaces[0].ip), 7, networks)


@pytest.mark.parametrize(
    ("source", "near"),
    [
        ("192.168.1.9", True),
        ("10.9.8.7", True),
        ("2600:1:2:3::9", True),
        ("fe80::9", True),
        ("fd00::9", True),
        ("8.8.8.8", False),
        ("2600:1:2:4::9", False),
        ("127.0.0.1", False),
        ("169.254.169.254", False),
        ("nobody", False),
    ],
)
def test_only_those_who_are_near_are_believed(source: str, near: bool) -> None:
    assert local_discovery._is_near(source, link_of(LAN)) is near


async def test_a_peer_on_the_link_alone_is_told_with_the_link(nothing_left: None) -> None:
    heard: list[tuple[str, int]] = []
    discovery = LocalDiscovery([("::", 9)], lambda info_hash, address: heard.append(address))
    datagram = encode(GROUP4, Search(1234, (bytes(20),)))

    discovery._hear(link_of(["fe80::5/64"]), datagram, "fe80::9%eth0", b"")
    discovery._hear(link_of(["2600:1:2:3::5/64"]), datagram, "2600:1:2:3::9", b"")

    assert heard == [("fe80::9%7", 1234), ("2600:1:2:3::9", 1234)]


@pytest.mark.parametrize("host", ["192.0.2.77", "::1"])
async def test_where_there_is_no_multicast_nothing_happens(
    nothing_left: None, host: str, caplog: pytest.LogCaptureFixture
) -> None:
    discovery = LocalDiscovery([(host, 9)], lambda info_hash, address: None)
    discovery.start()
    discovery.add(bytes(20))

    await until(lambda: discovery._plan.next_at > asyncio.get_running_loop().time() + 60)

    await discovery.close()
    assert not [one for one in caplog.records if one.levelname in ("WARNING", "ERROR")]


async def test_links_that_come_and_go_are_noticed(
    nothing_left: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_discovery, "LOOK_EVERY", 0.05)
    links: Callable[[object], dict[local_discovery._Link, None]] = local_discovery._links
    gone = asyncio.Event()
    monkeypatch.setattr(
        local_discovery, "_links", lambda all_: {} if gone.is_set() else links(all_)
    )
    discovery = LocalDiscovery([(LOCAL, 9)], lambda info_hash, address: None)
    discovery.start()

    await until(lambda: discovery._servers)
    gone.set()
    await until(lambda: not discovery._servers)
    gone.clear()
    await until(lambda: discovery._servers)

    await discovery.close()
