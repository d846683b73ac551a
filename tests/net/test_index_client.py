"""The index as its client sees it: one of ours, and servers that are none."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from p2pfs.errors import CatalogueError, TrackerError
from p2pfs.formats.announce_http import AnnounceRequest
from p2pfs.formats.metainfo import FileEntry, build, parse
from p2pfs.geometry import PeerId
from p2pfs.net import catalogue_http, index_client
from p2pfs.net.announce_client import AnnounceClient
from p2pfs.net.index_client import IndexClient, Listed, base_url
from p2pfs.net.tracker_http import TrackerServer
from tests.support.rawhttp import raw_server, reply

STRANGE = 'Ünï cödé & 100% #1 + a@b; "q".txt'


def torrent(name: str, content: int = 0) -> bytes:
    return build(
        name=name,
        files=[FileEntry((name,), 1000)],
        multi_file=False,
        piece_length=16384,
        pieces=bytes([content]) * 20,
    ).to_bytes()


@pytest.fixture
async def tracker() -> AsyncIterator[TrackerServer]:
    async with TrackerServer("127.0.0.1", 0) as server:
        yield server


@pytest.fixture
async def index(tracker: TrackerServer) -> AsyncIterator[IndexClient]:
    async with client_of(tracker.port) as client:
        yield client


def client_of(port: int) -> IndexClient:
    return IndexClient(base_url("127.0.0.1", port))


@pytest.mark.parametrize("name", ["story.txt", STRANGE, "x.torrent", "..x", "a\u202eb"])
async def test_what_one_publishes_another_fetches_by_name(index: IndexClient, name: str) -> None:
    data = torrent(name)

    entry = await index.publish(data)

    assert entry.info_hash == str(parse(data).torrent_id)
    assert await index.fetch(name) == data
    assert await index.fetch(entry.info_hash) == data
    assert await index.fetch(f"{name}@{entry.info_hash[:8]}") == data


async def test_the_list_has_names_sizes_and_the_state_of_each_swarm(
    tracker: TrackerServer, index: IndexClient
) -> None:
    entry = await index.publish(torrent("story.txt"))
    await index.publish(torrent("another.txt", 1))
    request = AnnounceRequest(parse(torrent("story.txt")).torrent_id, PeerId(b"p" * 20), 5, left=0)
    await AnnounceClient().announce(tracker.url, request)

    listed = await index.list(everything=True)

    assert [one.name for one in listed] == ["another.txt", "story.txt"]
    assert listed[1] == Listed("story.txt", 1000, entry.info_hash, entry.published, 1, 0, 0)
    assert listed[0].seeders == 0


async def test_a_long_list_comes_in_pages(
    index: IndexClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_client, "_PAGE", 2)
    monkeypatch.setattr(catalogue_http, "PAGE", 2)
    for name in "abcde":
        await index.publish(torrent(name))

    assert [one.name for one in await index.list(everything=True)] == list("abcde")


async def test_an_unknown_name_is_an_error_with_the_names_near_to_it(index: IndexClient) -> None:
    await index.publish(torrent("short_story.txt"))

    with pytest.raises(CatalogueError, match=r"shorty\.txt.*short_story\.txt"):
        await index.fetch("shorty.txt")


async def test_an_ambiguous_name_is_an_error_that_lists_the_choices(index: IndexClient) -> None:
    one = await index.publish(torrent("a", 1))
    two = await index.publish(torrent("a", 2))

    with pytest.raises(CatalogueError, match="means several") as caught:
        await index.fetch("a")

    assert f"a@{one.info_hash[:8]}" in str(caught.value)
    assert await index.fetch(f"a@{two.info_hash[:8]}") == torrent("a", 2)


async def test_what_is_no_torrent_is_not_taken(index: IndexClient) -> None:
    with pytest.raises(CatalogueError, match="did not take the torrent"):
        await index.publish(b"junk")


async def test_what_is_published_outlives_the_tracker(tmp_path: Path) -> None:
    async with TrackerServer("127.0.0.1", 0, data_dir=tmp_path) as first:
        await client_of(first.port).publish(torrent("a"))
    async with TrackerServer("127.0.0.1", 0, data_dir=tmp_path) as second:
        assert await client_of(second.port).fetch("a") == torrent("a")


async def test_an_upload_that_is_too_large_is_refused(
    index: IndexClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = catalogue_http.METAINFO_LIMITS
    monkeypatch.setattr(
        catalogue_http, "METAINFO_LIMITS", type(limits)(1000, limits.max_depth, limits.max_tokens)
    )

    with pytest.raises(CatalogueError, match="larger than 1000"):
        await index.publish(b"x" * 1001)


# -- servers that are not what they should be


async def test_a_tracker_that_is_not_there_is_an_error_that_says_what_to_check() -> None:
    async with raw_server(b"") as server:
        index = client_of(server.port)

    for call in (index.reach(), index.fetch("a"), index.publish(b"x"), index.list(everything=True)):
        with pytest.raises(TrackerError, match=r"cannot reach the index at 127.*\(-i\).*\(-d\)"):
            await call


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        b"[" * 100_000,
        b'{"torrents": 5}',
        b'{"torrents": [5]}',
        b'{"torrents": [{"name": "a"}]}',
        b'{"torrents": [{"name": "a", "size": "5"}]}',
        b"\xff\xfe",
    ],
)
async def test_a_server_that_is_no_tracker_of_ours_is_recognised(body: bytes) -> None:
    async with raw_server(reply(body)) as server:
        index = client_of(server.port)
        with pytest.raises(TrackerError, match="not as a p2pfs index"):
            await index.list(everything=True)
        with pytest.raises(TrackerError, match="not as a p2pfs index"):
            await index.publish(torrent("a"))
        with pytest.raises(CatalogueError, match="no torrent"):
            await index.fetch("a")


async def test_whatever_answers_can_be_reached(index: IndexClient) -> None:
    await index.reach()
    async with raw_server(reply(b"nope", status="404 Not Found")) as server:
        await client_of(server.port).reach()


async def test_a_status_without_a_reason_is_told() -> None:
    async with raw_server(reply(b"nope", status="404 Not Found")) as server:
        with pytest.raises(CatalogueError, match=r"HTTP status 404; is this a p2pfs index\?"):
            await client_of(server.port).fetch("a")


async def test_another_torrent_than_the_one_pinned_is_not_accepted() -> None:
    async with raw_server(reply(torrent("a", 5))) as server:
        index = client_of(server.port)
        for wanted in (f"a@{'0' * 8}", "0" * 40):
            with pytest.raises(CatalogueError, match="instead of"):
                await index.fetch(wanted)


async def test_text_of_a_server_is_shown_without_control_characters() -> None:
    body = json.dumps({"error": "no\x1b[2Jpe"}).encode()
    async with raw_server(reply(body, status="404 Not Found")) as server:
        with pytest.raises(CatalogueError, match=r"no\?\[2Jpe"):
            await client_of(server.port).fetch("a")


def test_an_ipv6_host_gets_its_brackets() -> None:
    assert base_url("::1", 5) == "http://[::1]:5"
    assert base_url("[::1]", 5) == "http://[::1]:5"
    assert base_url("host", 5) == "http://host:5"
