"""Downloads from web servers, alone and beside peers (BEP 19)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from p2pfs.net.engine import Client, Torrent
from tests.support.swarm import KIB, Sample, Swarm, done, make_sample
from tests.support.web_server import WebServer, as_a_whole, in_parts, range_of, served, with_seeds


async def fetch(swarm: Swarm, sample: Sample, *urls: str, **options: object) -> Torrent:
    """A download with these web seeds, on this machine."""
    options.setdefault("private_web_seeds", True)
    _, torrent = await swarm.download(with_seeds(sample, *urls), **options)
    return torrent


async def test_a_file_comes_from_a_web_seed_alone(swarm: Swarm, sample: Sample) -> None:
    async with WebServer(served(sample)) as server:
        torrent = await fetch(swarm, sample, server.url)
        (path,) = await done(torrent)

    assert sample.is_at(path)
    progress = torrent.progress()
    (source,) = progress.sources
    assert (source.address, source.client) == (f"127.0.0.1:{server.port}", "web seed")
    assert source.bytes_down == progress.downloaded == len(sample.content)
    assert (progress.wasted, progress.hash_failures, progress.web_problems) == (0, 0, ())
    assert len(server.asked) <= 4
    assert server.bytes_asked() == len(sample.content)
