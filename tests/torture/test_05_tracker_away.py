"""Case 5: the tracker is killed in the middle of a swarm, and comes back later."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable

import pytest

from tests.e2e.processes import Lab, no_traceback, until

pytestmark = pytest.mark.torture

NAME = "content.bin"
SIZE = 40 << 20
LEECHERS = 3
AWAY = 20.0
INTERVAL = 10
ATTEMPTS = 5
"""Announces that may fail in that time: one, then others after 2, 4, 8 and 10 seconds, each
up to a quarter sooner."""


def names(lab: Lab) -> set[str]:
    """What the tracker's catalogue lists, live or not."""
    url = f"http://127.0.0.1:{lab.tracker_port}/torrents?all=1"
    with urllib.request.urlopen(url, timeout=10) as reply:
        return {entry["name"] for entry in json.load(reply)["torrents"]}


def test_transfers_go_on_without_the_tracker_and_it_soon_knows_everybody_again(
    lab: Lab, figures: Callable[[str], None]
) -> None:
    options = ("--interval", str(INTERVAL), "--min-interval", "5", "--data-dir", "catalogue")
    tracker = lab.tracker(*options)
    lab.content(NAME, SIZE)
    for number in range(20):
        lab.content(f"{number}.txt", 100 + number)
    torrent = lab.torrent(f"seeds/{NAME}")  # the same as the seeder makes
    seeder = lab.seed("--up-limit", "1M")
    published = names(lab)
    leechers = [
        lab.download(NAME, "-o", f"o{n}", "--keep-seeding", "--log-file", f"log{n}")
        for n in range(LEECHERS)
    ]
    for leecher in leechers:
        leecher.progress(lambda event: event["peers"] == LEECHERS and event["pieces_done"] > 0)

    tracker.kill()
    killed = grown = time.monotonic()
    pause, count = 0.0, 0
    while time.monotonic() < killed + AWAY:
        time.sleep(0.2)
        now = sum(leecher.ask()["downloaded"] for leecher in leechers)
        if now > count:
            pause = max(pause, time.monotonic() - grown)
            grown, count = time.monotonic(), now
    done = [leecher.last()["pieces_done"] for leecher in leechers]
    lab.p2pfs(
        "tracker", "--host", "127.0.0.1", "-d", str(lab.tracker_port), "--json", *options
    ).event("ready")
    back = time.monotonic()
    kept = names(lab)

    lab.await_scrape(torrent, complete=1, incomplete=LEECHERS)
    heard = time.monotonic() - back
    until(lambda: all("answered" in one.ask()["tracker"] for one in leechers))
    attempts = [lab.read(f"log{n}").count(b"did not answer") for n in range(LEECHERS)]
    for leecher in leechers:
        leecher.event("complete")

    figures(
        f"{AWAY:.0f} s without a tracker: nothing came for {pause:.1f} s at most, "
        f"{max(attempts)} announces failed at most; all were listed again after {heard:.1f} s"
    )
    assert min(done) > 0
    assert max(done) < lab.metainfo(torrent).geometry.piece_count
    assert pause < 3
    assert len(published) == 21
    assert kept == published
    assert heard <= INTERVAL + 1
    assert max(attempts) <= ATTEMPTS
    for number in range(LEECHERS):
        assert lab.sha256(f"o{number}/{NAME}") == lab.sha256(f"seeds/{NAME}")
    no_traceback(seeder, *leechers)
