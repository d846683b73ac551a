"""The menu without a terminal, a network or a disk: what lines mean, and what becomes of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfs.cli.menu import MENU, Choice, Menu, parse_choice, parse_name, split_names
from p2pfs.cli.text import printable, quoted
from p2pfs.errors import CatalogueError, StorageError, TrackerError, UsageError
from p2pfs.net.index_client import AmbiguousError, Listed


def listed(name: str, info_hash: str = "ab" * 20) -> Listed:
    return Listed(name, 10, info_hash, 1_700_000_000, 1, 0, 0)


class Node:
    """Has `own` files; `others` are listed too; `error` is what every question ends with."""

    def __init__(self, own: Sequence[str] = (), others: Sequence[str] = ()) -> None:
        self.own = list(own)
        self.others = list(others)
        self.error: Exception | None = None

    def files(self) -> list[Any]:
        return [SimpleNamespace(name=name) for name in sorted(self.own)]

    async def listed(self, pattern: str | None = None) -> list[Listed]:
        if self.error:
            raise self.error
        return [listed(name) for name in (*self.own, *self.others)]

    async def fetch(self, wanted: str) -> Any:
        if self.error:
            raise self.error
        return SimpleNamespace(name=wanted)

    async def delete(self, names: Sequence[str]) -> dict[str, str | None]:
        outcome: dict[str, str | None] = {}
        for name in names:
            outcome[name] = None if name in self.own else "there is no file of this name here"
            if name in self.own:
                self.own.remove(name)
        return outcome


class Front:
    """Answers questions with the lines it was given, and remembers all that was said."""

    def __init__(self, *lines: str) -> None:
        self.lines = list(lines)
        self.said: list[str] = []
        self.asked: list[str] = []
        self.followed: list[str] = []
        self.candidates: list[Listed] = []
        self.given_up: str | None = None

    async def ask(self, prompt: str) -> str | None:
        self.asked.append(prompt)
        return self.lines.pop(0) if self.lines else None

    def say(self, text: str) -> None:
        assert all(printable(line) == line for line in text.split("\n"))
        self.said.append(text)

    def choices(self, candidates: Sequence[Listed]) -> None:
        self.candidates += candidates

    async def follow(self, torrent: Any, folder: Path) -> str | None:
        self.followed.append(torrent.name)
        return self.given_up

    @property
    def answers(self) -> list[str]:
        """What was said but for the menu itself."""
        return [text for text in self.said if text != MENU]


async def driven(node: Node, *lines: str, **options: Any) -> Front:
    front = Front(*lines)
    await Menu(1, node, front, Path("p1"), pause=0, **options).run()
    assert front.lines == [] or parse_choice(lines[-len(front.lines) - 1]) is Choice.QUIT
    return front


@pytest.mark.parametrize(
    ("line", "choice"),
    [
        ("1", Choice.LIST),
        (" 2 ", Choice.DOWNLOAD),
        ("3.", Choice.DELETE),
        ("quit", Choice.QUIT),
        ("QUIT", Choice.QUIT),
        ("exit", Choice.QUIT),
        ("Sleep", Choice.SLEEP),
        ("005", Choice.SLEEP),
        ("0", None),
        ("6", None),
        ("-1", None),
        ("1 2", None),
        ("²", None),
        ("٣", None),
        ("9" * 5000, None),
        ("", None),
        ("list all", None),
    ],
)
def test_an_entry_is_chosen_by_its_number_or_its_word(line: str, choice: Choice | None) -> None:
    assert parse_choice(line) is choice


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("a.txt b.txt", ["a.txt", "b.txt"]),
        ("\"my file.txt\" 'another one'  c", ["my file.txt", "another one", "c"]),
        ("my\\ file.txt", ["my file.txt"]),
        ('"don\'t.txt"', ["don't.txt"]),
        ("a a a", ["a"]),
        ("#1.txt", ["#1.txt"]),
        ("*.txt", ["*.txt"]),
        ("2024/05/a.jpg", ["2024/05/a.jpg"]),
        ("", []),
    ],
)
def test_names_are_split_as_in_a_shell(line: str, names: list[str]) -> None:
    assert split_names(line) == names


def test_an_open_quote_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(UsageError, match="double quotes"):
        split_names("don't.txt")


@given(st.lists(st.text(min_size=1).map(printable), unique=True))
def test_a_name_as_it_is_shown_can_be_typed(names: list[str]) -> None:
    assert split_names(" ".join(quoted(name) for name in names)) == names
    for name in names:
        assert parse_name(quoted(name)) == name.strip() or parse_name(quoted(name)) == name


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("my file.txt", "my file.txt"),
        ('"my file.txt"', "my file.txt"),
        ("don't.txt", "don't.txt"),
        ("'a' and 'b'", "'a' and 'b'"),
        ('"', '"'),
        ("a@12345678", "a@12345678"),
    ],
)
def test_one_name_needs_no_quotes_and_may_have_them(line: str, name: str) -> None:
    assert parse_name(line) == name


async def test_the_names_are_listed_sorted_and_each_once() -> None:
    front = await driven(Node(["b", "a"], ["c", "a"]), "1")

    assert front.answers == ["a\nb\nc"]
    assert front.said == [MENU, "a\nb\nc", MENU]


async def test_the_end_of_the_input_and_quit_end_the_menu() -> None:
    assert (await driven(Node())).said == [MENU]
    front = await driven(Node(), "4", "1")
    assert front.lines == ["1"]


async def test_an_unknown_entry_is_answered_and_the_next_one_is_obeyed() -> None:
    front = await driven(Node(["a"]), "dance\x1b[2J", "7", "list")

    assert "there is no entry 'dance\\x1b[2J'" in front.answers[0]
    assert "a number from 1 to 5, or one of: list, download" in front.answers[1]
    assert front.answers[2] == "a"


async def test_an_empty_line_shows_the_menu_again() -> None:
    assert (await driven(Node(), "", "  ")).said == [MENU, MENU, MENU]


async def test_a_download_asks_for_one_name_and_is_followed() -> None:
    front = await driven(Node(), "2", "my file.txt")

    assert front.followed == ["my file.txt"]
    assert len(front.asked) == 3
    assert front.answers == []


async def test_each_question_takes_one_line_also_when_there_is_nothing_to_ask_about() -> None:
    front = await driven(Node(), "3", "4", "2", "", "1")

    assert front.followed == []
    assert front.answers[0] == "this node has no files"
    assert front.answers[-1] == "no files are shared at the moment"


async def test_a_download_that_is_given_up_says_why_and_how_to_go_on() -> None:
    front = Front("2", "a", "1")
    front.given_up = "the disk is full"
    await Menu(1, Node(["b"]), front, Path("p1")).run()

    assert front.answers == [
        "a is not complete: the disk is full; download it again to go on from here",
        "b",
    ]


@pytest.mark.parametrize(
    "error",
    [
        TrackerError("cannot reach the index"),
        CatalogueError("nothing called 'a' is shared here; is it one of: b?"),
        StorageError("the disk is full", disk_full=True),
        UsageError("a is here already"),
        OSError(28, "No space left on device"),
    ],
)
async def test_whatever_goes_wrong_is_told_and_the_menu_comes_back(error: Exception) -> None:
    node = Node(["x"])
    node.error = error

    front = await driven(node, "2", "a", "1", "3", "x")

    assert front.answers[0] == front.answers[1]
    assert (error.args[-1]) in front.answers[0]
    assert front.answers[-1] == "deleted: x"


async def test_an_ambiguous_name_shows_what_it_may_mean() -> None:
    node = Node()
    both = [listed("a", "1" * 40), listed("a", "2" * 40)]
    node.error = AmbiguousError("'a' means several contents", both)

    front = await driven(node, "2", "a")

    assert front.candidates == both
    assert front.answers == ["'a' means several contents"]


async def test_files_are_deleted_by_exact_names_and_each_is_answered() -> None:
    node = Node(["a.txt", "my file.txt", "keep"])

    front = await driven(node, "delete", 'a.txt nix "my file.txt" KEEP')

    assert front.answers[0] == 'a.txt\nkeep\n"my file.txt"'
    assert front.answers[1:] == [
        "deleted: a.txt",
        "not deleted: nix: there is no file of this name here",
        "deleted: my file.txt",
        "not deleted: KEEP: there is no file of this name here",
    ]
    assert node.own == ["keep"]


async def test_an_open_quote_deletes_nothing() -> None:
    node = Node(["don't", "b"])

    front = await driven(node, "3", "b don't", "3", '"don\'t"')

    assert "a quote is not closed" in front.answers[1]
    assert node.own == ["b"]


async def test_a_name_that_does_not_print_is_deleted_as_it_is_shown() -> None:
    node = Node(["a\u202eb"])

    front = await driven(node, "3", quoted("a\\u202eb"))

    assert front.answers == ["'a\\u202eb'", "deleted: a\\u202eb"]
    assert node.own == []
