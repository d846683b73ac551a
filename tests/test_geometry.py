import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfs.errors import GeometryError
from p2pfs.geometry import BLOCK_LENGTH, BlockRequest, Geometry, blocks_in, cut


@given(st.integers(0, 500_000), st.integers(0, 500_000), st.integers(1, 5))
def test_a_range_is_cut_into_requests_of_one_length_but_for_the_last(begin, size, blocks):
    length = blocks * BLOCK_LENGTH
    requests = cut(7, begin, begin + size, length)
    assert all(type(request) is BlockRequest and request.piece == 7 for request in requests)
    assert [request.begin for request in requests] == list(range(begin, begin + size, length))
    assert all(request.length == length for request in requests[:-1])
    assert sum(request.length for request in requests) == size


def test_the_last_piece_and_its_last_block_may_be_shorter():
    geometry = Geometry(100_000, 40_000)
    assert geometry.piece_count == 3
    assert [geometry.piece_size(index) for index in range(3)] == [40_000, 40_000, 20_000]
    assert list(geometry.blocks(2)) == cut(2, 0, 20_000, BLOCK_LENGTH)
    assert [blocks_in(block) for block in geometry.blocks(2)] == [1, 1]
    assert blocks_in(BlockRequest(0, 0, 40_000)) == 3


@pytest.mark.parametrize(("piece", "number"), [(3, 0), (-1, 0), (2, 2), (2, -1)])
def test_there_is_no_block_outside_the_content(piece, number):
    with pytest.raises(GeometryError):
        Geometry(100_000, 40_000).block(piece, number)


@pytest.mark.parametrize(("total", "piece"), [(1, 0), (1, 2**27), (-1, 1), (2**48, 1)])
def test_sizes_out_of_range_are_refused(total, piece):
    with pytest.raises(GeometryError):
        Geometry(total, piece)
