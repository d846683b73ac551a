import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfs.errors import StorageError
from p2pfs.geometry import Geometry, TorrentId
from p2pfs.storage.files import Files
from p2pfs.storage.resume import ENTRY_SIZE, HEADER_SIZE, ResumeRecord

THIS = TorrentId(b"t" * 20)
GEOMETRY = Geometry(1000, 10)
NAME = (".record",)


@pytest.fixture
def root(quick, tmp_path):
    root = quick.open_root(tmp_path)
    yield root
    quick.close_root(root)


@pytest.fixture
def reopen(quick, root):
    """Open the record; everything opened is closed in the end."""
    opened = []

    def go(torrent=THIS, geometry=GEOMETRY):
        for record in opened:
            record.close()
        record, loaded = ResumeRecord.open(quick, root, NAME, torrent, geometry)
        opened.append(record)
        if loaded.fresh:
            record.begin(torrent, geometry, [])
        return record, loaded

    yield go
    for record in opened:
        record.close()


def test_a_new_record_is_fresh_and_knows_nothing(reopen):
    _, loaded = reopen()
    assert loaded.fresh
    assert loaded.settled.count == loaded.unsettled.count == 0


def test_a_record_that_was_not_begun_stays_fresh(quick, root):
    for _ in range(2):
        record, loaded = ResumeRecord.open(quick, root, NAME, THIS, GEOMETRY)
        assert loaded.fresh
        record.close()


def test_pieces_are_unsettled_until_a_checkpoint_covers_them(reopen):
    record, _ = reopen()
    record.add(5)
    record.add_all([7, 8])
    position = record.position
    record.add(9)
    record.checkpoint(position, {0: 123, 3: 2**63})
    record.add(11)

    _, loaded = reopen()

    assert not loaded.fresh
    assert list(loaded.settled) == [5, 7, 8]
    assert list(loaded.unsettled) == [9, 11]
    assert loaded.stamps == {0: 123, 3: 2**63}


def test_a_dropped_piece_is_gone_and_may_come_again(reopen):
    record, _ = reopen()
    record.add_all([1, 2, 3])
    record.checkpoint(record.position, {})
    record.drop([2, 3])
    record.add(3)

    _, loaded = reopen()

    assert list(loaded.settled) == [1]
    assert list(loaded.unsettled) == [3]


def test_writing_goes_on_after_reopening(reopen):
    record, _ = reopen()
    record.add(1)
    record, _ = reopen()
    record.add(2)
    _, loaded = reopen()
    assert list(loaded.unsettled) == [1, 2]


def test_the_mark_of_finishing_ends_with_the_next_piece(reopen):
    record, _ = reopen()
    record.finishing(77)
    record, loaded = reopen()
    assert loaded.finishing == 77
    record.add(1)
    _, loaded = reopen()
    assert loaded.finishing is None


@pytest.mark.parametrize(
    ("torrent", "geometry"),
    [
        (TorrentId(b"o" * 20), GEOMETRY),
        (THIS, Geometry(1000, 20)),
        (THIS, Geometry(1001, 10)),
    ],
)
def test_the_record_of_another_torrent_is_not_believed(reopen, torrent, geometry):
    record, _ = reopen()
    record.add(1)
    _, loaded = reopen(torrent, geometry)
    assert loaded.fresh
    assert loaded.unsettled.count == 0


def test_a_record_cut_at_any_byte_keeps_what_is_before(reopen, tmp_path):
    record, _ = reopen()
    for index in range(6):
        record.add(index)
    record.close()
    path = tmp_path / NAME[0]
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        record, loaded = reopen()
        kept = max(0, length - HEADER_SIZE) // ENTRY_SIZE
        assert loaded.fresh == (length < HEADER_SIZE)
        assert list(loaded.unsettled) == list(range(kept))
        record.add(50)
        _, loaded = reopen()
        assert list(loaded.unsettled) == [*range(kept), 50]


def test_a_record_with_any_byte_changed_keeps_only_what_is_before(reopen, tmp_path):
    record, _ = reopen()
    for index in range(4):
        record.add(index)
    record.checkpoint(record.position, {1: 1})
    record.close()
    path = tmp_path / NAME[0]
    whole = path.read_bytes()
    for place in range(len(whole)):
        spoiled = bytearray(whole)
        spoiled[place] ^= 1 << place % 8
        path.write_bytes(spoiled)
        record, loaded = reopen()
        kept = min(4, max(0, place - HEADER_SIZE) // ENTRY_SIZE)
        assert list(loaded.unsettled) == list(range(kept))
        assert loaded.settled.count == 0
        record.add(50)
        _, loaded = reopen()
        assert list(loaded.unsettled) == [*range(kept), 50]
        assert loaded.settled.count == 0


def test_entries_left_from_before_a_new_header_do_not_count(reopen, tmp_path):
    record, _ = reopen()
    for index in range(4):
        record.add(index)
    record.close()
    path = tmp_path / NAME[0]
    old = path.read_bytes()
    path.unlink()
    record, _ = reopen()
    record.close()
    path.write_bytes(path.read_bytes() + old[HEADER_SIZE:])
    _, loaded = reopen()
    assert loaded.unsettled.count == 0


@given(st.binary(max_size=300), st.booleans())
@settings(max_examples=50, deadline=None)
def test_a_record_of_anything_is_read_or_begun_anew(tmp_path_factory, data, with_header):
    folder = tmp_path_factory.mktemp("record")
    files = Files()
    root = files.open_root(folder)
    if with_header:
        record, _ = ResumeRecord.open(files, root, NAME, THIS, GEOMETRY)
        record.begin(THIS, GEOMETRY, [])
        record.close()
        with (folder / NAME[0]).open("ab") as file:
            file.write(data)
    else:
        (folder / NAME[0]).write_bytes(data)
    record, loaded = ResumeRecord.open(files, root, NAME, THIS, GEOMETRY)
    assert loaded.fresh != with_header
    assert loaded.settled.count == loaded.unsettled.count == 0
    record.close()
    files.close_root(root)


actions = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 99)),
        st.tuples(st.just("drop"), st.integers(0, 99)),
        st.tuples(st.just("checkpoint"), st.just(0)),
        st.tuples(st.just("reopen"), st.just(0)),
    ),
    max_size=40,
)


@given(actions)
@settings(max_examples=40, deadline=None)
def test_a_record_says_what_a_simple_model_says(tmp_path_factory, steps):
    files = Files()
    root = files.open_root(tmp_path_factory.mktemp("record"))
    record, _ = ResumeRecord.open(files, root, NAME, THIS, GEOMETRY)
    record.begin(THIS, GEOMETRY, [3, 4])
    settled, unsettled = set(), {3, 4}
    for what, index in [*steps, ("reopen", 0)]:
        if what == "add":
            record.add(index)
            settled.discard(index)
            unsettled.add(index)
        elif what == "drop":
            record.drop([index])
            settled.discard(index)
            unsettled.discard(index)
        elif what == "checkpoint":
            record.checkpoint(record.position, {})
            settled, unsettled = settled | unsettled, set()
        else:
            record.close()
            record, loaded = ResumeRecord.open(files, root, NAME, THIS, GEOMETRY)
            assert (set(loaded.settled), set(loaded.unsettled)) == (settled, unsettled)
    record.close()
    files.close_root(root)


def test_a_record_that_another_has_open_is_refused(reopen, quick, root):
    reopen()
    with pytest.raises(StorageError, match="another p2pfs"):
        ResumeRecord.open(quick, root, NAME, THIS, GEOMETRY)


def test_a_removed_record_is_gone_and_free(reopen, root, tmp_path):
    record, _ = reopen()
    record.add(1)
    record.remove()
    assert not list(tmp_path.iterdir())
    _, loaded = reopen()
    assert loaded.fresh


def test_a_record_removed_between_opening_and_locking_is_not_used(tmp_path, watched):
    path = tmp_path / NAME[0]
    tries = 0

    def around(name, call, args):
        nonlocal tries
        result = call(*args)
        if name == "sys_open" and args[0] == NAME[0]:
            tries += 1
            if tries == 1:
                path.unlink()
        return result

    files = watched(around)
    root = files.open_root(tmp_path)
    record, _ = ResumeRecord.open(files, root, NAME, THIS, GEOMETRY)
    assert tries == 2
    assert path.exists()
    record.close()
    files.close_root(root)


def test_a_record_of_very_many_pieces_is_read_in_parts(quick, root):
    geometry = Geometry(200_000, 1)
    record, _ = ResumeRecord.open(quick, root, NAME, THIS, geometry)
    record.begin(THIS, geometry, [])
    order = list(range(120_000))
    random.Random(1).shuffle(order)
    record.add_all(order)
    record.close()
    record, loaded = ResumeRecord.open(quick, root, NAME, THIS, geometry)
    assert list(loaded.unsettled) == list(range(120_000))
    record.close()
