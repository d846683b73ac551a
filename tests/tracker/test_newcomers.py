"""How many new peers one source may bring."""

from __future__ import annotations

from p2pfs.tracker.newcomers import Newcomers

HOST = bytes([10, 0, 0, 1])
NETWORK = bytes.fromhex("20010db8 00010002")


def test_a_source_brings_so_many_in_each_window_and_no_more() -> None:
    newcomers = Newcomers(3, 100.0)

    first = [newcomers.admit(HOST, 1000.0) for _ in range(5)]
    late = newcomers.admit(HOST, 1099.9)
    after = [newcomers.admit(HOST, 1100.0) for _ in range(5)]

    assert first == after == [True] * 3 + [False] * 2
    assert not late


def test_other_sources_are_not_touched() -> None:
    newcomers = Newcomers(1, 100.0)
    newcomers.admit(HOST, 0.0)

    others = [bytes([10, 0, 1, number]) for number in range(200)]

    assert sum(newcomers.admit(host, 1.0) for host in others) >= 190  # a few share a counter


def test_a_network_of_ipv6_is_one_source() -> None:
    newcomers = Newcomers(1, 100.0)

    assert newcomers.admit(NETWORK + bytes(7) + b"\1", 0.0)
    assert not newcomers.admit(NETWORK + b"\xff" * 8, 1.0)
