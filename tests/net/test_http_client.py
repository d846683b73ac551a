"""Requests to servers that do not mean well."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import tracemalloc
import zlib
from collections.abc import AsyncIterator

import pytest

from p2pfs.errors import NetworkError
from p2pfs.formats.reach import Reach
from p2pfs.net import addresses, http_client
from p2pfs.net.http_client import MAX_REDIRECTS, HttpClient, HttpPart, HttpResponse, printable
from tests.support.rawhttp import raw_server, reply

LIMIT = 10_000


async def get(
    url: str, *, trusted: bool = True, seconds: float = 5.0, method: str = "GET", local: bool = True
) -> HttpResponse:
    return await HttpClient(local=local).request(
        method, url, trusted=trusted, limit=LIMIT, seconds=seconds
    )


def redirect(location: str, status: str = "302 Found") -> bytes:
    return reply(b"", status=status, headers=f"Location: {location}\r\n")


async def test_an_answer_comes_back_whole() -> None:
    async with raw_server(reply(b"hello", status="404 Not Found")) as server:
        answer = await get(f"http://127.0.0.1:{server.port}/a?b=%ff%00")

    assert (answer.status, answer.body) == (404, b"hello")
    assert server.requests[0].startswith(b"GET /a?b=%ff%00 HTTP/1.1\r\n")
    assert b"User-Agent: p2pfs/" in server.requests[0]


async def test_a_name_is_resolved_and_asked() -> None:
    async with raw_server(reply(b"x")) as server:
        assert (await get(f"http://localhost:{server.port}/")).body == b"x"

    assert f"Host: localhost:{server.port}".encode() in server.requests[0]


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "x-gzip"])
async def test_packed_answers_are_unpacked(encoding: str) -> None:
    packed = zlib.compress(b"hello" * 9) if encoding == "deflate" else gzip.compress(b"hello" * 9)
    async with raw_server(reply(packed, headers=f"Content-Encoding: {encoding}\r\n")) as server:
        assert (await get(f"http://127.0.0.1:{server.port}/")).body == b"hello" * 9


async def test_a_gzip_bomb_is_refused_in_little_memory() -> None:
    packer = zlib.compressobj(wbits=31)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(100)) + packer.flush()
    async with raw_server(reply(bomb, headers="Content-Encoding: gzip\r\n")) as server:
        await get_refused(f"http://127.0.0.1:{server.port}/", "larger than")
        tracemalloc.start()
        await get_refused(f"http://127.0.0.1:{server.port}/", "larger than")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

    assert peak < 4 << 20


async def get_refused(url: str, why: str, *, trusted: bool = True, seconds: float = 5.0) -> None:
    with pytest.raises(NetworkError, match=why):
        await get(url, trusted=trusted, seconds=seconds)


async def test_an_endless_answer_is_refused() -> None:
    async def endless(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        while True:
            writer.write(bytes(4096))
            await writer.drain()

    async with raw_server(endless) as server:
        await get_refused(f"http://127.0.0.1:{server.port}/", "larger than")


async def test_a_server_that_says_nothing_is_given_up() -> None:
    async def silent(head: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    async with raw_server(silent) as server:
        await get_refused(f"http://127.0.0.1:{server.port}/", "within 0.05 s", seconds=0.05)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "disconnect"),
        (b"garbage\r\n\r\n", "."),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "."),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", "."),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "."),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", "."),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 100_000, "."),
        (reply(b"half", length=100), "."),
        (reply(b"x", headers="Content-Encoding: br\r\n"), "packed as 'br'"),
        (reply(b"not gzip", headers="Content-Encoding: gzip\r\n"), "."),
        (reply(gzip.compress(b"x" * 99)[:-4], headers="Content-Encoding: gzip\r\n"), "cut off"),
        (redirect(""), "does not say where"),
        (redirect("ftp://127.0.0.1/"), "only http and https"),
        (redirect("http://[broken"), "not a URL"),
        (redirect("http://127.0.0.1:70000/"), "not a URL"),
        (redirect("http://169.254.169.254/latest/meta-data"), "never asked"),
    ],
)
async def test_every_senseless_answer_is_one_kind_of_error(answer: bytes, why: str) -> None:
    async with raw_server(answer) as server:
        await get_refused(f"http://127.0.0.1:{server.port}/", why)


async def test_redirects_are_followed_a_few_times() -> None:
    answers = [redirect(f"/hop{number}") for number in range(MAX_REDIRECTS)]
    async with raw_server(*answers, reply(b"there")) as server:
        answer = await get(f"http://127.0.0.1:{server.port}/announce")

    assert answer.body == b"there"
    assert answer.url.endswith(f"/hop{MAX_REDIRECTS - 1}")


async def test_a_redirect_loop_ends() -> None:
    async with raw_server(redirect("/announce")) as server:
        await get_refused(f"http://127.0.0.1:{server.port}/announce", "more than 5 redirects")

    assert len(server.requests) == MAX_REDIRECTS + 1


async def test_only_get_is_redirected() -> None:
    async with raw_server(redirect("/elsewhere")) as server:
        answer = await get(f"http://127.0.0.1:{server.port}/", method="POST")

    assert answer.status == 302


async def test_a_url_from_outside_may_only_announce_on_this_machine() -> None:
    async with raw_server(reply(b"x")) as server:
        base = f"http://127.0.0.1:{server.port}"
        assert (await get(f"{base}/announce?x", trusted=False)).body == b"x"
        await get_refused(f"{base}/admin", "only ask for /announce", trusted=False)
        await get_refused(f"http://localhost:{server.port}/admin", "/announce", trusted=False)
        with pytest.raises(NetworkError, match="from outside"):
            await get(f"{base}/announce", trusted=False, local=False)

    assert len(server.requests) == 1


async def test_a_url_from_outside_cannot_be_redirected_past_announce() -> None:
    async with raw_server(redirect("/admin"), reply(b"secret")) as server:
        await get_refused(
            f"http://127.0.0.1:{server.port}/announce", "only ask for /announce", trusted=False
        )


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_public_server_cannot_redirect_inside(
    trusted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = addresses.reach_of

    def as_if(host: str) -> Reach:
        return Reach.GLOBAL if host == "127.0.0.2" else real(host)

    monkeypatch.setattr(addresses, "reach_of", as_if)
    monkeypatch.setattr(http_client, "reach_of", as_if)
    async with raw_server(reply(b"secret")) as inside:
        target = redirect(f"http://127.0.0.1:{inside.port}/announce")
        async with raw_server(target, host="127.0.0.2") as public:
            await get_refused(
                f"http://127.0.0.2:{public.port}/announce", "from outside", trusted=trusted
            )

    assert inside.requests == []


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://127.0.0.1/", "only http and https"),
        ("file:///etc/passwd", "only http and https"),
        ("http:///announce", "."),
        ("http://[::", "."),
        ("http://127.0.0.1:99999/", "not a URL"),
        ("http://127.0.0.1:abc/announce", "not a URL"),
        ("http://127.0.0.1:-1/announce", "not a URL"),
        ("http://nowhere.invalid/", "cannot be resolved"),
        ("http://xn--80ak6aa92e.com/", "internationalised"),
        ("http://\u0430pple.com/", "."),
        ("http://" + "a" * 300 + "/", "."),
        ("http://a b/", "."),
        ("http://127.0.0.1\r\nX: y/", "."),
        ("", "only http and https"),
    ],
)
async def test_a_url_that_cannot_be_asked_is_one_kind_of_error(url: str, why: str) -> None:
    await get_refused(url, why, trusted=False)


async def test_a_port_where_nobody_listens_is_said_to_be_one() -> None:
    async with raw_server(b"") as server:
        port = server.port

    await get_refused(f"http://127.0.0.1:{port}/announce", "nothing listens there")


def test_text_from_outside_is_shown_without_control_characters() -> None:
    assert printable("a\x1b[31m\nb\u202ec") == "a?[31m?b?c"
    assert printable("x" * 500, 10) == "x" * 10 + "..."


# -- connections that are kept


async def answer_forever(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers every request on a connection with its path."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            body = head.split(b" ", 2)[1]
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    writer.close()


@contextlib.asynccontextmanager
async def patient_server() -> AsyncIterator[tuple[int, list[asyncio.StreamWriter]]]:
    """The port of a server that keeps connections open, and its connections."""
    connections: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        await answer_forever(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], connections
    finally:
        server.close()
        for writer in connections:
            writer.transport.abort()
        await server.wait_closed()


async def ask_in_turn(client: HttpClient, port: int, count: int) -> None:
    for number in range(count):
        answer = await client.request(
            "GET", f"http://127.0.0.1:{port}/{number}", trusted=True, limit=LIMIT, seconds=5
        )
        assert answer.body == f"/{number}".encode()


async def test_inside_async_with_a_connection_serves_many_requests(nothing_left: None) -> None:
    async with patient_server() as (port, connections):
        async with HttpClient() as client:
            await ask_in_turn(client, port, 5)
            assert len(connections) == 1
        await ask_in_turn(client, port, 2)
        assert len(connections) == 3


async def test_a_kept_connection_that_the_server_closed_is_replaced(nothing_left: None) -> None:
    async with patient_server() as (port, connections), HttpClient() as client:
        await ask_in_turn(client, port, 1)
        connections[0].close()
        await connections[0].wait_closed()
        await ask_in_turn(client, port, 2)
        assert len(connections) == 2


async def test_many_requests_at_once_share_a_few_connections(nothing_left: None) -> None:
    async with patient_server() as (port, connections), HttpClient() as client:
        await asyncio.gather(*(ask_in_turn(client, port, 10) for _ in range(8)))
        assert len(connections) <= 8


async def test_a_kept_connection_does_not_carry_a_url_past_the_rules(nothing_left: None) -> None:
    async with patient_server() as (port, connections), HttpClient() as client:
        await ask_in_turn(client, port, 1)
        with pytest.raises(NetworkError, match="only ask for /announce"):
            await client.request(
                "GET", f"http://127.0.0.1:{port}/x", trusted=False, limit=LIMIT, seconds=5
            )
        assert len(connections) == 1


async def test_headers_of_the_caller_are_not_sent_where_a_redirect_leads() -> None:
    async with (
        raw_server(reply(b"there")) as target,
        raw_server(redirect(f"http://127.0.0.1:{target.port}/")) as server,
    ):
        await HttpClient().request(
            "GET",
            f"http://127.0.0.1:{server.port}/",
            trusted=True,
            limit=LIMIT,
            seconds=5,
            headers={"Authorization": "Bearer secret"},
        )

    assert b"secret" in server.requests[0]
    assert b"secret" not in target.requests[0]


# -- parts of files


@contextlib.asynccontextmanager
async def open_part(
    port: int, *, silence: float = 5.0, trusted: bool = True
) -> AsyncIterator[HttpPart]:
    async with (
        HttpClient() as client,
        client.part(
            f"http://127.0.0.1:{port}/file",
            trusted=trusted,
            offset=10,
            length=5,
            silence=silence,
        ) as part,
    ):
        yield part


async def test_a_part_of_a_file_is_asked_for_also_where_a_redirect_leads() -> None:
    found = reply(
        b"01234", status="206 Partial Content", headers="Content-Range: bytes 10-14/99\r\n"
    )
    async with raw_server(redirect("/moved"), found) as server, open_part(server.port) as part:
        assert (part.status, part.length) == (206, 5)
        assert part.header("Content-Range") == "bytes 10-14/99"
        assert part.header("Retry-After") == ""
        assert await part.read(2) == b"01"
        assert await part.read(99) == b"234"
        assert await part.read(99) == b""

    for request in server.requests:
        assert b"Range: bytes=10-14\r\n" in request
        assert b"Accept-Encoding: identity\r\n" in request


async def test_no_more_of_a_part_is_received_than_is_read() -> None:
    sent = 0

    async def endless(head: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 206 Partial Content\r\nConnection: close\r\n\r\n")
        while True:
            writer.write(bytes(65536))
            await writer.drain()
            sent += 65536

    async with raw_server(endless) as server, open_part(server.port) as part:
        assert len(await part.read(1000)) == 1000
        before = -1
        while before != sent:  # until everything in between is full
            before = sent
            await asyncio.sleep(0.2)
        assert sent < 32 << 20


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "disconnect"),
        (b"garbage\r\n\r\n", "."),
        (redirect("http://169.254.169.254/"), "never asked"),
        (redirect("/again"), "more than 5"),
    ],
)
async def test_a_part_that_cannot_be_had_is_one_kind_of_error(answer: bytes, why: str) -> None:
    async with raw_server(answer) as server:
        with pytest.raises(NetworkError, match=why):
            async with open_part(server.port):
                pass


async def test_a_part_that_ends_early_is_an_error_where_it_ends() -> None:
    short = reply(b"012", status="206 Partial Content", length=5)
    async with raw_server(short) as server, open_part(server.port) as part:
        assert await part.read(99) == b"012"
        with pytest.raises(NetworkError):
            await part.read(99)


async def test_silence_is_borne_for_a_while_before_a_part_and_inside_it() -> None:
    async def silent(head: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    async def stuck(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(reply(b"01", status="206 Partial Content", length=5))
        await asyncio.sleep(60)

    async with raw_server(silent, stuck) as server:
        with pytest.raises(NetworkError, match="no answer within"):
            async with open_part(server.port, silence=0.05):
                pass
        async with open_part(server.port, silence=0.2) as part:
            assert await part.read(99) == b"01"
            with pytest.raises(NetworkError, match="nothing came for"):
                await part.read(99)


async def test_a_part_of_a_url_from_outside_is_not_asked_for_on_this_machine() -> None:
    async with raw_server(reply(b"x")) as server:
        with pytest.raises(NetworkError, match="loopback"):
            async with open_part(server.port, trusted=False):
                pass

    assert server.requests == []
