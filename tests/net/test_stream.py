"""Both streams under one contract, on both event loops, over real sockets."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import random
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path

import pytest

from p2pfs.errors import StorageError
from p2pfs.net import stream
from p2pfs.net.gathering import gather
from p2pfs.net.stream import (
    HAS_SENDFILE,
    LOW_WATER,
    SocketStream,
    Stream,
    TransportStream,
    open_stream,
)
from p2pfs.net.stream_queue import FileRange
from tests.support.sockets import read_exactly, read_to_end, tcp_pair

pytestmark = [
    pytest.mark.loops("uvloop", "asyncio"),
    pytest.mark.usefixtures("nothing_left"),
]

needs_sendfile = pytest.mark.skipif(not HAS_SENDFILE, reason="this system has no sendfile")

MIB = 1024 * 1024


class Recorder:
    """A handler that writes down what it is told."""

    def __init__(self, allowance: int = MIB) -> None:
        self.allowance = allowance
        self.received = bytearray()
        self.sizes: list[int] = []
        self.drains = 0
        self.ended: list[Exception | None] = []
        self.over = asyncio.Event()
        self.drain = asyncio.Event()
        self.news = asyncio.Event()

    def receive_allowance(self) -> int:
        return self.allowance

    def data_received(self, data: memoryview) -> None:
        self.received += data
        self.sizes.append(len(data))
        self.news.set()

    def drained(self) -> None:
        self.drains += 1
        self.drain.set()

    def closed(self, error: Exception | None) -> None:
        self.ended.append(error)
        self.over.set()

    async def have(self, count: int) -> bytes:
        """Wait until `count` bytes came in."""
        async with asyncio.timeout(20):
            while len(self.received) < count:
                self.news.clear()
                await self.news.wait()
        return bytes(self.received)

    async def end(self) -> Exception | None:
        async with asyncio.timeout(10):
            await self.over.wait()
        return self.ended[0]


class Content:
    """A file to send from, as the engine hands it to a stream."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDONLY)
        self.failures = 0

    def fileno(self) -> int:
        return self.fd

    def failed(self) -> None:
        self.failures += 1

    async def read_at(self, offset: int, length: int) -> bytes:
        data = os.pread(self.fd, length, offset)
        if len(data) != length:
            raise StorageError(f"{self.path} is shorter than it should be")
        return data


class Missing:
    failures = 0

    def failed(self) -> None:
        self.failures += 1

    def fileno(self) -> int:
        raise StorageError("cannot open it: no such file")

    async def read_at(self, offset: int, length: int) -> bytes:
        raise StorageError("cannot open it: no such file")


class Link:
    """A stream of the kind under test, its handler, and the plain socket at the other end."""

    def __init__(self, stream: Stream, handler: Recorder, far: socket.socket) -> None:
        self.stream = stream
        self.handler = handler
        self.far = far


@pytest.fixture(params=[SocketStream, TransportStream])
def kind(request: pytest.FixtureRequest) -> type[Stream]:
    if request.param is SocketStream and os.name == "nt":
        pytest.skip("this loop cannot watch sockets")
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
async def links(kind: type[Stream]) -> AsyncIterator[_Links]:
    made = _Links(kind)
    yield made
    made.close()


class _Links:
    def __init__(self, kind: type[Stream]) -> None:
        self._kind = kind
        self._made: list[Link] = []

    async def __call__(self, *, small: bool = False, allowance: int = MIB) -> Link:
        near, far = tcp_pair(small=small)
        handler = Recorder(allowance)
        stream = await open_stream(near, handler, use_transport=self._kind is TransportStream)
        assert isinstance(stream, self._kind)
        link = Link(stream, handler, far)
        self._made.append(link)
        return link

    def close(self) -> None:
        for link in self._made:
            link.stream.close()
            link.far.close()


@pytest.fixture
def content(tmp_path: Path) -> Iterator[tuple[Content, bytes]]:
    data = random.Random(7).randbytes(300_000)
    path = tmp_path / "content"
    path.write_bytes(data)
    source = Content(path)
    yield source, data
    os.close(source.fd)


async def turns(link: Link) -> None:
    """Let the loop come around a few times, with traffic in between."""
    near, far = tcp_pair()
    loop = asyncio.get_running_loop()
    for _ in range(3):
        await loop.sock_sendall(near, b"x")
        await asyncio.sleep(0)
        await read_exactly(far, 1)
    near.close()
    far.close()


async def test_bytes_and_file_ranges_go_out_in_the_order_they_were_queued(
    links: _Links, content: tuple[Content, bytes]
) -> None:
    link = await links()
    source, data = content
    expected = bytearray()

    for number in range(40):
        head = b"%06d" % number
        begin, length = number * 7001, 1 + number * 37
        link.stream.write(head)
        link.stream.write(b"-")
        link.stream.send_file(source, begin, length)
        expected += head + b"-" + data[begin : begin + length]
        if number % 3 == 0:
            link.stream.flush()
    link.stream.flush()

    assert await read_exactly(link.far, len(expected)) == expected
    await turns(link)
    assert link.stream.queued == 0


async def test_a_block_that_lies_in_two_files_goes_out_whole(
    links: _Links, content: tuple[Content, bytes], tmp_path: Path
) -> None:
    link = await links()
    source, data = content
    (tmp_path / "next").write_bytes(b"n" * 5000)
    other = Content(tmp_path / "next")

    link.stream.write(b"head")
    link.stream.send_file(source, 299_000, 1000)
    link.stream.send_file(other, 0, 5000)
    link.stream.flush()

    assert await read_exactly(link.far, 6004) == b"head" + data[-1000:] + b"n" * 5000
    os.close(other.fd)


async def test_what_the_other_end_sends_comes_in_unaltered(links: _Links) -> None:
    link = await links()
    data = random.Random(3).randbytes(3 * MIB)
    sending = asyncio.create_task(asyncio.get_running_loop().sock_sendall(link.far, data))

    received = await link.handler.have(len(data))

    await sending
    assert received == data


async def test_no_chunk_is_larger_than_the_byte_budget(links: _Links) -> None:
    link = await links(allowance=1000)
    data = random.Random(4).randbytes(50_000)
    await asyncio.get_running_loop().sock_sendall(link.far, data)

    assert await link.handler.have(len(data)) == data
    assert max(link.handler.sizes) <= 1000


async def test_without_a_budget_nothing_comes_in_until_the_stream_is_resumed(
    links: _Links,
) -> None:
    link = await links(allowance=0)
    await asyncio.get_running_loop().sock_sendall(link.far, b"early")
    await turns(link)
    before = bytes(link.handler.received)

    link.handler.allowance = MIB
    link.stream.resume()

    assert await link.handler.have(5) == b"early"
    assert before == b""


async def test_a_paused_stream_takes_nothing_and_goes_on_where_it_stopped(links: _Links) -> None:
    link = await links()
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(link.far, b"one")
    await link.handler.have(3)
    link.stream.pause()
    link.stream.pause()
    await loop.sock_sendall(link.far, b"two")
    await turns(link)
    before = bytes(link.handler.received)

    link.stream.resume()
    link.stream.resume()

    assert await link.handler.have(6) == b"onetwo"
    assert before == b"one"


async def test_a_stream_that_is_paused_by_what_it_received_holds_the_rest_back(
    links: _Links,
) -> None:
    link = await links(allowance=4)
    original = link.handler.data_received

    def pausing(data: memoryview) -> None:
        original(data)
        link.stream.pause()

    link.handler.data_received = pausing  # type: ignore[method-assign]
    await asyncio.get_running_loop().sock_sendall(link.far, b"abcdefgh")
    await link.handler.have(4)
    await turns(link)
    before = bytes(link.handler.received)

    link.stream.resume()

    assert await link.handler.have(8) == b"abcdefgh"
    assert before == b"abcd"


async def test_a_file_that_ends_early_closes_the_stream(
    links: _Links, content: tuple[Content, bytes]
) -> None:
    link = await links()
    source, data = content
    link.stream.write(b"header")
    link.stream.send_file(source, 290_000, 20_000)
    link.stream.write(b"never")
    link.stream.flush()

    sent = await read_to_end(link.far)
    error = await link.handler.end()

    assert isinstance(error, StorageError)
    assert source.failures == 1
    assert (b"header" + data[290_000:]).startswith(sent)
    assert b"never" not in sent


async def test_a_file_cut_short_while_it_is_sent_closes_the_stream(
    links: _Links, content: tuple[Content, bytes]
) -> None:
    link = await links(small=True)
    source, data = content
    link.stream.send_file(source, 0, 150_000)
    link.stream.send_file(source, 150_000, 150_000)
    link.stream.flush()
    await read_exactly(link.far, 1000)

    os.truncate(source.path, 120_000)
    rest = await read_to_end(link.far)

    assert isinstance(await link.handler.end(), StorageError)
    assert len(rest) < len(data)
    assert link.stream.queued == 0


async def test_many_short_blocks_reach_a_slow_reader_whole_and_in_order(
    links: _Links, content: tuple[Content, bytes]
) -> None:
    link = await links(small=True)
    source, data = content
    places = list(range(0, 290_000, 5000))
    random.Random(3).shuffle(places)
    for place in places:
        link.stream.write(b"<%06d>" % place)
        link.stream.send_file(source, place, 5000)
    link.stream.flush()

    expected = b"".join(b"<%06d>" % place + data[place : place + 5000] for place in places)
    assert await read_exactly(link.far, len(expected)) == expected
    assert link.stream.queued == 0


@needs_sendfile
@pytest.mark.parametrize("room", [4096, 16 * 1024, 32 * 1024, 64 * 1024])
async def test_a_slow_reader_does_not_make_blocks_be_read_twice(
    content: tuple[Content, bytes], monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    read = 0

    def counted(queue: Iterable[bytes | FileRange], buffer: memoryview) -> int:
        nonlocal read
        size = gather(queue, buffer)
        read += size
        return size

    monkeypatch.setattr(stream, "gather", counted)
    near, far = tcp_pair(small=True)
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, room)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    sending = await open_stream(near, Recorder())
    source, data = content
    for number in range(200):
        sending.write(b"<%04d>" % number)
        sending.send_file(source, number * 1000, 16_384)
    expected = b"".join(
        b"<%04d>" % number + data[number * 1000 : number * 1000 + 16_384] for number in range(200)
    )
    sending.flush()

    received = b""
    while len(received) < len(expected):
        received += await read_exactly(far, min(16_384, len(expected) - len(received)))
    sending.close()
    far.close()

    assert received == expected
    assert read < 2 * len(expected)


async def test_a_short_block_of_a_file_that_ended_is_not_begun(
    links: _Links, content: tuple[Content, bytes]
) -> None:
    link = await links()
    source, _ = content
    link.stream.send_file(source, 0, 1000)
    link.stream.flush()
    await read_exactly(link.far, 1000)
    os.truncate(source.path, 500)
    link.stream.write(b"header")
    link.stream.send_file(source, 0, 1000)
    link.stream.flush()

    rest = await read_to_end(link.far)

    assert isinstance(await link.handler.end(), StorageError)
    assert b"header".startswith(rest)
    assert source.failures == 1


async def test_a_file_that_cannot_be_opened_closes_the_stream(links: _Links) -> None:
    link = await links()
    missing = Missing()
    link.stream.write(b"header")
    link.stream.send_file(missing, 0, 10)
    link.stream.flush()

    await read_to_end(link.far)

    assert isinstance(await link.handler.end(), StorageError)
    assert len(link.handler.ended) == missing.failures == 1


@needs_sendfile
@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP])
async def test_a_file_system_without_sendfile_is_read_and_sent(
    content: tuple[Content, bytes], monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(os, "sendfile", _failing(code))
    links = _Links(SocketStream)
    link = await links(small=True)
    source, data = content
    link.stream.write(b"head")
    link.stream.send_file(source, 0, 300_000)
    link.stream.flush()

    assert await read_exactly(link.far, 300_004) == b"head" + data
    link.stream.send_file(source, 299_000, 2000)
    link.stream.flush()
    assert data[-1000:].startswith(await read_to_end(link.far))
    assert source.failures == 1
    links.close()


@needs_sendfile
async def test_a_damaged_disk_is_told_apart_from_a_broken_connection(
    content: tuple[Content, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    links = _Links(SocketStream)
    outcomes = []
    for code in (errno.EIO, errno.ECONNRESET):
        monkeypatch.setattr(os, "sendfile", _failing(code))
        link = await links()
        link.stream.send_file(content[0], 0, 100_000)
        link.stream.flush()
        outcomes.append(await link.handler.end())

    assert [type(one) for one in outcomes] == [StorageError, ConnectionResetError]
    assert content[0].failures == 1
    links.close()


def _failing(code: int) -> Callable[..., int]:
    def sendfile(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    return sendfile


async def test_an_empty_range_and_empty_bytes_send_nothing(
    links: _Links, content: tuple[Content, bytes]
) -> None:
    link = await links()
    link.stream.write(b"")
    link.stream.send_file(content[0], 5, 0)
    link.stream.write(b"end")
    link.stream.flush()

    assert await read_exactly(link.far, 3) == b"end"
    assert link.handler.ended == []


async def test_closing_while_much_is_queued_drops_it_and_tells_the_end_once(
    links: _Links, content: tuple[Content, bytes]
) -> None:
    link = await links(small=True)
    for _ in range(50):
        link.stream.write(b"x" * 50_000)
        link.stream.send_file(content[0], 0, 100_000)
    link.stream.flush()
    await read_exactly(link.far, 1)

    reason = StorageError("enough")
    link.stream.close(reason)
    link.stream.close()
    await turns(link)

    assert link.handler.ended == [reason]
    assert link.stream.queued == 0


async def test_what_is_written_to_a_closed_stream_is_dropped(
    links: _Links, content: tuple[Content, bytes]
) -> None:
    link = await links()
    link.stream.close()
    link.stream.write(b"late")
    link.stream.send_file(content[0], 0, 10)
    link.stream.flush()
    link.stream.pause()
    link.stream.resume()
    await turns(link)

    assert link.stream.queued == 0
    assert await read_to_end(link.far) == b""
    assert len(link.handler.ended) == 1


async def test_a_slow_reader_gets_everything_and_the_owner_hears_when_there_is_room(
    links: _Links, content: tuple[Content, bytes]
) -> None:
    link = await links(small=True)
    source, data = content
    expected = b""
    for number in range(8):
        link.stream.write(b"%d" % number)
        link.stream.send_file(source, 0, 200_000)
        expected += b"%d" % number + data[:200_000]
    link.stream.flush()
    queued = link.stream.queued
    before = link.handler.drains

    received = b""
    while len(received) < len(expected):
        received += await read_exactly(link.far, min(30_011, len(expected) - len(received)))

    assert received == expected
    assert queued > 8 * LOW_WATER
    assert before == 0
    assert link.handler.drains == 1


async def test_what_is_there_before_the_stream_is_told_once_its_owner_has_it(
    kind: type[Stream],
) -> None:
    class Owner(Recorder):
        stream: Stream | None = None

        def receive_allowance(self) -> int:
            assert self.stream is not None
            return MIB

    for _ in range(20):
        near, far = tcp_pair()
        far.send(b"early")
        owner = Owner()
        stream = await open_stream(near, owner, use_transport=kind is TransportStream)
        owner.stream = stream
        assert await owner.have(5) == b"early"
        stream.close()
        far.close()


async def test_the_end_of_a_connection_in_order_is_told_without_an_error(links: _Links) -> None:
    link = await links()
    await asyncio.get_running_loop().sock_sendall(link.far, b"bye")
    link.far.close()

    assert await link.handler.end() is None
    assert link.handler.received == b"bye"


async def test_a_reset_is_told_with_its_error(links: _Links) -> None:
    link = await links()
    link.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    link.far.close()

    assert isinstance(await link.handler.end(), OSError)


async def test_a_reset_while_much_is_queued_is_told_once(
    links: _Links, content: tuple[Content, bytes]
) -> None:
    link = await links(small=True)
    for _ in range(20):
        link.stream.send_file(content[0], 0, 100_000)
        link.stream.write(b"y" * 10_000)
    link.stream.flush()
    link.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    link.far.close()

    await link.handler.end()
    await turns(link)

    assert len(link.handler.ended) == 1
    assert link.stream.queued == 0


async def test_streams_of_one_loop_do_not_mix_what_they_receive(links: _Links) -> None:
    pair = [await links(), await links()]
    loop = asyncio.get_running_loop()
    data = [random.Random(n).randbytes(2 * MIB) for n in range(2)]
    sending = [
        asyncio.create_task(loop.sock_sendall(link.far, part))
        for link, part in zip(pair, data, strict=True)
    ]

    received = [await link.handler.have(2 * MIB) for link in pair]

    await asyncio.gather(*sending)
    assert received == data


async def test_64_mib_of_a_file_pass_from_one_stream_to_another(
    links: _Links, kind: type[Stream], tmp_path: Path
) -> None:
    block = random.Random(9).randbytes(MIB)
    path = tmp_path / "large"
    with path.open("wb") as file:
        for _ in range(64):
            file.write(block)
    source = Content(path)
    near, far = tcp_pair()
    sender, receiver = Recorder(), _Hasher()
    out = await open_stream(near, sender, use_transport=kind is TransportStream)
    into = await open_stream(far, receiver, use_transport=kind is TransportStream)

    for start in range(0, 64 * MIB, 128 * 1024):
        while out.queued > MIB:
            sender.drain.clear()
            await sender.drain.wait()
        out.send_file(source, start, 128 * 1024)
        out.flush()
    async with asyncio.timeout(30):
        await receiver.whole.wait()

    expected = hashlib.sha1()
    for _ in range(64):
        expected.update(block)
    assert receiver.state.digest() == expected.digest()
    out.close()
    into.close()
    os.close(source.fd)


class _Hasher(Recorder):
    """Hashes instead of keeping."""

    def __init__(self) -> None:
        super().__init__()
        self.state = hashlib.sha1()
        self.count = 0
        self.whole = asyncio.Event()

    def data_received(self, data: memoryview) -> None:
        self.state.update(data)
        self.count += len(data)
        if self.count == 64 * MIB:
            self.whole.set()
