"""What goes out on an enciphered stream: in order, each byte once, and files read whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pfs.errors import StorageError
from p2pfs.formats.obfuscation import Rc4
from p2pfs.net.enciphered_stream import EncipheredStream

KEY = b"a key of both ends"[:16]


class Inner:
    """Takes what it is given."""

    def __init__(self) -> None:
        self.out = bytearray()
        self.calls: list[str] = []

    @property
    def queued(self) -> int:
        return len(self.out)

    def write(self, data: bytes) -> None:
        self.out += data

    def send_file(self, source: object, offset: int, length: int) -> None:
        raise AssertionError("a range went out as it is")

    def flush(self) -> None:
        self.calls.append("flush")

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


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Source]:
    path = tmp_path / "content"
    path.write_bytes(bytes(range(200)))
    opened = Source(path)
    yield opened
    opened.close()


def test_bytes_and_file_ranges_go_out_in_order_under_one_key_stream(source: Source) -> None:
    inner = Inner()
    stream = EncipheredStream(inner, Rc4(KEY))

    stream.write(b"head")
    stream.send_file(source, 10, 150)
    stream.write(b"tail")

    assert stream.queued == len(inner.out) == 158
    assert b"head" not in inner.out
    assert Rc4(KEY).apply(inner.out) == b"head" + bytes(range(10, 160)) + b"tail"


def test_a_file_that_ends_early_is_told_and_nothing_of_it_goes_out(source: Source) -> None:
    inner = Inner()
    stream = EncipheredStream(inner, Rc4(KEY))

    with pytest.raises(StorageError):
        stream.send_file(source, 150, 51)

    assert source.failures == 1
    assert not inner.out


def test_all_else_is_up_to_the_stream_inside() -> None:
    inner = Inner()
    stream = EncipheredStream(inner, Rc4(KEY))

    stream.flush()
    stream.pause()
    stream.resume()
    stream.close(ValueError("why"))

    assert inner.calls == ["flush", "pause", "resume", "close why"]
