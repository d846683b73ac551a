"""Listening sockets: one port on both address families, the first free one of a few.

Invariant: either every family that this machine has is listened on under one port
number, or `ListenError` is raised and nothing is left open.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Sequence

from p2pfs.errors import ListenError

__all__ = [
    "UdpPortError",
    "addresses_of",
    "bind_beside",
    "bind_both",
    "bind_first_free",
    "bind_port",
    "is_any_address",
    "listen_error",
]

BACKLOG = 512
_ANY = ("", "0.0.0.0", "::", "*")


def is_any_address(host: str | None) -> bool:
    """Whether `host` stands for every address of this machine."""
    return host is None or host in _ANY


def _bind(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):  # Windows, where reuse means stealing
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def bind_port(host: str | None, port: int) -> list[socket.socket]:
    """Listening, non-blocking TCP sockets at `port` (0: any free one).

    Without a particular `host`, IPv4 and IPv6; a family that the machine lacks is left
    out. Raises `OSError`, and `ValueError` for what cannot be the name of a host.
    """
    if not is_any_address(host):
        assert host is not None
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return [_bind(family, str(address[0]), port)]
    for attempt in range(10):
        first = _bind(socket.AF_INET, "0.0.0.0", port)
        try:
            return [first, _bind(socket.AF_INET6, "::", first.getsockname()[1])]
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                return [first]
            first.close()
            if port or attempt == 9:
                raise
    raise AssertionError


def bind_beside(sockets: Sequence[socket.socket]) -> list[socket.socket]:
    """Non-blocking UDP sockets at the addresses and ports of TCP `sockets`.

    Raises `OSError`, with nothing left open of its own.
    """
    made: list[socket.socket] = []
    try:
        for beside in sockets:
            sock = socket.socket(beside.family, socket.SOCK_DGRAM)
            made.append(sock)
            if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
            if beside.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setblocking(False)
            sock.bind(beside.getsockname())
    except OSError:
        for sock in made:
            sock.close()
        raise
    return made


class UdpPortError(OSError):
    """The TCP port could be had, but not the UDP port of the same number."""


def bind_both(host: str | None, port: int) -> tuple[list[socket.socket], list[socket.socket]]:
    """TCP sockets as `bind_port` makes them, and UDP sockets under the same port number.

    Raises what `bind_port` raises, and `UdpPortError`.
    """
    for attempt in range(10):
        sockets = bind_port(host, port)
        try:
            return sockets, bind_beside(sockets)
        except OSError as error:
            for sock in sockets:
                sock.close()
            if port or attempt == 9 or not _is_taken(error):
                raise UdpPortError(error.errno, error.strerror) from error
    raise AssertionError


def bind_first_free(host: str | None, port: int, tries: int) -> list[socket.socket]:
    """Sockets at the first free port of `port` .. `port + tries - 1`.

    Raises `ListenError` that names the ports tried.
    """
    last = min(port + tries - 1, 65535) if port else 0
    where = f"port {port}" if last == port else f"any of the ports {port} to {last}"
    trouble: Exception | None = None
    for candidate in range(port, last + 1):
        try:
            return bind_port(host, candidate)
        except (OSError, ValueError) as error:
            trouble = error
            if not _is_taken(error):
                break
    assert trouble is not None
    raise listen_error(f"cannot listen on {where}", host, trouble, "-p", "--bind") from trouble


def _is_taken(error: Exception) -> bool:
    """Whether another port may do."""
    return isinstance(error, OSError) and error.errno in (errno.EADDRINUSE, errno.EACCES)


def listen_error(
    what: str, host: str | None, error: Exception, port_option: str, host_option: str
) -> ListenError:
    """The error that says `what` failed, why (`error` is of `bind_port`) and what to do."""
    reason = error.strerror if isinstance(error, OSError) else str(error)
    advice = (
        f"choose another port with {port_option} (0 takes any free one)"
        if _is_taken(error)
        else f"{host_option} takes an address of this machine"
    )
    return ListenError(
        f"{what}{'' if is_any_address(host) else f' of {host}'}: {reason or error}; {advice}"
    )


def addresses_of(sockets: Sequence[socket.socket]) -> list[tuple[str, int]]:
    """Host and port of each socket."""
    found = []
    for sock in sockets:
        with contextlib.suppress(OSError):
            found.append(sock.getsockname()[:2])
    return found
