"""The embedded HTTP server: sockets of ours, both event loops, and a clean end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from p2pfs.errors import ListenError
from p2pfs.net import asgi_server, http_front, http_general
from p2pfs.net.asgi_server import AsgiServer
from p2pfs.net.http_reply import read_body, send_reply
from p2pfs.net.listener import bind_port
from tests.support.rawhttp import ask, exchange

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


@pytest.mark.skipif(sys.platform == "win32", reason="there is no front there")
async def test_what_stands_behind_the_front_is_loaded_before_somebody_needs_it() -> None:
    program = """
import asyncio, sys
from p2pfs.net.asgi_server import AsgiServer
from p2pfs.net.listener import bind_port

async def main():
    server = AsgiServer(None, bind_port("127.0.0.1", 0))
    await server.start()
    await server.close()
    print("p2pfs.net.http_general" in sys.modules)

asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()

    assert said.split() == [b"True"]


# -- HTTP in general


async def echo(scope: Any, receive: Any, send: Any) -> None:
    body = await read_body(receive, 1_000_000, 10.0)
    if scope["path"] == "/broken":
        raise RuntimeError("broken")
    seen = [scope["method"], scope["path"], scope["raw_path"], scope["query_string"]]
    await send_reply(send, repr((*seen, scope["client"][0], body)).encode())


@pytest.fixture
async def echoing() -> AsyncIterator[int]:
    sockets, port = local()
    server = AsgiServer(echo, sockets, {b"/quick": lambda *_: b"quick"})
    await server.start()
    yield port
    await server.close()


async def test_a_request_is_told_as_it_was_sent(echoing: int) -> None:
    _, _, body = await ask(echoing, "/a%2fb%C3%A9?q=%ff&x=/", method="PUT", body=b"body")

    expected = ("PUT", "/a/b\u00e9", b"/a%2fb%C3%A9", b"q=%ff&x=/", "127.0.0.1", b"body")
    assert body == repr(expected).encode()


async def test_a_target_may_name_the_host(echoing: int) -> None:
    request = (
        b"GET http://tracker:1/a%2fb?q=%ff HTTP/1.1\r\nHost: tracker\r\nConnection: close\r\n\r\n"
    )

    _, _, body = await exchange(echoing, request)

    assert body == repr(("GET", "/a/b", b"/a%2fb", b"q=%ff", "127.0.0.1", b"")).encode()


async def test_a_body_may_come_in_chunks_and_late(echoing: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", echoing)
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n")
    writer.write(b"Expect: 100-continue\r\nConnection: close\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    for part in (b"3\r\nabc", b"\r\n", b"2\r\nde\r\n0\r\n\r\n"):
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(0)

    assert b"b'abcde'" in await asyncio.wait_for(reader.read(), 5)
    writer.close()


async def test_a_compressed_body_stays_as_it_is(echoing: int) -> None:
    headers = "Content-Encoding: gzip\r\n"

    _, _, body = await ask(echoing, "/", method="POST", body=b"\x1f\x8b", headers=headers)

    assert rb"b'\x1f\x8b'" in body


async def test_all_kinds_of_requests_follow_each_other_on_one_connection(echoing: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", echoing)
    for path in (b"/quick", b"/quick", b"/other", b"/quick", b"/other"):
        writer.write(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path)
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).lower()
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        assert head.startswith(b"http/1.1 200 ")
        await reader.readexactly(length)
    writer.close()


async def test_requests_may_be_sent_before_the_answers_are_here(echoing: int) -> None:
    request = b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

    _, head, body = await exchange(echoing, b"".join(request % n for n in range(20)) + last)

    answers = head + body
    assert answers.count(b"HTTP/1.1 200 ") == 21
    assert answers.index(b"'/1'") < answers.index(b"'/19'") < answers.index(b"'/last'")


async def test_the_answer_to_head_has_no_body(echoing: int) -> None:
    _, head, body = await ask(echoing, "/", method="HEAD")

    assert (b"content-length: 0" in head, body) == (False, b"")


async def test_no_answer_tells_which_software_is_here(echoing: int) -> None:
    for sent in (b"GET /quick", b"GET /other", b"GET /broken", b"GET /a b", b"G\0T /", b"POST /"):
        request = b"%b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % sent

        answer = b"".join((await exchange(echoing, request))[1:])

        assert b"ython" not in answer
        assert b"aiohttp" not in answer


async def test_half_a_request_after_a_whole_one_is_dropped_in_time(
    monkeypatch: pytest.MonkeyPatch, echoing: int
) -> None:
    monkeypatch.setattr(http_general, "_IDLE_SECONDS", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", echoing)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HT")

    answer = await asyncio.wait_for(reader.read(), 5)

    assert answer.count(b"HTTP/1.1 200 ") == 1
    writer.close()


@pytest.mark.parametrize("loop", LOOPS)
def test_where_no_socket_is_watched_everything_is_answered_all_the_same(
    loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_front, "_DONT_WAIT", 0)
    monkeypatch.setattr(http_general, "HEAD_SECONDS", 0.05)

    async def main() -> None:
        sockets, port = local()
        server = AsgiServer(says(b"x"), sockets)
        await server.start()
        assert (await ask(port, "/"))[2] == b"x"
        for half in (b"", b"GET / HT"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(half)
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), 5) == b""
            writer.close()
        await server.close()
        with pytest.raises(OSError, match=r"."):
            await asyncio.open_connection("127.0.0.1", port)

    run(loop, main)


# -- clients that mean no good, or do not know better

ONE = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(params=["in front", "no front"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The general server behind the front, or alone."""
    if request.param == "no front":
        monkeypatch.setattr(http_front, "_DONT_WAIT", 0)


class Slow:
    """Begins with every request, and answers when it is told to."""

    def __init__(self) -> None:
        self.begun = asyncio.Semaphore(0)
        self.answer = asyncio.Event()

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        self.begun.release()
        await self.answer.wait()
        await send_reply(send, scope["path"].encode())


@contextlib.asynccontextmanager
async def served(app: Any) -> AsyncIterator[int]:
    sockets, port = local()
    server = AsgiServer(app, sockets, {b"/quick": lambda *_: b"quick"})
    await server.start()
    try:
        yield port
    finally:
        await server.close()


async def open_with(port: int, sent: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    return reader, writer


async def all_of(reader: asyncio.StreamReader) -> bytes:
    found = b""
    with contextlib.suppress(ConnectionError):
        while more := await asyncio.wait_for(reader.read(65536), 5):
            found += more
    return found


@pytest.mark.usefixtures("either_way")
async def test_an_idle_connection_gives_way_to_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi_server, "_connection_limit", lambda: 2)
    async with served(says(b"x")) as port:
        readers = []
        for _ in range(4):
            reader, writer = await open_with(port, ONE)
            await reader.readuntil(b"\r\n\r\nx")
            readers.append((reader, writer))

        assert await all_of(readers[0][0]) == b""
        assert await all_of(readers[1][0]) == b""
        readers[3][1].write(ONE)
        await readers[3][0].readuntil(b"\r\n\r\nx")
        for _, writer in readers:
            writer.close()


@pytest.mark.usefixtures("either_way")
async def test_requests_under_way_do_not_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi_server, "_connection_limit", lambda: 2)
    slow = Slow()
    async with served(slow.app) as port:
        first, one = await open_with(port, ONE)
        second, other = await open_with(port, ONE)
        for _ in range(2):
            await slow.begun.acquire()

        status, head, body = await ask(port, "/third")
        slow.answer.set()

        assert (status, b"retry-after:" in head) == (503, True)
        assert "later" in json.loads(body)["error"]
        for reader, writer in ((first, one), (second, other)):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            writer.close()


async def test_announces_are_answered_when_nothing_else_can_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(asgi_server, "_connection_limit", lambda: 1)
    slow = Slow()
    async with served(slow.app) as port:
        _, writer = await open_with(port, ONE)
        await slow.begun.acquire()

        for _ in range(3):
            assert (await ask(port, "/other"))[0] == 503
            assert (await ask(port, "/quick"))[2] == b"quick"
        slow.answer.set()
        writer.close()


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("loop", LOOPS)
def test_a_client_that_has_said_all_gets_all_its_answers(loop: str) -> None:
    async def main() -> None:
        slow = Slow()
        async with served(slow.app) as port:
            reader, writer = await open_with(port, b"".join(_one(n) for n in range(3)))
            writer.write_eof()
            await slow.begun.acquire()
            slow.answer.set()

            answers = await all_of(reader)

            assert answers.count(b"HTTP/1.1 200 ") == 3
            assert answers.endswith(b"\r\n\r\n/2")
            writer.close()

    run(loop, main)


def _one(number: int) -> bytes:
    return b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number


@pytest.mark.usefixtures("either_way")
async def test_a_body_that_ends_too_early_ends_the_request() -> None:
    told: asyncio.Queue[Any] = asyncio.Queue()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        message = {"more_body": True}
        while message.get("more_body"):
            message = await receive()
        told.put_nowait(message["type"])
        await send_reply(send, b"x")

    async with served(app) as port:
        sent = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf"
        reader, writer = await open_with(port, sent)
        writer.write_eof()

        assert await asyncio.wait_for(told.get(), 5) == "http.disconnect"
        assert await all_of(reader) == b""
        writer.close()


@pytest.mark.usefixtures("either_way")
async def test_who_does_not_take_in_an_answer_is_dropped_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_general, "_STALLED_SECONDS", 0.1)
    async with served(says(b"x" * 20_000_000)) as port:
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(sock, ONE)
            await asyncio.sleep(0.2)
            received = 0
            with contextlib.suppress(ConnectionError):
                while part := await asyncio.wait_for(loop.sock_recv(sock, 1 << 20), 5):
                    received += len(part)

    assert received < 20_000_000


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("start", [b"", b"\r\n", ONE, ONE + b"\r\n"])
@pytest.mark.parametrize("line", [b"A: b\r\n", b"A: %b\r\n" % (b"b" * 5000), b"A" * 1000])
async def test_a_flood_of_header_lines_is_cut_off(start: bytes, line: bytes) -> None:
    async with served(says(b"x")) as port:
        reader, writer = await open_with(port, start + ONE[:-2])
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(NOT_HELD_UP):
                while True:
                    writer.write(line * (1 + 10_000 // len(line)))
                    await writer.drain()
        answer = await all_of(reader)

        assert answer.count(b" 200 ") <= (len(start) > 2)
        assert (await ask(port, "/"))[0] == 200
        writer.close()


@pytest.mark.usefixtures("either_way")
async def test_a_flood_of_requests_is_answered_or_cut_off() -> None:
    async with served(says(b"x")) as port:
        reader, writer = await open_with(port, _one(1) * 2_000)
        answers = 0
        async with asyncio.timeout(30):
            while answers < 2_000 and (part := await reader.readuntil(b"\r\n\r\nx")):
                answers += part.startswith(b"HTTP/1.1 200 ")
        writer.close()


async def test_an_empty_line_after_a_request_does_no_harm(echoing: int) -> None:
    request = b"GET /quick HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n\r\n"

    assert (await exchange(echoing, request))[0] == 200
