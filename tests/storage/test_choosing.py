"""Files chosen out of a torrent, padding and executable files, on the disk."""

from __future__ import annotations

import hashlib
import os
import random
import stat

import pytest

from p2pfs.errors import StorageError
from p2pfs.formats.metainfo import FileEntry, build
from p2pfs.storage.places import hidden_name
from tests.storage.conftest import Sample

PIECE = 2048


def made(*entries: FileEntry, seed: int = 3) -> Sample:
    source = random.Random(seed)
    content = b"".join(
        bytes(entry.length) if entry.padding else source.randbytes(entry.length)
        for entry in entries
    )
    pieces = b"".join(
        hashlib.sha1(content[start : start + PIECE]).digest()
        for start in range(0, len(content), PIECE)
    )
    metainfo = build(
        name="thing", files=entries, multi_file=True, piece_length=PIECE, pieces=pieces
    )
    return Sample(metainfo, content)


@pytest.fixture
def padded():
    return made(
        FileEntry(("run.sh",), 3000, executable=True),
        FileEntry((".pad", "x"), 1096, padding=True),
        FileEntry(("data",), 5000),
        FileEntry((".pad", "x"), 1144, padding=True),
        FileEntry(("deep", "tool"), 100, executable=True),
    )


def part_of(sample, number):
    start = sum(entry.length for entry in sample.metainfo.files[:number])
    return sample.content[start : start + sample.metainfo.files[number].length]


def on_disk(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def write_wanted(store, sample):
    for index in range(sample.count) if store.wanted is None else store.wanted:
        assert store.write_piece(index, sample.piece(index))


def rest(sample):
    return hidden_name(sample.metainfo, "rest")


# `tree`: a.txt 5000, deep/er/b.bin 3000, deep/empty 0, deep/c 1, d 6000; pieces of 2048


@pytest.mark.parametrize("chosen", [{0}, {1}, {3}, {4}, {0, 4}, {2}, {1, 2, 3}])
def test_only_what_was_chosen_gets_a_file_of_its_own(tree, tmp_path, start, chosen):
    store = start(tree, tmp_path, chosen=chosen)
    write_wanted(store, tree)
    assert store.finished or not (tmp_path / "thing").exists()
    top = store.finish()

    names = {"/".join(tree.metainfo.files[number].path): number for number in chosen}
    found = on_disk(top)
    assert found == {name: part_of(tree, number) for name, number in names.items()}
    hidden = [path.name for path in tmp_path.iterdir() if path != top]
    assert set(hidden) <= {rest(tree)}
    for index in store.verified:
        size = len(tree.piece(index))
        assert store.read(index, 0, size) == tree.piece(index)


@pytest.mark.parametrize("first", [{0}, {1}, {3}, {4}, {1, 3}])
@pytest.mark.parametrize("then", [None, {0, 1}, {1, 4}])
def test_a_later_choice_goes_on_with_what_is_there(tree, tmp_path, start, first, then):
    store = start(tree, tmp_path, chosen=first)
    write_wanted(store, tree)
    store.finish()
    before = set(store.verified)
    store.close()

    again = start(tree, tmp_path, chosen=then)

    wanted = set(range(tree.count)) if then is None else set(again.wanted)
    assert before & wanted <= set(again.verified)
    write_wanted(again, tree)
    top = again.finish()
    numbers = set(range(5)) if then is None else then | first
    assert on_disk(top) == {
        "/".join(tree.metainfo.files[n].path): part_of(tree, n) for n in numbers
    }
    if then is None:
        assert [path.name for path in tmp_path.iterdir()] == ["thing"]
        assert start(tree, tmp_path).complete


@pytest.mark.parametrize("clean", [True, False], ids=["stopped", "killed"])
@pytest.mark.parametrize("chosen", [{0}, {1, 3}, {4}])
def test_a_choice_goes_on_where_it_was(tree, tmp_path, start, chosen, clean):
    store = start(tree, tmp_path, chosen=chosen)
    for index in list(store.wanted)[:2]:
        assert store.write_piece(index, tree.piece(index))
    before = set(store.verified)
    store.close(clean=clean)

    again = start(tree, tmp_path, chosen=chosen)

    assert set(again.verified) == before
    write_wanted(again, tree)
    again.finish()
    assert start(tree, tmp_path, chosen=chosen).satisfied


def test_a_choice_changed_on_the_way_loses_nothing_that_is_wanted(tree, tmp_path, start):
    store = start(tree, tmp_path, chosen={0})
    write_wanted(store, tree)
    store.close(clean=False)
    again = start(tree, tmp_path, chosen={0, 1})  # piece 2 is of both
    assert {0, 1, 2} <= set(again.verified)
    assert again.write_piece(3, tree.piece(3))
    again.close(clean=False)
    narrowed = start(tree, tmp_path, chosen={4})
    assert {0, 1, 2, 3} <= set(narrowed.verified)
    write_wanted(narrowed, tree)
    top = narrowed.finish()
    assert {"d"} <= set(on_disk(top)) <= {"d", "a.txt", "deep/er/b.bin"}


def test_everything_begun_then_less_chosen_names_only_what_was_chosen(tree, tmp_path, start):
    store = start(tree, tmp_path)
    for index in range(4):
        assert store.write_piece(index, tree.piece(index))
    store.close()

    again = start(tree, tmp_path, chosen={4})
    write_wanted(again, tree)
    top = again.finish()
    again.settle()

    assert on_disk(top) == {"d": part_of(tree, 4)}
    again.close()
    whole = start(tree, tmp_path)
    assert {0, 1, 2, 3} <= set(whole.verified)
    write_wanted(whole, tree)
    assert tree.is_at(whole.finish())
    whole.close()
    assert [path.name for path in tmp_path.iterdir()] == ["thing"]


def test_a_file_of_the_user_that_was_not_chosen_is_left_alone(tree, tmp_path, start):
    (tmp_path / "thing").mkdir()
    (tmp_path / "thing" / "a.txt").write_text("of the user")
    store = start(tree, tmp_path, chosen={4})
    write_wanted(store, tree)
    top = store.finish()
    assert on_disk(top) == {"a.txt": b"of the user", "d": part_of(tree, 4)}
    store.close()
    with pytest.raises(StorageError, match="move it away"):
        start(tree, tmp_path)


def test_the_border_of_a_user_file_that_differs_is_never_written(tree, tmp_path, start):
    top = tmp_path / "thing"
    top.mkdir()
    spoiled = part_of(tree, 0)[:-1] + b"?"  # in the piece that a.txt shares with b.bin
    (top / "a.txt").write_bytes(spoiled)
    store = start(tree, tmp_path)
    with pytest.raises(StorageError, match="exists and differs"):
        store.write_piece(2, tree.piece(2))
    assert (top / "a.txt").read_bytes() == spoiled


def test_no_such_file_cannot_be_chosen(tree, tmp_path, start):
    with pytest.raises(StorageError, match="no such file"):
        start(tree, tmp_path, chosen={9})


@pytest.mark.parametrize("chosen", [None, {0}, {2}, {4}, {0, 4}])
def test_padding_is_served_as_zeros_and_never_on_the_disk(padded, tmp_path, start, chosen):
    store = start(padded, tmp_path, chosen=chosen)
    write_wanted(store, padded)
    top = store.finish()
    real = {0, 2, 4} if chosen is None else chosen
    assert on_disk(top) == {
        "/".join(padded.metainfo.files[n].path): part_of(padded, n) for n in real
    }
    for index in store.verified:
        size = len(padded.piece(index))
        assert store.read(index, 0, size) == padded.piece(index)
        served = b"".join(
            os.pread(store.source(number).fileno(), length, offset)
            for number, offset, length in store.slices(index, 0, size)
        )
        assert served == padded.piece(index)
        assert store.is_warm(index, 0, size) in (True, False)
    store.close()
    if chosen is None:
        assert start(padded, tmp_path).complete
        seed = type(store).open_seed(padded.metainfo, top)
        assert seed.complete
        seed.close()


def test_padding_that_is_not_zeros_is_refused(tmp_path, start):
    honest = made(FileEntry(("a",), 1000), FileEntry((".pad", "x"), 1048, padding=True))
    content = bytes([1]) * 2048
    bad = build(
        name="thing",
        files=honest.metainfo.files,
        multi_file=True,
        piece_length=PIECE,
        pieces=hashlib.sha1(content).digest(),
    )
    store = start(Sample(bad, content), tmp_path)
    with pytest.raises(StorageError, match="not zeros"):
        store.write_piece(0, content)
    assert not store.verified.count


@pytest.mark.skipif(os.name == "nt", reason="modes are POSIX")
def test_executable_files_get_that_bit_and_no_other(padded, tmp_path, start):
    store = start(padded, tmp_path)
    write_wanted(store, padded)
    top = store.finish()
    modes = {name: stat.S_IMODE((top / name).stat().st_mode) for name in on_disk(top)}
    assert modes["run.sh"] & 0o111 == (modes["run.sh"] & 0o444) >> 2
    assert modes["deep/tool"] & 0o100
    assert not modes["data"] & 0o111
    assert not any(mode & 0o7000 for mode in modes.values())
