"""Downloads that wait for content that was replaced, and what the index has instead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from p2pfs.cli import replaced
from p2pfs.cli.replaced import watch_for_another
from p2pfs.errors import TrackerError
from p2pfs.net.engine import Client, Torrent
from p2pfs.net.index_client import IndexClient, Listed
from p2pfs.net.tracker_http import TrackerServer
from tests.support.swarm import LOCAL, Sample, make_sample
from tests.support.waiting import until


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replaced, "_LOOK_EVERY", 0.02)


@pytest.fixture
async def server() -> AsyncIterator[TrackerServer]:
    async with TrackerServer(LOCAL, 0) as running:
        yield running


@pytest.fixture
async def client(server: TrackerServer) -> AsyncIterator[Client]:
    async with Client(bind=LOCAL) as running:
        yield running


async def stuck(client: Client, sample: Sample, folder: Path) -> Torrent:
    """A download whose only seeder has lost a piece."""
    seeder = Client(bind=LOCAL)
    await seeder.start()
    try:
        have = sample.pieces(*range(1, sample.count))
        await seeder.seed(sample.metainfo, sample.path, have=have, verify=False)
        torrent = await client.download(sample.metainfo, folder)
        torrent.add_peers([(LOCAL, seeder.port)])
        await until(lambda: torrent.progress().missing == (0,))
        return torrent
    finally:
        await seeder.close()


async def test_a_download_in_vain_is_told_what_has_its_name_by_now(
    server: TrackerServer, client: Client, tmp_path: Path
) -> None:
    old = make_sample(tmp_path / "old", name="my [1].bin")
    new = make_sample(tmp_path / "new", name="my [1].bin", seed=2)
    torrent = await stuck(client, old, tmp_path / "output")
    said: list[str] = []
    async with (
        IndexClient(server.url.removesuffix("/announce")) as index,
        Client(bind=LOCAL) as other,
    ):
        for sample in (old, new):
            await index.publish(sample.metainfo.to_bytes())
        async with watch_for_another(torrent, index.list, said.append, "p2pfs get"):
            await other.seed(new.metainfo, new.path, trackers=[server.url])
            await until(lambda: said)
            await asyncio.sleep(0.1)

    digits = new.metainfo.torrent_id.v1.hex()[:8]
    [told] = said
    assert told.endswith(f'fetch it with p2pfs get "my [1].bin@{digits}"')
    assert f"another content of that name, {digits} of 20" in told


async def test_an_index_that_is_away_is_asked_again(client: Client, tmp_path: Path) -> None:
    sample = make_sample(tmp_path / "shared")
    torrent = await stuck(client, sample, tmp_path / "output")
    answers: list[Any] = [
        TrackerError("away"),
        [Listed("story.bin", 1, torrent.info_hash, 1, 1, 0, 0)],
        [Listed("story.bin", 1, "ab" * 20, 1, 0, 0, 0, live=False)],
        [Listed("story.bin.old", 1, "ab" * 20, 1, 1, 0, 0)],
        [Listed("story.bin", 1, "cd" * 20, 1, 1, 0, 0)],
    ]
    said: list[str] = []

    async def listed(pattern: str) -> Sequence[Listed]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return list(answer)

    async with watch_for_another(torrent, listed, said.append, "p2pfs get"):
        await until(lambda: said)

    assert answers == []
    assert said[0].endswith("p2pfs get story.bin@cdcdcdcd")
