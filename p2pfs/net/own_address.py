"""Under which address this machine is reached from elsewhere.

Invariant: nothing is sent to find that out: the system is asked which of our addresses
its routes would use.
"""

from __future__ import annotations

import socket
from functools import lru_cache

__all__ = ["reachable_address", "route_to"]

_ELSEWHERE = ("192.0.2.1", "10.255.255.254", "2001:db8::1")
"""Addresses that are nobody's, but on which routes are decided as for any other."""


@lru_cache(maxsize=1024)
def route_to(target: str) -> str | None:
    """The address of this machine that `target` would be talked to from; None without a route."""
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((target, 9))  # UDP: picks a source address and sends nothing
            return str(probe.getsockname()[0])
    except OSError:
        return None


def reachable_address() -> str:
    """An address of this machine that others can reach; a loopback one when there is none."""
    for target in _ELSEWHERE:
        found = route_to.__wrapped__(target)
        if found is not None:
            return found
    return "127.0.0.1"
