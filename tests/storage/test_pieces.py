import os
import random
import threading

import pytest

from p2pfs.errors import GeometryError, StorageError


def through_sources(store, index, size):
    """A piece as it is served: file ranges and descriptors."""
    return b"".join(
        os.pread(store.source(number).fileno(), length, offset)
        for number, offset, length in store.slices(index, 0, size)
    )


def test_written_pieces_can_be_read_and_served_at_once(either, tmp_path, start):
    store = start(either, tmp_path)
    order = list(range(either.count))
    random.Random(1).shuffle(order)
    for index in order:
        assert index not in store.verified
        assert store.write_piece(index, either.piece(index))
        size = len(either.piece(index))
        assert store.read(index, 0, size) == either.piece(index)
        assert through_sources(store, index, size) == either.piece(index)
    assert store.complete
    assert not store.finished


def test_nothing_has_its_real_name_before_it_is_complete(either, tmp_path, start, write):
    store = start(either, tmp_path)
    write(store, either)
    assert all(path.name.startswith(".") for path in tmp_path.iterdir())

    assert store.finish() == store.final_path == tmp_path / either.metainfo.name

    assert either.is_at(store.final_path)
    assert list(tmp_path.iterdir()) == [store.final_path]
    assert store.finish() == store.final_path


def test_content_is_served_on_after_it_got_its_name(either, tmp_path, start, write):
    store = start(either, tmp_path)
    write(store, either)
    descriptors = [store.source(number).fileno() for number in range(len(store.layout.lengths))
                   if store.layout.lengths[number]]  # fmt: skip
    store.finish(durable=False)
    for index in range(either.count):
        size = len(either.piece(index))
        assert through_sources(store, index, size) == either.piece(index)
        assert store.read(index, 0, size) == either.piece(index)
        assert store.write_piece(index, either.piece(index))
    assert all(store.check_unchanged(number) for number in range(len(store.layout.lengths)))
    assert descriptors


def test_a_wrong_piece_is_refused_and_leaves_no_trace(either, tmp_path, start, watched):
    writes = []

    def around(name, call, args):
        if name == "sys_pwrite":
            writes.append(args)
        return call(*args)

    store = start(either, tmp_path, files=watched(around))
    before = len(writes)
    wrong = bytearray(either.piece(0))
    wrong[100] ^= 1
    assert not store.write_piece(0, wrong)
    assert not store.write_piece(0, either.piece(1))
    assert not store.write_piece(0, either.piece(0)[:-1])
    assert len(writes) == before
    assert store.verified.count == 0


def test_a_piece_comes_to_the_disk_once_and_in_one_write_for_each_file(
    single, tmp_path, start, watched, write
):
    writes = []

    def around(name, call, args):
        if name == "sys_pwrite" and len(args[1]) > 100:
            writes.append(args[2])
        return call(*args)

    store = start(single, tmp_path, files=watched(around))
    for _ in range(2):
        write(store, single)
    assert sorted(writes) == [2048 * index for index in range(single.count)]


def test_pieces_written_on_many_threads_with_few_open_files_all_arrive(tree, tmp_path, start):
    store = start(tree, tmp_path)
    store._pool._limit = 2
    order = list(range(tree.count)) * 3
    random.Random(2).shuffle(order)
    turn = threading.Lock()
    failed = []

    def work():
        while True:
            with turn:
                if not order:
                    return
                index = order.pop()
            if not store.write_piece(index, tree.piece(index)):
                failed.append(index)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert store.verified.count == tree.count
    assert tree.is_at(store.finish())


def test_a_piece_may_come_in_blocks_over_the_disk(either, tmp_path, start):
    store = start(either, tmp_path)
    piece = either.piece(1)
    store.write_block(1, 1000, piece[1000:])
    assert not store.verify_written(1)
    assert 1 not in store.verified
    store.write_block(1, 0, piece[:1000])
    assert store.verify_written(1)
    assert 1 in store.verified
    assert store.verify_written(1)


def test_a_late_block_cannot_spoil_a_verified_piece(either, tmp_path, start):
    store = start(either, tmp_path)
    store.write_piece(0, either.piece(0))
    store.write_block(0, 0, bytes(100))
    assert store.read(0, 0, 100) == either.piece(0)[:100]


@pytest.mark.parametrize(("index", "begin", "length"), [(-1, 0, 1), (0, -1, 1), (9, 0, 1)])
def test_a_range_outside_the_content_is_refused(single, tmp_path, start, index, begin, length):
    store = start(single, tmp_path)
    with pytest.raises(GeometryError):
        store.slices(index, begin, length)
    with pytest.raises(GeometryError):
        store.read(index, begin, length)


def test_a_file_cut_short_behind_our_back_is_an_error_to_read(single, tmp_path, start, write):
    store = start(single, tmp_path)
    write(store, single)
    path = store.finish()
    assert store.check_unchanged(0)
    os.truncate(path, 5000)
    with pytest.raises(StorageError, match="shorter"):
        store.read(4, 0, 100)
    assert not store.check_unchanged(0)


def test_a_part_replaced_behind_our_back_is_noticed(single, tmp_path, start):
    store = start(single, tmp_path)
    store.write_piece(0, single.piece(0))
    assert store.check_unchanged(0)
    (part,) = (path for path in tmp_path.iterdir() if path.name.endswith("part"))
    part.rename(tmp_path / "aside")
    part.write_bytes(bytes(13_000))
    assert not store.check_unchanged(0)


def test_a_dropped_piece_stays_dropped_after_a_restart(either, tmp_path, start, write):
    store = start(either, tmp_path)
    write(store, either)
    store.drop(1)
    store.drop(1)
    assert not store.complete
    store.close()
    again = start(either, tmp_path)
    assert list(again.verified.missing()) == [1]
    assert again.write_piece(1, either.piece(1))
    assert either.is_at(again.finish())


def test_an_incomplete_download_cannot_finish(single, tmp_path, start):
    store = start(single, tmp_path)
    store.write_piece(0, single.piece(0))
    with pytest.raises(StorageError, match="6 pieces are missing"):
        store.finish()


def test_a_name_taken_meanwhile_is_not_overwritten_and_nothing_is_lost(
    single, tmp_path, start, write
):
    store = start(single, tmp_path)
    write(store, single)
    store.final_path.write_text("of the user")

    with pytest.raises(StorageError, match="already"):
        store.finish()

    assert store.final_path.read_text() == "of the user"
    assert store.read(0, 0, 100) == single.piece(0)[:100]
    store.final_path.unlink()
    assert single.is_at(store.finish())


def test_a_part_removed_behind_our_back_is_a_clear_error(single, tmp_path, start, write):
    store = start(single, tmp_path)
    write(store, single)
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(StorageError, match="removed by another program"):
        store.finish()


def test_closing_twice_is_harmless(single, tmp_path, start):
    store = start(single, tmp_path)
    store.write_piece(0, single.piece(0))
    store.close()
    store.close()


def test_warming_reads_without_an_answer(either, tmp_path, start, write):
    store = start(either, tmp_path)
    write(store, either)
    assert store.warm(0, 0, 2048) is None


def test_finished_content_at_rest_has_nothing_open_and_is_read_all_the_same(
    either, tmp_path, start, write
):
    store = start(either, tmp_path)
    write(store, either)
    assert not store.only_read
    store.rest()
    assert store._places.root.fd >= 0

    store.finish()
    store.rest()

    assert store.only_read
    assert store._places.root.fd == -1
    for index in range(either.count):
        size = len(either.piece(index))
        assert through_sources(store, index, size) == either.piece(index)
        assert store.read(index, 0, size) == either.piece(index)
    store.rest()
    assert store.check_unchanged(0)
