"""Connections that come in are handed over, every one, until the end and not after."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from typing import Any

import pytest

from p2pfs.formats import utp
from p2pfs.net import acceptor as acceptor_module
from p2pfs.net import datagrams
from p2pfs.net.acceptor import Acceptor
from p2pfs.net.engine import Client
from p2pfs.net.listener import bind_beside
from tests.support.datagrams import Asker
from tests.support.sockets import read_to_end
from tests.support.swarm import LOCAL
from tests.support.waiting import until

pytestmark = [
    pytest.mark.loops("uvloop", "asyncio"),
    pytest.mark.usefixtures("nothing_left"),
]


class Door:
    """An acceptor at a listening socket of some kind, and what it was handed."""

    def __init__(self, kind: type[socket.socket] = socket.socket) -> None:
        self.listener = kind()
        self.listener.bind((LOCAL, 0))
        self.listener.listen(512)
        self.listener.setblocking(False)
        self.address = self.listener.getsockname()
        self.taken: list[socket.socket] = []
        self.acceptor = Acceptor([self.listener], self.welcome)

    def welcome(self, sock: socket.socket, address: tuple[str, int]) -> None:
        assert sock.getpeername() == address
        self.taken.append(sock)

    async def close(self) -> None:
        await self.acceptor.close()
        for sock in self.taken:
            sock.close()


async def test_every_connection_is_handed_over_and_does_not_block() -> None:
    door = Door()
    peers = [socket.create_connection(door.address) for _ in range(150)]

    await until(lambda: len(door.taken) == 150)

    assert not any(sock.getblocking() for sock in door.taken)
    await door.close()
    for peer in peers:
        peer.close()


async def test_nothing_is_taken_after_the_end() -> None:
    door = Door()
    await door.close()
    await door.close()

    with pytest.raises(OSError, match="refused"):
        socket.create_connection(door.address, 5)

    assert door.taken == []


async def test_a_fault_with_one_connection_closes_it_and_takes_the_next(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(sock: socket.socket, address: tuple[str, int]) -> None:
        if not caplog.text:
            raise RuntimeError("a mistake")
        door.taken.append(sock)

    monkeypatch.setattr(Door, "welcome", lambda self, *given: faulty(*given))
    door = Door()
    first, second = (socket.create_connection(door.address) for _ in range(2))
    await until(lambda: door.taken)
    first.setblocking(False)

    assert await read_to_end(first) == b""
    assert "a mistake" in caplog.text
    await door.close()
    first.close()
    second.close()


class Full(socket.socket):
    """A listening socket on a system that has no descriptor left, three times."""

    refusals = 0

    def accept(self) -> Any:
        if Full.refusals < 3:
            Full.refusals += 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


async def test_without_room_for_a_socket_it_waits_instead_of_spinning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Full, "refusals", 0)
    monkeypatch.setattr(acceptor_module, "PAUSE", 0.03)
    loop = asyncio.get_running_loop()
    door = Door(Full)
    start = loop.time()
    peer = socket.create_connection(door.address)

    await until(lambda: door.taken)

    assert loop.time() - start >= 0.08
    await door.close()
    peer.close()


async def test_the_end_may_come_while_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Full, "refusals", -(10**9))
    door = Door(Full)
    peer = socket.create_connection(door.address)
    await until(lambda: door.acceptor._pauses)

    await door.close()

    assert door.taken == []
    peer.close()


# -- uTP


async def test_who_asks_for_a_connection_by_utp_is_refused_at_once() -> None:
    door = Door()
    first_packet = b"\x41" + os.urandom(19)
    with Asker(door.address[1]) as peer:
        peer.send(b"d1:ad2:id20:")

        assert await peer.ask(first_packet) == utp.refusal(first_packet)
    await door.close()


async def test_connections_are_taken_although_another_has_the_udp_port() -> None:
    others: list[socket.socket] = []

    class Late(socket.socket):
        """Between its making and its use somebody takes the UDP port."""

        def listen(self, backlog: int = 0) -> None:
            super().listen(backlog)
            others.extend(bind_beside([self]))

    door = Door(Late)
    peer = socket.create_connection(door.address)

    await until(lambda: door.taken)

    await door.close()
    for sock in (peer, *others):
        sock.close()


async def test_a_system_that_does_not_take_the_udp_socket_costs_nothing_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The option that is set on the socket is one that no system knows."""
    unknown = datagrams._Note(socket.SOL_SOCKET, 9999, 9999, slice(4), b"", b"")
    monkeypatch.setattr(datagrams, "_note_of", lambda _: unknown)
    caplog.set_level(logging.INFO)
    async with Client(bind=LOCAL) as client:
        await until(lambda: "uTP is not refused: Protocol not available" in caplog.text)

        with socket.create_connection((LOCAL, client.port)):
            await until(lambda: client._connections._open)

    assert not client._connections._open


@pytest.mark.parametrize("turns", range(5))
async def test_a_connection_that_comes_in_with_the_end_is_not_left_open(turns: int) -> None:
    """The fixture counts sockets."""
    for _ in range(10):
        async with Client(bind=LOCAL) as client:
            for _ in range(3):
                await asyncio.sleep(0)
            peer = socket.create_connection((LOCAL, client.port))
            for _ in range(turns):
                await asyncio.sleep(0)
        peer.close()


async def test_a_loop_that_cannot_watch_sockets_takes_connections_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()
    if not isinstance(loop, asyncio.SelectorEventLoop):
        pytest.skip("its methods cannot be replaced")

    def add_reader(*_: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr(loop, "add_reader", add_reader)
    door = Door()
    peers = [socket.create_connection(door.address) for _ in range(20)]

    await until(lambda: len(door.taken) == 20)

    await door.close()
    for peer in peers:
        peer.close()
