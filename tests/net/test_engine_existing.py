"""Clients and what is on the disk already: used, gone on with, and never overwritten."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from p2pfs.errors import NetworkError, StorageError
from tests.support.swarm import KIB, Sample, Swarm, copies, done, make_sample
from tests.support.waiting import until

pytestmark = pytest.mark.loops("uvloop")


async def test_content_that_is_there_is_used_without_asking_anybody(
    swarm: Swarm, sample: Sample
) -> None:
    _, torrent = await swarm.download(sample, output=sample.path.parent)

    [path] = await done(torrent)

    assert path == sample.path
    assert torrent.progress().downloaded == 0


async def test_a_different_file_of_the_user_is_never_replaced(swarm: Swarm, sample: Sample) -> None:
    output = swarm.output()
    output.mkdir()
    (output / "story.bin").write_bytes(b"mine")
    client = await swarm.client()

    with pytest.raises(StorageError, match="move it away"):
        await client.download(sample.metainfo, output)

    assert (output / "story.bin").read_bytes() == b"mine"
    assert client.torrents == []


async def test_a_stopped_download_goes_on_where_it_was(swarm: Swarm, tmp_path: Path) -> None:
    sample = make_sample(tmp_path / "shared", 2_000_000)
    seeder, seeded = await swarm.seed(sample)
    output = swarm.output()
    first, torrent = await swarm.download(sample, seeder, output=output, down_limit=1_000_000)
    async with asyncio.timeout(20):
        async for progress in torrent.updates(0.02):
            if progress.pieces_done >= 20:
                break
    await first.close()
    kept = torrent.progress()
    assert kept.pieces_done < sample.count

    _, again = await swarm.download(sample, seeder, output=output)
    [path] = await done(again)

    assert sample.is_at(path)
    assert again.progress().downloaded == 2_000_000 - kept.bytes_done
    with pytest.raises(NetworkError, match="closed before"):
        await torrent.wait()
    assert torrent.progress().state == "stopped"
    assert copies(seeded) < 1.5


async def test_a_seeder_offers_only_what_is_right_on_the_disk(swarm: Swarm, sample: Sample) -> None:
    content = bytearray(sample.content)
    content[5 * 16 * KIB] ^= 1
    sample.path.write_bytes(content)
    client = await swarm.client()
    seeded = await client.seed(sample.metainfo, sample.path)
    _, torrent = await swarm.download(sample, client)

    await until(lambda: torrent.progress().pieces_done == 18)

    assert seeded.progress().pieces_done == 18
    await until(lambda: torrent.progress().missing == (5,))
    assert torrent.progress().hash_failures == 0


async def test_files_of_one_tree_are_downloaded_together(swarm: Swarm, tmp_path: Path) -> None:
    seeder, client = await swarm.client(), await swarm.client()
    downloads = []
    for number, inner in enumerate(("a.txt", "05/a.txt", "05/b.txt", "05/deep/c.txt")):
        shared = make_sample(
            tmp_path / f"shared{number}", {inner: 40_000}, name="2024", seed=number
        )
        await swarm.seed(shared, client=seeder)
        downloads.append(await swarm.download(shared, seeder, client=client, output=tmp_path / "o"))

    await done(*(torrent for _, torrent in downloads))

    for number, (_, torrent) in enumerate(downloads):
        inner = torrent.name.removeprefix("2024/")
        original = tmp_path / f"shared{number}" / "2024" / inner
        assert torrent.content_path == (tmp_path / "o" / "2024" / inner).resolve()
        assert torrent.content_path.read_bytes() == original.read_bytes()
        assert torrent.progress().name == torrent.name


async def test_a_file_of_a_tree_joins_what_is_there(swarm: Swarm, tmp_path: Path) -> None:
    shared = make_sample(tmp_path / "shared", {"05/a.jpg": 40_000}, name="2024")
    seeder, _ = await swarm.seed(shared)
    output = tmp_path / "output"
    (output / "2024" / "05").mkdir(parents=True)
    for inner in ("mine.txt", "05/mine.jpg"):
        (output / "2024" / inner).write_text("of the user")

    _, torrent = await swarm.download(shared, seeder, output=output)
    await done(torrent)

    await torrent.close()
    assert (output / "2024" / "05" / "a.jpg").read_bytes() == shared.content
    assert sorted(path.name for path in output.rglob("*") if path.is_file()) == [
        "a.jpg",
        "mine.jpg",
        "mine.txt",
    ]


async def test_clients_that_finish_in_one_folder_at_once_share_it(
    swarm: Swarm, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    seeder = await swarm.client()
    samples = [
        make_sample(
            tmp_path / f"shared{number}", {f"05/{number}": 40_000}, name="2024", seed=number
        )
        for number in range(4)
    ]
    for sample in samples:
        await swarm.seed(sample, client=seeder)

    downloads = [await swarm.download(sample, seeder, output=output) for sample in samples]
    await done(*(torrent for _, torrent in downloads))

    for number, sample in enumerate(samples):
        assert (output / "2024" / "05" / str(number)).read_bytes() == sample.content
    assert all(not torrent.progress().error for _, torrent in downloads)


@pytest.mark.parametrize("lengths", [0, {"05/none.txt": 0}], ids=["file", "tree"])
async def test_content_without_bytes_is_seeded_and_downloaded(
    swarm: Swarm, tmp_path: Path, lengths: int | dict[str, int]
) -> None:
    empty = make_sample(tmp_path / "shared", lengths, name="2024")
    seeder, seeded = await swarm.seed(empty)

    client, torrent = await swarm.download(empty, seeder)
    [path] = await done(torrent)

    assert empty.is_at(path)
    assert seeded.progress().state == torrent.progress().state == "seeding"
    assert (torrent.complete, torrent.progress().pieces_total) == (True, 0)
    assert torrent.content_path.stat().st_size == 0
    assert seeder.takings() == client.takings() == []
