"""`scrape` at real trackers, over HTTP and UDP."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote

import pytest

pytestmark = pytest.mark.slow

NAME = "film.bin"


@pytest.fixture
def known(swarm: Any) -> str:
    """A torrent that one seeder shares; the .torrent names the tracker by UDP and by HTTP."""
    swarm.tracker()
    swarm.content(NAME, 50_000)
    made = swarm.run(
        "make-torrent", f"seeds/{NAME}", "-o", "t.torrent",
        "-t", f"udp://127.0.0.1:{swarm.port}/announce",
        "-t", f"http://127.0.0.1:{swarm.port}/announce",
    )  # fmt: skip
    assert made.wait() == 0
    seeder = swarm.start("seed", *swarm.where(), "-f", "t.torrent")
    seeder.line_with("ready")
    while "1" not in swarm.run("scrape", "t.torrent").lines[-1].split():
        pass
    return "t.torrent"


def info_hash(swarm: Any, torrent: str) -> str:
    return str(json.loads(swarm.run("show", torrent, "--json").lines[0])["info_hash"])


def events(process: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in process.lines]


def test_each_tracker_of_a_torrent_is_asked_and_shown_with_its_counts(
    swarm: Any, known: str
) -> None:
    asked = swarm.run("scrape", known)

    assert asked.wait() == 0
    assert [line.split() for line in asked.lines] == [
        ["name", "seeders", "leechers", "completed", "tracker"],
        [NAME, "1", "0", "0", f"http://127.0.0.1:{swarm.port}/announce"],
        [NAME, "1", "0", "0", f"udp://127.0.0.1:{swarm.port}/announce"],
    ]
    assert asked.errors == []


def test_a_hash_is_asked_of_the_trackers_that_are_named(swarm: Any, known: str) -> None:
    digits = info_hash(swarm, known)
    url = f"udp://127.0.0.1:{swarm.port}"

    asked = swarm.run(
        "scrape", digits.upper(), "-t", url, "-i", "127.0.0.1", "-d", str(swarm.port), "--json"
    )

    assert asked.wait() == 0
    one, other, final = events(asked)
    assert (one["tracker"], other["tracker"]) == (f"http://127.0.0.1:{swarm.port}/announce", url)
    for found in (one, other):
        assert (found["event"], found["info_hash"]) == ("scraped", digits)
        assert (found["seeders"], found["leechers"], found["downloaded"]) == (1, 0, 0)
    assert (one["downloaders"], other["downloaders"]) == (0, None)
    assert final == {"event": "final", "ok": True, "exit_code": 0, "error": None, "count": 2}


def test_a_magnet_link_is_asked_of_its_own_trackers(swarm: Any, known: str) -> None:
    digits = info_hash(swarm, known)
    url = f"udp://127.0.0.1:{swarm.port}/announce"
    link = f"magnet:?xt=urn:btih:{digits}&dn=The+film&tr={quote(url, safe='')}"

    asked = swarm.run("scrape", link)

    assert asked.wait() == 0
    assert asked.lines[1].split("  ")[0] == "The film"
    assert asked.lines[1].split()[2:] == ["1", "0", "0", url]


def test_a_hash_may_be_in_base32(swarm: Any, known: str) -> None:
    digits = info_hash(swarm, known)
    text = base64.b32encode(bytes.fromhex(digits)).decode().lower()

    asked = swarm.run("scrape", text, "-i", f"127.0.0.1:{swarm.port}")

    assert asked.lines[1].split()[:4] == [digits, "1", "0", "0"]


def test_several_torrents_are_asked_together(swarm: Any, known: str) -> None:
    unknown = "0" * 40

    asked = swarm.run("scrape", known, unknown, known, "-i", f"127.0.0.1:{swarm.port}")

    assert asked.wait() == 0
    assert [line.split()[:4] for line in asked.lines[1:]] == [
        [NAME, "1", "0", "0"],
        [unknown, "-", "-", "-"],
    ]


def test_torrents_of_one_name_are_told_apart_by_their_hashes(swarm: Any, known: str) -> None:
    made = swarm.run("make-torrent", f"seeds/{NAME}", "-o", "other.torrent", "-l", "32KiB")
    assert made.wait() == 0

    asked = swarm.run("scrape", known, "other.torrent", "-i", f"127.0.0.1:{swarm.port}")

    assert asked.wait() == 0
    assert [line.split()[:2] for line in asked.lines[1:]] == [
        [f"{NAME}@{info_hash(swarm, known)[:8]}", "1"],
        [f"{NAME}@{info_hash(swarm, 'other.torrent')[:8]}", "-"],
    ]


def test_a_tracker_that_is_away_is_named_and_the_others_answer(swarm: Any, known: str) -> None:
    away = "udp://127.0.0.1:1/announce"
    asked = swarm.run("scrape", known, "-t", away, "-i", f"127.0.0.1:{swarm.port}")

    assert asked.wait() == 0
    assert len(asked.lines) == 2
    assert len(asked.errors) == 1
    assert f"tracker {away} did not answer" in asked.errors[0]


def test_without_any_answer_it_fails(swarm: Any) -> None:
    asked = swarm.run("scrape", "1" * 40, "-t", "udp://127.0.0.1:1/announce", "--json")

    assert asked.wait() == 1
    failed, final = events(asked)
    assert failed["event"] == "failed"
    assert "nothing listens there" in failed["error"]
    assert (final["ok"], final["exit_code"], final["count"]) == (False, 1, 0)
    assert final["error"] == "no tracker of 1 torrent answered"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["1" * 40], "names no tracker: say which to ask with -t URL or -i HOST"),
        (["film.bin"], "neither a .torrent file nor a magnet link"),
        (["1" * 39], "nor an info hash (40 hexadecimal digits)"),
        (["magnet:?xt=urn:btih:" + "1" * 40], "names no tracker"),
        (["1" * 40, "-t", "ftp://x/announce"], "is not a URL"),
        (["1" * 40, "-t", "udp://host:0"], "is not a URL"),
        ([""], "a torrent to ask about is empty"),
    ],
)
def test_wrong_usage_is_told(swarm: Any, words: list[str], why: str) -> None:
    asked = swarm.run("scrape", *words)

    assert asked.wait() == 2
    assert why in asked.errors[-1]
    assert asked.lines == []


def test_a_torrent_that_is_not_there_is_one_line(swarm: Any) -> None:
    asked = swarm.run("scrape", "gone.torrent", "--json")

    assert asked.wait() == 1
    assert asked.errors[-1].startswith("p2pfs: cannot read gone.torrent")
    assert [event["event"] for event in events(asked)] == ["final"]


def test_a_magnet_link_without_a_torrent_is_one_line(swarm: Any) -> None:
    asked = swarm.run("scrape", "magnet:?dn=film")

    assert asked.wait() == 1
    assert len(asked.errors) == 1
    assert "names no torrent" in asked.errors[0]
