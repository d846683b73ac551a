"""The files inside an info dictionary; what is hostile is in the table of hostile torrents."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfs.errors import MetainfoError
from p2pfs.formats import bencode
from p2pfs.formats.file_list import MAX_FILES, FileEntry, read_files, read_length, write_files


def entry(length, *path, **more):
    return {b"length": length, b"path": list(path)} | {k.encode(): v for k, v in more.items()}


def test_files_keep_their_order_and_empty_ones_stay():
    listed = [entry(3, b"b"), entry(0, b"sub", b"empty"), entry(2, b"a")]

    assert read_files(listed) == (
        FileEntry(("b",), 3),
        FileEntry(("sub", "empty"), 0),
        FileEntry(("a",), 2),
    )


def test_the_utf8_path_is_preferred_unless_it_is_no_path():
    twin = {b"length": 1, b"path": [b"\xc4"], b"path.utf-8": ["ä".encode()]}
    broken = {b"length": 1, b"path": [b"plain"], b"path.utf-8": b"not a list"}

    assert [file.path for file in read_files([twin, broken])] == [("ä",), ("plain",)]


def test_links_are_left_out_and_padding_gets_names_of_its_own():
    listed = [
        entry(1, b"a"),
        entry(4, b".pad", b"4", attr=b"p"),
        entry(0, b"link", attr=b"l"),
        entry(4, b".pad", b"4", attr=b"p"),
        entry(1, b"run", attr=b"x"),
        entry(1, b"odd", attr=7),
    ]

    files = read_files(listed)
    paths = [file.path for file in files]
    assert paths == [("a",), (".pad", "1-4"), (".pad", "2-4"), ("run",), ("odd",)]
    assert [file.padding for file in files] == [False, True, True, False, False]


@pytest.mark.parametrize("length", [-1, b"1", None, [1]])
def test_a_length_is_a_number_from_0_on(length):
    with pytest.raises(MetainfoError):
        read_length({b"length": length})
    with pytest.raises(MetainfoError):
        read_length({})


def test_as_many_files_as_are_accepted_take_about_a_second():
    listed = [{b"length": 1, b"path": [b"dir", b"%d" % n]} for n in range(MAX_FILES)]
    start = time.thread_time()

    assert len(read_files(listed)) == MAX_FILES
    assert time.thread_time() - start < 5


names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
entries = st.builds(
    FileEntry,
    st.lists(names, min_size=1, max_size=3).map(tuple),
    st.integers(0, 2**40),
    padding=st.booleans(),
    executable=st.booleans(),
    hidden=st.booleans(),
)


@given(st.lists(entries, max_size=6))
def test_files_that_are_written_are_read_as_they_were_and_refused_alike(files):
    listed = []
    for file in files:
        path = (".pad", str(file.length)) if file.padding else file.path
        one = entry(file.length, *(part.encode() for part in path))
        listed.append(one | ({b"attr": file.attributes} if file.attributes else {}))
    try:
        expected = read_files(listed)
    except MetainfoError:
        expected = None

    if expected is None or any(file.padding for file in files):
        try:  # padding is not known by a path of ours, but ours has to be one all the same
            written = write_files(files)
        except MetainfoError:
            return
        assert expected is not None
    else:
        written = write_files(files)

    assert written == expected
    assert written.encoded == bencode.encode(listed)


@pytest.mark.parametrize(
    "files",
    [
        [],
        [FileEntry((), 1)],
        [FileEntry(("..", "a"), 1)],
        [FileEntry(("\ud800",), 1)],
        [FileEntry(("a",), -1)],
        [FileEntry(("a",), 1), FileEntry(("a",), 2)],
        [FileEntry(("a",), 1), FileEntry(("a", "b"), 2)],
        [FileEntry((".pad", "1-5"), 5, padding=True)],
        [FileEntry((str(number),), 0) for number in range(MAX_FILES + 1)],
    ],
    ids=["none", "no path", "out", "no text", "less", "twice", "folder too", "padding", "many"],
)
def test_what_could_not_be_read_is_not_written(files):
    with pytest.raises(MetainfoError):
        write_files(files)
