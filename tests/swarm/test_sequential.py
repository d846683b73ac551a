"""The order in which pieces are begun when somebody wants to read while it loads."""

import random

from p2pfs.formats.bitfield import Bitfield
from p2pfs.geometry import BLOCK_LENGTH, Geometry
from p2pfs.swarm.picker import Picker


def test_pieces_are_begun_in_the_order_of_the_content_whatever_is_rare():
    geometry = Geometry(40 * BLOCK_LENGTH, 2 * BLOCK_LENGTH)
    picker = Picker(geometry, Bitfield.of(20, [3]), random.Random(1))
    picker.sequential = True
    everything = Bitfield.full(20)
    picker.source_joined(everything)
    for _ in range(3):
        picker.source_joined(Bitfield.of(20, range(10)))

    asked = [block.piece for block in picker.pick("peer", everything, 12, 0.0)]

    assert asked == [piece for piece in range(7) for _ in range(2) if piece != 3]


def test_what_was_given_back_early_in_the_content_comes_first_again():
    geometry = Geometry(40 * BLOCK_LENGTH, 2 * BLOCK_LENGTH)
    picker = Picker(geometry, Bitfield(20), random.Random(1))
    picker.sequential = True
    everything = Bitfield.full(20)
    picker.source_joined(everything)
    first = picker.pick("one", everything, 3, 0.0)
    picker.pick("two", everything, 3, 0.0)
    picker.released("one", first)

    assert picker.pick("two", everything, 1, 0.0)[0].piece == 0
