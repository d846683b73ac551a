"""Rate limits hold for whole clients."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from p2pfs.swarm.rates import BURST
from tests.support.swarm import KIB, Swarm, done, make_sample
from tests.support.waiting import until

pytestmark = pytest.mark.loops("uvloop")


@pytest.mark.parametrize("side", ["up", "down"])
async def test_a_rate_limit_holds(swarm: Swarm, tmp_path: Path, side: str) -> None:
    rate, size = 1_000_000, 700_000
    sample = make_sample(tmp_path / "shared", size)
    loop = asyncio.get_running_loop()
    start = loop.time()
    seeder, _ = await swarm.seed(sample, **({"up_limit": rate} if side == "up" else {}))
    _, torrent = await swarm.download(
        sample, seeder, **({"down_limit": rate} if side == "down" else {})
    )

    await done(torrent)

    assert size <= rate * (loop.time() - start + BURST) + 256 * KIB


async def test_a_limit_is_shared_by_the_torrents_of_a_client(swarm: Swarm, tmp_path: Path) -> None:
    rate, size = 1_500_000, 1_200_000
    samples = [make_sample(tmp_path / f"s{n}", size, seed=n, name=f"n{n}") for n in range(3)]
    seeder, leecher = await swarm.client(up_limit=rate), await swarm.client()
    loop = asyncio.get_running_loop()
    start = loop.time()
    for sample in samples:
        await swarm.seed(sample, client=seeder)
    torrents = [(await swarm.download(one, seeder, client=leecher))[1] for one in samples]

    def moved() -> list[int]:
        return [torrent.progress().bytes_done for torrent in torrents]

    await until(lambda: min(moved()) > 0)
    before = moved()

    def since_then() -> list[int]:
        return sorted(now - then for now, then in zip(moved(), before, strict=True))

    await until(lambda: since_then()[-1] > 0.4 * size)
    slowest = since_then()[0]
    await done(*torrents)

    assert slowest > 0.1 * size
    assert 3 * size <= rate * (loop.time() - start + BURST) + 256 * KIB
