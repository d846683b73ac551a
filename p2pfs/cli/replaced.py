"""Notices that a download waits in vain because its name means another content by now.

Invariant: it is told once, while the download is still missing pieces that nobody has, and
only of content that somebody has; an index that does not answer is asked again later.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

from p2pfs.cli.listed_views import SHORT_HASH, moment
from p2pfs.cli.text import literally, printable, quoted
from p2pfs.errors import P2pfsError

if TYPE_CHECKING:
    from p2pfs.net.engine import Torrent
    from p2pfs.net.index_client import Listed

__all__ = ["watch_for_another"]

_LOOK_EVERY: Final = 2.5
"""Seconds between two looks at a download; it waits when the second finds the same."""

_MAX_PAUSE: Final = 60.0
"""Seconds between two questions to the index, once there were many."""


@contextlib.asynccontextmanager
async def watch_for_another(
    torrent: Torrent,
    listed: Callable[[str], Awaitable[Sequence[Listed]]],
    say: Callable[[str], None],
    command: str,
) -> AsyncIterator[None]:
    """In this block say what else has the name of `torrent`, once that waits in vain.

    `listed` asks the index for a pattern; `command` is what fetches the name that follows it.
    """
    watch = asyncio.ensure_future(_watch(torrent, listed, say, command))
    try:
        yield
    finally:
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)


async def _watch(
    torrent: Torrent,
    listed: Callable[[str], Awaitable[Sequence[Listed]]],
    say: Callable[[str], None],
    command: str,
) -> None:
    before: tuple[int, ...] = ()
    pause = _LOOK_EVERY
    while True:
        await asyncio.sleep(pause)
        missing = torrent.progress().missing
        if not missing or missing != before:
            before, pause = missing, _LOOK_EVERY
            continue
        try:
            others = _others(torrent, await listed(literally(torrent.name)))
        except P2pfsError:
            others = []
        if others:
            say(_told(torrent, others[0], command))
            return
        pause = min(2 * pause, _MAX_PAUSE)


def _others(torrent: Torrent, listed: Sequence[Listed]) -> list[Listed]:
    """What else somebody has by the same name, newest first."""
    found = [
        one
        for one in listed
        if one.live and one.name == torrent.name and one.info_hash != torrent.info_hash
    ]
    return sorted(found, key=lambda one: one.published, reverse=True)


def _told(torrent: Torrent, other: Listed, command: str) -> str:
    short = other.info_hash[:SHORT_HASH]
    name = quoted(printable(f"{other.name}@{short}"))
    return (
        f"nobody has all of {printable(torrent.name)} ({torrent.info_hash[:SHORT_HASH]}) any more, "
        f"but the index has another content of that name, {short} of {moment(other.published)}: "
        f"fetch it with {command} {name}"
    )
