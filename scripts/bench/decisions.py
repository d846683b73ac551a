"""What one decision costs (row 14): a pick, a have, in a torrent of 100,000 pieces."""

from __future__ import annotations

import random
import time

from results import Result
from rows import Bench

__all__ = ["picking"]

PIECES = 100_000
PEERS = 200


def picking(bench: Bench) -> list[Result]:
    """200 peers that have 20 to 80 % each; half is had; each is asked for what it would be."""
    picks, haves = [], []
    for turn in range(bench.pairs):
        pick, have = _measure(random.Random(turn))
        bench.say(f"pick {pick:6.1f} us   have {have:5.2f} us")
        picks.append(pick)
        haves.append(have)
    note = "16 blocks asked for at a time, in turn by all peers"
    return [
        Result("14a", picks, picks, shown_in="us", note=note),
        Result("14b", haves, haves, shown_in="us"),
    ]


def _measure(rng: random.Random) -> tuple[float, float]:
    from p2pfs.formats.bitfield import Bitfield
    from p2pfs.geometry import BLOCK_LENGTH, Geometry
    from p2pfs.swarm.picker import Picker

    def some(share: float) -> Bitfield:
        return Bitfield.of(PIECES, rng.sample(range(PIECES), int(share * PIECES)))

    geometry = Geometry(PIECES * 16 * BLOCK_LENGTH, 16 * BLOCK_LENGTH)
    picker = Picker(geometry, some(0.5), rng, Bitfield.full(PIECES))
    peers = [(f"peer {number}", some(rng.uniform(0.2, 0.8))) for number in range(PEERS)]
    for _, has in peers:
        picker.source_joined(has)
    spent, asked = 0.0, 0
    for turn in range(10):
        for name, has in peers:
            before = time.perf_counter()
            blocks = picker.pick(name, has, 16, float(turn))
            spent += time.perf_counter() - before
            asked += 1
            for block in blocks:
                if picker.arrived(name, block).complete:
                    picker.verified(block.piece)
    said = [rng.randrange(PIECES) for _ in range(20_000)]
    before = time.perf_counter()
    for piece in said:
        picker.source_has(piece)
    have = (time.perf_counter() - before) / len(said)
    return spent / asked * 1e6, have * 1e6
