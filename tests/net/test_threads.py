"""Worker threads whose outcomes come back in batches: each once, none lost, no thread left."""

from __future__ import annotations

import asyncio
import logging
import threading
import weakref

import pytest

from p2pfs.net.threads import Threads
from p2pfs.net.workers import end
from tests.support.waiting import until

pytestmark = [
    pytest.mark.loops("uvloop", "asyncio"),
    pytest.mark.usefixtures("nothing_left"),
]


class Told:
    """Outcomes as they are told, and the threads on which they were."""

    def __init__(self, expected: int) -> None:
        self.outcomes: list[tuple[object, BaseException | None]] = []
        self.threads: set[threading.Thread] = set()
        self._expected = expected
        self._all = asyncio.Event()

    def __call__(self, result: object, error: BaseException | None) -> None:
        self.outcomes.append((result, error))
        self.threads.add(threading.current_thread())
        if len(self.outcomes) == self._expected:
            self._all.set()

    async def all(self) -> None:
        async with asyncio.timeout(20):
            await self._all.wait()


async def test_every_outcome_is_told_once_on_the_thread_of_the_loop() -> None:
    threads, told = Threads(3, "test"), Told(2000)

    for number in range(2000):
        threads.post(told, int, number)
    await told.all()
    await end(threads)

    assert sorted(result for result, _ in told.outcomes) == list(range(2000))  # type: ignore[type-var]
    assert told.threads == {threading.current_thread()}


async def test_one_thread_makes_its_calls_in_the_order_in_which_they_came() -> None:
    threads, told = Threads(1, "test"), Told(50)

    for number in range(50):
        threads.post(told, int, number)
    await told.all()
    await end(threads)

    assert [result for result, _ in told.outcomes] == list(range(50))


async def test_what_a_call_raises_is_told_in_place_of_a_result() -> None:
    threads, told = Threads(1, "test"), Told(2)

    threads.post(told, divmod, 1, 0)
    threads.post(told, divmod, 7, 2)
    await told.all()
    await end(threads)

    (nothing, error), good = told.outcomes
    assert nothing is None
    assert isinstance(error, ZeroDivisionError)
    assert good == ((3, 1), None)


async def test_a_fault_in_who_is_told_costs_the_others_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    threads, told = Threads(1, "test"), Told(1)
    gate = threading.Event()

    def fault(_result: object, _error: BaseException | None) -> None:
        raise RuntimeError("a fault of the test")

    with caplog.at_level(logging.ERROR):
        threads.post(fault, gate.wait)  # both outcomes are told in one step, or in two
        threads.post(told, int, 5)
        gate.set()
        await told.all()
    await end(threads)

    assert told.outcomes == [(5, None)]
    assert "a fault of the test" in caplog.text


async def test_the_end_waits_for_the_calls_at_hand() -> None:
    threads, done = Threads(2, "test"), []
    gate = threading.Event()

    def slow(number: int) -> None:
        gate.wait()
        done.append(number)

    for number in range(4):
        threads.post(lambda _result, _error: None, slow, number)
    ending = asyncio.create_task(end(threads))
    await asyncio.sleep(0)
    gate.set()
    await ending

    assert sorted(done) == [0, 1, 2, 3]


async def test_threads_that_were_never_used_end_as_well() -> None:
    await end(Threads(2, "test"))


async def test_what_was_done_is_not_held_on_to() -> None:
    class Large:
        pass

    threads, told = Threads(1, "test"), Told(1)
    held = Large()
    seen = weakref.ref(held)

    threads.post(told, lambda given: given, held)
    await told.all()
    del held
    told.outcomes.clear()
    await until(lambda: seen() is None)  # the thread may not have come to its next wait yet
    await end(threads)


async def test_a_thread_that_cannot_be_started_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads, told = Threads(2, "test"), Told(1)

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            threads.post(told, int, 1)
    threads.post(told, int, 2)
    await told.all()
    await end(threads)

    assert told.outcomes == [(2, None)]
