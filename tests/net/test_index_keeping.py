"""An index goes on by itself: what is silent goes, what is known is kept."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import pytest

from p2pfs.errors import CatalogueError
from p2pfs.net import index_keeping
from p2pfs.net.index_keeping import IndexKeeper, in_steps
from p2pfs.net.workers import Workers
from p2pfs.tracker.last_known import Saving
from p2pfs.tracker.leases import Lease
from p2pfs.tracker.peer_store import MemoryPeerStore
from p2pfs.tracker.rights import Publisher
from tests.support.waiting import until

LEASE = Lease(Publisher("1", b""), bytes(4), 1, 0)


class State:
    """Something to save at every opportunity, on a disk that is full now and then."""

    def __init__(self) -> None:
        self.full = False
        self.steps = 0
        self.saved: list[Saving] = []
        self.waiting: list[Saving] = []
        self.expired: list[float] = []

    def expire(self, now: float) -> None:
        self.expired.append(now)

    def work(self, budget: int) -> bool:
        return False

    def collect(self, saving: Saving, budget: int) -> bool:
        self.steps += 1
        saving.leases["1"] = LEASE
        return self.steps % 3 != 0

    def save(self, saving: Saving) -> None:
        if self.full:
            raise CatalogueError("the disk is full")
        self.saved.append(saving)

    def not_saved(self, saving: Saving) -> None:
        self.waiting.append(saving)


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
async def keeper(state: State, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[IndexKeeper]:
    monkeypatch.setattr(index_keeping, "SWEEP_EVERY", 0.001)
    monkeypatch.setattr(index_keeping, "_SAVE_EVERY", 0.001)
    store = MemoryPeerStore(660)
    workers = Workers(1)
    made = IndexKeeper(store, state, workers, lambda: 5.0)  # type: ignore[arg-type]
    made.start()
    yield made
    await made.close()
    await workers.close()


async def test_it_sweeps_and_saves_until_it_is_closed(keeper: IndexKeeper, state: State) -> None:
    await until(lambda: len(state.saved) >= 3 and len(state.expired) >= 3)
    await keeper.close()
    count, steps = len(state.saved), state.steps
    await keeper.close()

    assert set(state.expired) == {5.0}
    assert (len(state.saved), state.steps) == (count, steps)
    assert state.saved[-1].leases == {"1": LEASE}


async def test_what_cannot_be_written_is_told_once_and_tried_again(
    keeper: IndexKeeper, state: State, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        state.full = True
        await until(lambda: len(state.waiting) >= 3)
        state.full = False
        count = len(state.saved)
        await until(lambda: len(state.saved) > count)

    assert [record.getMessage() for record in caplog.records] == [
        "counts and nodes are not kept: the disk is full"
    ]


async def test_long_work_is_done_in_steps() -> None:
    left = [True, True, False]

    await in_steps(lambda: left.pop(0))

    assert left == []
