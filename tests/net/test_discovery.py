"""Indexes on the network: real announcements, on the loopback interface alone."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator

import pytest

from p2pfs.net.discovery import SERVICE, Advertisement, FoundIndex, find_indexes
from tests.support.waiting import eventually

LOOPBACK = ["127.0.0.1"]
PATIENCE = 10.0


def multicast_works() -> bool:
    """Whether what is sent to the mDNS group on loopback arrives there."""
    group = struct.pack("4s4s", socket.inet_aton("224.0.0.251"), socket.inet_aton("127.0.0.1"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("", 0))
            probe.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
            probe.setsockopt(
                socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1")
            )
            probe.settimeout(1)
            probe.sendto(b"?", ("224.0.0.251", probe.getsockname()[1]))
            return probe.recv(10) == b"?"
        except OSError:
            return False


needs_multicast = pytest.mark.skipif(
    not multicast_works(), reason="multicast does not work on the loopback interface here"
)


@pytest.fixture
async def advertisement(nothing_left: None) -> AsyncIterator[Advertisement]:
    made = Advertisement(LOOPBACK)
    yield made
    await made.close()


async def found() -> list[FoundIndex]:
    return await find_indexes(PATIENCE, interfaces=LOOPBACK)


@needs_multicast
async def test_an_index_that_announces_itself_is_found(advertisement: Advertisement) -> None:
    await advertisement.start(1234, LOOPBACK, "p2pfs on lab")
    assert await advertisement.announced()

    assert FoundIndex("p2pfs on lab", "127.0.0.1", 1234) in await found()


@needs_multicast
async def test_two_of_one_name_are_both_found(advertisement: Advertisement) -> None:
    other = Advertisement(LOOPBACK)
    try:
        for number, one in enumerate((advertisement, other)):
            await one.start(1000 + number, LOOPBACK, "p2pfs.on.lab")
            assert await one.announced()
        await eventually(ports_of_the_lab, {1000, 1001})
    finally:
        await other.close()


async def ports_of_the_lab() -> set[int]:
    return {one.port for one in await found() if one.name.startswith("p2pfs-on-lab")}


@needs_multicast
async def test_an_index_that_stopped_is_not_found(advertisement: Advertisement) -> None:
    await advertisement.start(4321, LOOPBACK, "gone")
    assert await advertisement.announced()
    await advertisement.close()

    assert 4321 not in [one.port for one in await find_indexes(1.0, interfaces=LOOPBACK)]


@needs_multicast
async def test_what_stands_in_an_announcement_is_shown_without_control_characters(
    nothing_left: None,
) -> None:
    from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

    async with AsyncZeroconf(interfaces=LOOPBACK) as zeroconf:
        for number, address in enumerate(("169.254.169.254", "127.0.0.1")):
            info = AsyncServiceInfo(
                SERVICE,
                f"a\u202eb{number}.{SERVICE}",
                port=2000 + number,
                parsed_addresses=[address],
                server=f"hostile-{number}.local.",
            )
            await (await zeroconf.async_register_service(info))
        names = {one.port: one.name for one in await found() if one.port in (2000, 2001)}

    assert names == {2001: "a?b1"}


@needs_multicast
async def test_announcements_without_an_address_do_not_hide_the_one_with(
    nothing_left: None, advertisement: Advertisement
) -> None:
    from zeroconf import DNSOutgoing, DNSPointer
    from zeroconf.asyncio import AsyncZeroconf
    from zeroconf.const import _CLASS_IN, _FLAGS_AA, _FLAGS_QR_RESPONSE, _TYPE_PTR

    await advertisement.start(3000, LOOPBACK, "honest")
    assert await advertisement.announced()
    out = DNSOutgoing(_FLAGS_QR_RESPONSE | _FLAGS_AA)
    for number in range(20):
        name = f"empty {number}.{SERVICE}"
        out.add_answer_at_time(DNSPointer(SERVICE, _TYPE_PTR, _CLASS_IN, 120, name), 0)
    async with AsyncZeroconf(interfaces=LOOPBACK) as zeroconf:
        looking = asyncio.create_task(find_indexes(2.0, interfaces=LOOPBACK))
        while not looking.done():
            zeroconf.zeroconf.async_send(out)
            await asyncio.wait([looking], timeout=0.05)

    assert 3000 in [one.port for one in looking.result()]


async def test_an_address_for_this_machine_alone_is_not_announced_to_others(
    nothing_left: None,
) -> None:
    advertisement = Advertisement()
    await advertisement.start(1234, LOOPBACK, "p2pfs")

    assert not await advertisement.announced()
    await advertisement.close()


@pytest.mark.parametrize("interface", ["203.0.113.77", "nonsense"])
async def test_without_multicast_nothing_is_found_and_nothing_fails(
    nothing_left: None, interface: str
) -> None:
    advertisement = Advertisement([interface])
    await advertisement.start(1234, LOOPBACK, "p2pfs")

    assert not await advertisement.announced()
    assert await find_indexes(0.1, interfaces=[interface]) == []
    await advertisement.close()


async def test_closing_in_the_middle_of_the_announcement_leaves_nothing(
    nothing_left: None,
) -> None:
    advertisement = Advertisement(LOOPBACK)
    await advertisement.start(1234, LOOPBACK, "p2pfs")
    await advertisement.close()

    assert not await advertisement.announced()
