import os
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p2pfs.errors import StorageError
from p2pfs.storage.pieces import PieceStore
from p2pfs.storage.places import hidden_name

posix = pytest.mark.skipif(os.name == "nt", reason="needs POSIX files")


@pytest.fixture
def hashed(watched):
    """`Files` that count how many bytes of content are read."""

    def around(name, call, args):
        result = call(*args)
        if name == "sys_pread" and len(args[1]) < 100_000:
            around.total += result
        return result

    around.total = 0
    files = watched(around)
    files.counter = around
    return files


@pytest.fixture
def begun(start, write):
    """A download that was stopped after some pieces."""

    def go(sample, folder, indices, clean=True):
        store = start(sample, folder)
        write(store, sample, indices)
        store.close(clean=clean)

    return go


def part(sample, folder):
    return folder / hidden_name(sample.metainfo, "part")


def record(sample, folder):
    return folder / hidden_name(sample.metainfo, "resume")


def test_a_download_starts_with_nothing_and_makes_its_folder(either, tmp_path, start, completes):
    store = start(either, tmp_path / "new" / "output")
    assert store.verified.count == 0
    assert store.final_path == tmp_path / "new" / "output" / either.metainfo.name
    assert completes(store, either)


@pytest.mark.parametrize("clean", [True, False], ids=["stopped", "killed"])
def test_a_download_goes_on_where_it_was(either, tmp_path, start, clean, completes, begun):
    begun(either, tmp_path, [0, 2, 5], clean)
    store = start(either, tmp_path)
    assert list(store.verified) == [0, 2, 5]
    assert completes(store, either)


def test_after_a_clean_stop_nothing_is_hashed_again(either, tmp_path, start, hashed, begun):
    begun(either, tmp_path, [0, 2, 5])
    start(either, tmp_path, files=hashed)
    assert hashed.counter.total < 1000


def test_after_a_kill_only_what_came_after_the_checkpoint_is_hashed_again(
    single, tmp_path, start, hashed, write
):
    store = start(single, tmp_path)
    write(store, single, [0, 1, 2, 3])
    store.checkpoint()
    write(store, single, [4])
    store.close(clean=False)

    again = start(single, tmp_path, files=hashed)

    assert list(again.verified) == [0, 1, 2, 3, 4]
    assert 2048 <= hashed.counter.total < 3000


def test_a_stop_after_the_last_piece_is_finished_at_the_next_start(either, tmp_path, start, begun):
    begun(either, tmp_path, range(either.count), clean=False)
    store = start(either, tmp_path)
    assert store.finished
    assert either.is_at(store.final_path)
    assert list(tmp_path.iterdir()) == [store.final_path]


@pytest.mark.parametrize("clean", [True, False], ids=["stopped", "killed"])
@pytest.mark.parametrize("keep_time", [True, False], ids=["old time", "new time"])
def test_a_part_edited_behind_our_back_is_rechecked(
    single, tmp_path, start, clean, keep_time, write, completes
):
    store = start(single, tmp_path)
    write(store, single, [0, 1, 2])
    store.checkpoint()
    store.close(clean=clean)
    path = part(single, tmp_path)
    with path.open("r+b") as file:
        file.seek(2100)
        file.write(b"spoiled")
    if keep_time:
        os.utime(path, ns=(0, 1_000_000_000))

    again = start(single, tmp_path)

    assert list(again.verified) == [0, 2]
    assert completes(again, single)


@pytest.mark.parametrize("change", ["cut", "grown", "deleted", "emptied"])
def test_a_part_of_another_size_is_rechecked(single, tmp_path, start, change, completes, begun):
    begun(single, tmp_path, [0, 1, 6])
    path = part(single, tmp_path)
    if change == "cut":
        os.truncate(path, 4000)
    elif change == "grown":
        os.truncate(path, 20_000)
    elif change == "emptied":
        path.write_bytes(b"")
    else:
        path.unlink()

    store = start(single, tmp_path)

    assert list(store.verified) == {"cut": [0], "grown": [0, 1, 6]}.get(change, [])
    assert completes(store, single)


def test_a_file_of_a_part_tree_deleted_costs_its_pieces_only(
    tree, tmp_path, start, completes, begun
):
    begun(tree, tmp_path, range(tree.count - 1))
    (part(tree, tmp_path) / "a.txt").unlink()
    store = start(tree, tmp_path)
    assert list(store.verified) == list(range(3, tree.count - 1))
    assert completes(store, tree)


@pytest.mark.parametrize("damage", ["deleted", "emptied", "garbage"])
def test_without_a_record_what_is_there_is_rechecked(either, tmp_path, start, damage, begun):
    begun(either, tmp_path, [0, 3, 4])
    path = record(either, tmp_path)
    if damage == "deleted":
        path.unlink()
    else:
        path.write_bytes(b"" if damage == "emptied" else random.Random(1).randbytes(500))

    store = start(either, tmp_path)

    assert list(store.verified) == [0, 3, 4]
    store.close(clean=False)
    assert list(start(either, tmp_path).verified) == [0, 3, 4]


def test_a_record_cut_or_spoiled_anywhere_never_makes_a_wrong_claim(single, tmp_path, start, begun):
    begun(single, tmp_path, [0, 2, 4])
    path = record(single, tmp_path)
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place])
        store = start(single, tmp_path)
        for index in store.verified:
            assert store.read(index, 0, len(single.piece(index))) == single.piece(index)
        store.close(clean=False)


def test_right_content_at_the_real_name_is_complete_at_once(either, tmp_path, start, snapshot):
    either.lay_out(tmp_path)
    before = snapshot(tmp_path)
    store = start(either, tmp_path)
    assert store.complete
    assert store.finished
    assert all(store.check_unchanged(number) for number in range(len(store.layout.lengths)))
    assert snapshot(tmp_path) == before


def test_right_content_at_the_real_name_makes_an_old_part_superfluous(
    either, tmp_path, start, begun
):
    begun(either, tmp_path, [0, 1])
    either.lay_out(tmp_path)
    store = start(either, tmp_path)
    assert store.finished
    assert list(tmp_path.iterdir()) == [store.final_path]


@pytest.mark.parametrize("change", ["edited", "longer", "shorter", "empty"])
@pytest.mark.parametrize("with_part", [False, True])
def test_different_content_of_the_user_is_refused_and_left_alone(
    either, tmp_path, start, change, with_part, snapshot, begun
):
    if with_part:
        begun(either, tmp_path, [0, 1])
    top = either.lay_out(tmp_path)
    path = top if top.is_file() else top / "a.txt"
    if change == "edited":
        path.write_bytes(b"x" + path.read_bytes()[1:])
    elif change == "longer":
        path.write_bytes(path.read_bytes() + b"x")
    else:
        path.write_bytes(b"short" if change == "shorter" else b"")
    before = snapshot(tmp_path)

    with pytest.raises(StorageError, match=r"move it away, or choose another output folder"):
        start(either, tmp_path)

    assert snapshot(tmp_path) == before


def test_a_folder_or_a_file_where_the_other_is_needed_is_refused(single, tree, tmp_path, start):
    (tmp_path / single.metainfo.name).mkdir()
    with pytest.raises(StorageError, match="not a regular file"):
        start(single, tmp_path)
    (tmp_path / tree.metainfo.name).write_text("x")
    with pytest.raises(StorageError, match="not a folder"):
        start(tree, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_an_output_folder_that_is_a_file_is_refused(single, tmp_path, start):
    (tmp_path / "output").write_text("x")
    with pytest.raises(StorageError, match="is not a folder"):
        start(single, tmp_path / "output")


@posix
def test_planted_links_are_refused_and_their_targets_untouched(
    single, tree, tmp_path, start, write
):
    target = tmp_path / "target"
    target.write_text("precious")
    outside = tmp_path / "outside"
    outside.mkdir()
    output = tmp_path / "output"
    output.mkdir()

    for path in (output / "thing.bin", record(single, output), part(single, output)):
        path.symlink_to(target)
        with pytest.raises(StorageError, match=r"link|regular file"):
            write(start(single, output), single)
        path.unlink()
    for path in (output / "thing", part(tree, output)):
        path.symlink_to(outside)
        with pytest.raises(StorageError, match=r"link|folder"):
            write(start(tree, output), tree)
        path.unlink()

    assert target.read_text() == "precious"
    assert not list(outside.iterdir())


def test_a_second_download_of_the_same_into_the_same_place_is_refused(
    either, tmp_path, start, completes
):
    store = start(either, tmp_path)
    store.write_piece(0, either.piece(0))
    with pytest.raises(StorageError, match="another p2pfs"):
        start(either, tmp_path)
    assert completes(store, either)


def test_a_folder_where_the_record_belongs_is_a_clear_error(single, tmp_path, start):
    record(single, tmp_path).mkdir()
    with pytest.raises(StorageError, match="resume"):
        start(single, tmp_path)


def test_a_stop_between_the_name_and_the_flush_is_made_good(either, tmp_path, start, write):
    store = start(either, tmp_path)
    write(store, either)
    store.finish(durable=False)
    store.close(clean=False)
    assert record(either, tmp_path).exists()

    again = start(either, tmp_path)

    assert again.finished
    assert either.is_at(again.final_path)
    assert list(tmp_path.iterdir()) == [again.final_path]


def test_what_the_user_edits_after_such_a_stop_is_left_alone(either, tmp_path, start, write):
    store = start(either, tmp_path)
    write(store, either)
    path = store.finish(durable=False)
    store.close(clean=False)
    path = path if path.is_file() else path / "a.txt"
    edited = b"edited" + path.read_bytes()[6:]
    path.write_bytes(edited)
    later = record(either, tmp_path).stat().st_mtime_ns + 1
    os.utime(path, ns=(later, later))

    with pytest.raises(StorageError, match="move it away"):
        start(either, tmp_path)

    assert path.read_bytes() == edited


def test_content_without_bytes_is_complete_at_once(sample, tmp_path, start):
    for lengths in (0, {"a": 0, "b/c": 0}):
        empty = sample(lengths, name="none" if lengths == 0 else "tree")
        store = start(empty, tmp_path)
        assert store.finished
        assert empty.is_at(store.final_path)


def test_two_names_that_are_one_file_are_noticed_before_they_spoil_each_other(
    tree, tmp_path, start, write
):
    folder = part(tree, tmp_path)
    folder.mkdir()
    (folder / "a.txt").write_bytes(b"")
    (folder / "d").hardlink_to(folder / "a.txt")
    with pytest.raises(StorageError, match="are one file on this disk"):
        write(start(tree, tmp_path), tree)


def test_a_stop_during_the_recheck_loses_nothing_and_progress_may_be_that_stop(
    single, tmp_path, start, begun
):
    begun(single, tmp_path, range(5))
    record(single, tmp_path).unlink()

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(single, tmp_path, progress=stop)

    calls = []
    store = start(single, tmp_path, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (13_000, 13_000)
    assert store.verified.count == 5


steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 6)),
        st.tuples(st.just("drop"), st.integers(0, 6)),
        st.sampled_from(["checkpoint", "stop", "kill"]).map(lambda what: (what, 0)),
    ),
    max_size=25,
)


@given(steps=steps)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_history_of_stops_keeps_exactly_what_was_verified(
    single, quick, steps, tmp_path_factory
):
    folder = tmp_path_factory.mktemp("history")
    have = set()
    store = PieceStore.open_download(single.metainfo, folder, files=quick, threads=1)
    for what, index in [*steps, ("kill", 0), ("stop", 0)]:
        if what == "write":
            store.write_piece(index, single.piece(index))
            have.add(index)
        elif what == "drop" and not store.finished:
            store.drop(index)
            have.discard(index)
        elif what == "checkpoint":
            store.checkpoint()
        elif what in ("stop", "kill"):
            store.close(clean=what == "stop")
            store = PieceStore.open_download(single.metainfo, folder, files=quick, threads=1)
        assert set(store.verified) == have
    store.close()
