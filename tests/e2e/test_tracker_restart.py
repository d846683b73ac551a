"""A tracker that is killed in the middle of its work, and comes back without its memory."""

from __future__ import annotations

import json
import urllib.request

import pytest

from tests.e2e.processes import Lab, Running, no_traceback, until

pytestmark = pytest.mark.slow

NAME = "content.bin"
SIZE = 2 << 20


def names(lab: Lab) -> list[str]:
    """What the tracker lists."""
    url = f"http://127.0.0.1:{lab.tracker_port}/torrents?all=1"
    with urllib.request.urlopen(url, timeout=10) as reply:
        return [entry["name"] for entry in json.load(reply)["torrents"]]


def start_again(lab: Lab, *more: str) -> Running:
    """A tracker where the last one was."""
    tracker = lab.p2pfs(
        "tracker", "--host", "127.0.0.1", "-d", str(lab.tracker_port), "--json", *more
    )
    tracker.event("ready")
    return tracker


def test_a_tracker_that_forgot_the_names_is_told_them_again(lab: Lab) -> None:
    tracker = lab.tracker("--interval", "5", "--min-interval", "5")
    lab.content(NAME, SIZE)
    lab.content("other.bin", 1000)
    seeder = lab.seed("-f", NAME, "-f", "other.bin")
    assert names(lab) == [NAME, "other.bin"]

    tracker.kill()
    again = start_again(lab, "--interval", "5", "--min-interval", "5")
    until(lambda: names(lab) == [NAME, "other.bin"], lambda: f"{names(lab)}\n{seeder}")

    late = lab.download(NAME)
    assert late.wait() == 0, str(late)
    assert lab.sha256(f"output/{NAME}") == lab.sha256(f"seeds/{NAME}")
    assert seeder.leave()["exit_code"] == 0
    no_traceback(seeder, late, again)


def test_a_tracker_that_is_away_for_some_announces_is_told_the_names_as_well(lab: Lab) -> None:
    tracker = lab.tracker("--interval", "5", "--min-interval", "5")
    lab.content(NAME, SIZE)
    seeder = lab.seed("-f", NAME)

    tracker.kill()
    until(lambda: "did not answer" in seeder.ask()["tracker"], lambda: str(seeder))
    start_again(lab, "--interval", "5", "--min-interval", "5")

    until(lambda: names(lab) == [NAME], lambda: f"{names(lab)}\n{seeder}")
    no_traceback(seeder)
