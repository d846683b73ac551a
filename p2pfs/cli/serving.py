"""A node in this process: what `node` and `share` have in common.

Invariant: the node leaves the index before its client stops listening, whatever ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2pfs.cli.json_screen import JsonScreen
from p2pfs.cli.screen import Screen
from p2pfs.cli.text import counted, printable

if TYPE_CHECKING:
    from p2pfs.cli.finding import Located
    from p2pfs.cli.front import Events
    from p2pfs.net.engine import Client
    from p2pfs.net.index_client import IndexClient
    from p2pfs.net.node import Node
    from p2pfs.storage.hash_cache import HashCache
    from p2pfs.storage.sharing import Source

__all__ = ["Serving", "open_node"]

_STATUS_EVERY = 1.0
_PATIENCE = 2.0
"""Seconds until a start that takes its time is explained."""


@dataclass(frozen=True, slots=True)
class Serving:
    """A node that is registered (or tries to) and shares, with what it runs on."""

    client: Client
    index: IndexClient
    node: Node

    def status(self) -> str:
        """What it does now, in a phrase."""
        takings = len(self.node.taken_from_here())
        parts = [f"sharing {counted(len(self.node.files()), 'file')}"]
        if takings:
            parts.append(f"{counted(takings, 'download')} from here")
        if self.node.index_problem:
            parts.append("no index at the moment")
        return ", ".join(parts)


class _Seldom:
    """The answer of `ask`, asked at most once a second: it looks at every torrent."""

    def __init__(self, ask: Callable[[], str], clock: Callable[[], float]) -> None:
        self._ask = ask
        self._clock = clock
        self._asked = -_STATUS_EVERY
        self._answer = ""

    def __call__(self) -> str:
        now = self._clock()
        if now - self._asked >= _STATUS_EVERY:
            self._asked, self._answer = now, self._ask()
        return self._answer


class _Hashing:
    """Tells how far the hashing of what is new is."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._loop = asyncio.get_running_loop()
        self._told = -1
        self.text = ""

    def __call__(self, name: str, done: int, total: int) -> None:
        """On a worker thread: so many of so many bytes."""
        tenths = done * 10 // total if total else 10
        self.text = f"hashing {printable(name)}, {10 * tenths} %" if done < total else ""
        if isinstance(self._screen, JsonScreen) and tenths != self._told:
            self._told = tenths
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens
                self._loop.call_soon_threadsafe(self._tell, name, done, total)

    def _tell(self, name: str, done: int, total: int) -> None:
        assert isinstance(self._screen, JsonScreen)
        self._screen.event(
            "progress", name=name, state="checking", bytes_done=done, bytes_total=total
        )


@contextlib.asynccontextmanager
async def open_node(
    screen: Screen,
    events: Events,
    client: Client,
    located: Located,
    sources: Sequence[Source],
    *,
    node_id: str,
    key: str,
    cache: HashCache,
    locate: Callable[[], Awaitable[Located]] | None = None,
) -> AsyncIterator[Serving]:
    """A node that has shared all that was there at the start.

    `locate` finds the index when it is not where it was any more. Raises what `Node.start` raises.
    """
    from p2pfs.cli.finding import token_of_environment
    from p2pfs.net.index_client import IndexClient
    from p2pfs.net.node import Node

    loop = asyncio.get_running_loop()
    hashing = _Hashing(screen)
    index = IndexClient(
        located.base, token=token_of_environment(), node=(node_id, key), advice=located.advice
    )
    async with client, index:

        async def find_index() -> None:
            if locate is not None:
                now = await locate()
                index.move(now.base, now.advice)

        node = Node(
            client,
            index,
            sources,
            cache=cache,
            on_event=events,
            hashing=hashing,
            find_index=find_index,
        )
        serving = Serving(client, index, node)
        status = _Seldom(serving.status, loop.time)
        screen.status = lambda: hashing.text or f"{screen.role}: {status()}"
        explained = loop.call_later(
            _PATIENCE, screen.note, "looking at what there is to share; what is new is hashed"
        )
        try:
            try:
                await node.start()
            finally:
                explained.cancel()
            yield serving
        finally:
            await node.close()
