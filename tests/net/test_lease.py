"""A lease at a real index: entered, renewed, changed, lost and found again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest

from p2pfs.net import lease as lease_module
from p2pfs.net.index_client import IndexClient, NodeTaken, NotAllowed
from p2pfs.net.lease import Lease
from p2pfs.net.tracker_http import TrackerServer
from tests.support.swarm import LOCAL
from tests.support.waiting import eventually, until

pytestmark = pytest.mark.usefixtures("tracker_runtime", "nothing_left")

KEY = "ab" * 16
ONE, TWO = "11" * 20, "22" * 20


class Held:
    """A lease, and what it told."""

    def __init__(self, index: IndexClient) -> None:
        self.index = index
        self.unknown: list[tuple[str, ...]] = []
        self.lost: list[str] = []
        self.returns = 0
        self.lease = Lease(
            index, 4242, unknown=self._asked, lost=self.lost.append, back=self._returned
        )

    async def _asked(self, hashes: Sequence[str]) -> None:
        self.unknown.append(tuple(hashes))

    def _returned(self) -> None:
        self.returns += 1

    async def files(self) -> list[tuple[str, int]]:
        return [(node.id, node.files) for node in await self.index.nodes()]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "RETRY_EVERY", 0.05)
    monkeypatch.setattr(lease_module, "GATHER", 0.01)


@pytest.fixture
async def server() -> AsyncIterator[TrackerServer]:
    async with TrackerServer(LOCAL, 0) as made:
        yield made


def at(server: TrackerServer, key: str = KEY) -> IndexClient:
    return IndexClient(server.url.removesuffix("/announce"), node=("7", key))


async def test_what_is_seeded_is_registered_and_what_the_index_lacks_is_asked_for(
    server: TrackerServer,
) -> None:
    held = Held(at(server))
    held.lease.set([ONE, TWO])

    await held.lease.start()
    before = await held.files()
    held.lease.set([ONE])
    await held.lease.settled()

    assert before == [("7", 2)]
    assert await held.files() == [("7", 1)]
    assert [sorted(asked) for asked in held.unknown] == [[ONE, TWO], [ONE]]
    assert (held.lost, held.returns, held.lease.problem) == ([], 0, "")
    await held.lease.close()
    assert await held.files() == []


async def test_a_lease_is_renewed_without_the_whole_list(
    server: TrackerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(at(server))
    await held.lease.start()
    held.lease._renew_every = 0.01
    renewals: list[bool] = []
    renew = held.index.renew

    async def counted() -> bool:
        renewals.append(await renew())
        return renewals[-1]

    monkeypatch.setattr(held.index, "renew", counted)
    held.lease.set([ONE])
    await held.lease.settled()

    held.lease._renew_every = 0.01
    held.lease._wake.set()
    await until(lambda: renewals)

    assert renewals[0]
    await held.lease.close()


async def test_an_index_that_forgot_the_node_is_told_everything_again(
    server: TrackerServer,
) -> None:
    held = Held(at(server))
    held.lease.set([ONE])
    await held.lease.start()

    await at(server).unregister()
    held.lease._wake.set()

    await eventually(held.files, [("7", 1)])
    assert held.lost == []
    await held.lease.close()


async def test_an_index_that_is_away_is_told_of_once_and_so_is_its_return(
    server: TrackerServer,
) -> None:
    held = Held(at(server))
    port = server.port
    await server.close()

    await held.lease.start()
    await held.lease.settled()
    problem = held.lease.problem
    held.lease.set([ONE])
    async with TrackerServer(LOCAL, port):
        await eventually(held.files, [("7", 1)])
        await until(lambda: held.returns)

        assert held.lost == [problem]
        assert held.lease.problem == ""
        await held.lease.close()


async def test_an_index_that_moved_is_followed(server: TrackerServer) -> None:
    held = Held(at(server))
    held.lease.set([ONE])
    await held.lease.start()
    async with TrackerServer(LOCAL, 0) as elsewhere:

        async def look_again() -> None:
            held.index.move(elsewhere.url.removesuffix("/announce"), "")

        held.lease._again = look_again
        await server.close()
        held.lease._wake.set()
        await until(lambda: held.returns)

        assert await held.files() == [("7", 1)]
        await held.lease.close()


async def test_an_id_that_somebody_has_is_an_error_at_the_start(server: TrackerServer) -> None:
    first, second = Held(at(server)), Held(at(server, "cd" * 16))
    await first.lease.start()

    with pytest.raises(NodeTaken):
        await second.lease.start()

    await second.lease.close()
    assert len(await first.files()) == 1
    await first.lease.close()


async def test_an_id_that_is_taken_later_is_told_and_tried_again(server: TrackerServer) -> None:
    first, second = Held(at(server)), Held(at(server, "cd" * 16))
    await first.lease.start()
    await at(server).unregister()
    await second.lease.start()

    first.lease.set([ONE])
    await until(lambda: first.lost)
    await second.lease.close()

    await eventually(first.files, [("7", 1)])
    assert "7" in first.lost[0]
    await first.lease.close()


async def test_an_index_that_wants_a_token_is_an_error_at_the_start() -> None:
    async with TrackerServer(LOCAL, 0, publish_token="secret") as server:
        held = Held(at(server))

        with pytest.raises(NotAllowed, match="token"):
            await held.lease.start()
        await held.lease.close()
