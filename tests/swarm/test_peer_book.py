"""Addresses heard of: whom to dial, when, and whom never."""

from __future__ import annotations

import math
import random

import pytest

from p2pfs.swarm.peer_book import (
    BAN_FOR,
    CALL_EVERY,
    CALL_EVERY_SEED,
    HEARSAY_TRIES,
    HOST_BANS,
    MAX_HEARSAY,
    MAX_KNOWN,
    MAX_RETRY,
    PeerBook,
)

A, B, C = ("192.0.2.1", 6881), ("192.0.2.2", 6881), ("192.0.2.3", 6881)
PUBLIC, PRIVATE = "8.8.8.8", "192.168.1.7"


def book(*addresses: tuple[str, int]) -> PeerBook:
    known = PeerBook(random.Random(1))
    for address in addresses:
        assert known.heard_of(address, 0.0)
    return known


def fail(known: PeerBook, address: tuple[str, int], times: int) -> None:
    for _ in range(times):
        known.disconnected(address, 0.0, failed=True)


# -- dialling


def test_a_new_address_is_due_at_once():
    assert book(A).to_dial(5, 0.0) == [A]


def test_no_more_than_asked_for_are_dialled():
    known = book(A, B, C)

    first = known.to_dial(2, 0.0)

    assert len(first) == 2
    assert set(first) | set(known.to_dial(2, 0.0)) == {A, B, C}


def test_an_address_is_dialled_once_at_a_time():
    known = book(A)
    known.to_dial(1, 0.0)

    assert known.to_dial(1, 1e6) == []
    known.connected(A)
    assert known.to_dial(1, 1e6) == []


def test_it_tells_when_the_next_address_is_due():
    known = book()
    assert known.next_at() == math.inf

    known.heard_of(A, 7.0)
    known.heard_of(B, 5.0)
    assert known.next_at() == 5.0

    known.to_dial(1, 5.0)
    assert known.next_at() == 7.0
    known.connected(A)
    assert known.next_at() == math.inf
    known.disconnected(B, 100.0, failed=True)
    assert 104.0 <= known.next_at() <= 106.0
    known.nothing_to_gain(B)
    assert known.next_at() == math.inf


def test_each_failure_doubles_the_wait_up_to_ten_minutes():
    known = book(A)
    for failures in range(1, 12):
        fail(known, A, 1)
        expected = min(MAX_RETRY, 5.0 * 2 ** (failures - 1))

        assert known.to_dial(1, expected * 0.79) == []
        assert known.to_dial(1, expected * 1.21) == [A]


def test_a_connection_that_gave_something_is_tried_again_after_seconds():
    known = book(A)
    fail(known, A, 8)
    known.connected(A)
    known.disconnected(A, 100.0, failed=False)

    assert known.to_dial(1, 103.0) == []
    assert known.to_dial(1, 106.1) == [A]


def test_those_that_failed_least_are_dialled_first():
    known = book(A, B, C)
    fail(known, A, 2)
    fail(known, B, 1)

    assert known.to_dial(3, 1e6) == [C, B, A]


def test_hearing_of_an_address_again_clears_no_back_off():
    known = book(A)
    fail(known, A, 5)

    assert not known.heard_of(A, 1.0)
    assert known.to_dial(1, 1.0) == []


def test_events_of_addresses_never_heard_of_are_no_error():
    known = book()
    known.disconnected(A, 0.0, failed=True)
    known.nothing_to_gain(A)

    assert len(known) == 0


def test_whoever_dialled_us_is_known_and_not_dialled_until_it_left():
    known = book()
    known.connected(A)

    assert known.to_dial(1, 1e6) == []
    known.disconnected(A, 0.0, failed=False)
    assert known.to_dial(1, 7.0) == [A]


# -- whom not to dial


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_an_address_without_a_real_port_is_not_taken(port):
    assert not book().heard_of(("192.0.2.1", port), 0.0)


def test_our_own_address_is_never_dialled_again():
    known = book(A, B)
    known.is_ourselves(A)

    assert not known.heard_of(A, 0.0)
    assert known.to_dial(5, 0.0) == [B]


def test_an_address_with_nothing_to_gain_rests_until_there_is():
    known = book(A)
    known.nothing_to_gain(A)

    assert known.to_dial(1, 1e6) == []
    known.gain_possible()
    assert known.to_dial(1, 1e6) == [A]


# -- bounds


def many(count: int) -> list[tuple[str, int]]:
    return [(f"10.0.{n >> 8}.{n & 255}", 6881) for n in range(count)]


def test_a_full_book_takes_nobody_new_while_nobody_failed():
    known = book(*many(MAX_KNOWN))

    assert not known.heard_of(A, 0.0)
    assert len(known) == MAX_KNOWN


def test_a_full_book_forgets_who_failed_most():
    addresses = many(MAX_KNOWN)
    known = book(*addresses)
    fail(known, addresses[3], 1)
    fail(known, addresses[7], 4)

    assert known.heard_of(A, 0.0)
    assert len(known) == MAX_KNOWN
    assert known.heard_of(addresses[7], 0.0)  # it was forgotten; now the other one is
    assert known.heard_of(addresses[3], 0.0) is False


def test_a_full_book_keeps_those_in_use():
    addresses = many(MAX_KNOWN)
    known = book(*addresses)
    fail(known, addresses[0], 3)
    assert addresses[0] in known.to_dial(MAX_KNOWN, 1e6)

    assert not known.heard_of(A, 0.0)


# -- hearsay


def test_hearsay_is_dialled_after_what_trackers_say():
    known = book()
    assert known.heard_of(A, 0.0, hearsay=True)
    known.heard_of(B, 0.0)
    assert known.heard_of(C, 0.0, hearsay=True)

    assert known.to_dial(1, 0.0) == [B]
    assert set(known.to_dial(5, 0.0)) == {A, C}


def test_hearsay_has_a_share_of_the_book_and_no_more():
    known = PeerBook(random.Random(1))
    taken = [known.heard_of(one, 0.0, hearsay=True) for one in many(MAX_HEARSAY + 10)]

    assert sum(taken) == len(known) == MAX_HEARSAY
    assert known.heard_of(A, 0.0)


def test_new_hearsay_takes_the_place_of_hearsay_that_failed():
    known = PeerBook(random.Random(1))
    addresses = many(MAX_HEARSAY)
    for address in addresses:
        known.heard_of(address, 0.0, hearsay=True)
    fail(known, addresses[5], 1)

    assert known.heard_of(A, 0.0, hearsay=True)
    assert not known.heard_of(B, 0.0, hearsay=True)
    assert known.heard_of(addresses[5], 0.0)  # it was forgotten


def test_a_full_book_prefers_what_trackers_say_to_hearsay():
    known = book(*many(MAX_KNOWN)[1:])
    assert known.heard_of(A, 0.0, hearsay=True)

    assert not known.heard_of(B, 0.0, hearsay=True)
    assert known.heard_of(B, 0.0)
    assert not known.heard_of(C, 0.0)
    assert A not in known.to_dial(MAX_KNOWN, 0.0)


def test_hearsay_never_takes_the_place_of_what_trackers_said():
    addresses = many(MAX_KNOWN)
    known = book(*addresses)
    fail(known, addresses[3], 4)

    assert not known.heard_of(A, 0.0, hearsay=True)
    assert known.heard_of(A, 0.0)


def test_hearsay_that_fails_a_few_times_is_given_up():
    known = PeerBook(random.Random(1))
    known.heard_of(A, 0.0, hearsay=True)
    fail(known, A, HEARSAY_TRIES - 1)
    assert known.to_dial(1, 1e6) == [A]
    fail(known, A, 1)

    assert known.to_dial(1, 1e6) == []
    assert known.next_at() == math.inf
    assert not known.heard_of(A, 1e6, hearsay=True)
    assert known.to_dial(1, 1e6) == []


def test_hearsay_that_a_tracker_confirms_is_as_good_as_any_other():
    known = PeerBook(random.Random(1))
    known.heard_of(A, 0.0, hearsay=True)
    fail(known, A, HEARSAY_TRIES)

    assert not known.heard_of(A, 5.0)
    assert known.to_dial(1, 5.0) == [A]
    fail(known, A, HEARSAY_TRIES)
    assert known.to_dial(1, 1e6) == [A]


def test_whoever_was_met_is_no_hearsay_any_more():
    known = PeerBook(random.Random(1))
    known.heard_of(A, 0.0, hearsay=True)
    known.connected(A)
    fail(known, A, HEARSAY_TRIES)

    assert known.to_dial(1, 1e6) == [A]


# -- whoever calls


def test_whoever_calls_is_dialled_at_once_as_hearsay():
    known = PeerBook(random.Random(1))

    assert known.called(A, 0.0)

    assert known.to_dial(1, 0.0) == [A]
    fail(known, A, HEARSAY_TRIES)
    assert known.to_dial(1, 1e6) == []


def test_whoever_was_given_up_is_tried_again_when_it_calls_but_not_often():
    known = PeerBook(random.Random(1))
    known.called(A, 0.0)
    known.to_dial(1, 0.0)
    fail(known, A, HEARSAY_TRIES)

    assert not known.called(A, CALL_EVERY - 1)
    assert known.called(A, CALL_EVERY)
    assert known.to_dial(1, CALL_EVERY) == [A]


def test_a_seed_that_calls_is_left_alone_until_it_may_be_somebody_else():
    known = book(A)
    known.connected(A)
    known.nothing_to_gain(A)
    known.disconnected(A, 0.0, failed=False)

    assert not known.called(A, CALL_EVERY_SEED - 1)
    assert known.called(A, CALL_EVERY_SEED)
    assert known.to_dial(1, CALL_EVERY_SEED) == [A]


def test_whoever_is_connected_calls_in_vain():
    known = book(A, B)
    known.connected(A)
    known.to_dial(1, 0.0)

    assert not known.called(A, 1e6)
    assert not known.called(B, 1e6)


def test_calls_fill_no_more_of_the_book_than_other_hearsay():
    known = PeerBook(random.Random(1))

    assert sum(known.called(one, 0.0) for one in many(MAX_HEARSAY + 10)) == MAX_HEARSAY


def test_a_book_that_forgets_everybody_still_knows_ourselves_and_who_is_banned():
    known = book(A, B)
    known.heard_of(C, 0.0, hearsay=True)
    known.is_ourselves(A)
    known.ban(PRIVATE, b"bad", 0.0)

    known.forget_all()

    assert len(known) == 0
    assert not known.heard_of(A, 0.0)
    assert known.is_banned(PRIVATE, b"bad", 1.0)
    assert known.heard_of(C, 0.0, hearsay=True)


# -- bans


def test_a_ban_is_on_one_peer_of_a_host_and_runs_out():
    known = book()
    known.ban(PUBLIC, b"bad", 100.0)

    assert known.is_banned(PUBLIC, b"bad", 100.0 + BAN_FOR - 1)
    assert not known.is_banned(PUBLIC, b"good", 101.0)
    assert not known.is_banned("8.8.4.4", b"bad", 101.0)
    assert not known.is_banned(PUBLIC, b"bad", 100.0 + BAN_FOR)


def test_a_public_host_with_many_banned_peers_is_banned_whole():
    known = book()
    for number in range(HOST_BANS):
        assert not known.is_banned(PUBLIC, b"new", 0.0)
        known.ban(PUBLIC, b"bad%d" % number, 0.0)

    assert known.is_banned(PUBLIC, b"new", 0.0)
    assert not known.is_banned("8.8.4.4", b"new", 0.0)
    assert not known.is_banned(PUBLIC, b"new", BAN_FOR)


@pytest.mark.parametrize("host", [PRIVATE, "127.0.0.1", "::1", "fe80::1", "not an address"])
def test_a_private_host_is_never_banned_whole(host):
    known = book()
    for number in range(10 * HOST_BANS):
        known.ban(host, b"bad%d" % number, 0.0)

    assert known.is_banned(host, b"bad0", 0.0)
    assert not known.is_banned(host, b"new", 0.0)


def test_banning_one_peer_again_and_again_bans_no_host():
    known = book()
    for _ in range(10 * HOST_BANS):
        known.ban(PUBLIC, b"bad", 0.0)

    assert not known.is_banned(PUBLIC, b"new", 0.0)
