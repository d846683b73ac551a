"""The index as its client sees it: one of ours, and servers that are none."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from p2pfs.errors import CatalogueError, TrackerError, UsageError
from p2pfs.formats.announce_http import AnnounceRequest
from p2pfs.formats.metainfo import FileEntry, build, parse
from p2pfs.geometry import PeerId
from p2pfs.net import catalogue_http, index_client
from p2pfs.net.announce_client import AnnounceClient
from p2pfs.net.index_client import (
    AmbiguousError,
    IndexClient,
    Listed,
    NodeTaken,
    NotAllowed,
    UnknownError,
    base_url,
)
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
    assert listed[1] == Listed(
        "story.txt", 1000, entry.info_hash, entry.published, 1, 0, 0, files=1, live=True
    )
    assert (listed[0].seeders, listed[0].live) == (0, False)
    assert [one.name for one in await index.list()] == ["story.txt"]


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

    with pytest.raises(UnknownError, match=r"shorty\.txt.*short_story\.txt") as caught:
        await index.fetch("shorty.txt")

    assert caught.value.near == ("short_story.txt",)


async def test_an_ambiguous_name_is_an_error_that_lists_the_choices(index: IndexClient) -> None:
    one = await index.publish(torrent("a", 1))
    two = await index.publish(torrent("a", 2))

    with pytest.raises(AmbiguousError, match="means several") as caught:
        await index.fetch("a")

    assert {choice.info_hash for choice in caught.value.candidates} == {
        one.info_hash,
        two.info_hash,
    }
    assert {choice.size for choice in caught.value.candidates} == {1000}
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


async def test_a_file_in_a_tree_goes_by_its_relative_name(index: IndexClient) -> None:
    data = build(
        name="2024",
        files=[FileEntry(("05", "ä b.jpg"), 1000)],
        multi_file=True,
        piece_length=16384,
        pieces=bytes(20),
    ).to_bytes()

    entry = await index.publish(data)

    assert entry.name == "2024/05/ä b.jpg"
    assert await index.fetch("2024/05/ä b.jpg") == data
    assert await index.fetch(f"2024/05/ä b.jpg@{entry.info_hash[:6]}") == data
    for only in ("2024", "2024/05", f"2024@{entry.info_hash[:6]}"):
        assert await index.fetch(only) == data


async def test_the_list_can_be_searched(index: IndexClient) -> None:
    for number, name in enumerate(("Report.pdf", "story.txt", "a&b=c.pdf")):
        await index.publish(torrent(name, number))

    async def names(pattern: str) -> list[str]:
        return [one.name for one in await index.list(pattern, everything=True)]

    assert await names("*.pdf") == ["Report.pdf", "a&b=c.pdf"]
    assert await names("STORY") == ["story.txt"]
    assert await names("&b=") == ["a&b=c.pdf"]
    assert await names("none of them") == []


async def test_what_was_published_can_be_withdrawn(index: IndexClient) -> None:
    entry = await index.publish(torrent("a/b?c".replace("/", "%2F")))

    assert (await index.withdraw(entry.name)).info_hash == entry.info_hash
    with pytest.raises(UnknownError):
        await index.withdraw(entry.name)
    assert await index.list(everything=True) == []


# -- nodes and rights

KEY = "0123456789abcdef" * 2


def node_at(index: IndexClient, node_id: str = "1", key: str = KEY, **more: str) -> IndexClient:
    return IndexClient(index.base, node=(node_id, key), **more)  # type: ignore[arg-type]


async def test_a_node_registers_renews_and_leaves(index: IndexClient) -> None:
    known = (await index.publish(torrent("a"))).info_hash
    node = node_at(index)

    registered = await node.register(9000, [known, "AB" * 20])

    assert registered.unknown == ("ab" * 20,)
    assert 0 < registered.renew_every < registered.lease
    (seen,) = await index.nodes()
    assert (seen.id, seen.host, seen.port, seen.files) == ("1", "127.0.0.1", 9000, 2)
    assert not seen.unconfirmed
    (listed,) = await index.list()
    assert (listed.name, listed.seeders, listed.live) == ("a", 1, True)
    assert await node.renew()
    assert not (await node.register(9000, [])).unknown
    assert await index.list() == []
    await node.unregister()
    assert await index.nodes() == []
    await node.unregister()


async def test_a_node_that_the_index_does_not_know_is_told_so(index: IndexClient) -> None:
    assert not await node_at(index).renew()


async def test_an_id_that_lives_is_not_given_to_another(index: IndexClient) -> None:
    await node_at(index).register(9000, [])
    other = node_at(index, key=KEY[::-1])

    with pytest.raises(NodeTaken, match=r"did not register node 1: .*127\.0\.0\.1:9000"):
        await other.register(9001, [])
    with pytest.raises(NotAllowed, match="did not renew"):
        await other.renew()
    with pytest.raises(NotAllowed, match="did not unregister"):
        await other.unregister()
    assert [one.port for one in await index.nodes()] == [9000]


async def test_a_node_alone_withdraws_what_it_published(index: IndexClient) -> None:
    await node_at(index).publish(torrent("a"))

    for other in (index, node_at(index, "2"), node_at(index, key=KEY[::-1])):
        with pytest.raises(NotAllowed, match="did not withdraw 'a'"):
            await other.withdraw("a")
    assert (await node_at(index).withdraw("a")).name == "a"


async def test_where_it_takes_a_token_only_its_holder_changes_anything() -> None:
    async with TrackerServer("127.0.0.1", 0, publish_token="s3cret") as server:
        index = client_of(server.port)
        holder = IndexClient(index.base, token="s3cret", node=("1", KEY))
        guesser = IndexClient(index.base, token="guess", node=("1", KEY))
        await holder.publish(torrent("a"))
        for refused in (index, guesser):
            with pytest.raises(NotAllowed):
                await refused.publish(torrent("b"))
            with pytest.raises(NotAllowed):
                await refused.withdraw("a")
        with pytest.raises(NotAllowed):
            await guesser.register(9000, [])
        assert await index.fetch("a") == torrent("a")
        await holder.register(9000, [])
        assert (await holder.withdraw("a")).name == "a"


async def test_what_proves_who_we_are_is_not_shown_to_who_only_answers_questions() -> None:
    async with raw_server(reply(b"{}")) as server:
        client = IndexClient(base_url("127.0.0.1", server.port), token="s3cret", node=("1", KEY))
        for ask in (client.reach(), client.list(), client.nodes(), client.fetch("a")):
            with contextlib.suppress(TrackerError):
                await ask
        assert len(server.requests) == 4
        for request in server.requests:
            assert KEY.encode() not in request
            assert b"s3cret" not in request


@pytest.mark.parametrize("token", ["", "a b", "a\nX: y", "ä", "x" * 2000])
def test_a_token_that_cannot_be_sent_is_refused(token: str) -> None:
    with pytest.raises(UsageError, match="publish token"):
        IndexClient("http://127.0.0.1", token=token)


@pytest.mark.parametrize("node_id", ["", ".", "..", "a/b", "a b", "x" * 65, "ä"])
def test_an_id_that_no_node_can_have_is_refused(node_id: str) -> None:
    with pytest.raises(UsageError, match="id of a node"):
        IndexClient("http://127.0.0.1", node=(node_id, KEY))


async def test_only_a_node_registers(index: IndexClient) -> None:
    for call in (index.register(9000, []), index.renew(), index.unregister()):
        with pytest.raises(UsageError, match="only a node"):
            await call


async def test_thousands_are_published_over_a_few_connections(
    index: IndexClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = iter(f"{number:04}" for number in range(2000))

    async def publish_in_turn() -> None:
        for name in names:
            await index.publish(torrent(name))

    await asyncio.gather(*(publish_in_turn() for _ in range(8)))

    listed = await index.list(everything=True)
    assert [one.name for one in listed] == [f"{number:04}" for number in range(2000)]


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
        for wanted in (f"a@{'0' * 8}", "0" * 40, "b", "a/b", "", "4"):
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


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"lease": 30}', b'{"lease": 0, "renew_every": 1, "unknown": []}']
)
async def test_a_lease_that_is_none_is_recognised(body: bytes) -> None:
    async with raw_server(reply(body)) as server:
        node = node_at(client_of(server.port))
        with pytest.raises(TrackerError, match="not as a p2pfs index"):
            await node.register(9000, [])


async def test_an_error_with_odd_candidates_or_names_is_still_told() -> None:
    for status, kind in (("404 Not Found", UnknownError), ("409 Conflict", AmbiguousError)):
        body = json.dumps({"error": "no", "near": ["a", 5], "candidates": ["a@1"]}).encode()
        async with raw_server(reply(body, status=status)) as server:
            with pytest.raises(kind, match=r"the index at .*: no$"):
                await client_of(server.port).fetch("a")


async def test_what_to_do_when_no_index_answers_can_be_said_by_the_caller() -> None:
    async with raw_server(b"") as server:
        base = base_url("127.0.0.1", server.port)

    with pytest.raises(TrackerError, match="look into the cellar"):
        await IndexClient(base, advice="look into the cellar").reach()
    async with raw_server(reply(b"<html>")) as server:
        base = base_url("127.0.0.1", server.port)
        with pytest.raises(TrackerError, match=r"not as a p2pfs index.*look into the cellar"):
            await IndexClient(base, advice="look into the cellar").list()
