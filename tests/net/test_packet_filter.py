"""Datagrams that the system drops."""

from __future__ import annotations

import contextlib
import random
import socket
import sys
from collections.abc import Iterator

import pytest

from p2pfs.net.packet_filter import drop_above


@contextlib.contextmanager
def pair(family: int, host: str) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A socket that receives, and one that sends to it."""
    with (
        socket.socket(family, socket.SOCK_DGRAM) as receiver,
        socket.socket(family, socket.SOCK_DGRAM) as sender,
    ):
        try:
            receiver.bind((host, 0))
        except OSError:
            pytest.skip(f"no {host} here")
        receiver.settimeout(20)
        sender.connect(receiver.getsockname()[:2])
        yield receiver, sender


@pytest.mark.skipif(sys.platform != "linux", reason="Linux can do this")
@pytest.mark.parametrize(
    ("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
def test_only_what_can_mean_something_arrives(family: int, host: str) -> None:
    rng = random.Random(1)
    good = [bytes(8) + number.to_bytes(4, "big") + b"more" * number for number in range(3)]
    wrong = [
        bytes(8) + (3).to_bytes(4, "big"),
        b"\xff" * 98,
        bytes(11),
        b"",
        *(bytes([1 + number % 200]) * 98 for number in range(100)),
        *(rng.randbytes(11) for _ in range(10)),
    ]
    with pair(family, host) as (receiver, sender):
        assert drop_above(receiver, 8, 2)
        for one in good:
            for other in wrong:
                sender.send(other)
            sender.send(one)

        assert [receiver.recv(2048) for _ in good] == good
        receiver.setblocking(False)
        with pytest.raises(BlockingIOError):
            receiver.recv(2048)


def test_where_it_cannot_be_done_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "elsewhere")
    with pair(socket.AF_INET, "127.0.0.1") as (receiver, sender):
        assert not drop_above(receiver, 8, 2)
        sender.send(b"\xff" * 98)

        assert receiver.recv(2048) == b"\xff" * 98
