"""Which tracker `-i` and `-d` mean, and which URLs are refused."""

from __future__ import annotations

import pytest

from p2pfs.cli.swarm import _client
from p2pfs.cli.where import Where, check_url, tracker_base
from p2pfs.errors import UsageError


@pytest.mark.parametrize(
    ("host", "base"),
    [
        ("10.0.0.5", "http://10.0.0.5:9999"),
        ("10.0.0.5:7070", "http://10.0.0.5:7070"),
        ("tracker", "http://tracker:9999"),
        ("tracker.example:1", "http://tracker.example:1"),
        ("::1", "http://[::1]:9999"),
        ("[::1]", "http://[::1]:9999"),
        ("[fe80::1]:7070", "http://[fe80::1]:7070"),
        ("https://tracker.example/announce", "https://tracker.example"),
        ("http://[::1]:80/", "http://[::1]:80"),
    ],
)
def test_a_host_has_one_reading(host: str, base: str) -> None:
    assert tracker_base(host, 9999) == base
    assert Where(host, 9999, 9000, None).trackers == [f"{base}/announce"]


@pytest.mark.parametrize(
    "host",
    [
        *("", " ", "a b", "-x", "a\nb", "a\x1b[31m", "user@host", "host/path", "host?x", "a#b"),
        *("host:", "host:0", "host:65536", "host:99999999", "host:x", "a:1:2", ":9999"),
        *("[::1", "::1]", "[]", "[::1]:", "[::1]:0", "[host]", "a" * 256),
        *("http://", "http:///announce", "http://host:99999", "http://[::1", "ftp://host", "x://"),
        *("http://user@host", "http://host/?x", "http://host/#x", "http://a b"),
    ],
)
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(UsageError):
        Where(host, 9999, 9000, None)


def test_no_host_is_no_tracker() -> None:
    assert Where(None, 9999, 9000, None).base_url is None
    assert Where(None, 9999, 9000, None).trackers == []


def test_a_url_needs_a_host_a_possible_port_and_a_scheme_that_is_asked_for() -> None:
    check_url("udp://tracker.example:6969", ("http", "udp"))
    for url in (
        "udp://x",
        "http://",
        "http://x:0",
        "http://x:99999",
        "http://x/<",
        "http://x/\u202e",
    ):
        with pytest.raises(UsageError, match="not a URL such as"):
            check_url(url, ("http",))


def test_a_udp_tracker_needs_a_port_since_there_is_none_that_goes_without_saying() -> None:
    check_url("http://tracker.example/announce", ("http", "udp"))
    for url in ("udp://tracker.example", "udp://[::1]/announce", "udp://x:"):
        with pytest.raises(UsageError, match="a udp:// tracker needs a port"):
            check_url(url, ("http", "udp"))


@pytest.mark.parametrize("wanted", [True, False])
def test_how_peers_are_looked_for_is_up_to_the_user(wanted: bool) -> None:
    client = _client(Where(None, 9999, 0, None, pex=wanted, lsd=wanted))

    assert client.peer_exchange is wanted
    assert client.local_discovery is wanted
