"""What a node tells a real index of what it serves."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from p2pfs.formats.metainfo import FileEntry, Metainfo, build
from p2pfs.net.index_client import IndexClient
from p2pfs.net.publication import Publication
from p2pfs.net.tracker_http import TrackerServer
from tests.support.swarm import LOCAL

pytestmark = pytest.mark.usefixtures("tracker_runtime", "nothing_left")


def torrent(name: str) -> Metainfo:
    return build(
        name=name,
        files=[FileEntry((name,), 5)],
        multi_file=False,
        piece_length=16384,
        pieces=bytes(20),
    )


class Told:
    """A publication of `served`, and what it told of refusals."""

    def __init__(self, server: TrackerServer, node_id: str, *served: Metainfo) -> None:
        self.index = IndexClient(server.url.removesuffix("/announce"), node=(node_id, "ab" * 16))
        self.served = list(served)
        self.refused: list[tuple[str, str]] = []
        self.publication = Publication(
            self.index,
            4242,
            lambda: {str(one.torrent_id): one for one in self.served},
            refused=lambda name, reason: self.refused.append((name, reason)),
            lost=lambda why: None,
            back=lambda: None,
            again=None,
        )

    async def start(self) -> None:
        self.publication.update()
        await self.publication.lease.start()

    async def names(self) -> list[str]:
        return [one.name for one in await self.index.list(everything=True)]

    async def close(self) -> None:
        await self.publication.lease.close()


@pytest.fixture
async def server() -> AsyncIterator[TrackerServer]:
    async with TrackerServer(LOCAL, 0) as made:
        yield made


async def test_what_the_index_does_not_know_is_published(server: TrackerServer) -> None:
    told = Told(server, "1", *(torrent(f"{number}.txt") for number in range(30)))

    await told.start()

    assert len(await told.names()) == 30
    assert told.refused == []
    await told.close()


async def test_what_is_no_longer_served_is_taken_back(server: TrackerServer) -> None:
    gone, stays = torrent("gone.txt"), torrent("stays.txt")
    told = Told(server, "1", gone, stays)
    await told.start()

    told.served.remove(gone)
    await told.publication.settled()
    await told.publication.take_back([str(gone.torrent_id), str(stays.torrent_id), "33" * 20])

    assert await told.names() == ["stays.txt"]
    await told.close()


async def test_what_another_node_serves_too_stays(server: TrackerServer) -> None:
    one, two = (Told(server, number, torrent("notes.txt")) for number in ("1", "2"))
    await one.start()
    await two.start()
    (gone,) = one.served

    one.served.clear()
    await one.publication.settled()
    await one.publication.take_back([str(gone.torrent_id)])

    assert await one.names() == ["notes.txt"]
    await one.close()
    await two.close()


async def test_what_the_index_refuses_is_told_once_and_the_rest_is_published(
    server: TrackerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from p2pfs.errors import CatalogueError

    told = Told(server, "1", *(torrent(f"{number}.txt") for number in range(5)))
    publish = told.index.publish

    async def partly(data: bytes) -> object:
        if b"4.txt" in data or b"3.txt" in data:
            raise CatalogueError("the catalogue is full")
        return await publish(data)

    monkeypatch.setattr(told.index, "publish", partly)
    await told.start()

    assert len(await told.names()) == 3
    assert [reason for _, reason in told.refused] == ["the catalogue is full"]
    await told.close()
