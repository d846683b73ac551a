"""Who is visited, and when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from p2pfs.net import housekeeping
from p2pfs.net.housekeeping import RESTS, Housekeeper
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("nothing_left")


class Guest:
    """Says what it was told to say, the last of it for ever."""

    def __init__(self, *answers: float | Exception) -> None:
        self.visits = 0
        self._answers = answers

    def tend(self) -> float:
        self.visits += 1
        answer = self._answers[min(self.visits, len(self._answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "TICK", 0.01)


@pytest.fixture
async def keeper() -> AsyncIterator[Housekeeper]:
    made = Housekeeper()
    yield made
    await made.close()


async def rounds(keeper: Housekeeper, count: int = 3) -> None:
    """Wait until somebody busy was visited so often."""
    clock = Guest(0.0)
    keeper.wake(clock)
    await until(lambda: clock.visits >= count)
    keeper.forget(clock)


async def test_the_busy_are_visited_in_every_round_and_who_rests_is_not(
    keeper: Housekeeper,
) -> None:
    busy, resting = Guest(0.0), Guest(RESTS)
    keeper.wake(busy)
    keeper.wake(resting)

    await until(lambda: busy.visits >= 5)

    assert resting.visits == 1
    keeper.wake(resting)
    await rounds(keeper)
    assert resting.visits == 2


async def test_nothing_runs_while_everybody_rests(keeper: Housekeeper) -> None:
    guest = Guest(RESTS)
    keeper.wake(guest)
    await until(lambda: guest.visits)

    await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})

    keeper.wake(guest)
    await until(lambda: guest.visits == 2)


async def test_who_names_a_time_is_visited_then(keeper: Housekeeper) -> None:
    guest = Guest(0.03, 0.03, RESTS)
    keeper.wake(guest)

    await until(lambda: guest.visits == 3)

    await rounds(keeper)
    assert guest.visits == 3


async def test_who_is_woken_before_its_time_is_not_visited_twice_for_it(
    keeper: Housekeeper,
) -> None:
    guest = Guest(0.05, RESTS)
    keeper.wake(guest)
    await until(lambda: guest.visits == 1)

    keeper.wake(guest)
    keeper.wake(guest)
    await until(lambda: guest.visits == 2)

    await rounds(keeper, 8)
    assert guest.visits == 2


async def test_a_fault_with_one_stops_no_other_and_it_is_visited_again(
    keeper: Housekeeper, caplog: pytest.LogCaptureFixture
) -> None:
    faulty, other = Guest(ValueError("a mistake"), RESTS), Guest(0.0)
    keeper.wake(faulty)
    keeper.wake(other)

    await until(lambda: other.visits >= 3)

    assert faulty.visits == 2
    assert "a mistake" in caplog.text


async def test_who_is_forgotten_is_left_alone(keeper: Housekeeper) -> None:
    awake, waiting = Guest(0.0), Guest(0.02)
    keeper.wake(awake)
    keeper.wake(waiting)
    await until(lambda: waiting.visits)

    keeper.forget(awake)
    keeper.forget(waiting)
    before = awake.visits, waiting.visits

    await rounds(keeper, 5)
    assert (awake.visits, waiting.visits) == before
