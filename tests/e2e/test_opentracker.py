"""A foreign tracker, opentracker: our client announces and scrapes there, over UDP and HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pfs.errors import TrackerError
from p2pfs.formats.announce_http import AnnounceRequest, Event, PeerAddress
from p2pfs.formats.scrape_http import ScrapeEntry
from p2pfs.geometry import PeerId, TorrentId
from p2pfs.net.announce_client import AnnounceClient
from tests.e2e.processes import Lab, laboratory
from tests.support.opentracker import PROGRAM, OpenTracker

pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="opentracker is not installed (Debian: apt install opentracker)"
)

LISTED = TorrentId(bytes(range(20)))
FOREIGN = TorrentId(bytes(20))


@pytest.fixture
def tracker(tmp_path: Path) -> Iterator[OpenTracker]:
    made = OpenTracker(tmp_path, LISTED)
    yield made
    made.close()


def request(number: int, event: Event = Event.STARTED, left: int = 5) -> AnnounceRequest:
    return AnnounceRequest(
        LISTED, PeerId(b"%020d" % number), 1000 + number, left=left, event=event,
        key=b"%08X" % number,
    )  # fmt: skip


@pytest.mark.parametrize("scheme", ["udp", "http"])
async def test_our_client_announces_and_scrapes_at_opentracker(
    scheme: str, tracker: OpenTracker
) -> None:
    client, url = AnnounceClient(), tracker.url(scheme)

    await client.announce(url, request(1, left=0))
    second = await client.announce(url, request(2))
    await client.announce(url, request(2, Event.COMPLETED, 0))
    counts = await client.scrape(url, [LISTED])
    await client.announce(url, request(2, Event.STOPPED))
    left = await client.scrape(url, [LISTED])

    # opentracker may hand out the asker too
    assert set(second.peers) - {PeerAddress("127.0.0.1", 1002)} == {PeerAddress("127.0.0.1", 1001)}
    assert (second.complete, second.incomplete) == (1, 1)
    assert second.interval > 60
    assert counts == {LISTED: ScrapeEntry(complete=2, incomplete=0, downloaded=1)}
    assert left == {LISTED: ScrapeEntry(complete=1, incomplete=0, downloaded=1)}


async def test_peers_that_came_by_http_are_found_by_udp(tracker: OpenTracker) -> None:
    client = AnnounceClient()
    await client.announce(tracker.url("http"), request(1))

    found = await client.announce(tracker.url("udp"), request(2))

    assert PeerAddress("127.0.0.1", 1001) in found.peers


@pytest.mark.parametrize("scheme", ["udp", "http"])
async def test_a_torrent_that_opentracker_does_not_serve_is_an_error(
    scheme: str, tracker: OpenTracker
) -> None:
    asked = AnnounceRequest(FOREIGN, PeerId(b"x" * 20), 5)

    with pytest.raises(TrackerError, match=r"do not serve|not authorized"):
        await AnnounceClient().announce(tracker.url(scheme), asked)


def test_a_swarm_of_ours_meets_at_opentracker_over_udp(tmp_path: Path) -> None:
    with laboratory(tmp_path) as lab:
        lab.content("content.bin", 300_000)
        torrent, tracker = listed(lab)
        try:
            seeder = lab.p2pfs("seed", "-f", torrent, "-p", "0", "--json")
            seeder.event("ready")
            scraped = lab.run("scrape", torrent)
            while scraped.lines[-1].split()[1] != "1":
                scraped = lab.run("scrape", torrent)
            download = lab.p2pfs("download", torrent, "-p", "0", "--json")

            assert download.wait() == 0, str(download)
            assert lab.sha256("output/content.bin") == lab.sha256("seeds/content.bin")
            assert scraped.lines[-1].split()[4] == tracker.url("udp")
        finally:
            tracker.close()


def listed(lab: Lab) -> tuple[str, OpenTracker]:
    """A torrent of the content, and an opentracker that serves it."""
    draft = lab.run("make-torrent", "seeds/content.bin", "-o", "draft.torrent")
    assert draft.wait() == 0, str(draft)
    tracker = OpenTracker(lab.folder, lab.metainfo("draft.torrent").torrent_id)
    made = lab.run("make-torrent", "seeds/content.bin", "-o", "t.torrent", "-t", tracker.url("udp"))
    assert made.wait() == 0, str(made)
    return "t.torrent", tracker
