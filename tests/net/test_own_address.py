"""Under which address somebody else can use this machine."""

from __future__ import annotations

import pytest

from p2pfs.net.own_address import address_for


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (b"192.168.1.5:9999", "192.168.1.5"),
        (b"192.168.1.5", "192.168.1.5"),
        (b"[2001:db8::5]:9999", "2001:db8::5"),
        (b"tracker.example.org:9999", "127.0.0.1"),
        (b"127.0.0.1:9999", "127.0.0.1"),
        (b"0.0.0.0", "127.0.0.1"),
        (b"", "127.0.0.1"),
        (b"[::", "127.0.0.1"),
        (b"\xff" * 500, "127.0.0.1"),
    ],
)
def test_the_address_asked_at_is_the_named_one_or_the_one_routed_from(
    host: bytes, expected: str
) -> None:
    assert address_for(host, "127.0.0.1") == expected
