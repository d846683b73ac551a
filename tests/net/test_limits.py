"""The rate limits of the process, by the loop's clock: never too much, and never a stop."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from p2pfs.net.limits import DownLimit, UpLimit
from p2pfs.net.stream import RECEIVE_BUFFER
from p2pfs.swarm.rates import BURST
from tests.support.waiting import until

pytestmark = [
    pytest.mark.loops("uvloop", "asyncio"),
    pytest.mark.usefixtures("nothing_left"),
]

BLOCK = 16 * 1024


class FullPipe:
    """A stream whose peer always has more to send, as far as a limit can see."""

    def __init__(self, limit: DownLimit, number: int, received: Counter[int]) -> None:
        self.queued = 0
        self._limit = limit
        self._number = number
        self._received = received
        self._paused = False
        self.calls = 0

    def write(self, data: bytes) -> None: ...

    def send_file(self, source: object, offset: int, length: int) -> None: ...

    def flush(self) -> None: ...

    def close(self, error: Exception | None = None) -> None: ...

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        asyncio.get_running_loop().call_soon(self._readable)

    def _readable(self) -> None:
        while not self._paused:
            allowance = self._limit.allowance()
            if allowance < 1:
                self._limit.wait(self)  # type: ignore[arg-type]
                return
            self.calls += 1
            self._received[self._number] += allowance
            self._limit.took(allowance, self)  # type: ignore[arg-type]


async def test_without_a_limit_a_whole_buffer_may_be_received_at_any_time() -> None:
    limit = DownLimit(None)
    received: Counter[int] = Counter()
    pipe = FullPipe(limit, 0, received)

    limit.took(10 * RECEIVE_BUFFER, pipe)  # type: ignore[arg-type]

    assert limit.allowance() == RECEIVE_BUFFER
    assert not pipe._paused


@pytest.mark.parametrize("rate", [50_000, 2_000_000])
async def test_streams_together_receive_no_more_than_the_limit_and_all_get_their_turn(
    rate: int,
) -> None:
    loop = asyncio.get_running_loop()
    received: Counter[int] = Counter()
    start = loop.time()
    limit = DownLimit(rate)
    for number in range(3):
        FullPipe(limit, number, received).resume()

    while loop.time() - start < 0.25 or len(received) < 3:
        await asyncio.sleep(0.05)
        elapsed = loop.time() - start
        assert received.total() <= rate * (elapsed + BURST) + 1
    assert elapsed < 5
    assert min(received.values()) > 0


async def test_a_limited_stream_receives_in_few_large_steps() -> None:
    received: Counter[int] = Counter()
    pipe = FullPipe(DownLimit(5_000_000), 0, received)
    pipe.resume()

    await until(lambda: received.total() >= 1_000_000)

    assert received.total() / pipe.calls > 50_000


async def test_the_smallest_limit_still_lets_something_through() -> None:
    limit = DownLimit(1)

    assert limit.allowance() == 1


async def test_a_paused_stream_is_woken_when_there_are_tokens_again() -> None:
    limit = DownLimit(100_000)
    received: Counter[int] = Counter()
    pipe = FullPipe(limit, 0, received)
    limit.took(20_000, pipe)  # type: ignore[arg-type]
    paused = pipe._paused

    await until(lambda: received)

    assert paused


async def test_blocks_go_out_at_the_limit_and_the_pump_is_called_again_by_itself() -> None:
    loop = asyncio.get_running_loop()
    rate, sent = 500_000, 0
    start = loop.time()

    def pump() -> None:
        nonlocal sent
        while limit.may_send():
            limit.sent(BLOCK)
            sent += BLOCK

    limit = UpLimit(rate, pump)
    pump()
    at_once = sent
    async with asyncio.timeout(10):
        while sent < 250_000:
            await asyncio.sleep(0.02)
            assert sent <= rate * (loop.time() - start + BURST) + BLOCK
    limit.pump = lambda: None

    assert limit.limited
    assert at_once <= rate * BURST + BLOCK


async def test_without_a_limit_everything_may_go_out() -> None:
    limit = UpLimit(None, lambda: None)

    limit.sent(10**9)

    assert limit.may_send()
    assert not limit.limited
