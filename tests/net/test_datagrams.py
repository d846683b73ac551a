"""A server of datagrams, on both event loops and where sockets cannot be watched."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from p2pfs.formats.endpoint import pack_host
from p2pfs.net.datagrams import DatagramServer
from p2pfs.net.listener import bind_beside, bind_port
from tests.support.datagrams import Asker

pytestmark = [pytest.mark.loops("asyncio", "uvloop"), pytest.mark.usefixtures("nothing_left")]


def echo(data: bytes, source: str, ours: bytes) -> bytes:
    """Says who asked, and where, if it was asked anything."""
    return b"|".join((data, source.encode(), ours)) if data else b""


Start = Callable[[str], Any]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts servers on any free port; gives that."""
    servers: list[DatagramServer] = []

    async def begin(host: str) -> int:
        tcp = bind_port(host, 0)
        port: int = tcp[0].getsockname()[1]
        servers.append(DatagramServer(echo, bind_beside(tcp)))
        for sock in tcp:
            sock.close()
        await servers[-1].start()
        return port

    yield begin
    for server in servers:
        await server.close()


async def test_each_datagram_gets_one_answer_or_none(start: Start) -> None:
    port = await start("127.0.0.1")
    with Asker(port) as asker:
        for data in (b"", b"one", b"", b"two"):
            asker.send(data)

        assert await asker.heard() == b"one|127.0.0.1|" + pack_host("127.0.0.1")
        assert await asker.heard() == b"two|127.0.0.1|" + pack_host("127.0.0.1")


@pytest.mark.skipif(sys.platform != "linux", reason="needs several loopback addresses")
async def test_on_all_addresses_it_is_known_which_one_was_asked(start: Start) -> None:
    port = await start("")
    for host in ("127.0.0.1", "127.0.0.5", "::1"):
        try:
            asker = Asker(port, host)
        except OSError:
            continue  # no IPv6 here
        with asker:
            assert await asker.ask(b"x") == b"x|" + (
                b"::1|" if ":" in host else b"127.0.0.1|"
            ) + pack_host(host)


async def test_many_at_once_are_all_answered(start: Start) -> None:
    port = await start("127.0.0.1")
    with Asker(port) as asker:
        for number in range(200):
            asker.send(b"%d" % number)

        heard = [await asker.heard() for _ in range(200)]

    assert [one.split(b"|")[0] for one in heard] == [b"%d" % number for number in range(200)]


async def test_a_longer_datagram_is_cut(start: Start) -> None:
    port = await start("127.0.0.1")
    with Asker(port) as asker:
        assert (await asker.ask(b"y" * 9000)).split(b"|")[0] == b"y" * 2048


async def test_after_close_the_port_is_free(start: Start) -> None:
    tcp = bind_port("127.0.0.1", 0)
    server = DatagramServer(echo, bind_beside(tcp))
    await server.start()
    await server.close()

    again = bind_beside(tcp)

    for sock in (*again, *tcp):
        sock.close()


@pytest.mark.loops("asyncio")
async def test_where_sockets_cannot_be_watched_it_answers_all_the_same(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()

    def refuse(*_: object) -> None:
        raise NotImplementedError

    with monkeypatch.context() as patched:
        patched.setattr(loop, "add_reader", refuse, raising=False)
        port = await start("127.0.0.1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", port))
        sock.setblocking(False)
        sock.send(b"")
        sock.send(b"z" * 5000)
        heard = await loop.sock_recv(sock, 9000)

    assert heard == b"z" * 2048 + b"|127.0.0.1|" + pack_host("127.0.0.1")
