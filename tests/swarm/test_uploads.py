"""What one peer has asked of us and has not been sent yet."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfs.geometry import BLOCK_LENGTH, BlockRequest
from p2pfs.swarm.uploads import MAX_QUEUED, UploadQueue


def block(piece: int, number: int = 0) -> BlockRequest:
    return BlockRequest(piece, number * BLOCK_LENGTH, BLOCK_LENGTH)


def queue(*blocks: BlockRequest) -> UploadQueue:
    filled = UploadQueue()
    for request in blocks:
        filled.add(request)
    return filled


def test_requests_are_kept_by_piece_in_the_order_of_asking():
    asked = queue(block(5, 1), block(2, 0), block(5, 0))

    assert (len(asked), asked.first, asked.pieces()) == (3, 5, [5, 2])
    assert (5 in asked, 3 in asked) == (True, False)
    taken = asked.take(5) + asked.take(5) + asked.take(2)
    assert taken == [block(5, 1), block(5, 0), block(2, 0)]
    assert not asked
    assert asked.pieces() == []


def test_a_repeated_request_is_kept_once():
    asked = queue(block(1))

    assert not asked.add(block(1))
    assert len(asked) == 1


def test_a_cancelled_request_is_not_taken():
    asked = queue(block(1, 0), block(1, 1))

    assert asked.cancel(block(1, 0))
    assert asked.take(1) == [block(1, 1)]


def test_cancelling_what_is_not_queued_changes_nothing():
    asked = queue(block(1, 0))

    assert not asked.cancel(block(1, 1))
    assert not asked.cancel(block(2, 0))
    assert not asked.cancel(BlockRequest(1, 0, 1))
    assert len(asked) == 1


def test_taking_of_a_piece_that_was_not_asked_for_is_a_key_error():
    with pytest.raises(KeyError):
        queue(block(1)).take(2)


def test_requests_beyond_the_limit_are_dropped():
    asked = queue(*(block(piece) for piece in range(MAX_QUEUED)))

    assert not asked.add(block(MAX_QUEUED))
    assert len(asked) == MAX_QUEUED
    assert MAX_QUEUED not in asked.pieces()
    asked.take(0)
    assert asked.add(block(MAX_QUEUED))


def test_a_cleared_queue_is_empty_and_usable():
    asked = queue(block(1), block(2))
    asked.clear()

    assert (len(asked), bool(asked), asked.pieces()) == (0, False, [])
    assert asked.add(block(1))


def test_as_many_are_taken_as_there_is_room_for_and_one_at_least():
    asked = queue(*(block(1, number) for number in range(5)), block(2))

    assert asked.take(1, 2 * BLOCK_LENGTH) == [block(1, 0), block(1, 1)]
    assert asked.take(1, BLOCK_LENGTH + 1) == [block(1, 2), block(1, 3)]
    assert asked.take(1, 9 * BLOCK_LENGTH) == [block(1, 4)]
    assert asked.pieces() == [2]


requests = st.builds(block, st.integers(0, 3), st.integers(0, 3))


@given(st.lists(st.tuples(st.sampled_from(["add", "cancel", "take"]), requests), max_size=60))
@settings(max_examples=100, deadline=None)
def test_a_queue_is_an_ordered_set(steps):
    asked, model = UploadQueue(), []
    for step, request in steps:
        known = request in model
        if step == "add":
            assert asked.add(request) == (not known)
            model += [] if known else [request]
        elif step == "cancel":
            assert asked.cancel(request) == known
            model = [other for other in model if other != request]
        elif any(other.piece == request.piece for other in model):
            blocks = request.begin // BLOCK_LENGTH + 1
            oldest = [other for other in model if other.piece == request.piece][:blocks]
            assert asked.take(request.piece, blocks * BLOCK_LENGTH) == oldest
            model = [other for other in model if other not in oldest]

        assert len(asked) == len(model)
        assert bool(asked) == bool(model)
        assert set(asked.pieces()) == {other.piece for other in model}
