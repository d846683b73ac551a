"""From how far an address can be reached."""

from __future__ import annotations

import pytest

from p2pfs.errors import NetworkError
from p2pfs.formats.reach import Reach, reach_of


@pytest.mark.parametrize(
    ("host", "reach"),
    [
        ("8.8.8.8", Reach.GLOBAL),
        ("2600::1", Reach.GLOBAL),
        ("10.1.2.3", Reach.PRIVATE),
        ("172.16.0.1", Reach.PRIVATE),
        ("192.168.1.1", Reach.PRIVATE),
        ("100.64.0.1", Reach.PRIVATE),
        ("fd00::1", Reach.PRIVATE),
        ("127.0.0.1", Reach.LOOPBACK),
        ("127.8.8.8", Reach.LOOPBACK),
        ("::1", Reach.LOOPBACK),
        ("169.254.169.254", Reach.FORBIDDEN),
        ("169.254.1.1", Reach.FORBIDDEN),
        ("100.100.100.200", Reach.FORBIDDEN),
        ("fd00:ec2::254", Reach.FORBIDDEN),
        ("fe80::1", Reach.FORBIDDEN),
        ("fe80::1%eth0", Reach.FORBIDDEN),
        ("224.0.0.1", Reach.FORBIDDEN),
        ("ff02::1", Reach.FORBIDDEN),
        ("0.0.0.0", Reach.FORBIDDEN),
        ("0.1.2.3", Reach.FORBIDDEN),
        ("::", Reach.FORBIDDEN),
        ("255.255.255.255", Reach.FORBIDDEN),
        ("240.0.0.1", Reach.FORBIDDEN),
    ],
)
def test_every_address_has_a_reach(host: str, reach: Reach) -> None:
    assert reach_of(host) is reach


@pytest.mark.parametrize(
    ("host", "reach"),
    [
        ("::ffff:127.0.0.1", Reach.LOOPBACK),
        ("::ffff:169.254.169.254", Reach.FORBIDDEN),
        ("::ffff:8.8.8.8", Reach.GLOBAL),
        ("2002:7f00:1::", Reach.LOOPBACK),
        ("64:ff9b::a9fe:a9fe", Reach.FORBIDDEN),
        ("64:ff9b::10.0.0.1", Reach.PRIVATE),
    ],
)
def test_ipv4_addresses_cannot_hide_inside_ipv6_ones(host: str, reach: Reach) -> None:
    assert reach_of(host) is reach


def test_a_name_is_no_address() -> None:
    with pytest.raises(NetworkError, match="not an IP address"):
        reach_of("localhost")
