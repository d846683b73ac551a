"""Case 4: a disk that fills up, and has room again later."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.processes import Lab, no_traceback, until

pytestmark = pytest.mark.torture

NAME = "content.bin"
SIZE = 24 << 20
ROOM = 8 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder with room for `ROOM` bytes."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root can make a small disk")
    folder = tmp_path / "lab" / "output"
    folder.mkdir(parents=True)
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(folder)], capture_output=True
    )
    if made.returncode:
        pytest.skip(f"no small disk can be made here: {made.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def lab(tmp_path: Path, small_disk: Path) -> Iterator[Lab]:
    with contextlib.closing(Lab(tmp_path / "lab")) as made:
        yield made


def test_a_full_disk_stops_the_requests_and_nothing_else(
    lab: Lab, small_disk: Path, figures: Callable[[str], None]
) -> None:
    lab.tracker("--interval", "10", "--min-interval", "5")
    lab.content(NAME, SIZE)
    torrent = lab.torrent(f"seeds/{NAME}", "-l", "256KiB")
    seeder = lab.seed("-f", torrent, "--up-limit", "20M")
    leecher = lab.download(torrent)

    leecher.progress(lambda event: event["state"] == "error")
    filled = time.monotonic()
    until(lambda: quiet(seeder.ask, 0.5))
    stopped = time.monotonic() - filled - 0.5
    state = leecher.ask()
    uploaded = seeder.ask()["uploaded"]
    seeder.leave()

    other = lab.download(torrent, "-o", "elsewhere")
    other.progress(lambda event: event["pieces_done"] >= state["pieces_done"])
    served = other.ask()["pieces_done"]
    time.sleep(6)  # longer than until the next attempt to write
    still = leecher.ask()

    subprocess.run(["mount", "-o", f"remount,size={4 * SIZE}", str(small_disk)], check=True)
    room = time.monotonic()
    lab.seed("-f", torrent)
    assert leecher.wait() == 0, str(leecher)
    completed = time.monotonic() - room
    assert other.wait() == 0, str(other)

    (final,) = leecher.last("final")["torrents"]
    figures(
        f"full at {state['pieces_done']} of {SIZE >> 18} pieces, quiet after {stopped:.1f} s; "
        f"{served} pieces served from the full disk; complete {completed:.1f} s after there was "
        f"room; {final['downloaded'] / SIZE:.2f} copies downloaded, {final['wasted']} bytes wasted"
    )
    assert "full" in state["error"]
    assert still["state"] == "error"
    assert still["pieces_done"] >= state["pieces_done"]
    assert uploaded < 2 * ROOM + (8 << 20)
    assert stopped <= 3
    assert completed <= 60
    assert final["downloaded"] <= 1.2 * SIZE
    assert lab.sha256(f"output/{NAME}") == lab.sha256(f"seeds/{NAME}")
    assert lab.sha256(f"elsewhere/{NAME}") == lab.sha256(f"seeds/{NAME}")
    no_traceback(leecher, other)


def quiet(ask: Callable[[], dict[str, int]], seconds: float) -> bool:
    """Whether nothing was uploaded for so long."""
    before = ask()["uploaded"]
    time.sleep(seconds)
    return ask()["uploaded"] == before
