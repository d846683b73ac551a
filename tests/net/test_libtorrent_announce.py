"""A foreign client, libtorrent, at our tracker: it is listed and is given our peers."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from p2pfs.formats.announce_http import AnnounceRequest
from p2pfs.formats.metainfo import FileEntry, build
from p2pfs.geometry import PeerId
from p2pfs.net.announce_client import AnnounceClient
from p2pfs.net.tracker_http import TrackerServer

lt: Any = pytest.importorskip("libtorrent")

T = TypeVar("T")

META = build(
    name="foreign",
    files=[FileEntry(("foreign",), 50_000)],
    multi_file=False,
    piece_length=16384,
    pieces=bytes(range(80)),
)


@pytest.fixture
async def start_session() -> AsyncIterator[Callable[[str], Any]]:
    """Makes libtorrent sessions that listen on one address."""
    sessions: list[Any] = []

    def start(host: str) -> Any:
        sessions.append(lt.session(SETTINGS | {"listen_interfaces": f"{host}:0"}))
        return sessions[-1]

    yield start
    await asyncio.to_thread(sessions.clear)  # its end waits for answers to its last announces


SETTINGS = {
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "enable_outgoing_utp": False,
    "stop_tracker_timeout": 1,
    "allow_multiple_connections_per_ip": True,
    "alert_mask": lt.alert.category_t.all_categories,
}


async def wait_for(
    session: Any, kind: type, read: Callable[[Any], T], *, count: int = 1
) -> list[T]:
    """What is read from the next alerts of this kind, as many as asked for.

    libtorrent gives alerts in batches, once, and takes them back with the next one: each is read
    at once and none is left for a later call. It is asked from a thread, because a callback of
    its own waits for Python while it holds the lock that Python's calls wait for.
    """
    found: list[T] = []
    async with asyncio.timeout(60):
        while len(found) < count:
            await asyncio.to_thread(session.wait_for_alert, 1000)
            for alert in session.pop_alerts():
                assert not isinstance(alert, lt.tracker_error_alert), alert.message()
                if isinstance(alert, kind):
                    found.append(read(alert))
    return found


def add(session: Any, url: str, folder: Path) -> Any:
    params = lt.add_torrent_params()
    params.ti = lt.torrent_info(META.to_bytes())
    params.trackers = [url]
    params.save_path = str(folder)
    return session.add_torrent(params)


OURS = AnnounceRequest(META.torrent_id, PeerId(b"-PF0000-" + b"x" * 12), 7, left=0)


_NUMBERS = itertools.count(21)


def own_url(tracker: TrackerServer, scheme: str) -> str:
    """The tracker under an address that no other test uses.

    libtorrent remembers connection ids by address for a minute, all its sessions together.
    """
    return f"{scheme}://127.0.0.{next(_NUMBERS)}:{tracker.port}/announce"


@pytest.mark.parametrize("scheme", ["http", "udp"])
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
async def test_libtorrent_announces_to_our_tracker_and_gets_our_peers(
    host: str,
    scheme: str,
    tmp_path: Path,
    start_session: Callable[[str], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with TrackerServer(port=0) as tracker:
        if len(tracker.addresses) < 2 and ":" in host:
            pytest.skip("no IPv6 here")
        removed = asyncio.Event()
        remove = tracker.store.remove

        def watched(*arguments: Any) -> Any:
            removed.set()
            return remove(*arguments)

        monkeypatch.setattr(tracker.store, "remove", watched)
        url = own_url(tracker, scheme)
        if ":" in host:
            url = f"{scheme}://{host}:{tracker.port}/announce"
        await AnnounceClient().announce(url, OURS)

        session = start_session(host)
        handle = add(session, url, tmp_path)
        [num_peers] = await wait_for(session, lt.tracker_reply_alert, lambda reply: reply.num_peers)
        seen = await AnnounceClient().announce(url, OURS)

        assert num_peers == 1
        assert [peer.port for peer in seen.peers] == [session.listen_port()]
        assert [peer.host for peer in seen.peers] == [host.strip("[]")]
        assert (seen.complete, seen.incomplete) == (1, 1)

        session.remove_torrent(handle)
        await asyncio.wait_for(removed.wait(), 20)
        assert (await AnnounceClient().announce(url, OURS)).incomplete == 0


@pytest.mark.parametrize("scheme", ["http", "udp"])
async def test_libtorrent_scrapes_our_tracker(
    scheme: str, tmp_path: Path, start_session: Callable[[str], Any]
) -> None:
    async with TrackerServer(port=0) as tracker:
        url = own_url(tracker, scheme)
        await AnnounceClient().announce(url, OURS)
        session = start_session("127.0.0.1")
        session.apply_settings({"ssrf_mitigation": False})  # else it scrapes nobody on loopback
        handle = add(session, url, tmp_path)
        await wait_for(session, lt.tracker_reply_alert, repr)

        handle.scrape_tracker()
        counts = await wait_for(
            session, lt.scrape_reply_alert, lambda reply: (reply.complete, reply.incomplete)
        )

        assert counts == [(1, 1)]


async def test_libtorrent_is_one_peer_whether_it_announces_by_http_or_udp(
    tmp_path: Path, start_session: Callable[[str], Any]
) -> None:
    async with TrackerServer(port=0) as tracker:
        urls = [tracker.url, own_url(tracker, "udp")]
        session = start_session("127.0.0.1")
        session.apply_settings({"announce_to_all_trackers": True, "announce_to_all_tiers": True})
        params = lt.add_torrent_params()
        params.ti = lt.torrent_info(META.to_bytes())
        params.trackers = urls
        params.save_path = str(tmp_path)
        session.add_torrent(params)
        told = await wait_for(session, lt.tracker_reply_alert, lambda reply: reply.url, count=2)

        assert sorted(told) == sorted(urls)
        assert (await AnnounceClient().announce(urls[1], OURS)).incomplete == 1
