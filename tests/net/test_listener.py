"""Listening on real ports: both families, the first free one, and clear refusals."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from p2pfs.errors import ListenError
from p2pfs.net.listener import (
    UdpPortError,
    addresses_of,
    bind_beside,
    bind_both,
    bind_first_free,
    bind_port,
    is_any_address,
)

pytestmark = pytest.mark.usefixtures("nothing_left")


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


@contextlib.contextmanager
def opened(sockets: list[socket.socket]) -> Iterator[list[socket.socket]]:
    try:
        yield sockets
    finally:
        for sock in sockets:
            sock.close()


@contextlib.contextmanager
def taken(host: str = "127.0.0.1") -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        if ":" in host:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, 0))
        sock.listen()
        yield sock.getsockname()[1]


@needs_ipv6
@pytest.mark.parametrize("host", [None, "", "0.0.0.0", "::", "*"])
async def test_by_default_both_families_are_listened_on_under_one_port(host: str | None) -> None:
    with opened(bind_port(host, 0)) as sockets:
        assert is_any_address(host)
        assert [sock.family for sock in sockets] == [socket.AF_INET, socket.AF_INET6]
        assert len({port for _, port in addresses_of(sockets)}) == 1
        for address in ("127.0.0.1", "::1"):
            socket.create_connection((address, sockets[0].getsockname()[1]), 5).close()


async def test_one_address_is_listened_on_alone_and_does_not_block() -> None:
    with opened(bind_port("127.0.0.1", 0)) as sockets:
        assert [host for host, _ in addresses_of(sockets)] == ["127.0.0.1"]
        assert not sockets[0].getblocking()
    assert not is_any_address("127.0.0.1")


async def test_a_taken_port_makes_way_for_the_next() -> None:
    with taken() as port, opened(bind_first_free("127.0.0.1", port, 20)) as sockets:
        assert port < sockets[0].getsockname()[1] < port + 20


@needs_ipv6
async def test_a_port_that_one_family_has_taken_is_not_used_by_the_other() -> None:
    with taken("::") as port, pytest.raises(ListenError, match=f"port {port}: .*in use"):
        bind_first_free(None, port, 1)


async def test_the_error_names_all_the_ports_that_are_taken_and_what_to_do() -> None:
    with taken() as port, pytest.raises(ListenError) as caught:
        bind_first_free("127.0.0.1", port, 1)
    assert f"port {port} of 127.0.0.1" in str(caught.value)
    assert "another port with -p" in str(caught.value)


async def test_the_search_for_a_free_port_ends_at_the_last_there_is() -> None:
    with socket.socket() as last:
        with contextlib.suppress(OSError):  # somebody else has it: just as well
            last.bind(("127.0.0.1", 65535))
        with pytest.raises(ListenError, match="port 65535"):
            bind_first_free("127.0.0.1", 65535, 5)


@pytest.mark.parametrize(
    "host",
    ["192.0.2.1", "no-such-host.invalid", "a" * 70, "nul\0byte", "bad..name", "1.2.3.4.5", "ü..x"],
)
async def test_an_address_that_cannot_be_listened_on_is_refused_by_name(host: str) -> None:
    with pytest.raises(ListenError, match=r"cannot listen on.*--bind takes an address of this"):
        bind_first_free(host, 0, 5)


@needs_ipv6
async def test_udp_gets_the_port_number_of_tcp_on_both_families() -> None:
    tcp, udp = bind_both(None, 0)
    with opened([*tcp, *udp]):
        assert addresses_of(udp) == addresses_of(tcp)
        assert [sock.family for sock in udp] == [socket.AF_INET, socket.AF_INET6]
        assert not any(sock.getblocking() for sock in udp)


async def test_any_free_port_is_one_that_udp_has_free_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from p2pfs.net import listener

    with opened(bind_port("127.0.0.1", 0)) as first, opened(bind_beside(first)):
        taken_for_udp = first[0].getsockname()[1]
        first[0].close()
        ports = [taken_for_udp, 0]  # the system offers the one that UDP cannot have
        monkeypatch.setattr(listener, "bind_port", lambda host, _: bind_port(host, ports.pop(0)))

        tcp, udp = bind_both("127.0.0.1", 0)

    with opened([*tcp, *udp]):
        assert addresses_of(tcp) == addresses_of(udp) != [("127.0.0.1", taken_for_udp)]


async def test_a_port_that_udp_cannot_have_is_not_kept_for_tcp() -> None:
    with opened(bind_port("127.0.0.1", 0)) as first, opened(bind_beside(first)):
        port = first[0].getsockname()[1]
        first[0].close()

        with pytest.raises(UdpPortError, match="in use"):
            bind_both("127.0.0.1", port)

        bind_port("127.0.0.1", port)[0].close()
