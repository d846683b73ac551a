import pytest

from p2pfs.errors import GeometryError
from p2pfs.storage.assembler import Assembler


def test_blocks_put_in_any_order_make_the_piece():
    assembler = Assembler(1000)
    assert assembler.begin(7, 10)
    assembler.put(7, 6, memoryview(b"6789"))
    assembler.put(7, 0, memoryview(b"012345"))

    assert bytes(assembler.take(7)) == b"0123456789"
    assert 7 not in assembler


def test_a_block_may_be_received_into_its_place():
    assembler = Assembler(1000)
    assembler.begin(0, 10)

    assembler.view(0, 2, 3)[:] = b"abc"

    assert bytes(assembler.take(0))[2:5] == b"abc"


def test_a_piece_over_the_budget_is_refused_until_another_is_released():
    assembler = Assembler(25)
    assert assembler.begin(0, 10)
    assert assembler.begin(1, 10)
    assert not assembler.begin(2, 10)
    buffer = assembler.take(0)
    assert not assembler.begin(2, 10)
    assembler.release(buffer)
    assert assembler.begin(2, 10)
    assert assembler.used == 20


def test_one_piece_larger_than_the_budget_still_gets_in():
    assembler = Assembler(5)
    assert assembler.begin(0, 10)
    assert not assembler.begin(1, 1)
    assembler.release(assembler.take(0))
    assert assembler.used == 0
    assert assembler.begin(1, 1)


def test_beginning_a_piece_again_keeps_what_is_in_it():
    assembler = Assembler(100)
    assembler.begin(0, 4)
    assembler.put(0, 0, b"ab")
    assert assembler.begin(0, 4)
    assert bytes(assembler.take(0))[:2] == b"ab"
    assert assembler.used == 4


def test_a_dropped_piece_gives_its_room_back():
    assembler = Assembler(10)
    assembler.begin("piece", 10)
    assembler.drop("piece")
    assembler.drop("piece")
    assert assembler.used == 0
    assert assembler.begin(1, 10)


def test_buffers_are_used_again():
    assembler = Assembler(100)
    assembler.begin(0, 10)
    first = assembler.take(0)
    owner = first.obj
    assembler.release(first)
    assembler.begin(1, 10)
    assert assembler.take(1).obj is owner


def test_idle_buffers_make_way_for_another_size():
    assembler = Assembler(100)
    for key in range(10):
        assembler.begin(key, 10)
    for key in range(10):
        assembler.drop(key)
    assert assembler.begin("large", 100)
    assert assembler.used == 100
    assert not assembler.begin("more", 1)


@pytest.mark.parametrize(("begin", "data"), [(-1, b"x"), (8, b"xyz"), (11, b"")])
def test_a_block_that_leaves_its_piece_is_refused(begin, data):
    assembler = Assembler(100)
    assembler.begin(0, 10)
    with pytest.raises(GeometryError):
        assembler.put(0, begin, data)
    with pytest.raises(GeometryError):
        assembler.view(0, begin, len(data))


def test_a_piece_that_was_not_begun_is_refused():
    assembler = Assembler(100)
    with pytest.raises(GeometryError):
        assembler.put(0, 0, b"x")
    with pytest.raises(GeometryError):
        assembler.take(0)
