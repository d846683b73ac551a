"""Indexes found on the local network, and one made to be found there (mDNS, by zeroconf).

Invariant: multicast that does not work is a line in the log and an empty answer, never an
error: whoever needs an index has other ways to know of one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from p2pfs.errors import NetworkError
from p2pfs.formats.reach import Reach, reach_of
from p2pfs.net.http_client import printable

if TYPE_CHECKING:
    from zeroconf import Zeroconf
    from zeroconf.asyncio import AsyncZeroconf

__all__ = ["SERVICE", "Advertisement", "FoundIndex", "find_indexes"]

log = logging.getLogger(__name__)

SERVICE: Final = "_p2pfs._tcp.local."
_GOODBYE: Final = 1.0
"""Seconds that taking an announcement back may take."""
_ASK: Final = 1000
"""Milliseconds for the address of an index that was seen."""
_GATHER: Final = 0.5
"""Seconds in which others may answer after the first one did."""
_MAX_NAME = 48
_MAX_FOUND = 50


@dataclass(frozen=True, slots=True)
class FoundIndex:
    """An index that announced itself; all of it is text from outside, made printable."""

    name: str
    host: str
    port: int


class Advertisement:
    """The announcement of one index.

    `interfaces` are the addresses of the interfaces to announce on (default: all).
    """

    def __init__(self, interfaces: Sequence[str] | None = None) -> None:
        self._interfaces = interfaces
        self._zeroconf: AsyncZeroconf | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self, port: int, addresses: Sequence[str], name: str) -> None:
        """Announce that an index listens at `port` of `addresses`; goes on in the background.

        An address that is of use on this machine alone is not announced to others.
        """
        self._task = asyncio.create_task(self._announce(port, addresses, name), name="mdns")

    async def announced(self) -> bool:
        """Whether it is known on the network by now; waits for that."""
        if self._task is None:
            return False
        await asyncio.wait([self._task])
        return self._zeroconf is not None

    async def close(self) -> None:
        """Take it back."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        zeroconf, self._zeroconf = self._zeroconf, None
        if zeroconf is not None:
            await _close(zeroconf)

    async def _announce(self, port: int, addresses: Sequence[str], name: str) -> None:
        from zeroconf.asyncio import AsyncServiceInfo

        usable = [one for one in addresses if _is_usable(one, self._interfaces)]
        if not usable:
            log.info("the index is not announced: nobody elsewhere could reach %s", addresses)
            return
        zeroconf: AsyncZeroconf | None = None
        try:
            machine = "".join(c if c.isalnum() else "-" for c in socket.gethostname())[:_MAX_NAME]
            shown = "".join(c if c.isprintable() and c != "." else "-" for c in name)[:_MAX_NAME]
            info = AsyncServiceInfo(
                SERVICE,
                f"{shown}.{SERVICE}",
                port=port,
                parsed_addresses=usable,
                server=f"{machine or 'p2pfs'}-{port}.local.",
            )
            zeroconf = _open(self._interfaces)
            await (await zeroconf.async_register_service(info, allow_name_change=True))
            self._zeroconf, zeroconf = zeroconf, None
        except Exception as error:
            log.info("the index is not announced on the network: %s", error)
        finally:
            if zeroconf is not None:
                await _close(zeroconf)


async def find_indexes(
    seconds: float = 2.0, *, interfaces: Sequence[str] | None = None
) -> list[FoundIndex]:
    """The indexes that announce themselves, waiting at most `seconds` for the first of them.

    `interfaces` are the addresses of the interfaces to ask on (default: all).
    """
    try:
        return await _find(seconds, interfaces)
    except Exception as error:
        log.info("no index can be looked for on the network: %s", error)
        return []


async def _find(seconds: float, interfaces: Sequence[str] | None) -> list[FoundIndex]:
    from zeroconf import ServiceStateChange
    from zeroconf.asyncio import AsyncServiceBrowser

    loop = asyncio.get_running_loop()
    found: dict[tuple[str, int], FoundIndex] = {}
    looking: set[asyncio.Task[None]] = set()
    patience = asyncio.timeout(seconds)

    async def look(name: str) -> None:
        one = await _resolved(zeroconf, name, interfaces)
        if one is not None:
            found[one.host, one.port] = one
            until = loop.time() + _GATHER
            patience.reschedule(min(until, patience.when() or until))

    def changed(
        zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
    ) -> None:
        if state_change is ServiceStateChange.Added and len(looking) < _MAX_FOUND:
            looking.add(loop.create_task(look(name)))

    zeroconf = _open(interfaces)
    browser: AsyncServiceBrowser | None = None
    try:
        with contextlib.suppress(TimeoutError):
            async with patience:
                browser = AsyncServiceBrowser(zeroconf.zeroconf, SERVICE, handlers=[changed])
                await loop.create_future()
    finally:
        if browser is not None:
            await browser.async_cancel()
        for task in looking:
            task.cancel()
        await asyncio.gather(*looking, return_exceptions=True)
        await _close(zeroconf)
    return sorted(found.values(), key=lambda one: (one.name, one.host, one.port))


async def _resolved(
    zeroconf: AsyncZeroconf, name: str, interfaces: Sequence[str] | None
) -> FoundIndex | None:
    """Where the index called `name` is, if one address of it can be used from here."""
    from zeroconf import IPVersion
    from zeroconf.asyncio import AsyncServiceInfo

    info = AsyncServiceInfo(SERVICE, name)
    if not await info.async_request(zeroconf.zeroconf, _ASK) or not info.port:
        return None
    for version in (IPVersion.V4Only, IPVersion.V6Only):
        for host in info.parsed_addresses(version):
            if _is_usable(host, interfaces):
                return FoundIndex(printable(name.removesuffix(f".{SERVICE}"), 64), host, info.port)
    return None


def _is_usable(host: str, interfaces: Sequence[str] | None) -> bool:
    """Whether what is announced at `host` can be asked; on this machine only if that is meant."""
    try:
        reach = reach_of(host)
    except NetworkError:
        return False
    return reach in (Reach.GLOBAL, Reach.PRIVATE) or (
        reach is Reach.LOOPBACK and interfaces is not None
    )


def _open(interfaces: Sequence[str] | None) -> AsyncZeroconf:
    from zeroconf import InterfaceChoice
    from zeroconf.asyncio import AsyncZeroconf

    chosen: Any = InterfaceChoice.All if interfaces is None else list(interfaces)
    return AsyncZeroconf(interfaces=chosen)


async def _close(zeroconf: AsyncZeroconf) -> None:
    """Say goodbye, shortly."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(_GOODBYE):
            await zeroconf.async_unregister_all_services()
    with contextlib.suppress(Exception):
        async with asyncio.timeout(_GOODBYE):
            await zeroconf.async_close()
