"""`ls` against a real index, and how its table looks."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from p2pfs.cli import listed_views
from p2pfs.cli.text import width
from p2pfs.net.index_client import Listed

pytestmark = pytest.mark.slow

LISTED = Listed(
    name="film.mkv",
    size=5 << 20,
    info_hash="0123456789abcdef0123456789abcdef01234567",
    published=1_700_000_000,
    seeders=3,
    leechers=2,
    downloaded=7,
)


def index_options(swarm: Any) -> tuple[str, ...]:
    return ("-i", "127.0.0.1", "-d", str(swarm.port))


def only_line(process: Any) -> str:
    assert len(process.errors) == 1, process.errors
    line: str = process.errors[0]
    assert line.startswith("p2pfs: ")
    return line


def test_names_come_one_a_line_sorted_and_nothing_else(swarm: Any) -> None:
    swarm.tracker()
    for name in ("story.txt", "Film one.mkv", "a.bin"):
        swarm.content(name, 1000)
    swarm.seed()

    listed = swarm.run("ls", *index_options(swarm))

    assert listed.wait() == 0
    assert listed.lines == ["Film one.mkv", "a.bin", "story.txt"]
    assert listed.errors == []


def test_patterns_choose_and_each_name_comes_once(swarm: Any) -> None:
    swarm.tracker()
    for name in ("story.txt", "film.mkv", "a.bin", "story.bin"):
        swarm.content(name, 1000)
    swarm.seed()

    listed = swarm.run("ls", "*.bin", "STORY", "story.*", *index_options(swarm))

    assert listed.wait() == 0
    assert listed.lines == ["a.bin", "story.bin", "story.txt"]


def test_what_nobody_has_is_listed_with_all_only(swarm: Any) -> None:
    swarm.tracker()
    swarm.content("gone.bin", 1000)
    swarm.content("here.bin", 1000)
    seeder = swarm.start("seed", *swarm.where(), "-f", "gone.bin")
    seeder.line_with("ready")
    while swarm.run("ls", *index_options(swarm)).lines != ["gone.bin"]:
        pass
    seeder.say("exit")
    assert seeder.wait() == 0
    swarm.seed("-f", "here.bin")

    assert swarm.run("ls", *index_options(swarm)).lines == ["here.bin"]
    assert swarm.run("ls", "--all", *index_options(swarm)).lines == ["gone.bin", "here.bin"]


def test_nothing_found_is_a_note_and_no_failure(swarm: Any) -> None:
    swarm.tracker()

    empty = swarm.run("ls", *index_options(swarm))
    none = swarm.run("ls", "*.pdf", "--json", *index_options(swarm))

    assert (empty.wait(), empty.lines) == (0, [])
    assert "nothing is shared now by the index at 127.0.0.1" in only_line(empty)
    assert none.wait() == 0
    assert none.events() == [
        {"event": "final", "ok": True, "exit_code": 0, "error": None, "count": 0}
    ]


def test_long_has_the_figures_and_json_has_them_exactly(swarm: Any) -> None:
    swarm.tracker()
    swarm.content("story.txt", 3000)
    swarm.seed()

    header, row = swarm.run("ls", "-l", *index_options(swarm)).lines
    found, final = swarm.run("ls", "--json", *index_options(swarm)).events()

    assert header.split() == [
        *("name", "size", "seeders", "leechers", "completed", "published", "hash"),
    ]
    assert row.startswith("story.txt  2.9 KiB        1         0          0  20")
    assert row.endswith(found["info_hash"][:8])
    assert found["event"] == "listed"
    assert (found["name"], found["size"], found["seeders"]) == ("story.txt", 3000, 1)
    assert (found["live"], found["unconfirmed"], found["files"]) == (True, False, 1)
    assert final["count"] == 1


def test_an_index_that_is_not_there_fails_with_what_to_do(swarm: Any) -> None:
    listed = swarm.run("ls", "-i", "127.0.0.1", "-d", "1", "--json")

    assert listed.wait() == 1
    assert "127.0.0.1:1" in only_line(listed)
    assert "-i" in only_line(listed)
    assert listed.events()[-1]["error"] == only_line(listed).removeprefix("p2pfs: ")


@pytest.mark.parametrize("word", ["", b"\xff".decode(errors="surrogateescape")])
def test_a_pattern_that_is_none_is_wrong_usage(swarm: Any, word: str) -> None:
    listed = swarm.run("ls", word, "-i", "127.0.0.1")

    assert listed.wait() == 2
    only_line(listed)


def test_the_table_cuts_names_to_the_terminal_and_never_otherwise() -> None:
    long = replace(LISTED, name="n" * 250)
    wide = replace(LISTED, name="文" * 100)

    for columns in (80, 100):
        table = listed_views.listed_table([long, wide, LISTED], columns=columns)
        assert max(map(width, table.splitlines())) <= columns
    assert "n" * 250 in listed_views.listed_table([long])
    assert "文" * 100 in listed_views.listed_table([wide])


def test_the_table_marks_what_is_unconfirmed_and_steers_no_terminal() -> None:
    table = listed_views.listed_table(
        [LISTED, replace(LISTED, name="a\x1b[2J\r\u202eb", unconfirmed=True)], colour=False
    )

    assert "\x1b" not in table
    assert "\u202e" not in table
    assert [line.endswith("unconfirmed") for line in table.splitlines()] == [False, False, True]
    assert re.search(r"film\.mkv +5\.0 MiB +3 +2 +7 +2023-11-1\d \d\d:\d\d +01234567", table)
