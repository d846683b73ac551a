"""The front of the HTTP server: what it answers itself, what it hands on, and what it drops."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator

import pytest

from p2pfs.net import http_front
from p2pfs.net.http_front import HttpFront
from p2pfs.net.listener import bind_port
from tests.support.rawhttp import exchange
from tests.support.waiting import until

if sys.platform == "win32":
    pytest.skip("no event loop watches sockets there", allow_module_level=True)

GET = b"GET /quick?a=%ff HTTP/1.1\r\nHost: tracker\r\n\r\n"
LAST = GET.replace(b"Host", b"Connection: close\r\nHost")
ANSWER = b"a=%ff 127.0.0.1 tracker"


class Served:
    """A front, and what it handed on: connections, and what was read from them."""

    def __init__(self, limit: int = 100) -> None:
        sockets = bind_port("127.0.0.1", 0)
        self.port = sockets[0].getsockname()[1]
        self.handed: asyncio.Queue[tuple[socket.socket, bytes]] = asyncio.Queue()
        quick = {
            b"/quick": self.answer,
            b"/long": lambda *_: b"x" * 10_000_000,
            b"/broken": lambda *_: b"%d" % (1 // 0),
        }
        self.front = HttpFront(sockets, quick, lambda *given: self.handed.put_nowait(given), limit)

    @staticmethod
    def answer(query: bytes, source: str, host: bytes) -> bytes:
        return b"%b %b %b" % (query, source.encode(), host)

    async def handed_on(self) -> tuple[socket.socket, bytes]:
        return await asyncio.wait_for(self.handed.get(), 5)


@contextlib.asynccontextmanager
async def serving(limit: int = 100) -> AsyncIterator[Served]:
    served = Served(limit)
    served.front.start()
    try:
        yield served
    finally:
        served.front.close()
        while not served.handed.empty():
            served.handed.get_nowait()[0].close()


@contextlib.asynccontextmanager
async def connected(
    port: int, send: bytes = b""
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(send)
        await writer.drain()
        yield reader, writer
    finally:
        writer.close()


async def read_answer(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(5):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return await reader.readexactly(length)


async def ended(reader: asyncio.StreamReader) -> bool:
    try:
        return await asyncio.wait_for(reader.read(), 5) == b""
    except ConnectionError:
        return True


async def test_a_quick_answer_knows_query_source_and_host() -> None:
    async with serving() as served:
        status, head, body = await exchange(served.port, LAST)

    assert (status, body) == (200, ANSWER)
    assert b"\r\nconnection: close" in head
    assert b"\r\nx-content-type-options: nosniff" in head


async def test_a_head_may_come_byte_by_byte() -> None:
    async with serving() as served, connected(served.port) as (reader, writer):
        for byte in LAST:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)

        assert await read_answer(reader) == ANSWER
        assert await ended(reader)


async def test_a_connection_is_kept_for_the_next_question() -> None:
    async with serving() as served, connected(served.port) as (reader, writer):
        for _ in range(3):
            writer.write(GET)
            assert await read_answer(reader) == ANSWER
        writer.write(LAST)
        assert await read_answer(reader) == ANSWER
        assert await ended(reader)


async def test_many_connections_at_once_are_all_answered() -> None:
    async with serving(limit=64) as served:
        answers = await asyncio.gather(*(exchange(served.port, LAST) for _ in range(300)))

    assert {(status, body) for status, _, body in answers} == {(200, ANSWER)}


@pytest.mark.parametrize(
    "sent",
    [
        GET + GET,
        GET + b"x",
        GET.replace(b"GET", b"POST"),
        GET.replace(b"/quick", b"/other"),
        GET.replace(b"/quick", b"/broken"),
        GET.replace(b"/quick", b"/%71uick"),
        GET.replace(b"Host", b"Content-Length: 5\r\nHost"),
        b"\r\n\r\n",
        b"\x16\x03\x01 no http",
        b"GET /\n\n",
    ],
)
async def test_anything_else_is_handed_on_with_every_byte(sent: bytes) -> None:
    async with serving() as served, connected(served.port, sent):
        sock, read = await served.handed_on()

        assert read == sent
        assert not sock.getblocking()
        sock.close()


async def test_what_follows_a_head_in_parts_is_handed_on_with_it() -> None:
    async with serving() as served, connected(served.port, b"PO") as (_, writer):
        for part in (b"ST /quick HTTP/1.1\r", b"\n\r", b"\nbody"):
            await asyncio.sleep(0)
            writer.write(part)
            await writer.drain()
        sock, read = await served.handed_on()
        with sock:
            while not read.endswith(b"body"):
                read += await asyncio.get_running_loop().sock_recv(sock, 100)

    assert read == b"POST /quick HTTP/1.1\r\n\r\nbody"


@pytest.mark.parametrize("sent", [b"GET /qui", GET])
async def test_who_says_no_more_is_dropped_in_time(
    sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_front, "HEAD_SECONDS", 0.05)
    async with serving() as served, connected(served.port, sent) as (reader, _):
        if sent == GET:
            assert await read_answer(reader) == ANSWER

        assert await ended(reader)


async def test_a_head_without_end_is_refused() -> None:
    async with serving() as served, connected(served.port) as (reader, writer):
        with contextlib.suppress(ConnectionError):
            for _ in range(80):
                writer.write(b"GET /quick?" + b"x" * 1013)
                await writer.drain()
        with contextlib.suppress(ConnectionError):
            assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 431 ")
        assert (await exchange(served.port, LAST))[2] == ANSWER


async def test_long_heads_are_waited_for_while_there_is_room_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_front, "_MAX_HELD", 30_000)
    long, short = (LAST.replace(b"%ff", b"x" * length) for length in (20_000, 10_000))
    async with serving() as served:

        def held() -> int:
            return sum(len(one.read) for one in served.front._waiting.values())

        async with connected(served.port, b"GET /quick?" + b"x" * 24_000):
            await until(lambda: held() > 24_000)
            async with connected(served.port, long[:-1]) as (reader, _):
                with contextlib.suppress(ConnectionError):
                    refusal = await asyncio.wait_for(reader.read(), 5)
                    assert refusal.startswith(b"HTTP/1.1 431 ")
            async with connected(served.port, short[:-1]) as (reader, writer):
                await until(lambda: held() > 34_000)
                writer.write(short[-1:])
                assert (await read_answer(reader)).startswith(b"a=xxx")
        await until(lambda: held() == 0)
        async with connected(served.port, long[:-1]) as (reader, writer):
            await until(lambda: held() > 20_000)
            writer.write(long[-1:])
            assert (await read_answer(reader)).startswith(b"a=xxx")

        assert served.front._held == 0


async def test_who_has_waited_longest_gives_way() -> None:
    async with serving(limit=2) as served, contextlib.AsyncExitStack() as stack:
        readers = []
        for _ in range(5):
            reader, _ = await stack.enter_async_context(connected(served.port, GET))
            assert await read_answer(reader) == ANSWER
            readers.append(reader)

        assert all([await ended(reader) for reader in readers[:3]])
        assert (await exchange(served.port, LAST))[2] == ANSWER
        assert not any(reader.at_eof() for reader in readers[3:])


async def test_what_was_handed_on_takes_no_room_here() -> None:
    other = GET.replace(b"/quick", b"/other")
    async with serving(limit=1) as served, contextlib.AsyncExitStack() as stack:
        for _ in range(5):
            await stack.enter_async_context(connected(served.port, other))
            stack.enter_context((await served.handed_on())[0])

        kept, _ = await stack.enter_async_context(connected(served.port, GET))
        assert await read_answer(kept) == ANSWER
        assert (await exchange(served.port, LAST))[2] == ANSWER
        assert not kept.at_eof()


async def test_who_does_not_take_in_long_answers_is_bounded_in_number() -> None:
    question = LAST.replace(b"/quick", b"/long")
    async with serving(limit=1) as served, contextlib.AsyncExitStack() as stack:
        first, _ = await stack.enter_async_context(connected(served.port, question))
        await first.readexactly(1)
        second, _ = await stack.enter_async_context(connected(served.port, question))
        await second.readexactly(1)

        with contextlib.suppress(ConnectionError):
            assert len(await second.read()) < 10_000_000
        assert await read_answer(first) == b"x" * 10_000_000


async def test_a_client_that_has_said_all_gets_its_answer() -> None:
    async with serving() as served, connected(served.port, GET) as (reader, writer):
        writer.write_eof()

        assert await read_answer(reader) == ANSWER
        assert await ended(reader)


async def test_a_client_that_reads_slowly_gets_the_whole_answer() -> None:
    question = LAST.replace(b"/quick", b"/long")
    async with serving() as served, connected(served.port, question) as (reader, _):
        assert (await exchange(served.port, LAST))[2] == ANSWER

        assert await read_answer(reader) == b"x" * 10_000_000
        assert await ended(reader)


async def test_clients_that_are_gone_before_they_are_answered_do_no_harm() -> None:
    async with serving() as served:
        for sent in (b"", b"GET /qui", LAST, LAST.replace(b"/quick", b"/long"), b"POST"):
            with socket.create_connection(("127.0.0.1", served.port)) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                sock.send(sent)

        assert (await exchange(served.port, LAST))[2] == ANSWER


async def test_closing_ends_every_connection_that_was_not_handed_on() -> None:
    async with serving() as served, contextlib.AsyncExitStack() as stack:
        half, _ = await stack.enter_async_context(connected(served.port, b"GET /qui"))
        kept, _ = await stack.enter_async_context(connected(served.port, GET))
        assert await read_answer(kept) == ANSWER

        served.front.close()

        assert await ended(half)
        assert await ended(kept)
        with pytest.raises(OSError, match=r"."):
            await asyncio.open_connection("127.0.0.1", served.port)


async def test_without_a_file_descriptor_left_it_waits_for_one() -> None:
    import resource

    async with serving() as served:
        with socket.socket() as sock:
            sock.connect(("127.0.0.1", served.port))
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (sock.fileno() + 1, limits[1]))
            try:
                sock.send(LAST)
                sock.setblocking(False)
                await asyncio.sleep(0.05)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)

            answer = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 10_000), 5)

    assert answer.endswith(ANSWER)


async def test_an_event_loop_that_watches_no_sockets_is_told_before_anything_happens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_front, "_DONT_WAIT", 0)
    served = Served()

    with pytest.raises(NotImplementedError):
        served.front.start()

    served.front.close()
