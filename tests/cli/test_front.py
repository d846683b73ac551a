"""How events of a node are told, and how lines that come in wait for their question."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from p2pfs.cli import front as front_module
from p2pfs.cli.front import Events, LineFront
from p2pfs.cli.json_screen import JsonScreen
from p2pfs.cli.screen import PlainScreen
from p2pfs.net.node import NodeEvent
from p2pfs.net.progress import Taking
from tests.support.waiting import until


class Typed(PlainScreen):
    """A screen whose input is what the test types."""

    def __init__(self) -> None:
        super().__init__("node 1")
        self.type: Callable[[str], None]
        self.end: Callable[[], None]

    async def commands(
        self, handle: Callable[[str], None], ended: Callable[[], None] = lambda: None
    ) -> None:
        self.type, self.end = handle, ended
        await asyncio.Event().wait()


class Broken(PlainScreen):
    async def commands(self, handle: Any, ended: Any = None) -> None:
        raise RuntimeError("no terminal")


async def test_lines_wait_for_their_question_in_order_and_the_end_comes_last(
    capsys: pytest.CaptureFixture[str],
) -> None:
    screen = Typed()
    async with LineFront(screen) as front:
        await asyncio.sleep(0)
        for line in ("one", "two"):
            screen.type(line)
        screen.end()

        answers = [await front.ask(f"question {number}> ") for number in range(4)]

    assert answers == ["one", "two", None, None]
    assert capsys.readouterr().out.splitlines()[:2] == ["question 0>", "question 1>"]


async def test_a_question_waits_for_its_line() -> None:
    screen = Typed()
    async with LineFront(screen) as front:
        asked = asyncio.ensure_future(front.ask("> "))
        await asyncio.sleep(0)
        assert not asked.done()
        screen.type("now")
        assert await asked == "now"


async def test_the_end_of_input_that_is_typed_in_a_terminal_is_one_answer(
    capsys: pytest.CaptureFixture[str],
) -> None:
    screen = Typed()
    screen.live = True
    async with LineFront(screen) as front:
        asked = asyncio.ensure_future(front.ask("name: "))
        await asyncio.sleep(0)
        screen.end()
        screen.type("two")

        answers = [await asked, await front.ask("> ")]

    assert answers == [None, "two"]
    assert "name: ^D" in capsys.readouterr().out.splitlines()


async def test_input_that_nobody_asks_for_is_left_where_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = 0

    async def endless(ended: Callable[[], None]) -> AsyncIterator[str]:
        nonlocal read
        while True:
            read += 1
            yield str(read)

    monkeypatch.setattr("p2pfs.cli.stdin.read_lines", endless)
    async with LineFront(PlainScreen("node 1")) as front:
        await until(lambda: read > 0)
        first = read

        answers = [await front.ask("> ") for _ in range(3 * first)]

    assert first < 1_000
    assert answers == [str(number) for number in range(1, 3 * first + 1)]


async def test_a_console_that_breaks_is_no_end_of_the_input() -> None:
    async with LineFront(Broken("node 1")) as front:
        with pytest.raises(RuntimeError, match="no terminal"):
            await front.ask("> ")


async def test_few_events_have_a_line_each_and_many_share_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    events = Events(PlainScreen("node 1"))
    events.start()
    for name in ("a", "b"):
        events(NodeEvent("shared", name))
    for number in range(200):
        events(NodeEvent("withdrawn", f"{number:03}"))
    events(NodeEvent("changed", "c\x1b[2J"))

    out: list[str] = []
    await until(lambda: out.extend(capsys.readouterr().out.splitlines()) or len(out) >= 4)

    assert out == [
        "shared: a",
        "shared: b",
        "200 files are no longer shared: 000, 001, 002 and 197 more",
        "changed, shared anew once it is quiet: c\\x1b[2J",
    ]


async def test_a_reason_that_many_files_share_is_told_once_and_no_name_twice(
    capsys: pytest.CaptureFixture[str],
) -> None:
    events = Events(PlainScreen("node 1"))
    for name in "abcdef":
        events(NodeEvent("problem", name, "no answer"))
    reason = "the name 'back\\slash' has '\\' in it, which is not allowed"
    events(NodeEvent("problem", "2024/back\\slash", reason))
    events(NodeEvent("problem", "", "the folder is gone"))
    events(NodeEvent("index_lost", "", "no answer"))

    assert capsys.readouterr().out.splitlines() == [
        "problem: a, b, c and 3 more: no answer",
        "problem: 2024/back\\slash: its name has '\\' in it, which is not allowed",
        "problem: the folder is gone",
        "no index at the moment, it is tried again and again: no answer",
    ]


async def test_what_is_there_at_the_start_is_no_event_but_problems_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    events = Events(PlainScreen("node 1"))
    events(NodeEvent("shared", "a"))
    events(NodeEvent("problem", "b", "it is a link"))
    events(NodeEvent("problem", "", "the folder is gone"))
    events(NodeEvent("index_lost", text="cannot reach the index"))
    events(NodeEvent("index_back"))
    events.flush()

    assert capsys.readouterr().out.splitlines() == [
        "problem: b: it is a link",
        "problem: the folder is gone",
        "no index at the moment, it is tried again and again: cannot reach the index",
        "the index is there again",
    ]


async def test_with_json_every_event_is_an_object_at_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    events = Events(JsonScreen("node"))
    events(NodeEvent("shared", "a\u202e", size=3, info_hash="ab" * 20))

    line = capsys.readouterr().out

    assert json.loads(line) == {
        "event": "shared",
        "name": "a\u202e",
        "text": "",
        "size": 3,
        "info_hash": "ab" * 20,
    }
    assert line.isascii()


@pytest.mark.parametrize("kind", ["complete", "problem"])
async def test_a_download_is_shared_when_the_node_says_so_or_that_it_cannot_be(kind: Any) -> None:
    events = Events(PlainScreen("node 1"))
    shared = events.expect("a")

    events(NodeEvent("complete", "b"))
    assert not shared.done()
    events(NodeEvent(kind, "a"))

    assert shared.done()


class Serving:
    """Tells the takings that it was given, second by second."""

    def __init__(self, *seconds: list[Taking]) -> None:
        self._seconds = seconds

    async def finish_serving(self, grace: float, tell: Callable[..., None]) -> None:
        for takings in self._seconds:
            tell(takings, grace)


def taking(name: str, address: str = "10.0.0.7:9000") -> Taking:
    return Taking(name, "ab" * 20, address, "p2pfs 0.1", 0.5, 0.0)


async def test_each_download_that_is_waited_for_is_named_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    one, other = taking("a\x1b[2J"), taking("b", "10.0.0.8:9000")
    node: Any = Serving([], [one], [one, other], [other], [])
    async with LineFront(Typed()) as front:
        await front.finish_serving(node, 7)

    assert capsys.readouterr().out.splitlines() == [
        "quitting in 7 s, later if downloads from here are not finished by then; "
        "Ctrl-C leaves at once",
        "waiting for 10.0.0.7:9000 (p2pfs 0.1), which downloads a\\x1b[2J (50% done)",
        "waiting for 10.0.0.8:9000 (p2pfs 0.1), which downloads b (50% done)",
    ]


async def test_with_json_quitting_has_its_events(capsys: pytest.CaptureFixture[str]) -> None:
    node: Any = Serving([taking("a")], [taking("a")], [])

    class Screen(JsonScreen):
        commands = Typed.commands

    async with LineFront(Screen("node")) as front:
        await front.finish_serving(node, 2.5)

    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert events == [
        {"event": "quitting", "seconds": 2.5},
        {
            "event": "waiting",
            "seconds": 2.5,
            "takings": [
                {"name": "a", "address": "10.0.0.7:9000", "client": "p2pfs 0.1", "percent": 50.0}
            ],
        },
    ]


async def test_a_download_without_any_peer_is_given_up_after_a_while(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from p2pfs.net.engine import Client
    from tests.support.swarm import make_sample

    monkeypatch.setattr(front_module, "_GIVE_UP_AFTER", 0.3)
    monkeypatch.setattr(front_module, "_WARN_AFTER", 0.1)
    monkeypatch.setattr(front_module, "_TICK", 0.02)
    sample = make_sample(tmp_path / "shared")

    async with Client() as client, LineFront(Typed()) as front:
        torrent = await client.download(sample.metainfo, tmp_path / "out")
        reason = await front.follow(torrent, tmp_path / "out")

        assert reason == "nobody who has the rest of it can be reached"
        assert torrent.closing
    assert "can be reached now; waiting up to 0.3 seconds" in capsys.readouterr().out
