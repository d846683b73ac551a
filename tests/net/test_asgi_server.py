"""The embedded HTTP server: sockets of ours, both event loops, and a clean end."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from p2pfs.errors import ListenError
from p2pfs.net import asgi_server
from p2pfs.net.asgi_server import AsgiServer
from p2pfs.net.http_reply import send_reply
from p2pfs.net.listener import bind_port
from tests.support.rawhttp import ask

LOOPS = ["asyncio"] if sys.platform == "win32" else ["asyncio", "uvloop"]
NOT_HELD_UP = 8.0
"""Seconds: less than the time that the server gives half a request."""


def run(loop: str, main: Callable[[], Awaitable[None]]) -> None:
    factory = None
    if loop == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())  # type: ignore[arg-type]


def says(text: bytes) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/broken":
            raise RuntimeError("broken")
        await send_reply(send, text)

    return app


def local() -> tuple[list[socket.socket], int]:
    sockets = bind_port("127.0.0.1", 0)
    return sockets, sockets[0].getsockname()[1]


@pytest.mark.parametrize("loop", LOOPS)
def test_several_servers_in_one_process_answer_each_on_its_port(loop: str) -> None:
    async def main() -> None:
        servers = []
        for number in range(3):
            sockets, port = local()
            server = AsgiServer(says(b"%d" % number), sockets)
            await server.start()
            servers.append((server, port))
        for number, (_, port) in enumerate(servers):
            assert (await ask(port, "/"))[2] == b"%d" % number
        for server, _ in servers:
            await server.close()

    run(loop, main)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_closed_server_is_gone_at_once_and_its_port_free(loop: str) -> None:
    async def main() -> None:
        sockets, port = local()
        server = AsgiServer(says(b"old"), sockets)
        await server.start()
        assert (await ask(port, "/"))[2] == b"old"
        await server.close()

        with pytest.raises(OSError, match=r"."):
            await asyncio.open_connection("127.0.0.1", port)
        again = AsgiServer(says(b"new"), bind_port("127.0.0.1", port))
        await again.start()
        assert (await ask(port, "/"))[2] == b"new"
        await again.close()

    run(loop, main)


@pytest.mark.parametrize("loop", LOOPS)
def test_idle_connections_do_not_hold_up_the_end(
    loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asgi_server, "_PATIENCE", 60.0)

    async def main() -> None:
        sockets, port = local()
        server = AsgiServer(says(b"x"), sockets)
        await server.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"\r\n\r\nx")

        async with asyncio.timeout(NOT_HELD_UP):
            await server.close()

        assert await reader.read() == b""
        writer.close()

    run(loop, main)


@pytest.mark.parametrize("loop", LOOPS)
def test_half_a_request_does_not_hold_up_the_end(
    loop: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(asgi_server, "_PATIENCE", 0.1)

    async def main() -> None:
        sockets, port = local()
        server = AsgiServer(says(b"x"), sockets)
        await server.start()
        assert (await ask(port, "/"))[2] == b"x"
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HT")
        await writer.drain()

        async with asyncio.timeout(NOT_HELD_UP):
            await server.close()

        with pytest.raises(OSError, match=r"."):
            await asyncio.open_connection("127.0.0.1", port)
        writer.close()

    run(loop, main)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("loop", LOOPS)
def test_a_server_may_be_closed_as_soon_as_it_is_started(
    loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asgi_server, "_PATIENCE", 60.0)

    async def main() -> None:
        async with asyncio.timeout(NOT_HELD_UP):
            for _ in range(5):
                sockets, _ = local()
                server = AsgiServer(says(b"x"), sockets)
                await server.start()
                await server.close()

    run(loop, main)


def test_a_closed_socket_is_an_error() -> None:
    async def main() -> None:
        sockets, _ = local()
        sockets[0].close()
        with pytest.raises(ListenError, match="closed socket"):
            await AsgiServer(says(b"x"), sockets).start()

    run("asyncio", main)


def test_a_server_that_was_never_started_closes_its_sockets() -> None:
    async def main() -> None:
        sockets, _ = local()
        await AsgiServer(says(b"x"), sockets).close()
        assert sockets[0].fileno() == -1

    run("asyncio", main)


def test_an_application_that_fails_answers_500_and_serves_on() -> None:
    async def main() -> None:
        sockets, port = local()
        server = AsgiServer(says(b"x"), sockets)
        await server.start()
        assert (await ask(port, "/broken"))[0] == 500
        assert (await ask(port, "/"))[0] == 200
        await server.close()

    run("asyncio", main)


def test_the_logging_of_the_process_is_left_alone(
    capfd: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    handler = logging.FileHandler(tmp_path / "log")
    logging.getLogger("p2pfs.test").addHandler(handler)

    async def main() -> None:
        sockets, port = local()
        server = AsgiServer(says(b"x"), sockets)
        await server.start()
        await ask(port, "/")
        await ask(port, "/broken")
        await server.close()

    run("asyncio", main)
    logging.getLogger("p2pfs.test").warning("still here")
    logging.getLogger("p2pfs.test").removeHandler(handler)
    handler.close()

    assert (tmp_path / "log").read_text() == "still here\n"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\0" * 100 + b"\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n" * 50 + b"x\r\n\r\n",
    ],
)
def test_what_is_no_http_is_turned_away(request_bytes: bytes) -> None:
    async def main() -> None:
        sockets, port = local()
        server = AsgiServer(says(b"x"), sockets)
        await server.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request_bytes)
        writer.write_eof()
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        assert b" 200 " not in answer[:20]
        assert (await ask(port, "/"))[0] == 200
        await server.close()

    run("asyncio", main)
