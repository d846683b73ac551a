"""Storage calls on worker threads: results, errors, back-pressure, and the end."""

from __future__ import annotations

import asyncio
import threading

import pytest

from p2pfs.errors import StorageError
from p2pfs.net.disk import HIGH_WATER, LOW_WATER, Disk

pytestmark = [
    pytest.mark.loops("uvloop", "asyncio"),
    pytest.mark.usefixtures("nothing_left"),
]


async def test_a_call_runs_on_another_thread_and_its_result_comes_back() -> None:
    disk = Disk(lambda busy: None)

    name = await disk.run(0, lambda: threading.current_thread().name)

    assert name.startswith("p2pfs-disk")
    await disk.close()


async def test_what_a_call_raises_reaches_its_caller_alone() -> None:
    disk = Disk(lambda busy: None)

    def fail() -> None:
        raise StorageError("no")

    bad, good = disk.run(5, fail), disk.run(5, lambda: 1)

    with pytest.raises(StorageError, match="no"):
        await bad
    assert await good == 1
    await disk.close()


@pytest.mark.parametrize("kind", ["run", "check"])
async def test_what_a_call_raises_after_its_caller_left_is_no_error_of_the_loop(kind: str) -> None:
    """The fixture fails when the loop is told of an exception that nobody took."""
    disk = Disk(lambda busy: None)
    gate = threading.Event()

    def fail() -> None:
        gate.wait()
        raise StorageError("too late")

    job = disk.run(0, fail) if kind == "run" else disk.check(fail)

    async def call(job: asyncio.Future[None]) -> None:
        await asyncio.shield(job)

    caller = asyncio.create_task(call(job))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    gate.set()
    await disk.close()
    del job


async def test_too_many_bytes_at_the_disk_are_told_once_and_their_end_as_well() -> None:
    told: list[bool] = []
    disk = Disk(told.append)
    gate = threading.Event()

    jobs = [disk.run(1024 * 1024, gate.wait) for _ in range(HIGH_WATER // (1024 * 1024) + 3)]
    during = (disk.busy, list(told))
    gate.set()
    await asyncio.gather(*jobs)

    assert during == (True, [True])
    assert told == [True, False]
    assert not disk.busy
    await disk.close()


async def test_up_to_the_limit_nobody_is_held_up() -> None:
    told: list[bool] = []
    disk = Disk(told.append)

    await asyncio.gather(disk.run(HIGH_WATER, int), disk.run(0, int))

    assert told == []
    assert LOW_WATER < HIGH_WATER
    await disk.close()


async def test_a_failed_call_gives_its_bytes_back() -> None:
    told: list[bool] = []
    disk = Disk(told.append)

    with pytest.raises(ZeroDivisionError):
        await disk.run(HIGH_WATER + 1, divmod, 1, 0)

    assert told == [True, False]
    await disk.close()


async def test_closing_waits_for_the_calls_at_hand_without_holding_up_the_loop() -> None:
    disk = Disk(lambda busy: None)
    gate = threading.Event()
    done: list[int] = []

    def slow() -> None:
        gate.wait()
        done.append(1)

    disk.run(0, slow)
    closing = asyncio.create_task(disk.close())
    await asyncio.sleep(0)
    gate.set()  # reached only while the loop runs
    await closing

    assert done == [1]


async def test_a_check_runs_beside_the_workers_and_holds_none_of_them_up() -> None:
    disk = Disk(lambda busy: None)
    gate = threading.Event()
    checks = [disk.check(gate.wait) for _ in range(5)]

    assert await disk.run(0, int) == 0

    gate.set()
    assert all(await asyncio.gather(*checks))
    await disk.close()


async def test_closing_does_not_wait_for_the_threads_of_the_loop() -> None:
    """They may all be busy with names that nobody answers for."""
    disk = Disk(lambda busy: None)
    gate = threading.Event()
    others = [asyncio.create_task(asyncio.to_thread(gate.wait, 20)) for _ in range(40)]
    await disk.run(0, int)

    async with asyncio.timeout(5):
        await disk.close()

    gate.set()
    await asyncio.gather(*others)


async def test_a_call_after_the_end_is_refused_with_a_storage_error() -> None:
    disk = Disk(lambda busy: None)
    await disk.close()

    for late in (lambda: disk.run(0, int), lambda: disk.check(int)):
        with pytest.raises(StorageError, match="closed"):
            await late()


async def test_whoever_cannot_be_paused_waits_until_the_disk_is_calm() -> None:
    disk = Disk(lambda busy: None)
    await disk.calm()
    gate = threading.Event()
    jobs = [disk.run(HIGH_WATER, gate.wait) for _ in range(2)]
    waiting = asyncio.create_task(disk.calm())
    await asyncio.sleep(0)
    assert not waiting.done()

    gate.set()
    await asyncio.gather(*jobs, waiting)
    await disk.close()
