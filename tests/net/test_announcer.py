"""Announcing against the real tracker, and against servers that do what trackers should not."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from p2pfs.errors import TrackerError
from p2pfs.formats.announce_http import (
    AnnounceReply,
    AnnounceRequest,
    Event,
    PackedReply,
    PeerAddress,
    encode_failure,
    encode_reply,
)
from p2pfs.geometry import PeerId, TorrentId
from p2pfs.net import announcer as announcer_module
from p2pfs.net.announce_client import AnnounceClient
from p2pfs.net.announcer import Announcer
from p2pfs.net.tracker_http import TrackerServer
from p2pfs.swarm.announcing import DEFAULT_MIN_INTERVAL, MAX_INTERVAL, MIN_INTERVAL, Tiers
from tests.support.rawhttp import Answer, RawServer, raw_server, reply
from tests.support.waiting import until

pytestmark = [
    pytest.mark.loops("uvloop"),
    pytest.mark.usefixtures("tracker_runtime", "nothing_left"),
]

TORRENT = TorrentId(bytes(range(40, 60)))
PEERS = (PeerAddress("10.0.0.1", 5), PeerAddress("10.0.0.2", 6))
GOOD = reply(encode_reply(PackedReply(interval=900, peers=b"\x0a\0\0\1\0\5\x0a\0\0\2\0\6")))


class Asker:
    """An announcer with what it found; its schedule can be looked at."""

    def __init__(self, *urls: str, transport: Any = None, **options: Any) -> None:
        self.found: list[PeerAddress] = []
        self.news = asyncio.Event()
        self.left = 100
        self.returns = 0
        values: dict[str, Any] = {
            "torrent_id": TORRENT,
            "peer_id": PeerId(b"%020d" % 1),
            "port": 7001,
            "key": b"key",
            "complete": False,
            "partial_seed": False,
            "totals": lambda: (1, 2, self.left),
            "found": self._find,
            "returned": self._return,
            "rng": random.Random(1),
        }
        self.announcer = Announcer(
            transport or AnnounceClient(seconds=5),
            Tiers([list(urls)] if urls else [], random.Random(3)),
            frozenset(urls),
            **(values | options),
        )

    def _return(self) -> None:
        self.returns += 1

    def _find(self, peers: Iterable[PeerAddress]) -> None:
        self.found += peers
        self.news.set()

    @property
    def wait(self) -> float:
        """Seconds until the next announce."""
        return self.announcer._schedule.next_at - asyncio.get_running_loop().time()

    async def answered(self) -> None:
        async with asyncio.timeout(10):
            await self.news.wait()
        self.news.clear()

    async def said(self, words: str) -> None:
        await until(lambda: words in self.announcer.status, what=lambda: self.announcer.status)


class Tracker:
    """Answers from a list, the last one for ever; keeps what it was asked."""

    def __init__(self, *answers: AnnounceReply | Exception) -> None:
        self.requests: list[AnnounceRequest] = []
        self._answers = answers

    async def announce(self, url: str, request: AnnounceRequest, *, trusted: bool) -> AnnounceReply:
        self.requests.append(request)
        answer = self._answers[min(len(self.requests), len(self._answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self) -> None: ...

    @property
    def events(self) -> list[Event]:
        return [request.event for request in self.requests]


@pytest.fixture
async def tracker() -> AsyncIterator[TrackerServer]:
    async with TrackerServer("127.0.0.1", 0) as server:
        yield server


async def hang(head: bytes, writer: asyncio.StreamWriter) -> None:
    """Answer nothing until the asker leaves or the server ends."""
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


def events_of(server: RawServer) -> list[str]:
    """The events that a raw server was told."""
    lines = [head.split(b"\r\n")[0].decode() for head in server.requests]
    return [line.partition("event=")[2].partition("&")[0].partition(" ")[0] for line in lines]


async def test_two_announcers_find_each_other_at_a_real_tracker(tracker: TrackerServer) -> None:
    first = Asker(tracker.url)
    second = Asker(tracker.url, peer_id=PeerId(b"%020d" % 2), port=7002)

    first.announcer.start()
    await first.answered()
    second.announcer.start()
    await second.answered()

    assert second.found == [PeerAddress("127.0.0.1", 7001)]
    assert "answered: 0 seeders, 2 leechers" in second.announcer.status
    assert 200 < second.wait <= 301
    await first.announcer.stop()
    await second.announcer.stop()
    assert tracker.store.peer_count == 0


async def test_completion_is_told_at_once_and_the_end_as_well(tracker: TrackerServer) -> None:
    asker = Asker(tracker.url)
    asker.announcer.start()
    await asker.answered()

    asker.left = 0
    asker.announcer.completed()
    await asker.answered()

    assert "1 seeder, 0 leechers" in asker.announcer.status
    await asker.announcer.stop()
    assert tracker.store.peer_count == 0


async def test_a_tracker_that_refuses_connections_is_tried_again_later() -> None:
    async with raw_server(b"") as server:
        port = server.port
    asker = Asker(f"http://127.0.0.1:{port}/announce")

    asker.announcer.start()
    await asker.said("nothing listens there")

    assert 1 < asker.wait < 4
    await asker.announcer.stop()


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\r\n\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        random.Random(1).randbytes(5000),
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        reply(b"<html>hello</html>"),
        reply(b"d8:interval"),
        reply(b"d" * 100_000),
        reply(b"i1e"),
        reply(b"d8:intervali99999999999999999999999e5:peers0:e"),
        reply(b"de", status="404 Not Found"),
        reply(b"", status="500 Oops"),
        reply(b"", status="302 Found", headers="Location: http://[::1]:1/x\r\n"),
        reply(b"\x1f\x8b\x08broken", headers="Content-Encoding: gzip\r\n"),
        reply(b"x" * (2 << 20)),
    ],
    ids=lambda garbage: garbage[:20].decode("latin-1").split("\r")[0] if garbage else "nothing",
)
async def test_garbage_is_waited_out_and_the_next_answer_counts(
    garbage: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2pfs.swarm.announcing.FIRST_RETRY", 0.05)
    async with raw_server(garbage, GOOD) as server:
        asker = Asker(f"http://127.0.0.1:{server.port}/announce")
        asker.announcer.start()
        await asker.answered()

        assert asker.found == list(PEERS)
        assert events_of(server) == ["started", "started"]
        await asker.announcer.stop()


@pytest.mark.parametrize(
    ("interval", "low", "high"),
    [
        (b"i-1e", MIN_INTERVAL, 1800),
        (b"i0e", MIN_INTERVAL, 1800),
        (b"i1e", MIN_INTERVAL, MIN_INTERVAL),
        (b"i77e", 77, 77),
        (b"i2147483648e", MAX_INTERVAL, MAX_INTERVAL),
        (b"3:abc", MIN_INTERVAL, 1800),
        (b"le", MIN_INTERVAL, 1800),
    ],
)
async def test_whatever_interval_a_tracker_names_the_next_announce_is_within_bounds(
    interval: bytes, low: float, high: float
) -> None:
    body = b"d8:interval" + interval + b"12:min interval" + interval + b"5:peers0:e"
    async with raw_server(reply(body)) as server:
        asker = Asker(f"http://127.0.0.1:{server.port}/announce")
        asker.announcer.start()
        await until(lambda: asker.announcer.status != "not announced yet")
        await asker.said("answered")

        assert low - 1 <= asker.wait <= high + 1
        assert len(server.requests) == 1
        await asker.announcer.stop()


async def test_a_hungry_peer_asks_no_sooner_than_the_tracker_allows() -> None:
    tracker = Tracker(AnnounceReply(interval=1000, min_interval=60))
    asker = Asker("x", transport=tracker)
    asker.announcer.start()
    await asker.answered()

    asker.announcer.need_peers(True)
    hungry = asker.wait
    asker.announcer.need_peers(False)

    assert 58 < hungry <= 60
    assert len(tracker.requests) == 1
    await asker.announcer.stop()


async def test_a_tracker_that_hangs_holds_up_neither_the_next_one_nor_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(announcer_module, "GOODBYE_TIMEOUT", 0.2)

    async with raw_server(hang) as silent, raw_server(GOOD, hang) as good:
        asker = Asker(
            f"http://127.0.0.1:{silent.port}/announce",
            f"http://127.0.0.1:{good.port}/announce",
            transport=AnnounceClient(seconds=0.2, stop_seconds=30),
        )
        asker.announcer.start()
        await asker.answered()

        assert asker.found == list(PEERS)
        async with asyncio.timeout(2):
            await asker.announcer.stop()
        assert events_of(good) == ["started", "stopped"]


async def test_a_first_announce_that_hangs_is_broken_off_and_the_tracker_told_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(announcer_module, "FIRST_ANSWER", 0.1)
    async with raw_server(hang, GOOD) as server:
        asker = Asker(
            f"http://127.0.0.1:{server.port}/announce", transport=AnnounceClient(seconds=30)
        )
        asker.announcer.start()
        await until(lambda: server.requests)

        await asker.announcer.stop()

        assert events_of(server) == ["started", "stopped"]
        assert asker.found == []


async def test_who_leaves_before_the_first_answer_is_not_listed_any_more(
    tracker: TrackerServer,
) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    class Slow(AnnounceClient):
        """Passes the first announce on at once, and its answer only when it is let."""

        async def announce(
            self, url: str, request: AnnounceRequest, *, trusted: bool = False
        ) -> AnnounceReply:
            told = await super().announce(url, request, trusted=trusted)
            if not asked.is_set():
                asked.set()
                await answer.wait()
            return told

    asker = Asker(tracker.url, transport=Slow())
    asker.announcer.start()
    await asked.wait()
    assert tracker.store.peer_count == 1

    leaving = asyncio.create_task(asker.announcer.stop())
    await asyncio.sleep(0)
    answer.set()
    await leaving

    assert tracker.store.peer_count == 0


async def test_a_tracker_that_hangs_at_the_first_announce_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(announcer_module, "GOODBYE_TIMEOUT", 0.2)
    async with raw_server(hang) as silent, raw_server(hang) as other:
        asker = Asker(
            f"http://127.0.0.1:{silent.port}/announce",
            f"http://127.0.0.1:{other.port}/announce",
            transport=AnnounceClient(seconds=30, stop_seconds=30),
        )
        asker.announcer.start()
        await until(lambda: silent.requests or other.requests)

        async with asyncio.timeout(5):
            await asker.announcer.stop()

        assert sorted([len(silent.requests), len(other.requests)]) == [0, 1]


async def test_a_refusal_is_told_and_its_wish_for_later_is_kept() -> None:
    answers: list[Answer] = [reply(encode_failure("not registered", retry_in=600))]
    async with raw_server(*answers) as server:
        asker = Asker(f"http://127.0.0.1:{server.port}/announce")
        asker.announcer.start()
        await asker.said("not registered")

        assert 590 < asker.wait <= 601
        await asker.announcer.stop()


async def test_a_refusal_for_good_does_not_keep_us_from_another_tracker() -> None:
    async with raw_server(b"") as gone:
        pass
    async with raw_server(reply(encode_failure("banned", retry_in=10**9))) as server:
        asker = Asker(
            f"http://127.0.0.1:{server.port}/announce", f"http://127.0.0.1:{gone.port}/announce"
        )
        asker.announcer.start()
        await until(lambda: asker.announcer.status != "not announced yet")

        assert asker.wait < 4
        await asker.announcer.stop()


def go_on(asker: Asker, *chosen: str) -> None:
    asker.announcer.go_on(
        complete=False,
        partial_seed=False,
        totals=lambda: (0, 0, 7),
        found=asker._find,
        returned=asker._return,
        chosen=chosen,
    )


async def test_a_tracker_that_is_chosen_later_does_not_wait_for_those_that_refuse() -> None:
    trackers = Switchboard()
    trackers.away = {"x"}
    asker = Asker("x", transport=trackers)
    asker.announcer.start()
    await asker.said("away")
    asker.announcer._schedule.failed(asyncio.get_running_loop().time(), 10_000)

    go_on(asker, "y")

    await until(lambda: trackers.asked[-1] == ("y", Event.STARTED))
    await asker.announcer.stop()


async def test_a_tracker_that_is_chosen_during_an_announce_is_asked_all_the_same() -> None:
    trackers = Switchboard()
    asker = Asker("x", transport=trackers)
    announcing = asyncio.create_task(asker.announcer._announce_safely())
    trackers.gate.clear()
    await until(lambda: trackers.asked)

    go_on(asker, "y")
    trackers.gate.set()
    await announcing

    assert asker.wait <= DEFAULT_MIN_INTERVAL
    assert asker.announcer._tiers.in_order() == ["y", "x"]


async def test_who_is_chosen_during_an_announce_that_fails_is_asked_by_it() -> None:
    trackers = Switchboard()
    trackers.away = {"x"}
    asker = Asker("x", transport=trackers)
    announcing = asyncio.create_task(asker.announcer._announce_safely())
    trackers.gate.clear()
    await until(lambda: trackers.asked)

    go_on(asker, "y")
    trackers.gate.set()
    await announcing

    assert trackers.asked == [("x", Event.STARTED), ("y", Event.STARTED)]


async def test_failures_are_asked_about_less_and_less_often() -> None:
    waits = []
    async with raw_server(b"") as gone:
        pass
    asker = Asker(f"http://127.0.0.1:{gone.port}/announce")
    for _ in range(5):
        await asker.announcer._announce_safely()
        waits.append(asker.wait)

    assert all(later > 1.2 * sooner for sooner, later in itertools.pairwise(waits))


async def test_a_fault_of_ours_in_an_announce_does_not_end_the_announcing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("p2pfs.swarm.announcing.FIRST_RETRY", 0.02)
    tracker = Tracker(ValueError("a mistake"), AnnounceReply(interval=100, peers=PEERS))
    asker = Asker("x", transport=tracker)

    asker.announcer.start()
    await asker.answered()

    assert asker.found == list(PEERS)
    assert "a mistake" in caplog.text
    await asker.announcer.stop()


async def test_a_tracker_at_which_we_fail_does_not_keep_us_from_the_next_one(
    tracker: TrackerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asker = Asker("http://127.0.0.1:70000/announce", tracker.url)
    broken = AnnounceClient.announce

    async def announce(self: AnnounceClient, url: str, *more: Any, **options: Any) -> Any:
        if "70000" in url:
            raise ValueError("Port out of range")
        return await broken(self, url, *more, **options)

    monkeypatch.setattr(AnnounceClient, "announce", announce)
    asker.announcer.start()
    await until(lambda: tracker.store.peer_count == 1)

    await asker.announcer.stop()


async def test_a_url_that_is_none_does_not_keep_us_from_the_next_one(
    tracker: TrackerServer,
) -> None:
    asker = Asker("http://127.0.0.1:70000/announce", tracker.url)

    asker.announcer.start()
    await until(lambda: tracker.store.peer_count == 1)

    await asker.announcer.stop()


async def test_a_fault_with_what_was_found_does_not_reach_the_one_who_stops_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(peers: Iterable[PeerAddress]) -> None:
        raise RuntimeError("no room")

    asker = Asker("x", transport=Tracker(AnnounceReply(interval=100, peers=PEERS)), found=refuse)
    asker.announcer.start()
    await asker.said("a fault of ours")

    await asker.announcer.stop()


async def test_a_partial_seed_says_that_it_wants_nothing() -> None:
    tracker = Tracker(AnnounceReply(interval=100))
    asker = Asker("x", transport=tracker, partial_seed=True)
    asker.announcer.start()
    await asker.answered()
    await asker.announcer.stop()

    assert tracker.events == [Event.PAUSED, Event.STOPPED]


async def test_the_tracker_id_comes_back_to_the_tracker_that_gave_it() -> None:
    tracker = Tracker(AnnounceReply(interval=100, tracker_id=b"\0id"), AnnounceReply(interval=100))
    asker = Asker("x", transport=tracker)
    asker.announcer.start()
    await asker.answered()
    asker.announcer.completed()
    await asker.answered()
    await asker.announcer.stop()

    assert [request.tracker_id for request in tracker.requests] == [None, b"\0id", b"\0id"]
    assert tracker.events == [Event.STARTED, Event.COMPLETED, Event.STOPPED]
    assert [request.numwant for request in tracker.requests][-1] == 0


async def test_without_a_tracker_nothing_is_started_and_nothing_to_stop() -> None:
    asker = Asker()
    asker.announcer.start()

    assert asker.announcer.status == "no tracker"
    await asker.announcer.stop()


# -- leaving


async def test_who_leaves_right_after_completion_is_counted_before_it_is_gone(
    tracker: TrackerServer,
) -> None:
    asker = Asker(tracker.url)
    asker.announcer.start()
    await asker.answered()

    asker.left = 0
    asker.announcer.completed()
    await asker.announcer.stop()

    entry = await AnnounceClient().scrape(tracker.url, [TORRENT], trusted=True)
    assert entry[TORRENT].downloaded == 1
    assert tracker.store.peer_count == 0
    assert asker.announcer.status == "not announced any more"


async def test_a_completion_that_is_being_told_is_told_once() -> None:
    told = asyncio.Event()

    async def slow(head: bytes, writer: asyncio.StreamWriter) -> None:
        await told.wait()
        writer.write(GOOD)

    async with raw_server(GOOD, slow, GOOD) as server:
        asker = Asker(f"http://127.0.0.1:{server.port}/announce")
        asker.announcer.start()
        await asker.answered()
        asker.announcer.completed()
        await until(lambda: len(server.requests) == 2)

        leaving = asyncio.create_task(asker.announcer.stop(patience=10))
        await asyncio.sleep(0)
        told.set()
        await leaving

        assert events_of(server) == ["started", "completed", "stopped"]


async def test_a_tracker_that_is_away_is_asked_again_before_we_leave(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("p2pfs.swarm.announcing.FIRST_RETRY", 0.02)
    good, bad = AnnounceReply(interval=100), TrackerError("away")
    tracker = Tracker(good, bad, bad, good)
    asker = Asker("x", transport=tracker)
    asker.announcer.start()
    await asker.answered()

    asker.announcer.completed()
    await asker.announcer.stop(patience=10)

    assert tracker.events == [Event.STARTED, *[Event.COMPLETED] * 3, Event.STOPPED]


async def test_an_end_in_a_hurry_cuts_the_patience_short() -> None:
    good, bad = AnnounceReply(interval=100), TrackerError("away")
    tracker = Tracker(good, bad)
    asker = Asker("x", transport=tracker)
    asker.announcer.start()
    await asker.answered()
    asker.announcer.completed()
    patient = asyncio.create_task(asker.announcer.stop(patience=1000))
    await until(lambda: len(tracker.requests) >= 2)

    async with asyncio.timeout(2):
        await asker.announcer.stop()
        await patient

    assert tracker.events[-1] is Event.STOPPED
    await asker.announcer.stop()  # and once more is harmless


async def test_who_was_never_there_tells_a_dead_tracker_nothing_in_the_end() -> None:
    tracker = Tracker(TrackerError("away"))
    asker = Asker("x", transport=tracker)
    asker.announcer.start()
    await asker.said("away")
    asker.announcer.completed()
    await until(lambda: len(tracker.requests) >= 2)

    await asker.announcer.stop()

    assert tracker.events == [Event.STARTED] * 2


async def test_leaving_may_be_given_up_and_is_ended_by_the_next_who_asks() -> None:
    async with raw_server(GOOD, hang) as server:
        asker = Asker(f"http://127.0.0.1:{server.port}/announce")
        asker.announcer.start()
        await asker.answered()
        leaving = asyncio.create_task(asker.announcer.stop(patience=1000))
        await until(lambda: len(server.requests) == 2)

        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        async with asyncio.timeout(5):
            await asker.announcer.stop()

        assert events_of(server) == ["started", "stopped"]


# -- trackers that come back


async def test_a_tracker_that_answers_again_may_have_forgotten_everything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("p2pfs.swarm.announcing.FIRST_RETRY", 0.02)
    good, bad = AnnounceReply(interval=100), TrackerError("away")
    asker = Asker("x", transport=Tracker(good, bad, bad, good))
    asker.announcer.start()
    await asker.answered()
    assert asker.returns == 0

    asker.announcer.completed()
    await asker.answered()

    assert asker.returns == 1
    await asker.announcer.stop()
    assert asker.returns == 1


@pytest.mark.parametrize(
    ("ids", "returns"),
    [
        ((b"a", b"b", b"b"), 1),
        ((b"a", b"a", b"a"), 0),
        ((b"a", None, b"a"), 0),
        ((None, b"a", b"a"), 0),
        ((b"a" * 1000, b"b" * 1000, b"c" * 1000), 0),
    ],
    ids=["another", "the same", "not told again", "told later", "too long to keep"],
)
async def test_another_tracker_id_is_another_tracker(
    ids: tuple[bytes | None, ...], returns: int
) -> None:
    tracker = Tracker(*(AnnounceReply(interval=100, tracker_id=one) for one in ids))
    asker = Asker("x", transport=tracker)
    asker.announcer.start()
    await asker.answered()
    asker.announcer.completed()
    await asker.answered()

    await asker.announcer._announce_safely()

    assert asker.returns == returns
    assert max(len(one.tracker_id or b"") for one in tracker.requests) < 257
    await asker.announcer.stop()


# -- private torrents (BEP 27)


class Switchboard:
    """Trackers of which some are away; keeps who was asked, and for what."""

    def __init__(self) -> None:
        self.away: set[str] = set()
        self.asked: list[tuple[str, Event]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def announce(self, url: str, request: AnnounceRequest, *, trusted: bool) -> AnnounceReply:
        self.asked.append((url, request.event))
        await self.gate.wait()
        if url in self.away:
            raise TrackerError("away")
        return AnnounceReply(interval=100, peers=(PeerAddress(url, 1),))

    async def close(self) -> None: ...


async def test_a_private_torrent_stays_with_its_tracker_until_that_fails() -> None:
    trackers = Switchboard()
    story: list[object] = []
    asker = Asker("x", "y", transport=trackers, switched=lambda: story.append("switched"))
    announcer = asker.announcer
    announcer._found = lambda peers: story.extend(peer.host for peer in peers)

    await announcer._announce_safely()
    ((first, _),) = trackers.asked
    other = {"x": "y", "y": "x"}[first]
    trackers.away = {first}
    await announcer._announce_safely()
    trackers.away = set()
    await announcer._announce_safely()

    assert story == [first, "switched", other, other]
    assert trackers.asked == [
        (first, Event.STARTED),
        (first, Event.NONE),
        (other, Event.STARTED),
        (other, Event.NONE),
    ]


async def test_a_public_torrent_goes_back_to_the_first_tracker_that_answers() -> None:
    trackers = Switchboard()
    asker = Asker("x", transport=trackers)
    asker.announcer._tiers = Tiers([["x"], ["y"]], random.Random(1))

    await asker.announcer._announce_safely()
    trackers.away = {"x"}
    await asker.announcer._announce_safely()
    trackers.away = set()
    await asker.announcer._announce_safely()

    assert [url for url, _ in trackers.asked] == ["x", "x", "y", "x"]
