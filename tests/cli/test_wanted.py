"""What the words of `get` stand for, at a real index."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from p2pfs.cli.wanted import find_wanted
from p2pfs.errors import TrackerError
from p2pfs.formats.file_list import FileEntry
from p2pfs.formats.metainfo import build
from p2pfs.net.index_client import AmbiguousError, IndexClient, UnknownError
from p2pfs.net.tracker_http import TrackerServer

KEY = "0" * 32

Shared = Callable[..., Awaitable[dict[str, str]]]


@pytest.fixture
async def index() -> AsyncIterator[IndexClient]:
    async with TrackerServer("127.0.0.1", 0) as server:
        base = server.url.removesuffix("/announce")
        async with IndexClient(base, node=("1", KEY)) as client:
            yield client


@pytest.fixture
def share(index: IndexClient) -> Shared:
    """Publishes names, of which those in `live` have a seed; their info hashes."""

    async def shared(*names: str, live: bool = True, byte: bytes = b"a") -> dict[str, str]:
        hashes = {}
        for name in names:
            top, *rest = name.split("/")
            metainfo = build(
                name=top,
                files=[FileEntry(tuple(rest or [top]), 1)],
                multi_file=bool(rest),
                piece_length=16384,
                pieces=byte * 20,
            )
            listed = await index.publish(metainfo.to_bytes())
            hashes[name] = listed.info_hash
        known = [one.info_hash for one in await index.list()]
        if live:
            await index.register(9000, [*known, *hashes.values()])
        return hashes

    return shared


async def names_of(index: IndexClient, *words: str) -> list[str]:
    found = await find_wanted(index, words)
    assert found.failures == {}
    return sorted(found.wanted.values())


async def test_a_word_is_a_name_then_a_folder_then_a_pattern(
    index: IndexClient, share: Shared
) -> None:
    await share("a*.txt", "ab.txt", "2024", "2024/x", "2025/x", "2025/y/z", "2025b")

    assert await names_of(index, "a*.txt") == ["a*.txt"]
    assert await names_of(index, "2024") == ["2024"]
    assert await names_of(index, "2024/") == ["2024/x"]
    assert await names_of(index, "2025") == ["2025/x", "2025/y/z"]
    assert await names_of(index, "2025/y/") == ["2025/y/z"]
    assert await names_of(index, "AB.T?T", "*/x") == ["2024/x", "2025/x", "ab.txt"]


async def test_a_folder_whose_name_has_the_marks_of_a_pattern_is_itself(
    index: IndexClient, share: Shared
) -> None:
    await share("[a]*/x", "a1/x", "[a]*/y")

    assert await names_of(index, "[a]*") == ["[a]*/x", "[a]*/y"]


async def test_a_torrent_that_two_words_name_is_wanted_once(
    index: IndexClient, share: Shared
) -> None:
    hashes = await share("a.txt", "b.txt")
    pinned = f"a.txt@{hashes['a.txt'][:8]}"

    found = await find_wanted(index, ["a.txt", pinned, hashes["a.txt"], "*.txt"])

    assert found.wanted == {hash_: name for name, hash_ in hashes.items()}
    assert found.summary() == "fetching 2 files"


async def test_what_nobody_has_is_left_out_of_folders_and_patterns_but_not_of_names(
    index: IndexClient, share: Shared
) -> None:
    await share("2024/here", "b.txt")
    await share("2024/gone", "gone.txt", live=False)

    found = await find_wanted(index, ["2024", "*.txt", "gone.txt"])

    assert sorted(found.wanted.values()) == ["2024/here", "b.txt", "gone.txt"]
    assert found.notes == [
        "2024/: 1 of 2 names are left out: nobody has them at the moment",
        "gone.txt: nobody has it at the moment; it is waited for "
        "(Ctrl-C ends that and keeps what is here of it)",
    ]
    only_gone = await find_wanted(index, ["g*"])
    assert "1 name for 'g*', but nobody has them" in str(only_gone.failures["g*"])


async def test_names_stand_in_messages_as_they_are(index: IndexClient, share: Shared) -> None:
    words = ["back\\slash", "it's", "b\\*"]
    found = await find_wanted(index, words)

    for word in words:
        assert f"'{word}'" in str(found.failures[word])


async def test_what_cannot_be_found_is_a_failure_of_its_word_alone(
    index: IndexClient, share: Shared
) -> None:
    await share("story.txt")

    found = await find_wanted(index, ["stroy.txt", "nix/", "*.nix", "/", "story.txt"])

    assert list(found.wanted.values()) == ["story.txt"]
    assert list(found.failures) == ["stroy.txt", "nix/", "*.nix", "/"]
    error = found.failures["stroy.txt"]
    assert isinstance(error, UnknownError)
    assert error.near == ("story.txt",)


async def test_two_contents_of_one_name_are_a_failure_of_that_name_alone(
    index: IndexClient, share: Shared
) -> None:
    await share("same", "other")
    await share("same", byte=b"b")

    for word in ("same", "*"):
        found = await find_wanted(index, [word])
        error = found.failures["same"]
        assert isinstance(error, AmbiguousError)
        assert len({one.info_hash for one in error.candidates}) == 2
        assert list(found.wanted.values()) == (["other"] if word == "*" else [])


async def test_an_index_that_is_not_there_is_an_error() -> None:
    with pytest.raises(TrackerError, match="cannot reach"):
        await find_wanted(IndexClient("http://127.0.0.1:1"), ["a"])
