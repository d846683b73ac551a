"""Who is let in, and who makes way."""

from __future__ import annotations

import pytest

from p2pfs.errors import NetworkError
from p2pfs.net.admission import (
    MAX_FROM_ONE,
    MAX_STRANGERS,
    MAX_STRANGERS_FROM_ONE,
    Admission,
    default_limit,
)

PUBLIC = "93.184.216.34"
OTHER = "8.8.8.8"


class Visitor:
    def __init__(self, host: str) -> None:
        self.address = (host, 1)
        self.closed = ""

    def close(self, reason: str) -> None:
        self.closed = reason


def arrive(admission: Admission, host: str, count: int) -> list[Visitor]:
    visitors = [Visitor(host) for _ in range(count)]
    for visitor in visitors:
        assert admission.refuse(host) == ""
        admission.came(visitor)
    return visitors


@pytest.mark.parametrize("host", ["127.0.0.1", "10.1.2.3", "192.168.0.9", "::1", "fd00::1"])
def test_a_classroom_behind_one_private_address_is_let_in(host: str) -> None:
    admission = Admission()

    for visitor in arrive(admission, host, 150):
        admission.known(visitor)
    arrive(admission, host, 150)

    assert (len(admission), admission.strangers) == (300, 150)


@pytest.mark.parametrize("host", [PUBLIC, "2606:2800:220:1::1"])
def test_one_public_address_may_have_few_connections_without_a_handshake(host: str) -> None:
    admission = Admission()
    visitors = arrive(admission, host, MAX_STRANGERS_FROM_ONE)

    assert "without a handshake" in admission.refuse(host)
    assert admission.refuse(OTHER) == ""

    admission.known(visitors[0])
    assert admission.refuse(host) == ""


def test_one_public_address_may_have_so_many_connections_in_all() -> None:
    admission = Admission()
    visitors = []
    for _ in range(MAX_FROM_ONE):
        [visitor] = arrive(admission, PUBLIC, 1)
        admission.known(visitor)
        visitors.append(visitor)

    assert "from this address" in admission.refuse(PUBLIC)

    admission.left(visitors[5])
    assert admission.refuse(PUBLIC) == ""


def test_the_hosts_of_one_ipv6_network_count_as_one_address() -> None:
    admission = Admission()
    for number in range(MAX_STRANGERS_FROM_ONE):
        arrive(admission, f"2606:2800:220:1::{number + 1:x}", 1)

    assert admission.refuse("2606:2800:220:1:ffff::9")
    assert not admission.refuse("2606:2800:220:2::9")


def test_beyond_the_bound_the_oldest_stranger_makes_way() -> None:
    admission = Admission()
    visitors = arrive(admission, "127.0.0.1", MAX_STRANGERS)
    admission.known(visitors[0])
    arrive(admission, "127.0.0.1", 1)
    none_yet = [visitor for visitor in visitors if visitor.closed]

    arrive(admission, "127.0.0.1", 2)

    assert none_yet == []
    assert [visitor for visitor in visitors if visitor.closed] == visitors[1:3]
    assert admission.strangers == MAX_STRANGERS


def test_a_flood_from_one_address_drowns_itself_and_nobody_else() -> None:
    admission = Admission()
    [honest] = arrive(admission, "10.0.0.7", 1)

    flood = arrive(admission, "10.0.0.8", 5 * MAX_STRANGERS)

    assert honest.closed == ""
    assert sum(1 for visitor in flood if not visitor.closed) == MAX_STRANGERS - 1


def test_when_everything_is_taken_strangers_make_way_and_then_nobody_comes_in() -> None:
    admission = Admission(most=4)
    first = arrive(admission, "127.0.0.1", 3)
    for visitor in first:
        admission.known(visitor)
    [stranger] = arrive(admission, "127.0.0.1", 1)
    [newcomer] = arrive(admission, "127.0.0.1", 1)
    admission.known(newcomer)

    assert stranger.closed
    assert admission.refuse("127.0.0.1") == "too many connections"
    with pytest.raises(NetworkError, match="too many"):
        admission.went_out(Visitor("127.0.0.1"))
    assert len(admission) == 4


def test_what_left_is_counted_no_more_however_often_it_is_told() -> None:
    admission = Admission()
    [visitor] = arrive(admission, PUBLIC, 1)
    dialled = Visitor(PUBLIC)
    admission.went_out(dialled)

    for _ in range(3):
        admission.left(visitor)
        admission.left(dialled)
    admission.known(visitor)

    assert (len(admission), admission.strangers) == (0, 0)
    assert admission.refuse(PUBLIC) == ""


def test_what_is_no_address_does_not_upset_the_count() -> None:
    admission = Admission()
    for host in ("", "?", "fe80::1%eth0"):
        arrive(admission, host, MAX_FROM_ONE + 1)

    assert len(admission) == 3 * (MAX_FROM_ONE + 1)


def test_the_default_bound_leaves_descriptors_for_files() -> None:
    assert 32 <= default_limit() <= 2000
