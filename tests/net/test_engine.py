"""Whole clients on loopback: content arrives, and it is told how far it is."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from p2pfs.errors import ListenError, UsageError
from p2pfs.net import engine as engine_module
from p2pfs.net.engine import Client, Torrent
from p2pfs.net.tracker_http import TrackerServer
from tests.support.swarm import KIB, LOCAL, Sample, Swarm, at, copies, done, make_sample
from tests.support.waiting import until

pytestmark = pytest.mark.loops("uvloop")
both_loops = pytest.mark.loops("uvloop", "asyncio")

TREE = {"a.txt": 50_000, "deep/er/b.bin": 33_000, "deep/empty": 0, "c": 1, "z/last": 0, "d": 70_000}


# -- content arrives


@both_loops
async def test_a_seeder_feeds_a_downloader(swarm: Swarm, sample: Sample, stream_kind: str) -> None:
    seeder, seeded = await swarm.seed(sample)
    _, torrent = await swarm.download(sample, seeder)

    [path] = await done(torrent)

    assert sample.is_at(path)
    progress = torrent.progress()
    assert (progress.state, progress.pieces_done, progress.wasted) == ("seeding", 19, 0)
    assert progress.downloaded == progress.bytes_total == 300_000
    assert seeded.progress().uploaded == 300_000


@both_loops
async def test_a_tree_arrives_with_its_empty_files(
    swarm: Swarm, tmp_path: Path, stream_kind: str
) -> None:
    sample = make_sample(tmp_path / "shared", TREE, name="tree")
    seeder, _ = await swarm.seed(sample)
    _, torrent = await swarm.download(sample, seeder)

    [path] = await done(torrent)

    assert sample.is_at(path)


@both_loops
@pytest.mark.parametrize("lengths", [0, {"one": 0, "two/three": 0}], ids=["file", "tree"])
async def test_content_without_a_byte_is_there_at_once(
    swarm: Swarm, tmp_path: Path, lengths: int | dict[str, int]
) -> None:
    sample = make_sample(tmp_path / "shared", lengths, name="nothing")
    seeder, seeded = await swarm.seed(sample)
    _, torrent = await swarm.download(sample, seeder)

    [path, _] = await done(torrent, seeded)

    assert sample.is_at(path)
    assert torrent.progress().state == "seeding"


async def test_a_piece_larger_than_the_memory_for_pieces_arrives(
    swarm: Swarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "ASSEMBLY_BUDGET", 100)
    sample = make_sample(tmp_path / "shared", 900_000, piece_length=256 * KIB)
    sources = [(await swarm.seed(sample))[0] for _ in range(2)]
    leecher, torrent = await swarm.download(sample, *sources)

    [path] = await done(torrent)

    assert sample.is_at(path)
    assert leecher.assembler.used == 0


@both_loops
async def test_partial_seeders_that_together_have_everything_are_enough(
    swarm: Swarm, sample: Sample
) -> None:
    shares = [range(8), range(5, 13), range(12, 19)]
    sources = [await swarm.seed(sample, *share) for share in shares]
    _, torrent = await swarm.download(sample, *(client for client, _ in sources))

    [path] = await done(torrent)

    assert sample.is_at(path)
    progress = torrent.progress()
    assert sorted(source.address for source in progress.sources) == sorted(
        f"{LOCAL}:{client.port}" for client, _ in sources
    )
    assert sum(source.bytes_down for source in progress.sources) == 300_000
    for (_, seeded), share in zip(sources, shares, strict=True):
        assert seeded.progress().pieces_done == len(share)
        assert seeded.progress().state == "seeding"
        assert await seeded.wait() == sample.path


@both_loops
async def test_several_torrents_share_one_client(swarm: Swarm, tmp_path: Path) -> None:
    samples = [make_sample(tmp_path / f"s{n}", 100_000 + n, name=f"n{n}", seed=n) for n in range(5)]
    seeder, leecher = await swarm.client(), await swarm.client()
    for sample in samples:
        await swarm.seed(sample, client=seeder)
    torrents = [(await swarm.download(one, seeder, client=leecher))[1] for one in samples]

    paths = await done(*torrents)

    assert all(sample.is_at(path) for sample, path in zip(samples, paths, strict=True))
    assert len(leecher.torrents) == 5


async def test_downloaders_serve_each_other_what_they_have(swarm: Swarm, tmp_path: Path) -> None:
    sample = make_sample(tmp_path / "shared", 1_500_000)
    seeder, seeded = await swarm.seed(sample, up_limit=500_000)
    leechers = [await swarm.download(sample, seeder) for _ in range(8)]
    for _, torrent in leechers:
        torrent.add_peers(at(*(client for client, _ in leechers)))

    paths = await done(*(torrent for _, torrent in leechers))

    assert all(sample.is_at(path) for path in paths)
    assert copies(seeded) <= 2


async def test_clients_find_each_other_through_the_tracker(
    tracker_runtime: None, swarm: Swarm, sample: Sample
) -> None:
    async with TrackerServer(LOCAL, 0) as tracker:
        seeder, leecher = await swarm.client(), await swarm.client()
        await seeder.seed(sample.metainfo, sample.path, trackers=[tracker.url])
        torrent = await leecher.download(sample.metainfo, swarm.output(), trackers=[tracker.url])

        [path] = await done(torrent)
        await until(lambda: tracker.service.scrape([sample.metainfo.torrent_id]))
        await swarm.close()

        assert sample.is_at(path)
        assert tracker.store.peer_count == 0


async def test_two_complete_clients_part_and_stay_apart(swarm: Swarm, sample: Sample) -> None:
    seeder, seeded = await swarm.seed(sample)
    leecher, torrent = await swarm.download(sample, seeder)
    await done(torrent)

    await until(
        lambda: len(leecher._connections.admission) == len(seeder._connections.admission) == 0
    )

    torrent.add_peers(at(seeder))
    seeded.add_peers(at(leecher))
    assert not torrent._peers.dialler._under_way


async def test_a_peer_may_be_dialled_by_its_name(swarm: Swarm, sample: Sample) -> None:
    seeder, _ = await swarm.seed(sample)
    leecher = await swarm.client()
    torrent = await leecher.download(sample.metainfo, swarm.output())

    torrent.add_peers([("localhost", seeder.port)])

    assert sample.is_at(await torrent.wait())


# -- what users do wrong


async def test_one_torrent_is_open_once_in_a_client(swarm: Swarm, sample: Sample) -> None:
    client = await swarm.client()

    outcomes = await asyncio.gather(
        *(client.seed(sample.metainfo, sample.path) for _ in range(3)), return_exceptions=True
    )
    with pytest.raises(UsageError, match="open in this client already"):
        await client.download(sample.metainfo, swarm.output())

    assert sum(isinstance(one, Torrent) for one in outcomes) == 1
    assert sum(isinstance(one, UsageError) for one in outcomes) == 2
    await client.torrents[0].close()
    await client.seed(sample.metainfo, sample.path)


async def test_values_that_make_no_client_are_refused() -> None:
    for options in ({"up_limit": 0}, {"down_limit": -5}, {"port": 65536}, {"port": -1}):
        with pytest.raises(UsageError):
            Client(**options)


@pytest.mark.usefixtures("nothing_left")
async def test_a_client_takes_the_first_free_port_or_says_that_there_is_none() -> None:
    async with Client(bind=LOCAL) as first:
        async with Client(bind=LOCAL, port=first.port, port_tries=30) as second:
            assert first.port < second.port < first.port + 30
            assert second.addresses == [(LOCAL, second.port)]
        third = Client(bind=LOCAL, port=first.port, port_tries=1)
        with pytest.raises(ListenError, match=f"port {first.port}"):
            await third.start()
        await third.close()


# -- what is told


async def test_updates_end_with_completion(swarm: Swarm, sample: Sample) -> None:
    seeder, _ = await swarm.seed(sample)
    _, torrent = await swarm.download(sample, seeder)

    told = [progress async for progress in torrent.updates(0.01)]

    assert told[-1].state == "seeding"
    assert told[-1].pieces_done == 19
    assert [one.pieces_done for one in told] == sorted(one.pieces_done for one in told)


async def test_peers_are_told_with_what_they_are(swarm: Swarm, sample: Sample) -> None:
    seeder, seeded = await swarm.seed(sample, up_limit=100_000)
    leecher, torrent = await swarm.download(sample, seeder)
    await until(lambda: torrent.progress().pieces_done)

    [at_leecher], [at_seeder] = torrent.peers(), seeded.peers()

    assert at_leecher.address == f"{LOCAL}:{seeder.port}"
    assert at_seeder.address == f"{LOCAL}:{leecher.port}"
    assert (at_leecher.direction, at_seeder.direction) == ("out", "in")
    assert at_leecher.pieces == 19
    assert at_leecher.am_interested
    assert not at_seeder.am_interested
    assert "p2pfs" in at_leecher.client
    assert at_leecher.bytes_down > 0
