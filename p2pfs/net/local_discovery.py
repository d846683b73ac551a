"""Peers on the local network find each other by multicast (BEP 14).

Invariant: multicast that does not work is a line in the log, never an error, and is tried
again as networks come and go. What is heard is a hint from whoever is near: a bounded number
of datagrams is read in a second, none from farther away than a network that we are in.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final, NamedTuple

from p2pfs.errors import FormatError, NetworkError
from p2pfs.formats.local_search import GROUP4, GROUP6, MAX_HASHES, PORT, Search, encode, parse
from p2pfs.formats.reach import Reach, reach_of
from p2pfs.net.datagrams import DatagramServer
from p2pfs.swarm.local_announcing import LocalAnnounces
from p2pfs.swarm.peer_book import Address

__all__ = ["LocalDiscovery"]

log = logging.getLogger(__name__)

START_AFTER: Final = 0.2
"""Seconds until it begins: what is over sooner needs none of it."""
LOOK_EVERY: Final = 300.0
"""Seconds after which it is looked again which networks there are."""
MAX_HEARD: Final = 50
"""Datagrams that are read in a second."""

_IP_MULTICAST_ALL: Final = 49  # Linux; Python has no names for them
_IPV6_MULTICAST_ALL: Final = 29

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class _Link(NamedTuple):
    """One interface by one family: where to send, and who is near there.

    `address` is ours, `interface` the system's number.
    """

    address: str
    interface: int
    networks: tuple[_Network, ...]

    @property
    def is_ipv6(self) -> bool:
        return ":" in self.address


class LocalDiscovery:
    """For one client that listens at `addresses` (host and port of each socket).

    `found` is called with an info hash and the address of a peer that named it.
    """

    def __init__(
        self, addresses: Sequence[Address], found: Callable[[bytes, Address], None]
    ) -> None:
        self._addresses = addresses
        self._found = found
        self._loop = asyncio.get_running_loop()
        self._cookie = os.urandom(4).hex().encode()
        self._plan = LocalAnnounces(MAX_HASHES)
        self._wake = asyncio.Event()
        self._servers: dict[_Link, DatagramServer] = {}
        self._heard = (0.0, 0)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Listen and announce, in the background."""
        self._task = self._loop.create_task(self._run(), name="local discovery")

    def add(self, info_hash: bytes) -> None:
        """Announce a torrent from now on."""
        self._plan.add(info_hash, self._loop.time())
        self._wake.set()

    def remove(self, info_hash: bytes) -> None:
        """Do not announce it any more."""
        self._plan.remove(info_hash)

    async def close(self) -> None:
        """Listen no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for link in list(self._servers):
            await self._servers.pop(link).close()

    async def _run(self) -> None:
        await asyncio.sleep(START_AFTER)
        while True:
            try:
                await self._look_around()
                await self._announce_until(self._loop.time() + LOOK_EVERY)
            except Exception:
                log.exception("a fault of ours in local discovery")
                await asyncio.sleep(LOOK_EVERY)

    async def _look_around(self) -> None:
        """Listen on every link that there is now."""
        links = _links(self._addresses)
        for link in self._servers.keys() - links:
            await self._servers.pop(link).close()
        for link in links:
            if link in self._servers:
                continue
            try:
                sock = _listening(link)
            except OSError as error:
                log.info("no local discovery on %s: %s", link.address, error)
                continue
            server = self._servers[link] = DatagramServer(partial(self._hear, link), [sock])
            await server.start()

    async def _announce_until(self, end: float) -> None:
        while (now := self._loop.time()) < end:
            hashes = self._plan.due(now)
            if hashes:
                self._announce(hashes)
                continue
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(min(end, self._plan.next_at)):
                    await self._wake.wait()

    def _announce(self, hashes: tuple[bytes, ...]) -> None:
        search = Search(self._addresses[0][1], hashes, self._cookie)
        for link in self._servers:
            try:
                _send(link, encode(GROUP6 if link.is_ipv6 else GROUP4, search))
            except OSError as error:
                log.info("no announce on %s: %s", link.address, error)

    def _hear(self, link: _Link, datagram: bytes, source: str, ours: bytes) -> bytes:
        """Take in what somebody said; nothing is answered."""
        second, count = self._heard
        now = self._loop.time()
        self._heard = (second, count + 1) if now - second < 1.0 else (now, 1)
        if self._heard[1] > MAX_HEARD:
            return b""
        host = source.partition("%")[0]
        if not _is_near(host, link):
            return b""
        try:
            search = parse(datagram)
        except FormatError:
            return b""
        if search.cookie != self._cookie:
            if ipaddress.ip_address(host).is_link_local and link.is_ipv6:
                host = f"{host}%{link.interface}"
            for info_hash in search.info_hashes:
                self._found(info_hash, (host, search.port))
        return b""


def _links(addresses: Iterable[Address]) -> dict[_Link, None]:
    """The links on which others can reach a client that listens at `addresses`.

    Loopback only if there is nothing else, or the client listens there alone.
    """
    import ifaddr

    hosts = {host for host, _ in addresses}
    found: dict[_Link, None] = {}
    for adapter in ifaddr.get_adapters():
        ips = [
            (ipaddress.ip_address(str(one.ip if one.is_IPv4 else one.ip[0]).partition("%")[0]), one)
            for one in adapter.ips
        ]
        for any_host, version in (("0.0.0.0", 4), ("::", 6)):
            mine = [
                (address, one.network_prefix) for address, one in ips if address.version == version
            ]
            chosen = [one for one, _ in mine if any_host in hosts or str(one) in hosts]
            if chosen:
                networks = tuple(
                    ipaddress.ip_network((one, prefix), strict=False) for one, prefix in mine
                )
                chosen.sort(key=lambda one: one.is_link_local)
                found[_Link(str(chosen[0]), adapter.index or 0, networks)] = None
    away = {one: None for one in found if not ipaddress.ip_address(one.address).is_loopback}
    return away or found


def _listening(link: _Link) -> socket.socket:
    """A socket that gets what is sent to the group on this link; raises `OSError`."""
    family = socket.AF_INET6 if link.is_ipv6 else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "SO_REUSEPORT") and sys.platform != "linux":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if link.is_ipv6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            _only_joined(sock, socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL)
            sock.bind(("::", PORT))
            member = socket.inet_pton(family, GROUP6) + struct.pack("@I", link.interface)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, member)
        else:
            _only_joined(sock, socket.IPPROTO_IP, _IP_MULTICAST_ALL)
            sock.bind(("", PORT))
            member = socket.inet_aton(GROUP4) + socket.inet_aton(link.address)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
    except OSError:
        sock.close()
        raise
    return sock


def _only_joined(sock: socket.socket, level: int, option: int) -> None:
    """Linux hands a socket what any other one on the machine has joined, unless told."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            sock.setsockopt(level, option, 0)


def _send(link: _Link, datagram: bytes) -> None:
    """To everybody on this link, and no farther: datagrams die at the first router."""
    family = socket.AF_INET6 if link.is_ipv6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        if link.is_ipv6:
            index = struct.pack("@I", link.interface)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
            scope = link.interface if ipaddress.ip_address(link.address).is_link_local else 0
            sock.bind((link.address, 0, 0, scope))
            sock.sendto(datagram, (GROUP6, PORT, 0, link.interface))
        else:
            sock.setsockopt(
                socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(link.address)
            )
            sock.bind((link.address, 0))
            sock.sendto(datagram, (GROUP4, PORT))


def _is_near(host: str, link: _Link) -> bool:
    """Whether a datagram that came by `link` can have been sent by somebody at `host`."""
    try:
        reach = reach_of(host)
    except NetworkError:
        return False
    if any(ipaddress.ip_address(host) in network for network in link.networks):
        return True
    return reach is Reach.PRIVATE
