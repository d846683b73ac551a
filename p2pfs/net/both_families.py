"""A tracker that has IPv4 and IPv6 is told and asked by both (BEP 7): the answers as one.

Invariant: one family that works is enough; the other is waited for a moment only.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from dataclasses import replace
from typing import Final, TypeVar

from p2pfs.errors import NetworkError
from p2pfs.formats.announce_http import AnnounceReply
from p2pfs.net.http_client import reason_for

__all__ = ["BOTH", "ask_each", "first_of_each", "merged"]

BOTH: Final = frozenset((int(socket.AF_INET), int(socket.AF_INET6)))

GRACE: Final = 1.0
"""Seconds that one address family waits for the other, which has answered."""

Target = TypeVar("Target")
Reply = TypeVar("Reply")


def first_of_each(
    addresses: Sequence[tuple[str, int]], families: Collection[int]
) -> dict[int, str]:
    """By family, the first host of `addresses` (host and family): of those in `families`.

    Of any family where none of these is in them: then peers can at least be asked for.
    """
    first: dict[int, str] = {}
    for host, family in addresses:
        first.setdefault(family, host)
    return {family: host for family, host in first.items() if family in families} or first


async def ask_each(
    ask: Callable[[Target], Coroutine[object, object, Reply]],
    targets: Sequence[Target],
    grace: float = GRACE,
) -> list[Reply]:
    """What came back, at least one; after the first the others have `grace` seconds.

    Raises `NetworkError` or `FormatError` when every one failed.
    """
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(ask(target)) for target in targets]
    pending, patience = set(tasks), None
    try:
        while pending and patience != 0:
            done, pending = await asyncio.wait(
                pending, timeout=patience, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                break
            if any(task.exception() is None for task in done):
                patience = grace
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    ended = [task for task in tasks if not task.cancelled()]
    good = [task.result() for task in ended if task.exception() is None]
    if not good:
        error = next(task.exception() for task in ended)
        if isinstance(error, OSError):
            raise NetworkError(reason_for(error)) from error
        assert error is not None
        raise error
    return good


def merged(replies: Sequence[AnnounceReply]) -> AnnounceReply:
    """What a tracker said by each family, as one answer; a refusal only if there is no other."""
    good = [reply for reply in replies if reply.failure is None] or replies
    if len(good) == 1:
        return good[0]
    return replace(
        good[0],
        interval=max(reply.interval for reply in good),
        peers=tuple(dict.fromkeys(peer for reply in good for peer in reply.peers)),
        complete=_most(reply.complete for reply in good),
        incomplete=_most(reply.incomplete for reply in good),
    )


def _most(counts: Iterable[int | None]) -> int | None:
    return max((count for count in counts if count is not None), default=None)
