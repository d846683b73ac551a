"""`get` against real indexes and seeders: names, hashes, folders, patterns, and what goes wrong."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from p2pfs.formats.file_list import FileEntry
from p2pfs.formats.metainfo import Metainfo, build
from p2pfs.storage.creating import hash_tree

pytestmark = pytest.mark.slow

SIZE = 50_000


def index_options(swarm: Any) -> tuple[str, ...]:
    return ("-i", "127.0.0.1", "-d", str(swarm.port))


def in_tree(path: Path, *inner: str) -> Metainfo:
    """The torrent of one file that keeps its place in a tree."""
    tree = hash_tree(path)
    name, *rest = inner
    return build(
        name=name,
        files=(FileEntry(tuple(rest), tree.files[0].length),),
        multi_file=True,
        piece_length=tree.piece_length,
        pieces=tree.pieces,
    )


@pytest.fixture
def share_tree(swarm: Any) -> Callable[..., dict[str, bytes]]:
    """Seeds files below a folder in `seeds/`, each as a torrent of its own."""

    def share(*names: str) -> dict[str, bytes]:
        contents = {}

        for number, name in enumerate(names):
            contents[name] = swarm.content(Path(name).name, SIZE + number)
            path = swarm.folder / "seeds" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            (swarm.folder / "seeds" / path.name).replace(path)
            torrent = swarm.folder / f"{number}.torrent"
            torrent.write_bytes(in_tree(path, *name.split("/")).to_bytes())

            swarm.seed("-f", str(torrent))
        return contents

    return share


def test_a_magnet_link_without_an_index_is_for_another_command(
    swarm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = f"magnet:?xt=urn:btih:{'01' * 20}&x.pe=127.0.0.1:1"
    monkeypatch.setenv("P2PFS_INDEX", "no index")
    unknown = swarm.run("get", link)
    monkeypatch.setenv("P2PFS_INDEX", "127.0.0.1:1")
    away, named = swarm.run("get", link), swarm.run("get", "a.bin")

    assert (unknown.wait(), away.wait(), named.wait()) == (2, 1, 1)
    for process in (unknown, away):
        (line,) = process.errors
        assert line.endswith("p2pfs download LINK takes a magnet link without any index")
    assert "LINK" not in named.errors[0]


def test_several_names_are_fetched_and_a_hash_is_a_name_too(swarm: Any) -> None:
    swarm.tracker()
    contents = {name: swarm.content(name, SIZE) for name in ("a.bin", "b c.txt", "d.bin")}
    swarm.seed()
    listed = swarm.run("ls", "--json", *index_options(swarm)).events()
    hashes = {event["name"]: event["info_hash"] for event in listed[:-1]}

    words = ("b c.txt", f"a.bin@{hashes['a.bin'][:8]}", hashes["d.bin"], "d.bin")
    got = swarm.run("get", *words, "-o", "here", *index_options(swarm))

    assert got.wait() == 0, got.errors
    assert got.errors == []
    successes = [line for line in got.lines if line.startswith("Successfully")]
    assert sorted(successes) == [
        f"Successfully Downloaded {name} to here/{name}" for name in sorted(contents)
    ]
    for name, content in contents.items():
        assert (swarm.folder / "here" / name).read_bytes() == content


def test_one_name_goes_into_this_folder_and_says_what_came_from_whom(swarm: Any) -> None:
    swarm.tracker()
    content = swarm.content("a.bin", SIZE)
    swarm.seed()

    got = swarm.run("get", "a.bin", *index_options(swarm))

    assert got.wait() == 0
    assert got.lines[-1] == "Successfully Downloaded a.bin to ./a.bin"
    assert any(line.split()[:2] == ["peer", "client"] for line in got.lines)
    assert (swarm.folder / "a.bin").read_bytes() == content


def test_a_folder_comes_with_everything_below_it_in_its_place(
    swarm: Any, share_tree: Callable[..., dict[str, bytes]]
) -> None:
    swarm.tracker()
    contents = share_tree("2024/05/a.jpg", "2024/b.jpg", "2024/05/deep/c.jpg")
    share_tree("2025/x.jpg")

    got = swarm.run("get", "2024", *index_options(swarm), "-o", "out")
    again = swarm.run("get", "2024/05/", *index_options(swarm), "-o", "part")

    assert got.wait() == 0, got.errors
    assert again.wait() == 0, again.errors
    assert "Successfully Downloaded 2024/05/a.jpg to out/2024/05/a.jpg" in got.lines
    found = {p.relative_to(swarm.folder / "out").as_posix(): p for p in _files(swarm, "out")}
    assert {name: path.read_bytes() for name, path in found.items()} == contents
    assert {p.name for p in _files(swarm, "part")} == {"a.jpg", "c.jpg"}


def _files(swarm: Any, folder: str) -> list[Path]:
    return [path for path in (swarm.folder / folder).rglob("*") if path.is_file()]


def test_a_pattern_fetches_what_matches(swarm: Any) -> None:
    swarm.tracker()
    for name in ("a.pdf", "b.PDF", "c.txt"):
        swarm.content(name, SIZE)
    swarm.seed()

    got = swarm.run("get", "*.pdf", *index_options(swarm), "-o", "out")

    assert got.wait() == 0, got.errors
    assert {p.name for p in _files(swarm, "out")} == {"a.pdf", "b.PDF"}


def test_a_name_with_the_marks_of_a_pattern_is_a_name_first(swarm: Any) -> None:
    swarm.tracker()
    for name in ("a[b].txt", "ab.txt"):
        swarm.content(name, SIZE)
    swarm.seed()

    got = swarm.run("get", "a[b].txt", *index_options(swarm), "-o", "out")

    assert got.wait() == 0, got.errors
    assert {p.name for p in _files(swarm, "out")} == {"a[b].txt"}


def test_a_folder_named_with_a_slash_may_be_one_torrent(swarm: Any) -> None:
    swarm.tracker()
    (swarm.folder / "seeds" / "tree").mkdir(parents=True)
    for name in ("x", "y"):
        (swarm.folder / "seeds" / "tree" / name).write_bytes(name.encode())
    swarm.seed()

    got = swarm.run("get", "tree/", *index_options(swarm), "-o", "out")

    assert got.wait() == 0, got.errors
    assert got.lines[-1] == "Successfully Downloaded tree to out/tree"
    assert {p.name for p in _files(swarm, "out")} == {"x", "y"}


def test_what_is_not_there_stops_nothing_else_and_is_named_in_the_end(swarm: Any) -> None:
    swarm.tracker()
    swarm.content("story.txt", SIZE)
    swarm.seed()

    got = swarm.run("get", "stroy.txt", "story.txt", "*.nix", *index_options(swarm), "-o", "out")

    assert got.wait() == 1
    assert "Successfully Downloaded story.txt to out/story.txt" in got.lines
    assert any("nothing called 'stroy.txt'" in line for line in got.errors)
    assert any("no name matches '*.nix'" in line for line in got.errors)
    assert got.errors[-1] == "p2pfs: 2 of 3 could not be fetched: stroy.txt, *.nix"
    alone = swarm.run("get", "stroy.txt", *index_options(swarm))
    assert alone.wait() == 1
    assert len(alone.errors) == 1
    assert "story.txt" in alone.errors[0]


def test_two_contents_of_one_name_are_shown_and_one_is_picked(swarm: Any) -> None:
    swarm.tracker()
    contents = []
    for number in (1, 2):
        folder = swarm.folder / str(number)
        folder.mkdir()
        content = bytes([number]) * (SIZE * number)
        (folder / "same.txt").write_bytes(content)
        contents.append(content)
        swarm.seed("-f", f"{number}/same.txt")
    listed = swarm.run("ls", "--json", *index_options(swarm)).events()[:-1]

    names = swarm.run("ls", *index_options(swarm))
    got = swarm.run("get", "same.txt", *index_options(swarm), "-o", "out")
    events = swarm.run("get", "same.txt", "--json", *index_options(swarm)).events()

    assert names.lines == ["same.txt"]
    assert got.wait() == 1
    assert got.errors[0].split() == ["ask", "for", "size", "published", "seeders"]
    assert {line.split()[0] for line in got.errors[1:3]} == {
        f"same.txt@{one['info_hash'][:8]}" for one in listed
    }
    assert "several contents" in got.errors[3]
    failed = next(event for event in events if event["event"] == "failed")
    assert {one["info_hash"] for one in failed["candidates"]} == {
        one["info_hash"] for one in listed
    }
    larger = max(listed, key=lambda one: one["size"])
    word = f"same.txt@{larger['info_hash'][:8]}"
    assert swarm.run("get", word, *index_options(swarm), "-o", "out").wait() == 0
    assert (swarm.folder / "out" / "same.txt").read_bytes() == contents[1]


def test_json_has_the_events_of_a_download(swarm: Any) -> None:
    swarm.tracker()
    swarm.content("a.bin", SIZE)
    swarm.content("b.bin", SIZE)
    swarm.seed()

    got = swarm.run("get", "*.bin", "nix", "--json", *index_options(swarm), "-o", "out")

    assert got.wait() == 1
    events = got.events()
    assert [event["event"] for event in events[:2]] == ["failed", "ready"]
    assert sum(event["event"] == "complete" for event in events) == 2
    final = events[-1]
    assert (final["event"], final["ok"], final["exit_code"]) == ("final", False, 1)
    assert final["error"] == "1 of 3 could not be fetched: nix"
    assert {one["path"] for one in final["torrents"]} == {"out/a.bin", "out/b.bin"}


def test_more_files_than_run_at_once_all_arrive(swarm: Any) -> None:
    swarm.tracker()
    contents = {f"{n:02}.bin": swarm.content(f"{n:02}.bin", 1000 + n) for n in range(45)}
    swarm.seed()

    got = swarm.run("get", "*", *index_options(swarm), "-o", "out", "--json")

    assert got.wait() == 0, got.errors
    assert {p.name: p.read_bytes() for p in _files(swarm, "out")} == contents
    assert len(got.events()[-1]["torrents"]) == 45


def test_keep_seeding_stays_and_serves_until_exit(swarm: Any) -> None:
    swarm.tracker()
    swarm.content("a.bin", SIZE)
    seeder = swarm.seed()
    first = swarm.start("get", "a.bin", *index_options(swarm), "-o", "one", "--keep-seeding")
    first.line_with("Successfully")
    seeder.say("exit")
    assert seeder.wait() == 0

    second = swarm.run("get", "a.bin", *index_options(swarm), "-o", "two")
    first.say("exit")

    assert second.wait() == 0
    assert first.wait() == 0


def test_a_name_that_nobody_has_now_is_waited_for_and_that_is_said(swarm: Any) -> None:
    swarm.tracker()
    content = swarm.content("a.bin", SIZE)
    assert swarm.run("make-torrent", "seeds/a.bin").wait() == 0
    request = urllib.request.Request(
        f"http://127.0.0.1:{swarm.port}/torrents",
        data=(swarm.folder / "torrents" / "a.bin.torrent").read_bytes(),
        headers={"Content-Type": "application/x-bittorrent"},
    )
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 201

    got = swarm.start("get", "a.bin", *index_options(swarm), "-o", "out", "--json")
    note = got.event("note")
    swarm.seed()

    assert note["text"].startswith("a.bin: nobody has it at the moment; it is waited for")
    assert got.wait() == 0, got.errors
    assert (swarm.folder / "out" / "a.bin").read_bytes() == content


def test_an_output_that_cannot_be_made_is_an_error_before_anything_starts(swarm: Any) -> None:
    swarm.tracker()
    swarm.content("a.bin", SIZE)
    swarm.seed()
    (swarm.folder / "afile").write_bytes(b"mine")

    for output in ("afile", "afile/below"):
        got = swarm.run("get", "a.bin", *index_options(swarm), "-o", output)

        assert got.wait() == 1
        assert len(got.errors) == 1
        assert output in got.errors[0]
        assert got.lines == []
    assert (swarm.folder / "afile").read_bytes() == b"mine"


def test_a_different_file_of_that_name_is_never_touched(swarm: Any) -> None:
    swarm.tracker()
    swarm.content("a.bin", SIZE)
    swarm.seed()
    (swarm.folder / "a.bin").write_bytes(b"mine")

    got = swarm.run("get", "a.bin", *index_options(swarm))

    assert got.wait() == 1
    assert "a.bin has 4 bytes where the torrent has 50000" in got.errors[-1]
    assert (swarm.folder / "a.bin").read_bytes() == b"mine"


def test_wrong_usage_is_told_before_anything_is_asked(swarm: Any) -> None:
    for words in (("",), (), ("a", "--up-limit", "fast")):
        got = swarm.run("get", *words, "-i", "127.0.0.1", "-d", "1")
        assert got.wait() == 2, words
        assert not any("Traceback" in line for line in got.errors)
