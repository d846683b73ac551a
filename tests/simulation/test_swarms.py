"""Swarms as a whole: everybody gets everything, from everybody, whoever comes, goes or lies."""

from __future__ import annotations

import random

import pytest

from p2pfs.formats import wire
from p2pfs.geometry import BLOCK_LENGTH, BlockRequest
from tests.simulation.swarm import KB, MB, Node, Stranger, Swarm


def names(nodes: list[Node]) -> set[bytes]:
    return {node.id for node in nodes}


def banned_by(nodes: list[Node]) -> set[bytes]:
    return set().union(*(node.banned for node in nodes))


def duplicates(nodes: list[Node]) -> float:
    """Share of the blocks that came in and were not wanted (any more)."""
    return sum(node.wasted for node in nodes) / (len(nodes) * nodes[0].swarm.size)


def agrees(node: Node) -> bool:
    """Whether what a node's decisions count is what its sessions say."""
    picker = node.transfer.leeching.picker
    for peer in node.peers:
        needed = picker.needed_of(peer.session.peer_has)
        if (peer.interesting, peer.session.am_interested) != (needed, needed > 0):
            return False
    return [picker.availability(piece) for piece in range(len(node.have))] == [
        sum(peer.session.peer_has[piece] for peer in node.peers) for piece in range(len(node.have))
    ]


# -- everybody gets everything


def test_twenty_peers_that_come_and_go_all_complete():
    swarm = Swarm(pieces=64, blocks=8)
    stays, others = swarm.seeder(), swarm.leechers(19)
    rng = random.Random(5)

    for _ in range(30):
        swarm.run_for(rng.uniform(0.2, 1.0))
        assert all(agrees(node) for node in swarm.nodes)
        away = [node for node in others if not node.present]
        for node in rng.sample(others, 2):
            if node.present and len(away) < 8:
                swarm.go(node)
            elif not node.present:
                swarm.come(node)
    for node in others:
        if not node.present:
            swarm.come(node)
    swarm.run()

    assert all(node.have.complete for node in [stays, *others])
    assert banned_by(others) == set()


def test_seeders_that_have_a_part_each_are_enough_together():
    swarm = Swarm(pieces=50, blocks=4)
    for part in range(5):
        swarm.seeder(range(part * 10, part * 10 + 10))
    leechers = swarm.leechers(3)

    swarm.run()

    assert all(node.have.complete for node in leechers)


def test_a_downloader_takes_from_every_seeder_at_once():
    swarm = Swarm(pieces=128, blocks=16)
    seeders = [swarm.seeder() for _ in range(4)]
    leecher = swarm.leecher(down=20 * MB)

    seconds = swarm.run()

    assert seconds <= 1.15 * swarm.size / (4 * MB)
    assert all(0.2 < node.uploaded / swarm.size < 0.3 for node in seeders)
    assert duplicates([leecher]) <= 0.05


def test_two_peers_with_the_other_half_each_complete_each_other():
    swarm = Swarm(pieces=20, blocks=4)
    swarm.leecher(range(0, 20, 2))
    swarm.leecher(range(1, 20, 2))

    swarm.run(limit=60)


def test_foreign_clients_that_take_single_blocks_only_are_served_and_used():
    swarm = Swarm(pieces=20, blocks=4)
    swarm.seeder(extended=False)
    swarm.leechers(3, extended=False)
    swarm.leechers(2)

    swarm.run()


def test_a_torrent_of_one_small_piece_is_shared():
    swarm = Swarm(pieces=1, blocks=1)
    swarm.seeder()
    swarm.leechers(5)

    swarm.run(limit=60)


# -- how well


def limited_seeder_and_eight(seed: int = 1) -> tuple[Swarm, Node, list[Node]]:
    swarm = Swarm(pieces=64, blocks=16, seed=seed)
    fast_link = {"up": 12 * MB, "down": 12 * MB, "limit": MB}
    return swarm, swarm.seeder(**fast_link), swarm.leechers(8, **fast_link)


def test_a_limited_seeder_gives_hardly_more_than_one_copy_to_eight(record_property):
    swarm, seeder, leechers = limited_seeder_and_eight()

    swarm.run()

    bound = max(swarm.size / MB, 8 * swarm.size / (9 * MB))
    copies = seeder.uploaded / swarm.size
    over = swarm.finish_time(leechers) / bound
    record_property("copies", copies)
    record_property("time over bound", over)
    assert copies <= 1.3
    assert over <= 1.5


def test_a_seeder_does_not_make_a_swarm_depend_on_one_slow_uplink():
    swarm = Swarm(pieces=64, blocks=8)
    fast_link = {"up": 12 * MB, "down": 12 * MB}
    seeder = swarm.seeder(limit=MB, **fast_link)
    swarm.leecher(limit=100 * KB, **fast_link)
    swarm.leechers(5, limit=MB, **fast_link)

    seconds = swarm.run()

    assert seconds <= 1.5 * swarm.size / MB
    assert seeder.uploaded <= 1.5 * swarm.size


def test_half_of_the_uplinks_being_slow_costs_hardly_more_than_they_lack(record_property):
    swarm = Swarm(pieces=256, blocks=4)
    link = {"up": 50 * MB, "down": 50 * MB}
    uplinks = [MB / 4] * 4 + [MB] * 4
    seeder = swarm.seeder(limit=MB, **link)
    leechers = [swarm.leecher(limit=uplink, **link) for uplink in uplinks]

    swarm.run()

    bound = max(swarm.size / MB, 8 * swarm.size / (MB + sum(uplinks)))
    over = swarm.finish_time(leechers) / bound
    record_property("copies", seeder.uploaded / swarm.size)
    record_property("time over bound", over)
    assert over <= 1.1


def test_what_a_seeder_sends_is_spread_over_pieces_that_nobody_had():
    swarm, seeder, leechers = limited_seeder_and_eight()

    swarm.run(lambda: sum(node.have.count for node in leechers) >= 8 * 64 / 2)

    sent = seeder.uploaded / swarm.geometry.piece_length
    spread = {piece for node in leechers for piece in node.have}
    assert len(spread) >= 0.75 * sent
    assert len({bytes(node.have.raw) for node in leechers}) >= 6


def test_a_source_is_asked_for_its_rarest_pieces_first():
    swarm = Swarm(pieces=60, blocks=4)
    for _ in range(3):
        swarm.seeder(range(40))
    complete = swarm.seeder()
    leecher = swarm.leecher()

    swarm.run(lambda: leecher.blocks_from(complete) >= 40)

    given = [block.piece for _, giver, block in leecher.received if giver == complete.id]
    rare = sum(piece >= 40 for piece in given)
    assert rare >= 0.8 * len(given), "the rest belongs to pieces that were begun elsewhere"


def test_duplicates_are_few_where_uplinks_are_what_is_short():
    swarm = Swarm(pieces=64, blocks=8)
    swarm.seeder()
    leechers = swarm.leechers(8)

    swarm.run()

    assert duplicates(leechers) <= 0.05


def test_no_more_than_the_slots_are_unchoked_for_interested_peers():
    swarm = Swarm(pieces=64, blocks=8)
    seeder = swarm.seeder(slots=3)
    leechers = swarm.leechers(12, slots=4)
    most = dict.fromkeys([seeder, *leechers], 0)

    def watched() -> bool:
        for node in most:
            served = [p for p in node.peers if p.session.peer_interested]
            unchoked = sum(not peer.session.am_choking for peer in served)
            most[node] = max(most[node], unchoked)
        return all(node.have.complete for node in leechers)

    swarm.run(watched)

    assert most[seeder] <= 3
    assert max(most[node] for node in leechers) <= 4


def test_the_optimistic_slot_gives_everybody_a_turn():
    swarm = Swarm(pieces=400, blocks=4)
    seeder = swarm.seeder(slots=2, up=100 * KB)
    leechers = swarm.leechers(6, limit=1)  # they can give nothing to each other

    served: set[bytes] = set()

    def everybody_served() -> bool:
        served.update(p.peer_id for p in seeder.peers if p.up.total)
        return served == names(leechers)

    swarm.run(everybody_served, limit=300)


@pytest.mark.torture
def test_fifty_leechers_take_hardly_more_than_two_copies_from_their_only_seeder(record_property):
    swarm = Swarm(pieces=128, blocks=4, neighbours=25)
    seeder = swarm.seeder()
    leechers = swarm.leechers(50)

    swarm.run()

    record_property("copies", seeder.uploaded / swarm.size)
    record_property("time over bound", swarm.finish_time(leechers) / (swarm.size / MB))
    assert seeder.uploaded <= 2.2 * swarm.size
    assert duplicates(leechers) <= 0.05


# -- whoever lies


def test_one_of_eight_that_spoils_blocks_is_found_out_alone():
    swarm = Swarm(pieces=64, blocks=8)
    liar = swarm.seeder(spoils=0.05)
    honest = [swarm.seeder() for _ in range(3)]
    leechers = swarm.leechers(4)

    swarm.run()

    assert all(node.have.complete for node in leechers)
    assert banned_by(leechers) == {liar.id}
    assert all(node.hash_failures <= 4 for node in leechers)
    assert not banned_by(honest)


def test_nine_poisoners_do_not_keep_one_slow_honest_seeder_from_being_found():
    swarm = Swarm(pieces=32, blocks=4)
    poisoners = [swarm.seeder(spoils=1.0) for _ in range(9)]
    honest = swarm.seeder(up=200 * KB)
    leecher = swarm.leecher()

    swarm.run(lambda: leecher.have.complete)

    assert honest.id not in leecher.banned
    assert leecher.banned <= names(poisoners)
    assert leecher.hash_failures <= 9 * 4


def test_a_liar_among_leechers_does_not_get_the_honest_banned():
    swarm = Swarm(pieces=48, blocks=4)
    swarm.seeder(up=500 * KB)
    liar = swarm.leecher(spoils=0.3)
    honest = swarm.leechers(6)

    swarm.run(lambda: all(node.have.complete for node in honest))

    assert banned_by(honest) <= {liar.id}


# -- whoever is slow, or stops


def with_a_slow_peer(up: float | None) -> float:
    swarm = Swarm(pieces=64, blocks=8)
    for _ in range(3):
        swarm.seeder()
    if up is not None:
        swarm.seeder(up=up)
    leecher = swarm.leecher()
    swarm.run(lambda: leecher.have.complete)
    return leecher.completed_at


def test_a_peer_at_one_kilobyte_a_second_hardly_slows_a_download(record_property):
    without, slow = with_a_slow_peer(None), with_a_slow_peer(KB)

    record_property("time over that without it", slow / without)
    assert slow <= 1.3 * without


def test_a_peer_that_stops_inside_a_block_is_snubbed_and_its_block_comes_from_another():
    swarm = Swarm(pieces=400, blocks=8)
    stops = swarm.seeder(stops_after=40 * BLOCK_LENGTH + 5000)
    swarm.seeder()
    leecher = swarm.leecher()
    swarm.run(lambda: stops.stops_after < 0)
    stopped_at = swarm.clock.now
    peer = leecher.peer(stops)
    swarm.run_for(1.0)
    owed = set(peer.session.outstanding)
    assert owed

    swarm.run(lambda: peer.pipeline.snubbed, limit=21)
    snubbed_at = swarm.clock.now
    pieces = {block.piece for block in owed}
    swarm.run(lambda: all(leecher.have[piece] for piece in pieces), limit=6)
    swarm.run(lambda: leecher.have.complete)

    assert snubbed_at - stopped_at <= 21
    assert duplicates([leecher]) <= 0.05
    assert leecher.banned == set()


def test_leechers_whose_seeder_leaves_level_idle_and_finish_when_it_returns():
    swarm = Swarm(pieces=64, blocks=8)
    seeder = swarm.seeder()
    leechers = swarm.leechers(6)
    swarm.run(lambda: len({piece for node in leechers for piece in node.have}) >= 32)
    swarm.go(seeder)

    swarm.run(lambda: all(set(node.have) == swarm.union() for node in leechers), limit=30)
    before = [len(node.received) for node in leechers]
    swarm.run_for(30)
    assert len(swarm.union()) < 64
    assert [len(node.received) for node in leechers] == before
    swarm.come(seeder)
    swarm.run(limit=20)


def test_pieces_that_nobody_has_are_named_and_come_when_somebody_does():
    swarm = Swarm(pieces=20, blocks=4)
    swarm.seeder(range(15))
    leechers = swarm.leechers(2)
    swarm.run(lambda: all(node.have.count == 15 for node in leechers), limit=60)

    assert leechers[0].transfer.leeching.picker.unavailable() == list(range(15, 20))
    assert not leechers[0].transfer.finished
    swarm.seeder(range(15, 20))
    swarm.run(limit=60)
    assert leechers[0].transfer.leeching.picker.unavailable() == []


def test_the_end_game_waits_for_no_slow_peer_and_doubles_few_blocks():
    swarm = Swarm(pieces=64, blocks=16)
    for up in (2 * MB, MB, 300 * KB, 100 * KB):
        swarm.seeder(up=up)
    leecher = swarm.leecher()

    seconds = swarm.run()

    assert seconds <= 1.2 * swarm.size / (3.4 * MB)
    assert duplicates([leecher]) <= 0.05


# -- whoever is hostile


def leecher_with_a_stranger() -> tuple[Swarm, Node, Stranger]:
    swarm = Swarm(pieces=20, blocks=4)
    leecher = swarm.leecher()
    stranger = Stranger(swarm)
    stranger.meet(leecher)
    return swarm, leecher, stranger


def finishes(swarm: Swarm, leecher: Node) -> None:
    """With an honest seeder the leecher completes, and its counts are as they should be."""
    seeder = swarm.seeder()
    swarm.run(limit=60)
    assert leecher.have.complete
    assert agrees(leecher)
    assert seeder.id not in leecher.banned


def test_a_have_flood_is_borne():
    swarm, leecher, stranger = leecher_with_a_stranger()
    stranger.say(b"".join(wire.encode_have(n % 19) for n in range(20_000)))

    finishes(swarm, leecher)
    assert stranger.connected


def test_a_have_beyond_the_torrent_ends_the_connection():
    swarm, leecher, stranger = leecher_with_a_stranger()
    stranger.say(wire.encode_have(3) + wire.encode_have(20))

    finishes(swarm, leecher)
    assert not stranger.connected


def test_a_flood_of_bitfields_is_borne():
    swarm, leecher, stranger = leecher_with_a_stranger()
    fields = [(1 << 23 - n % 19).to_bytes(3, "big") for n in range(20_000)]
    stranger.say(b"".join(map(wire.encode_bitfield, fields)))

    finishes(swarm, leecher)
    assert stranger.connected


def test_what_came_before_a_breach_leaves_no_trace():
    swarm, leecher, stranger = leecher_with_a_stranger()
    stranger.say(wire.encode_have(1) + wire.encode_have(2) + b"\0\0\0\x01\x63")
    swarm.run_for(1)

    assert not stranger.connected
    assert [leecher.transfer.leeching.picker.availability(p) for p in range(20)] == [0] * 20
    finishes(swarm, leecher)


def test_blocks_that_came_just_before_a_breach_are_not_lost():
    swarm, leecher, stranger = leecher_with_a_stranger()
    stranger.say(wire.encode_bitfield(b"\xff\xff\xf0") + wire.UNCHOKE)
    swarm.run_for(1)
    block = next(iter(leecher.peer(stranger).session.outstanding))
    data = swarm.content[: block.length]
    stranger.say(wire.block_header(block) + data + b"\0\0\0\x01\x63")

    finishes(swarm, leecher)


def test_requests_that_nobody_can_answer_end_the_connection_after_a_while():
    swarm = Swarm(pieces=20, blocks=4)
    seeder, stranger = swarm.seeder(), Stranger(swarm)
    stranger.meet(seeder)
    stranger.say(wire.INTERESTED)
    swarm.run_for(1)
    wrong = [
        BlockRequest(20, 0, BLOCK_LENGTH),
        BlockRequest(0, 4 * BLOCK_LENGTH, 1),
        BlockRequest(0, 0, 0),
        BlockRequest(0, 0, 2**32 - 1),
        BlockRequest(2**32 - 1, 2**32 - 1, 2**32 - 1),
    ]

    stranger.say(wire.encode_requests(wrong * 10))
    swarm.run_for(1)
    assert stranger.connected
    assert seeder.uploaded == 0
    stranger.say(wire.encode_requests(wrong * 10))
    swarm.run_for(1)
    assert not stranger.connected


def test_a_request_flood_is_bounded_and_others_are_served():
    swarm = Swarm(pieces=64, blocks=4)
    seeder, stranger = swarm.seeder(), Stranger(swarm)
    stranger.meet(seeder)
    stranger.say(wire.INTERESTED)
    leecher = swarm.leecher()
    swarm.run_for(0.5)
    every = [block for piece in range(64) for block in swarm.geometry.blocks(piece)]
    odd = [BlockRequest(p, b, n) for p in range(64) for b in range(100) for n in (1, 2)]
    for _ in range(20):
        stranger.say(wire.encode_requests(every + odd))

    swarm.run(lambda: leecher.have.complete, limit=60)
    assert len(seeder.peer(stranger).uploads) <= 2000


def test_a_peer_whose_interest_flickers_takes_no_slot_from_others():
    swarm = Swarm(pieces=64, blocks=8)
    seeder, stranger = swarm.seeder(slots=2), Stranger(swarm)
    leechers = swarm.leechers(2, limit=1)
    swarm.run_for(1.0)
    stranger.meet(seeder)

    served = []
    for _ in range(40):
        stranger.say((wire.INTERESTED + wire.NOT_INTERESTED) * 200)
        swarm.run_for(0.1)
        served.append(sum(not seeder.peer(node).session.am_choking for node in leechers))

    assert served == [2] * 40


def test_blocks_that_nobody_asked_for_are_not_taken():
    swarm, leecher, stranger = leecher_with_a_stranger()
    blocks = [block for piece in range(20) for block in swarm.geometry.blocks(piece)]
    for block in blocks[:60]:
        stranger.say(wire.block_header(block) + bytes(block.length))
    swarm.run_for(5)
    assert stranger.connected
    assert leecher.received == []
    for block in blocks[:10]:
        stranger.say(wire.block_header(block) + bytes(block.length))

    finishes(swarm, leecher)
    assert not stranger.connected
    assert leecher.hash_failures == 0


def test_odd_blocks_that_nobody_asked_for_harm_no_piece_in_progress():
    swarm = Swarm(pieces=20, blocks=4)
    swarm.seeder(up=20 * KB)
    leecher = swarm.leecher()
    stranger = Stranger(swarm)
    stranger.meet(leecher)
    swarm.run(lambda: leecher.have.count >= 1)
    for piece in range(20):
        for begin in (1, BLOCK_LENGTH - 1, 3 * BLOCK_LENGTH + 1):
            stranger.say(
                wire.block_header(BlockRequest(piece, begin, BLOCK_LENGTH)) + bytes(BLOCK_LENGTH)
            )

    swarm.run(lambda: leecher.have.complete)
    assert leecher.hash_failures == 0
