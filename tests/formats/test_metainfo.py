"""Metainfo files: what is read, what is kept, what is built."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace

import bencodepy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfs.errors import BencodeError, FormatError, GeometryError, MetainfoError
from p2pfs.formats.metainfo import FileEntry, build, default_piece_length, parse, parse_info
from p2pfs.geometry import Geometry
from tests.formats.hostile_metainfos import DIGEST, GOOD, multi, single, torrent

KIB, MIB, GIB = 1024, 1024**2, 1024**3


def sample(**changes):
    arguments = {
        "name": "name",
        "files": [FileEntry(("name",), 5)],
        "multi_file": False,
        "piece_length": 16384,
        "pieces": DIGEST,
    }
    return build(**(arguments | changes))


def test_a_single_file_torrent_is_read():
    metainfo = parse(torrent(GOOD))

    assert metainfo.name == "name"
    assert metainfo.files == (FileEntry(("name",), 5),)
    assert not metainfo.multi_file
    assert metainfo.geometry == Geometry(5, 16384)
    assert metainfo.total_length == 5
    assert metainfo.trackers == (("http://127.0.0.1/announce",),)
    assert not metainfo.private
    assert (metainfo.comment, metainfo.created_by, metainfo.creation_date) == (None, None, None)


def test_a_multi_file_torrent_is_read_and_a_piece_may_span_files():
    metainfo = parse(torrent(bencodepy.encode(multi([b"a"], [b"sub", b"b"], [b"c"]))))

    assert metainfo.multi_file
    assert [file.path for file in metainfo.files] == [("a",), ("sub", "b"), ("c",)]
    assert metainfo.geometry.piece_count == 1


def test_the_info_hash_is_of_the_bytes_as_found():
    untidy = b"d6:pieces20:" + DIGEST + b"7:unknownd1:zi1e1:ai2ee"
    untidy += b"12:piece lengthi16384e4:name4:name6:lengthi5ee"
    metainfo = parse(torrent(untidy))

    assert metainfo.info_bytes == untidy
    assert metainfo.torrent_id.v1 == hashlib.sha1(untidy).digest()
    assert untidy in metainfo.to_bytes()
    assert parse(metainfo.to_bytes()) == metainfo
    assert parse_info(untidy).torrent_id == metainfo.torrent_id


def test_keys_that_are_not_understood_survive():
    data = b"d8:encoding5:UTF-84:info" + GOOD + b"5:nodesll1:ai1eee12:piece layersdee"

    assert parse(data).to_bytes() == data


def test_every_outer_value_survives_writing():
    metainfo = sample(
        trackers=[["http://a/announce", "udp://b:1"], ["http://c/announce"]],
        web_seeds=["http://w/"],
        comment="été",
        created_by="me",
        creation_date=1,
        private=True,
    )

    assert metainfo.private
    assert metainfo.trackers == (("http://a/announce", "udp://b:1"), ("http://c/announce",))
    assert metainfo.web_seeds == ("http://w/",)
    assert (metainfo.comment, metainfo.created_by, metainfo.creation_date) == ("été", "me", 1)
    assert parse(metainfo.to_bytes()) == metainfo
    assert bencodepy.decode(metainfo.to_bytes())[b"announce"] == b"http://a/announce"


def test_other_trackers_do_not_change_the_info_hash():
    metainfo = sample(trackers=[["http://a/announce"]])
    moved = replace(metainfo, trackers=(("http://b/announce",),))

    assert parse(moved.to_bytes()).trackers == (("http://b/announce",),)
    assert parse(moved.to_bytes()).torrent_id == metainfo.torrent_id


def test_outer_values_that_make_no_sense_are_left_out():
    root = {
        b"announce": 7,
        b"comment": [b"x"],
        b"created by": 7,
        b"creation date": b"today",
        b"info": single(),
        b"url-list": b"",
        b"private": 1,
    }
    metainfo = parse(bencodepy.encode(root))

    assert metainfo.trackers == metainfo.web_seeds == ()
    assert (metainfo.comment, metainfo.created_by, metainfo.creation_date) == (None, None, None)
    assert not metainfo.private, "private counts only inside info"


@pytest.mark.parametrize(("flag", "private"), [(0, False), (1, True), (2, True)])
def test_the_private_flag_is_read_inside_info(flag, private):
    assert parse_info(bencodepy.encode(single(private=flag))).private is private


def test_a_name_in_utf8_is_preferred_unless_it_is_no_name():
    assert parse_info(bencodepy.encode(single() | {b"name.utf-8": b"better"})).name == "better"
    assert parse_info(bencodepy.encode(single() | {b"name.utf-8": 7})).name == "name"


def test_each_piece_has_its_digest():
    digests = [hashlib.sha1(bytes([n])).digest() for n in range(3)]
    metainfo = sample(
        files=[FileEntry(("name",), 2 * 16384 + 1)], pieces=b"".join(digests), piece_length=16384
    )

    assert [metainfo.piece_digest(n) for n in range(3)] == digests
    for index in (-1, 3):
        with pytest.raises(GeometryError, match=r"outside 0\.\.2"):
            metainfo.piece_digest(index)


def test_a_torrent_without_a_byte_has_no_pieces():
    metainfo = sample(files=[FileEntry(("name",), 0)], pieces=b"")

    assert (metainfo.total_length, metainfo.geometry.piece_count) == (0, 0)


def test_the_same_arguments_give_the_same_bytes():
    assert sample().to_bytes() == sample().to_bytes()
    assert set(bencodepy.decode(sample().to_bytes())) == {b"info"}


def test_what_is_built_comes_back():
    files = [FileEntry(("a", "é.txt"), 3), FileEntry(("empty",), 0), FileEntry(("b",), 2)]
    metainfo = sample(files=files, multi_file=True)

    assert metainfo.files == tuple(files)
    assert parse(metainfo.to_bytes()) == metainfo


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"piece_length": 0}, "piece length 0"),
        ({"piece_length": 64 * MIB + 1}, "is outside"),
        ({"pieces": b""}, "1 pieces, but there are 0"),
        ({"pieces": DIGEST + b"x"}, "not 20 bytes each"),
        ({"files": []}, "one file, which bears its name"),
        ({"files": [FileEntry(("other",), 5)]}, "one file, which bears its name"),
        ({"files": [FileEntry(("..",), 5)], "multi_file": True}, "not a usable name"),
        ({"files": [FileEntry(("a\\b",), 5)], "multi_file": True}, "which is not allowed"),
        ({"files": [FileEntry(("x\udcff",), 5)], "multi_file": True}, "not valid Unicode"),
        ({"files": [FileEntry(("a",), -5)], "multi_file": True}, "length of a file"),
        ({"trackers": [["localhost:9999"]]}, "'localhost:9999' is not a URL"),
        ({"web_seeds": ["http://a b/"]}, "is not a URL"),
    ],
)
def test_parts_that_do_not_fit_are_not_built(changes, reason):
    with pytest.raises(MetainfoError) as caught:
        sample(**changes)
    assert reason in str(caught.value)


def test_trackers_given_with_metadata_are_cleaned_like_those_of_a_file():
    metainfo = parse_info(
        GOOD, trackers=[["http://a/announce", "nonsense"], []], web_seeds=["http://w/", "\udcff"]
    )

    assert metainfo.trackers == (("http://a/announce",),)
    assert metainfo.web_seeds == ("http://w/",)


def test_bytes_after_metadata_are_refused():
    with pytest.raises(BencodeError):
        parse_info(GOOD + b"e")


def test_bytes_that_may_change_later_are_not_kept():
    data = bytearray(torrent(GOOD))
    metainfo = parse(data)
    data[:] = bytes(len(data))

    assert metainfo.info_bytes == GOOD


@pytest.mark.parametrize(
    ("total", "length"),
    [
        (0, 16 * KIB),
        (1, 16 * KIB),
        (2000 * 16 * KIB, 16 * KIB),
        (2000 * 16 * KIB + 1, 32 * KIB),
        (GIB, MIB),
        (30 * GIB, 16 * MIB),
        (2**47, 16 * MIB),
    ],
)
def test_the_piece_length_follows_the_size(total, length):
    assert default_piece_length(total) == length
    if length < 16 * MIB:
        assert -(-total // length) <= 2000


@given(st.integers(0, 2**48 - 1))
def test_the_piece_length_is_a_power_of_two_from_16_kib_to_16_mib(total):
    length = default_piece_length(total)

    assert 16 * KIB <= length <= 16 * MIB
    assert length.bit_count() == 1
    assert length == 16 * MIB or -(-total // length) <= 2000


@pytest.mark.torture
def test_a_torrent_of_a_hundred_thousand_files_takes_seconds_of_a_processor():
    files = [
        FileEntry((f"folder{n // 1000}", f"some file name {n}.txt"), n) for n in range(100_000)
    ]
    total = sum(file.length for file in files)
    length = default_piece_length(total)
    pieces = bytes(20 * -(-total // length))
    raw = sample(files=files, multi_file=True, piece_length=length, pieces=pieces).to_bytes()
    start = time.thread_time()

    assert parse(raw).files == tuple(files)
    assert time.thread_time() - start < 10, "about 2 s"


infos = st.fixed_dictionaries(
    {},
    optional={
        b"name": st.binary(max_size=4) | st.integers(),
        b"length": st.integers(-1, 40) | st.binary(max_size=2),
        b"piece length": st.integers(-1, 20) | st.just(16384),
        b"pieces": st.sampled_from([b"", DIGEST, DIGEST * 2, b"x"]),
        b"private": st.integers(0, 1) | st.binary(max_size=1),
        b"files": st.lists(
            st.fixed_dictionaries(
                {b"path": st.lists(st.sampled_from([b"a", b"b", b"..", b"A"]), max_size=3)},
                optional={b"length": st.integers(-1, 20), b"attr": st.sampled_from([b"l", b"p"])},
            ),
            max_size=3,
        ),
    },
)


@settings(max_examples=300)
@given(infos)
def test_any_info_gives_a_consistent_torrent_or_the_declared_error(info):
    raw = bencodepy.encode(info)
    try:
        metainfo = parse_info(raw)
    except FormatError:
        return
    assert sum(file.length for file in metainfo.files) == metainfo.total_length
    assert len(metainfo.pieces) == 20 * metainfo.geometry.piece_count
    assert parse(metainfo.to_bytes()) == metainfo
    assert metainfo.torrent_id.v1 == hashlib.sha1(raw).digest()


@given(st.data())
def test_one_byte_changed_gives_a_torrent_or_the_declared_error(data):
    raw = bytearray(sample(trackers=[["http://a/announce"]], comment="c").to_bytes())
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        metainfo = parse(raw)
    except FormatError:
        return
    assert parse(metainfo.to_bytes()).torrent_id == metainfo.torrent_id


def test_every_shorter_beginning_of_a_file_is_refused():
    raw = sample(trackers=[["http://a/announce"]]).to_bytes()

    for stop in range(len(raw)):
        with pytest.raises(FormatError):
            parse(raw[:stop])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_libtorrent_reads_what_we_write():
    libtorrent = pytest.importorskip("libtorrent", reason="libtorrent is not installed here")
    metainfo = sample(
        files=[FileEntry(("a", "é.txt"), 3), FileEntry(("b",), 2)],
        multi_file=True,
        trackers=[["http://a/announce"], ["http://b/announce"]],
        private=True,
    )

    theirs = libtorrent.torrent_info(libtorrent.bdecode(metainfo.to_bytes()))
    assert str(theirs.info_hash()) == str(metainfo.torrent_id)
    assert theirs.priv()
    assert [tracker.url for tracker in theirs.trackers()] == [
        "http://a/announce",
        "http://b/announce",
    ]
    assert [theirs.files().file_path(n) for n in range(2)] == ["name/a/é.txt", "name/b"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("flavour", ["v1", "hybrid", "v2"])
def test_we_read_what_libtorrent_writes(tmp_path, flavour):
    libtorrent = pytest.importorskip("libtorrent", reason="libtorrent is not installed here")
    (tmp_path / "top").mkdir()
    for name, size in (("one.bin", 40_000), ("two.bin", 40_000), ("three.bin", 7)):
        (tmp_path / "top" / name).write_bytes(bytes(size))
    storage = libtorrent.file_storage()
    libtorrent.add_files(storage, str(tmp_path / "top"))
    flags = {"v1": libtorrent.create_torrent.v1_only, "v2": libtorrent.create_torrent.v2_only}
    creator = libtorrent.create_torrent(storage, 16384, flags.get(flavour, 0))
    libtorrent.set_piece_hashes(creator, str(tmp_path))
    raw = libtorrent.bencode(creator.generate())

    if flavour == "v2":
        with pytest.raises(MetainfoError, match="version 2 alone"):
            parse(raw)
        return
    metainfo = parse(raw)
    theirs = libtorrent.torrent_info(libtorrent.bdecode(raw))
    assert metainfo.name == "top"
    assert str(metainfo.torrent_id) == str(theirs.info_hashes().v1)
    assert metainfo.geometry.piece_count == theirs.num_pieces()
    assert {file.path[-1] for file in metainfo.files} >= {"one.bin", "two.bin", "three.bin"}
    assert metainfo.to_bytes() == raw


@pytest.mark.parametrize(
    ("files", "multi_file", "listed"),
    [
        ([("notes",)], False, "notes"),
        ([("05", "a.jpg")], True, "notes/05/a.jpg"),
        ([("a.jpg",)], True, "notes/a.jpg"),
        ([("a.jpg",), ("b.jpg",)], True, "notes"),
    ],
)
def test_a_single_file_in_a_folder_is_listed_with_its_path(
    files: list[tuple[str, ...]], multi_file: bool, listed: str
) -> None:
    metainfo = build(
        name="notes",
        files=[FileEntry(path, 1) for path in files],
        multi_file=multi_file,
        piece_length=16384,
        pieces=bytes(20),
    )

    assert metainfo.shared_name == listed
