"""What a running command says: figures, names from others, and the JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from p2pfs.cli import views
from p2pfs.cli.json_screen import JsonScreen
from p2pfs.cli.screen import PlainScreen, success_line
from p2pfs.cli.text import width as columns
from p2pfs.net.progress import PeerInfo, Progress, Source

HOSTILE = "a\x1b[2J\r\nb\u202e"

PROGRESS = Progress(
    name="film.mkv",
    state="downloading",
    pieces_done=21,
    pieces_total=50,
    bytes_done=21 * 2**20,
    bytes_total=50 * 2**20,
    down_rate=3_140_000.0,
    up_rate=0.0,
    eta=9.7,
    peers=2,
    downloaded=22 * 2**20,
    uploaded=5 * 2**20,
    wasted=2**20,
    hash_failures=1,
    sources=(
        Source("10.0.0.7:9000", "p2pfs 0.1", 2 * 2**20, 0),
        Source("10.0.0.8:9000", "libtorrent 2.1", 20 * 2**20, 5 * 2**20),
        Source("10.0.0.9:9000", "p2pfs 0.1", 0, 0),
    ),
    missing=(),
    asked=3,
    error=None,
    tracker="10.0.0.5:9999: 3 peers",
)
PEER = PeerInfo(
    address="10.0.0.7:9000",
    client="p2pfs 0.1",
    direction="out",
    down_rate=1000.0,
    up_rate=0.0,
    pieces=50,
    bytes_down=2048,
    bytes_up=0,
    am_choking=True,
    am_interested=True,
    peer_choking=False,
    peer_interested=False,
    snubbed=False,
)


def test_a_progress_line_has_every_figure() -> None:
    assert views.progress_line(PROGRESS) == (
        "film.mkv: downloading 42.0 %, 21/50 pieces, 21.0 MiB of 50.0 MiB, down 3.1 MB/s, "
        "up 0 B/s, ETA 10 s, 2 peers, 1.0 MiB wasted, 1 bad piece"
    )


def test_without_peers_the_tracker_has_its_say_and_an_error_goes_first() -> None:
    alone = replace(PROGRESS, peers=0)
    assert views.progress_line(alone).endswith("10.0.0.5:9999: 3 peers")
    broken = replace(alone, error="the disk is full")
    assert views.progress_line(broken).endswith("the disk is full")


def test_only_all_of_it_is_100_percent() -> None:
    almost = replace(PROGRESS, bytes_done=PROGRESS.bytes_total - 1)
    assert views.percent(almost) == "99.9 %"
    assert views.percent(replace(PROGRESS, bytes_done=PROGRESS.bytes_total)) == "100.0 %"
    empty = replace(PROGRESS, bytes_done=0, bytes_total=0, pieces_done=0, pieces_total=0)
    assert views.percent(empty) == "100.0 %"


@pytest.mark.parametrize("width", [20, 40, 80, 120, 300])
def test_the_bar_fits_the_width(width: int) -> None:
    assert len(views.bar_line([PROGRESS], width)) <= width
    assert len(views.bar_line([PROGRESS, replace(PROGRESS, name="n" * 300)], width)) <= width
    assert columns(views.bar_line([replace(PROGRESS, name="文" * 30)], width)) <= width


def test_the_bar_shows_what_is_still_loading() -> None:
    seeding = replace(PROGRESS, name="other", state="seeding", bytes_done=PROGRESS.bytes_total)
    line = views.bar_line([PROGRESS, seeding], 100)
    assert line.startswith("film.mkv [")
    assert " 42.0 %  21/50  down 6.3 MB/s" in line
    assert views.bar_line([seeding], 100).startswith("other [####")


def test_sources_are_listed_by_what_they_gave_and_those_who_gave_nothing_are_not() -> None:
    table = views.sources_table(PROGRESS).splitlines()
    assert [line.split()[0] for line in table] == ["peer", "10.0.0.8:9000", "10.0.0.7:9000"]
    assert "90.9 %" in table[1]
    assert views.sources_table(replace(PROGRESS, sources=())) == ""


def test_missing_pieces_are_described_with_how_many_were_asked() -> None:
    stuck = replace(PROGRESS, missing=(3, 4, 5, 9))
    assert views.describe_missing(stuck) == (
        "Missing 4 of 50 pieces of film.mkv (3-5, 9): none of the 3 peers asked has them; "
        "waiting for a peer that has them"
    )
    assert "the one peer asked does not have it" in views.describe_missing(
        replace(PROGRESS, missing=(3,), asked=1)
    )


def test_nothing_is_called_missing_before_anyone_was_asked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    PlainScreen("download").report([replace(PROGRESS, missing=(3, 4), asked=0)])
    assert "Missing" not in capsys.readouterr().out


def test_what_was_sent_is_told_in_copies() -> None:
    assert views.upload_line(PROGRESS) == "film.mkv: sent 5.0 MiB (0.10 copies) to 1 peer"


def test_nothing_that_others_named_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    source = Source(HOSTILE, HOSTILE, 1, 1)
    progress = replace(
        PROGRESS,
        name=HOSTILE,
        sources=(source,),
        missing=(1,),
        tracker=HOSTILE,
        error=HOSTILE,
        state="error",
    )
    peer = replace(PEER, client=HOSTILE, address=HOSTILE, direction=HOSTILE)
    for screen in (PlainScreen("peer"), JsonScreen("peer")):
        screen.ready([("127.0.0.1", 1)], torrents=HOSTILE)
        screen.note(HOSTILE)
        screen.progress([progress], 0.0)
        screen.report([progress])
        screen.peers([(progress, peer)])
        screen.missing(progress)
        screen.complete(progress, Path("output") / HOSTILE, 1.0)
        screen.finish(0, None)
    out = capsys.readouterr().out
    for character in ("\x1b", "\r", "\u202e"):
        assert character not in out
    assert "\nb" not in out


def test_every_json_line_is_an_object_with_its_event(capsys: pytest.CaptureFixture[str]) -> None:
    screen = JsonScreen("download")
    screen.ready([("127.0.0.1", 9000), ("::1", 9000)], torrents="downloading film.mkv")
    screen.progress([PROGRESS], 0.0)
    screen.peers([(PROGRESS, PEER)])
    screen.help()
    screen.missing(replace(PROGRESS, missing=(3, 4)))
    screen.complete(PROGRESS, Path("output/film.mkv"), 1.25)
    screen.finish(0, None)
    objects = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [entry["event"] for entry in objects] == [
        "ready",
        "progress",
        "peers",
        "help",
        "missing",
        "complete",
        "final",
    ]
    assert objects[0]["addresses"] == ["127.0.0.1:9000", "[::1]:9000"]
    assert objects[4] | {"event": ""} == {
        "event": "",
        "name": "film.mkv",
        "pieces": [3, 4],
        "count": 2,
        "asked": 3,
    }
    assert objects[-1]["message"] == "Successfully Downloaded film.mkv to output/film.mkv"
    assert objects[-1]["torrents"][0]["seconds"] == 1.25


def test_web_seeds_are_told_beside_peers():
    alone = replace(PROGRESS, peers=0, web_seeds=1, tracker="no tracker")

    assert "0 peers, 1 web seed, " in views.progress_line(alone)
    assert "no tracker" not in views.progress_line(alone)
    assert "web seed" not in views.progress_line(PROGRESS)


def test_plain_progress_lines_come_at_most_every_two_seconds_and_only_with_news(
    capsys: pytest.CaptureFixture[str],
) -> None:
    screen = PlainScreen("download")
    more = replace(PROGRESS, bytes_done=PROGRESS.bytes_done + 1)
    for now, progress in ((10, PROGRESS), (11, PROGRESS), (12.5, PROGRESS), (13, more)):
        screen.progress([progress], now)
    assert len(capsys.readouterr().out.splitlines()) == 1
    for now in (15, 17.5, 20):
        screen.progress([more], now)
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_the_success_line_names_the_folder_also_when_it_is_this_one():
    line = "Successfully Downloaded film.mkv to "

    assert success_line(PROGRESS, Path("output/film.mkv")) == line + "output/film.mkv"
    assert success_line(PROGRESS, Path("./film.mkv")) == line + "./film.mkv"


def test_the_success_line_of_chosen_files_says_how_many_they_are():
    some = replace(PROGRESS, name="ds", files_chosen=2, files_total=7)
    line = "Successfully Downloaded 2 of 7 files of ds to o3/ds"

    assert success_line(some, Path("o3/ds")) == line
    assert success_line(replace(some, files_chosen=None), Path("o3/ds")) == (
        "Successfully Downloaded ds to o3/ds"
    )
