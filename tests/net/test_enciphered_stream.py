"""What goes out on an enciphered stream: in order, each byte once, and files read whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pfs.formats.obfuscation import Rc4
from p2pfs.net.enciphered_stream import AHEAD, SLICE, EncipheredStream

KEY = b"a key of both ends"[:16]


class Inner:
    """Takes what it is given, and has room for so many bytes until more are `taken`."""

    def __init__(self, room: int = 1 << 30) -> None:
        self.out = bytearray()
        self.room = room
        self.queued = 0
        self.calls: list[str] = []

    def write(self, data: bytes) -> None:
        self.out += data
        self.queued += len(data)

    def send_file(self, source: object, offset: int, length: int) -> None:
        raise AssertionError("a range went out as it is")

    def flush(self) -> None:
        taken = min(self.room, self.queued)
        self.room -= taken
        self.queued -= taken

    def pause(self) -> None:
        self.calls.append("pause")

    def resume(self) -> None:
        self.calls.append("resume")

    def close(self, error: Exception | None = None) -> None:
        self.calls.append(f"close {error}")


class Source:
    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self.failures = 0

    def fileno(self) -> int:
        return self._file.fileno()

    async def read_at(self, offset: int, length: int) -> bytes:
        raise AssertionError("not read by the loop")

    def failed(self) -> None:
        self.failures += 1

    def close(self) -> None:
        self._file.close()


CONTENT = bytes(range(256)) * 4096


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Source]:
    path = tmp_path / "content"
    path.write_bytes(CONTENT)
    opened = Source(path)
    yield opened
    opened.close()


def test_bytes_and_file_ranges_go_out_in_order_under_one_key_stream(source: Source) -> None:
    inner = Inner()
    stream = EncipheredStream(inner, Rc4(KEY))

    stream.write(b"head")
    stream.send_file(source, 10, 150)
    stream.write(b"tail")
    assert stream.queued == 158
    stream.flush()

    assert stream.queued == 0
    assert b"head" not in inner.out
    assert Rc4(KEY).apply(inner.out) == b"head" + CONTENT[10:160] + b"tail"


def test_no_more_is_enciphered_than_will_go_out_soon(source: Source) -> None:
    inner = Inner(room=5000)
    stream = EncipheredStream(inner, Rc4(KEY).quicker())

    stream.send_file(source, 0, len(CONTENT))
    stream.flush()
    assert AHEAD <= len(inner.out) <= 5000 + AHEAD + SLICE
    assert stream.queued == len(CONTENT) - 5000
    while stream.queued:
        inner.room += 100_000
        inner.flush()
        stream.flush()  # as its owner does when it hears that there is room

    assert Rc4(KEY).quicker().apply(inner.out) == CONTENT


def test_a_file_that_ends_early_closes_the_stream_and_nothing_of_it_goes_out(
    source: Source,
) -> None:
    inner = Inner()
    stream = EncipheredStream(inner, Rc4(KEY))

    stream.send_file(source, len(CONTENT) - 50, 51)
    stream.flush()

    assert source.failures == 1
    assert not inner.out
    assert inner.calls == ["close a file ended before the block that was promised from it"]
    assert stream.queued == 0


def test_what_is_written_to_a_closed_stream_is_dropped(source: Source) -> None:
    inner = Inner()
    stream = EncipheredStream(inner, Rc4(KEY))

    stream.pause()
    stream.resume()
    stream.close(ValueError("why"))
    stream.write(b"late")
    stream.send_file(source, 0, 10)
    stream.flush()

    assert inner.calls == ["pause", "resume", "close why"]
    assert (stream.queued, inner.out) == (0, b"")
