"""Which pieces somebody has (BEP 3)."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfs.errors import GeometryError, WireError
from p2pfs.formats.bitfield import Bitfield

sizes = st.integers(0, 70)
indices_of = st.builds(lambda n: n, sizes).flatmap(
    lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1)) if n else st.just(set()))
)


def test_a_new_bitfield_has_nothing():
    field = Bitfield(10)

    assert (len(field), field.count, field.complete) == (10, 0, False)
    assert list(field) == []
    assert list(field.missing()) == list(range(10))


def test_a_full_bitfield_has_everything_and_zero_spare_bits():
    field = Bitfield.full(10)

    assert field.complete
    assert field.to_bytes() == b"\xff\xc0"
    assert list(field.missing()) == []
    assert not field.spare_bits_were_set


def test_piece_zero_is_the_high_bit_of_the_first_byte():
    assert Bitfield.of(9, [0, 8]).to_bytes() == b"\x80\x80"
    assert list(Bitfield.from_bytes(b"\x80\x80", 9)) == [0, 8]


@pytest.mark.parametrize("n", [1, 7, 8, 9, 16, 1000])
def test_a_bitfield_of_any_other_size_than_expected_is_refused(n):
    right = (n + 7) // 8
    for wrong in {0, right - 1, right + 1, right + 100} - {right}:
        with pytest.raises(WireError, match=f"has {right} bytes, not {wrong}"):
            Bitfield.from_bytes(bytes(wrong), n)


def test_spare_bits_are_masked_and_remembered():
    field = Bitfield.from_bytes(b"\x00\x7f", 9)

    assert field.spare_bits_were_set
    assert (field.count, list(field), field.to_bytes()) == (0, [], b"\x00\x00")
    assert not Bitfield.from_bytes(b"\xff\x80", 9).spare_bits_were_set
    assert not Bitfield.from_bytes(b"\xff\xff", 16).spare_bits_were_set


def test_a_torrent_without_pieces_is_complete():
    field = Bitfield.from_bytes(b"", 0)

    assert field.complete
    assert (field.to_bytes(), list(field), list(field.missing())) == (b"", [], [])
    assert Bitfield.full(0) == field


def test_adding_and_discarding_say_whether_something_changed():
    field = Bitfield(3)

    assert [field.add(1), field.add(1), field.count] == [True, False, 1]
    assert [field.discard(1), field.discard(1), field.count] == [True, False, 0]


@pytest.mark.parametrize("index", [-1, 10, 15, 16, 2**40])
def test_an_index_outside_the_torrent_is_refused_and_changes_nothing(index):
    field = Bitfield.full(10)

    for use in (field.add, field.discard, field.__getitem__):
        with pytest.raises(GeometryError, match=r"outside 0\.\.9"):
            use(index)
    assert index not in field
    assert field == Bitfield.full(10)


def test_what_is_no_index_is_not_contained():
    assert "3" not in Bitfield.full(10)
    assert None not in Bitfield.full(10)


def test_a_negative_number_of_pieces_is_refused():
    with pytest.raises(GeometryError):
        Bitfield(-1)


def test_interest_is_whether_the_other_has_something_that_we_lack():
    mine = Bitfield.of(20, [0, 1, 2])

    assert mine.is_interesting(Bitfield.of(20, [19]))
    assert not mine.is_interesting(Bitfield.of(20, [0, 2]))
    assert not mine.is_interesting(Bitfield(20))
    assert mine.is_interesting(Bitfield.full(20))


def test_bitfields_of_different_torrents_do_not_mix():
    for operation in ("is_interesting", "__or__", "__and__", "__sub__"):
        with pytest.raises(GeometryError):
            getattr(Bitfield(8), operation)(Bitfield(9))
    assert Bitfield(8) != Bitfield(9)
    assert Bitfield(0) != b""


def test_a_copy_is_independent():
    field = Bitfield.of(9, [3])
    twin = field.copy()
    twin.add(4)

    assert list(field) == [3]
    assert list(twin) == [3, 4]


def test_the_set_may_change_while_it_is_iterated():
    field = Bitfield.of(30, range(0, 30, 2))

    for index in field:
        field.discard(index)
    assert field.count == 0


def test_a_bitfield_is_not_hashable():
    with pytest.raises(TypeError):
        hash(Bitfield(1))


@given(indices_of)
def test_bytes_and_back_give_the_same_set(case):
    n, indices = case
    field = Bitfield.of(n, indices)

    again = Bitfield.from_bytes(memoryview(field.to_bytes()), n)
    assert again == field
    assert (again.count, list(again)) == (len(indices), sorted(indices))
    assert list(again.missing()) == sorted(set(range(n)) - indices)
    assert [again[i] for i in range(n)] == [i in indices for i in range(n)]


@given(st.integers(0, 64).flatmap(lambda n: st.tuples(st.just(n), st.binary(max_size=9))))
def test_any_bytes_give_a_bitfield_or_a_wire_error(case):
    n, data = case
    try:
        field = Bitfield.from_bytes(data, n)
    except WireError:
        assert len(data) != (n + 7) // 8
        return
    assert field.count == len(list(field)) <= n
    assert field.spare_bits_were_set == (field.to_bytes() != data)


@given(st.sets(st.integers(0, 40)), st.sets(st.integers(0, 40)))
def test_operators_agree_with_sets(a, b):
    left, right = Bitfield.of(41, a), Bitfield.of(41, b)

    assert set(left | right) == a | b
    assert set(left & right) == a & b
    assert set(left - right) == a - b
    assert left.is_interesting(right) == bool(b - a)
    assert (left | right).count == len(a | b)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20)), max_size=60))
def test_count_always_follows(steps):
    field, model = Bitfield(21), set()
    for put_in, index in steps:
        changed = field.add(index) if put_in else field.discard(index)
        assert changed == ((index not in model) if put_in else (index in model))
        (model.add if put_in else model.discard)(index)
        assert field.count == len(model)


def test_a_hundred_thousand_pieces_are_handled_quickly():
    start = time.thread_time()
    full = Bitfield.from_bytes(b"\xff" * 12_500, 100_000)
    one = Bitfield.of(100_000, [99_999])
    for _ in range(100):
        assert not full.is_interesting(one)
    assert len(list(full)) == len(list(one.missing())) + 1 == 100_000
    assert list(one) == [99_999]
    assert time.thread_time() - start < 3
