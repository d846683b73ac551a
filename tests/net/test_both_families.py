"""Trackers that have IPv4 and IPv6 are announced to by both, as far as we are reached by both."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Collection
from typing import Any

import pytest

from p2pfs.errors import FormatError, NetworkError, TrackerError
from p2pfs.formats.announce_http import AnnounceReply, AnnounceRequest, Event, PeerAddress
from p2pfs.geometry import PeerId, TorrentId
from p2pfs.net.announce_client import AnnounceClient
from p2pfs.net.both_families import BOTH, ask_each, first_of_each, merged
from p2pfs.net.engine import Client
from p2pfs.net.tracker_http import TrackerServer
from tests.support.sockets import has_ipv6
from tests.support.swarm import Sample
from tests.support.waiting import until

TORRENT = TorrentId(bytes(range(20)))
V4, V6 = int(socket.AF_INET), int(socket.AF_INET6)
NAME = "tracker.example"

with_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


def request(number: int, event: Event = Event.STARTED) -> AnnounceRequest:
    peer_id = PeerId(b"%020d" % number)
    return AnnounceRequest(TORRENT, peer_id, 7000 + number, left=5, event=event, key=b"k")


@pytest.fixture
async def named(monkeypatch: pytest.MonkeyPatch) -> str:
    """A name that stands for both loopback addresses, as that of a tracker with both families."""
    loop = asyncio.get_running_loop()
    resolve = loop.getaddrinfo

    async def getaddrinfo(host: Any, port: Any, **options: Any) -> Any:
        if host != NAME:
            return await resolve(host, port, **options)
        return [
            *await resolve("::1", port, **options),
            *await resolve("127.0.0.1", port, **options),
        ]

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo, raising=False)
    return NAME


def url_of(tracker: TrackerServer, scheme: str) -> str:
    return f"{scheme}://{NAME}:{tracker.port}/announce"


@with_ipv6
@pytest.mark.parametrize("scheme", ["http", "udp"])
@pytest.mark.usefixtures("named")
async def test_a_tracker_with_both_families_hears_of_us_by_both(scheme: str) -> None:
    client = AnnounceClient()
    async with TrackerServer(port=0) as tracker:
        await client.announce(url_of(tracker, scheme), request(1), trusted=True)
        by_family = [
            await AnnounceClient(families=[family]).announce(
                url_of(tracker, scheme), request(2), trusted=True
            )
            for family in (V4, V6)
        ]

        assert tracker.store.peer_count == 2
        await client.announce(url_of(tracker, scheme), request(1, Event.STOPPED), trusted=True)
        assert tracker.store.peer_count == 1

    assert [reply.peers for reply in by_family] == [
        (PeerAddress("127.0.0.1", 7001),),
        (PeerAddress("::1", 7001),),
    ]


@pytest.mark.parametrize("scheme", ["http", "udp"])
@pytest.mark.usefixtures("named")
async def test_a_family_that_does_not_work_is_no_matter(scheme: str) -> None:
    async with TrackerServer("127.0.0.1", 0) as tracker:
        reply = await AnnounceClient().announce(url_of(tracker, scheme), request(1), trusted=True)

        assert tracker.store.peer_count == 1
    assert (reply.complete, reply.incomplete) == (0, 1)

    with pytest.raises(TrackerError, match="did not answer"):
        await AnnounceClient().announce(url_of(tracker, scheme), request(1), trusted=True)


@with_ipv6
@pytest.mark.parametrize(("bind", "families"), [("127.0.0.1", 1), ("::1", 1), (None, 2)])
@pytest.mark.usefixtures("named")
async def test_a_client_announces_by_the_families_that_it_listens_on(
    sample: Sample, bind: str | None, families: int
) -> None:
    async with TrackerServer(port=0) as tracker, Client(bind=bind) as client:
        await client.seed(sample.metainfo, sample.path, trackers=[url_of(tracker, "http")])
        await until(lambda: tracker.store.peer_count == 1)
        swarm = tracker.store._swarms[sample.info_hash]

        by_ipv4, by_ipv6 = bind != "::1", bind != "127.0.0.1"
        await until(lambda: bool(swarm.v4[0]) == by_ipv4 and bool(swarm.v6) == by_ipv6)

    assert by_ipv4 + by_ipv6 == families


ADDRESSES = [("::1", V6), ("::2", V6), ("10.0.0.1", V4)]


@pytest.mark.parametrize(
    ("families", "hosts"),
    [
        (BOTH, {V6: "::1", V4: "10.0.0.1"}),
        ({V4}, {V4: "10.0.0.1"}),
        ({V6}, {V6: "::1"}),
        (set(), {V6: "::1", V4: "10.0.0.1"}),
    ],
)
def test_one_address_of_each_family_is_asked(
    families: Collection[int], hosts: dict[int, str]
) -> None:
    assert first_of_each(ADDRESSES, families) == hosts


def test_a_tracker_of_another_family_than_ours_is_asked_all_the_same() -> None:
    assert first_of_each([("10.0.0.1", V4)], {V6}) == {V4: "10.0.0.1"}


async def test_who_does_not_answer_is_waited_for_a_moment_once_another_did() -> None:
    ended: list[str] = []

    async def ask(target: str) -> str:
        try:
            await asyncio.sleep(0 if target == "quick" else 3600)
        finally:
            ended.append(target)
        return target

    assert await ask_each(ask, ["slow", "quick"], grace=0.01) == ["quick"]
    assert ended == ["quick", "slow"]


async def test_where_all_fail_the_first_reason_is_given() -> None:
    async def ask(error: Exception) -> None:
        raise error

    with pytest.raises(NetworkError, match="connection refused"):
        await ask_each(ask, [ConnectionRefusedError(), FormatError("x")])
    with pytest.raises(FormatError, match="x"):
        await ask_each(ask, [FormatError("x"), ConnectionRefusedError()])


def test_two_answers_are_one() -> None:
    one = AnnounceReply(interval=60, peers=(PeerAddress("10.0.0.1", 1),), complete=3)
    two = AnnounceReply(
        interval=90, peers=(PeerAddress("fd00::1", 1), PeerAddress("10.0.0.1", 1)), complete=2
    )

    both = merged([one, two])

    assert both.interval == 90
    assert both.peers == (PeerAddress("10.0.0.1", 1), PeerAddress("fd00::1", 1))
    assert (both.complete, both.incomplete) == (3, None)


def test_a_refusal_counts_only_where_there_is_nothing_else() -> None:
    no, yes = AnnounceReply(failure="no", retry_in=60), AnnounceReply(interval=60)

    assert merged([no, yes]) is yes
    assert merged([no]) is no
    assert merged([no, no]).failure == "no"
