"""uTP is refused: a reset for the first packet of a connection, and silence for all else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfs.formats.utp import refusal

# type and version, extension, connection id, time, difference, window, sequence, acknowledged
SYN = bytes.fromhex("41 00 5b0d 01020304 00000000 00040000 a8a4 0000")
RESET = bytes.fromhex("31 00 5b0d 00000000 00000000 00000000 0000 a8a4")


@pytest.mark.parametrize("more", [b"", b"\0\x08" + bytes(8)], ids=["plain", "with an extension"])
def test_a_new_connection_is_reset_by_its_id_and_its_sequence_number(more):
    assert refusal(SYN + more) == RESET


@pytest.mark.parametrize("first", [0x01, 0x11, 0x21, 0x31, 0x40, 0x42, 0x51])
def test_packets_of_other_types_and_versions_are_not_answered(first):
    assert refusal(bytes((first,)) + SYN[1:]) == b""


def test_a_refusal_is_not_answered():
    assert refusal(RESET) == b""


@given(st.binary(max_size=60))
def test_nothing_is_answered_with_more_than_was_sent(datagram):
    assert len(refusal(datagram)) <= len(datagram)
    assert len(refusal(b"\x41" + datagram)) <= 1 + len(datagram)
