"""Which request a seeder answers next: every copy sent is to count."""

from __future__ import annotations

from p2pfs.geometry import BLOCK_LENGTH, BlockRequest
from p2pfs.swarm.seeding import HELD_PER_COPY, ServeOrder
from p2pfs.swarm.uploads import UploadQueue

A, B, C = "a", "b", "c"


def in_memory(piece: int) -> bool:
    return True


def asks(*pieces: int, blocks: int = 2) -> UploadQueue:
    queue = UploadQueue()
    for piece in pieces:
        for number in range(blocks):
            queue.add(BlockRequest(piece, number * BLOCK_LENGTH, BLOCK_LENGTH))
    return queue


def given(*gifts: tuple[str, int], pieces: int = 8) -> ServeOrder:
    order = ServeOrder(pieces)
    for peer, piece in gifts:
        order.gave(peer, piece)
    return order


def test_what_nobody_was_given_yet_goes_first():
    order = given((A, 0), (A, 1))

    assert order.best(B, asks(0, 1, 2)) == (0, 2)


def test_a_piece_that_was_begun_for_a_peer_is_finished_for_it():
    order = given((A, 3))

    assert order.best(A, asks(3, 4)) == (0, 3)
    assert order.best(B, asks(3, 4)) == (0, 4)


def test_among_second_copies_the_piece_given_least_often_goes_first():
    order = given((A, 0), (B, 0), (A, 1))

    assert order.best(C, asks(0, 1)) == (1, 1)


def test_among_equals_the_piece_that_was_asked_for_first_goes_first():
    assert given().best(A, asks(5, 2, 7)) == (0, 5)


def test_of_several_peers_the_one_that_gets_a_first_copy_is_served():
    order = given((A, 0), (A, 1))

    assert order.choose([(B, asks(0, 1)), (C, asks(0, 2))], in_memory) == (C, 2)


def test_of_several_equals_the_first_peer_is_served():
    assert given().choose([(A, UploadQueue()), (B, asks(1)), (C, asks(2))], in_memory) == (B, 1)


def test_nobody_is_served_when_nobody_asks():
    assert given().choose([], in_memory) is None
    assert given().choose([(A, UploadQueue())], in_memory) is None


def test_a_peer_whose_piece_is_still_being_read_is_passed_over():
    queues = [(A, asks(1)), (B, asks(2))]

    assert given().choose(queues, lambda piece: piece != 1) == (B, 2)
    assert given().choose(queues, lambda piece: False) is None


def test_peers_that_ask_for_the_same_get_different_pieces():
    order = given(pieces=4)
    queues = [(A, asks(0, 1, 2, 3)), (B, asks(0, 1, 2, 3)), (C, asks(0, 1, 2, 3))]

    first_pieces = {}
    for _ in range(8):
        peer, piece = order.choose(queues, in_memory)
        dict(queues)[peer].take(piece)
        order.gave(peer, piece)
        first_pieces.setdefault(piece, peer)

    assert sorted(first_pieces) == [0, 1, 2, 3]
    assert all(order.cost(first_pieces[piece], piece) == 0 for piece in range(4))


def test_a_copy_given_to_a_peer_that_left_counts_no_more():
    order = given((A, 0), (B, 1))

    order.forget(A)

    assert order.best(C, asks(0, 1)) == (0, 0)
    assert order.cost(C, 1) == 1


def test_forgetting_a_stranger_changes_nothing():
    order = given((A, 0))

    order.forget(B)

    assert order.cost(B, 0) == 1


def test_what_a_peer_was_given_counts_as_held_until_somebody_else_has_it():
    order = given((A, 0), (A, 0), (A, 1), (B, 2))

    order.seen(A, 0)
    before = order.held(A), order.held(B), order.held(C)
    order.seen(B, 0)
    order.seen(C, 0)

    assert before == (2, 1, 0)
    assert (order.held(A), order.held(B), order.held(C)) == (1, 1, 0)


def test_a_piece_that_is_given_to_another_is_held_by_that_one():
    order = given((A, 0), (B, 0))

    assert (order.held(A), order.held(B)) == (0, 1)

    order.seen(C, 0)
    order.gave(A, 0)

    assert (order.held(A), order.held(B)) == (1, 0)


def test_a_peer_that_left_holds_nothing_and_its_return_begins_anew():
    order = given((A, 0), (A, 1))

    order.forget(A)
    order.seen(B, 0)
    order.gave(A, 1)

    assert order.held(A) == 1


def test_served_first_means_whatever_the_copy_costs():
    order = given((B, 0))

    assert order.choose([(A, asks(0)), (C, asks(1))], in_memory) == (C, 1)
    assert order.choose([(A, asks(0)), (C, asks(1))], in_memory, first=True) == (A, 0)


def test_who_holds_back_much_is_given_no_more_while_others_wait():
    order = given(*((A, piece) for piece in range(HELD_PER_COPY + 1)), pieces=32)

    assert order.choose([(A, asks(20)), (B, asks(0))], in_memory) == (A, 20)

    for piece in range(9, 2 * HELD_PER_COPY):
        order.gave(A, piece)

    assert order.choose([(A, asks(20)), (B, asks(0))], in_memory) == (B, 0)


def test_who_holds_back_much_is_still_given_the_rest_of_the_piece_whose_turn_it_is():
    order = given(*((A, piece) for piece in range(HELD_PER_COPY)), pieces=32)
    queues = [(A, asks(HELD_PER_COPY - 1)), (B, asks(20))]

    assert order.choose(queues, in_memory) == (B, 20)
    assert order.choose(queues, in_memory, turn=A) == (A, HELD_PER_COPY - 1)


def test_only_the_last_receivers_copy_is_forgotten_with_it():
    order = given((A, 0), (B, 0), (B, 1))

    order.forget(A)
    order.forget(B)

    assert (order.is_new(0), order.is_new(1)) == (False, True)
    assert (order.cost(C, 0), order.cost(C, 1)) == (1, 0)
