"""Case 7: the only seeder is killed at 50 % and comes back."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import pytest

from tests.e2e.processes import Lab, Running, until

pytestmark = [
    pytest.mark.torture,
    pytest.mark.skipif(sys.platform != "linux", reason="processor time is read from /proc"),
]

NAME = "content.bin"
SIZE = 64 << 20
LEECHERS = 4
WATCHED = 6.0
"""Seconds over which the idle leechers are watched."""


def has(leecher: Running) -> tuple[int, tuple[int, ...]]:
    """How many pieces it has, and which ones nobody around has."""
    event = leecher.last()
    return event["pieces_done"], tuple(event["missing"])


def test_leechers_without_a_seeder_level_to_what_they_have_and_idle(
    lab: Lab, figures: Callable[[str], None]
) -> None:
    lab.tracker("--interval", "30", "--min-interval", "5")
    lab.content(NAME, SIZE)
    torrent = lab.torrent(f"seeds/{NAME}", "-l", "256KiB")
    leechers = [lab.download(torrent, "-o", f"o{n}", "--keep-seeding") for n in range(LEECHERS)]
    seeder = lab.seed("-f", torrent, "--up-limit", "8M")
    seeder.progress(lambda event: event["uploaded"] >= SIZE / 2)

    seeder.kill()
    start = time.monotonic()

    def level() -> bool:
        states = {has(leecher) for leecher in leechers}
        done, missing = next(iter(states))
        return len(states) == 1 and done + len(missing) == 256

    until(level, lambda: str([has(leecher)[0] for leecher in leechers]))
    levelled = time.monotonic() - start
    union = has(leechers[0])[0]
    assert 64 < union < 192

    before = [leecher.cpu_seconds() for leecher in leechers]
    time.sleep(WATCHED)
    shares = [
        (leecher.cpu_seconds() - was) / WATCHED
        for leecher, was in zip(leechers, before, strict=True)
    ]

    start = time.monotonic()
    lab.seed("-f", torrent)
    for leecher in leechers:
        leecher.event("complete")
    finished = time.monotonic() - start
    figures(
        f"{LEECHERS} leechers level at {union} of 256 pieces {levelled:.1f} s after the kill; idle "
        f"at {', '.join(f'{100 * share:.1f} %' for share in shares)} of a processor; complete "
        f"{finished:.1f} s after the seeder's return"
    )
    for number in range(LEECHERS):
        assert lab.sha256(f"o{number}/{NAME}") == lab.sha256(f"seeds/{NAME}")
    assert max(shares) < 0.02
    assert finished <= 60
