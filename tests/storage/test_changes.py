"""Content that changes under a store that serves it, and comes back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from p2pfs.formats.bitfield import Bitfield
from p2pfs.storage import changes
from p2pfs.storage.pieces import PieceStore


@pytest.fixture
def seeded(tree, tmp_path, quick) -> Iterator[tuple]:
    """A store that serves a tree, where the tree lies, and a way to put a file back."""
    top = tree.lay_out(tmp_path)
    store = PieceStore.open_seed(tree.metainfo, top, files=quick)
    saved = {path: path.read_bytes() for path in top.rglob("*") if path.is_file()}

    def put_back(name: str) -> None:
        (top / name).unlink(missing_ok=True)
        (top / name).write_bytes(saved[top / name])

    yield store, top, put_back
    store.close()


def lose(store: PieceStore, change: Callable[[], object]) -> list[int]:
    change()
    return store.recheck_changed(range(5))


def look(store: PieceStore, lost: list[int]) -> list[int]:
    """One round of the watch."""
    assert store.recheck_changed(range(5)) == []
    return store.find_again(lost)


def test_a_file_that_is_put_back_is_found_again_at_the_second_look(seeded):
    store, top, put_back = seeded
    lost = lose(store, (top / "a.txt").unlink)
    assert lost == [0, 1, 2]
    assert look(store, lost) == []

    put_back("a.txt")

    assert look(store, lost) == []
    assert look(store, lost) == [0, 1, 2]
    assert store.complete
    assert look(store, lost) == []


def test_a_file_that_stays_wrong_is_hashed_once(seeded, monkeypatch):
    store, top, _ = seeded
    lost = lose(store, lambda: (top / "a.txt").write_bytes(bytes(5000)))
    hashed = []
    monkeypatch.setattr(store._changes, "_hashed", hashed.append)

    for _ in range(4):
        assert look(store, lost) == []

    assert hashed == []


def test_a_file_that_is_still_being_written_is_left_alone(seeded, monkeypatch):
    store, top, put_back = seeded
    path = top / "a.txt"
    lost = lose(store, lambda: path.write_bytes(b""))
    content = random_content(put_back, path)
    hashed = []
    monkeypatch.setattr(store._changes, "_hashed", hashed.append)

    for size in range(1000, 5000, 1000):
        path.write_bytes(content[:size])
        assert look(store, lost) == []
    monkeypatch.undo()
    path.write_bytes(content)
    look(store, lost)

    assert hashed == []
    assert look(store, lost) == lost


def random_content(put_back, path) -> bytes:
    put_back(path.name)
    content = path.read_bytes()
    path.write_bytes(b"")
    return content


def test_what_only_could_not_be_read_for_a_while_is_found_again(seeded, monkeypatch):
    store, _, _ = seeded
    whole = store._hashed
    monkeypatch.setattr(store._changes, "_hashed", lambda pieces: Bitfield(len(store.verified)))
    lost = store.recheck_changed([0], [0])
    monkeypatch.setattr(store._changes, "_hashed", whole)
    early = [look(store, lost) for _ in range(3)]

    monkeypatch.setattr(changes, "RETRY_AFTER", 0.0)
    store._changes._again_at.clear()

    assert early == [[], [], []]
    assert look(store, lost) == lost == [0, 1, 2]


def test_of_a_file_that_is_partly_right_again_that_part_is_found(seeded):
    store, top, put_back = seeded
    path = top / "a.txt"
    lost = lose(store, path.unlink)
    put_back("a.txt")
    with path.open("r+b") as file:
        file.seek(2500)
        file.write(b"changed")
    look(store, lost)

    assert look(store, lost) == [0, 2]
    assert sorted(store.verified.missing()) == [1]


def test_a_piece_that_lies_in_two_lost_files_is_found_when_both_are_back(seeded):
    store, top, put_back = seeded

    def both_away() -> None:
        (top / "a.txt").unlink()
        (top / "deep/er/b.bin").unlink()

    lost = lose(store, both_away)
    put_back("deep/er/b.bin")
    look(store, lost)
    first = look(store, lost)
    put_back("a.txt")
    look(store, lost)
    second = look(store, lost)

    assert 2 not in first
    assert sorted([*first, *second]) == lost
    assert store.complete


def test_what_was_not_asked_for_is_not_verified(tree, tmp_path, quick):
    """A partial seeder offers no more than it was told to."""
    top = tree.lay_out(tmp_path)
    have = PieceStore.open_seed(tree.metainfo, top, files=quick)
    have.close()
    chosen = have.verified.copy()
    chosen.discard(1)
    store = PieceStore.open_seed(tree.metainfo, top, have=chosen, files=quick)
    content = (top / "a.txt").read_bytes()
    lost = lose(store, (top / "a.txt").unlink)
    (top / "a.txt").write_bytes(content)
    os.utime(top / "a.txt", ns=(1, 10**18))
    look(store, lost)

    assert lost == [0, 2]
    assert look(store, lost) == [0, 2]
    assert 1 not in store.verified
    store.close()
