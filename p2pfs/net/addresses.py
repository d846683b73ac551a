"""Which addresses this program may be sent to, and by whom.

Invariant: a URL that the user typed is trusted; one that came inside a torrent, from a
peer or by a redirect is not, and cannot make us send requests to services of our own
machine or network other than trackers. A name is resolved once, and the address that was
checked is the one that is connected to.
"""

from __future__ import annotations

import asyncio
import socket

from p2pfs.errors import NetworkError
from p2pfs.formats.reach import Reach, reach_of

__all__ = ["LocalAddressError", "check_target", "resolve"]


class LocalAddressError(NetworkError):
    """The address is in our own network or machine, and the URL may not lead there."""


def check_target(host: str, *, path: str, trusted: bool, local: bool) -> None:
    """Raise `NetworkError` unless a request for `path` may go to the address `host`.

    It is a `LocalAddressError` where a trusted URL might go there.

    Link-local addresses and those of metadata services are refused to everybody. Loopback
    and private ones are for trusted URLs; where `local` allows it, also for others whose
    path begins with /announce (as libtorrent has it) or /scrape.
    """
    reach = reach_of(host)
    if reach is Reach.FORBIDDEN:
        raise NetworkError(f"{host} is a {reach.value} address, which is never asked")
    if reach is Reach.GLOBAL or trusted:
        return
    if not local:
        raise LocalAddressError(
            f"a {reach.value} address ({host}) is not asked for a URL from outside"
        )
    if not path.startswith(("/announce", "/scrape")):
        raise LocalAddressError(
            f"{host} is a {reach.value} address; a URL that came with a torrent may only ask "
            "for /announce there"
        )


async def resolve(
    host: str | None,
    port: int | None,
    *,
    path: str,
    trusted: bool,
    local: bool,
    kind: socket.SocketKind = socket.SOCK_STREAM,
) -> list[tuple[str, int]]:
    """The addresses that `host` may be asked at for `path`, each with its family.

    `trusted` and `local` are as for `check_target`. Raises `NetworkError` when there is none.
    """
    if not host or not host.isascii() or not host.isprintable() or not port or len(host) > 255:
        raise NetworkError("the URL names no host that can be used")
    if not trusted and "xn--" in host:
        raise NetworkError(f"the internationalised name {host} is not trusted")
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=kind)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise NetworkError(f"the name {host} cannot be resolved: {reason}") from error
    allowed: list[tuple[str, int]] = []
    refused: NetworkError | None = None
    for family, _, _, _, address in found:
        try:
            check_target(str(address[0]), path=path, trusted=trusted, local=local)
        except NetworkError as error:
            refused = error
        else:
            allowed.append((str(address[0]), int(family)))
    if not allowed:
        raise refused or NetworkError(f"the name {host} has no address")
    return allowed
