import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfs.errors import GeometryError
from p2pfs.geometry import Geometry
from p2pfs.storage.layout import FileSlice, Layout

lengths = st.lists(st.integers(0, 50), min_size=1, max_size=12)


def test_a_piece_may_span_several_files_and_skips_empty_ones():
    layout = Layout([5, 0, 3, 10], Geometry(18, 8))

    assert layout.spans(0, 0, 8) == [FileSlice(0, 0, 5), FileSlice(2, 0, 3)]
    assert layout.spans(1, 2, 4) == [FileSlice(3, 2, 4)]
    assert layout.spans(2, 0, 2) == [FileSlice(3, 8, 2)]


def test_a_single_file_is_one_span():
    assert Layout([100], Geometry(100, 30)).spans(3, 2, 8) == [FileSlice(0, 92, 8)]


def test_an_empty_file_beside_the_single_one_does_not_disturb():
    layout = Layout([0, 100, 0], Geometry(100, 30))
    assert layout.spans(1, 0, 30) == [FileSlice(1, 30, 30)]
    assert layout.pieces_of(0) == range(0)
    assert layout.pieces_of(1) == range(4)


@pytest.mark.parametrize(("index", "begin", "length"), [(-1, 0, 1), (0, -1, 1), (3, 0, 11)])
@pytest.mark.parametrize("files", [[100], [40, 60]])
def test_a_range_outside_the_content_is_refused(files, index, begin, length):
    with pytest.raises(GeometryError):
        Layout(files, Geometry(100, 30)).spans(index, begin, length)


def test_files_that_do_not_add_up_are_refused():
    with pytest.raises(GeometryError):
        Layout([1, 2], Geometry(4, 1))


@given(lengths, st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_the_pieces_cover_each_byte_of_each_file_once_and_in_order(sizes, piece_length):
    layout = Layout(sizes, Geometry(sum(sizes), piece_length))
    covered = [
        (span.file_index, span.offset + place)
        for index in range(layout.geometry.piece_count)
        for span in layout.spans(index, 0, layout.geometry.piece_size(index))
        for place in range(span.length)
    ]
    assert covered == [(number, at) for number, size in enumerate(sizes) for at in range(size)]


@given(lengths, st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_the_pieces_of_a_file_are_those_with_a_span_in_it(sizes, piece_length):
    layout = Layout(sizes, Geometry(sum(sizes), piece_length))
    for number in range(len(sizes)):
        touching = [
            index
            for index in range(layout.geometry.piece_count)
            if any(
                span.file_index == number
                for span in layout.spans(index, 0, layout.geometry.piece_size(index))
            )
        ]
        assert list(layout.pieces_of(number)) == touching
