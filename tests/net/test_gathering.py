"""What is at the head of a queue, in one buffer."""

from __future__ import annotations

import errno
import os
import random
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pfs.errors import StorageError
from p2pfs.net import gathering
from p2pfs.net.gathering import gather
from p2pfs.net.stream_queue import FileRange

DATA = random.Random(5).randbytes(10_000)


class Source:
    def __init__(self, path: Path) -> None:
        path.write_bytes(DATA)
        self.fd = os.open(path, os.O_RDONLY)
        self.failures = 0

    def fileno(self) -> int:
        return self.fd

    async def read_at(self, offset: int, length: int) -> bytes:
        raise NotImplementedError

    def failed(self) -> None:
        self.failures += 1


@pytest.fixture
def sources(tmp_path: Path) -> Iterator[tuple[Source, Source]]:
    pair = Source(tmp_path / "one"), Source(tmp_path / "two")
    yield pair
    for source in pair:
        os.close(source.fd)


@pytest.fixture(params=["preadv", "pread"], autouse=True)
def reading(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "pread":
        monkeypatch.setattr(gathering, "_HAS_PREADV", False)
    elif not hasattr(os, "preadv"):
        pytest.skip("this system has no preadv")


def test_bytes_and_ranges_of_several_files_stand_in_their_order(
    sources: tuple[Source, Source],
) -> None:
    one, two = sources
    queue = deque[bytes | FileRange]([b"a", FileRange(one, 0, 100), b"b", FileRange(one, 100, 50)])
    queue += [FileRange(two, 150, 30), FileRange(one, 9000, 1000), b"c"]
    buffer = memoryview(bytearray(4096))

    size = gather(queue, buffer)

    expected = b"a" + DATA[:100] + b"b" + DATA[100:180] + DATA[9000:] + b"c"
    assert buffer[:size] == expected
    assert len(queue) == 7


@pytest.mark.parametrize("room", [1, 4, 5, 104, 105, 204, 205, 209, 210])
def test_what_does_not_fit_is_cut_where_the_buffer_ends(
    sources: tuple[Source, Source], room: int
) -> None:
    one, _ = sources
    queue = deque[bytes | FileRange](
        [b"head", FileRange(one, 7, 100), FileRange(one, 107, 100), b"tails"]
    )
    buffer = memoryview(bytearray(room))

    size = gather(queue, buffer)

    expected = b"head" + DATA[7:207] + b"tails"
    assert size == min(room, len(expected))
    assert buffer[:size] == expected[:room]


def test_the_file_that_ends_early_is_told_and_no_other(sources: tuple[Source, Source]) -> None:
    one, two = sources
    queue = deque([FileRange(one, 0, 10), FileRange(two, 9990, 20), FileRange(one, 0, 10)])

    with pytest.raises(StorageError, match="ended before"):
        gather(queue, memoryview(bytearray(100)))

    assert (one.failures, two.failures) == (0, 1)


def test_a_damaged_disk_is_told_apart_from_a_broken_connection(
    sources: tuple[Source, Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "preadv", fail)
    monkeypatch.setattr(os, "pread", fail)

    with pytest.raises(StorageError, match="cannot be read"):
        gather([FileRange(sources[0], 0, 10)], memoryview(bytearray(100)))

    assert sources[0].failures == 1


@pytest.mark.parametrize("count", [512, 513, 1025, 2000])
def test_any_number_of_ranges_may_follow_each_other(
    sources: tuple[Source, Source], count: int
) -> None:
    one, _ = sources
    queue = [FileRange(one, 7 + place, 1) for place in range(count)]
    buffer = memoryview(bytearray(4096))

    size = gather(queue, buffer)

    assert buffer[:size] == DATA[7 : 7 + count]
    assert one.failures == 0


def test_a_call_that_the_system_refuses_says_nothing_about_the_file(
    sources: tuple[Source, Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(os, "preadv", fail)
    monkeypatch.setattr(os, "pread", fail)

    with pytest.raises(StorageError, match="cannot be read"):
        gather([FileRange(sources[0], 0, 10)], memoryview(bytearray(100)))

    assert sources[0].failures == 0


def test_a_long_range_is_left_to_sendfile_unless_it_is_the_first(
    sources: tuple[Source, Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "SHORT", 100)
    one, _ = sources
    rest = [b"head", FileRange(one, 0, 100), FileRange(one, 100, 101), b"tail"]
    buffer = memoryview(bytearray(1000))

    assert gather(rest, buffer) == 104
    assert gather([FileRange(one, 0, 101), *rest], buffer) == 205
    assert buffer[:205] == DATA[:101] + b"head" + DATA[:100]


def test_nothing_queued_fills_nothing() -> None:
    assert gather([], memoryview(bytearray(10))) == 0
