"""Keeps one torrent announced: carries out what `swarm.announcing` decides.

Invariant: one announce is under way at a time; a tracker's failure is waited out and
told in `status`, never raised.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from p2pfs.errors import P2pfsError
from p2pfs.formats.announce_http import AnnounceReply, AnnounceRequest, Event, PeerAddress
from p2pfs.geometry import PeerId, TorrentId
from p2pfs.net.announce_client import RefusedError
from p2pfs.swarm.announcing import AnnounceSchedule, Tiers

__all__ = ["Announcer", "Transport"]

log = logging.getLogger(__name__)

NUMWANT: Final = 100
GOODBYE_TIMEOUT: Final = 3.0


class Transport(Protocol):
    """Whatever carries an announce to a URL."""

    async def announce(
        self, url: str, request: AnnounceRequest, *, trusted: bool
    ) -> AnnounceReply: ...

    async def close(self) -> None: ...


class Announcer:
    """`totals` gives (uploaded, downloaded, left) in bytes; `found` takes new peers."""

    def __init__(
        self,
        transport: Transport,
        tiers: Tiers,
        trusted: frozenset[str],
        *,
        torrent_id: TorrentId,
        peer_id: PeerId,
        port: int,
        key: bytes,
        complete: bool,
        partial_seed: bool,
        totals: Callable[[], tuple[int, int, int]],
        found: Callable[[Iterable[PeerAddress]], None],
        rng: random.Random,
    ) -> None:
        self._transport = transport
        self._tiers = tiers
        self._trusted = trusted
        self._torrent_id = torrent_id
        self._peer_id = peer_id
        self._port = port
        self._key = key
        self._partial_seed = partial_seed
        self._totals = totals
        self._found = found
        self._loop = asyncio.get_running_loop()
        self._schedule = AnnounceSchedule(self._loop.time(), rng, complete=complete)
        self._tracker_ids: dict[str, bytes] = {}
        self._wake: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None
        self._current: str | None = None
        self.status = "not announced yet" if tiers else "no tracker"
        """What the trackers said last, in words."""

    def start(self) -> None:
        if self._tiers:
            self._wake = asyncio.Event()
            self._task = self._loop.create_task(self._run(self._wake), name="announcer")

    def completed(self) -> None:
        self._schedule.completed(self._loop.time())
        self._look_again()

    def need_peers(self, hungry: bool) -> None:
        before = self._schedule.next_at
        self._schedule.need_peers(hungry)
        if self._schedule.next_at < before:
            self._look_again()

    def _look_again(self) -> None:
        """The next announce may be due sooner."""
        if self._wake is not None:
            self._wake.set()

    async def stop(self) -> None:
        """Announce `stopped`, for a short time at most."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if self._schedule.stop():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GOODBYE_TIMEOUT):
                    await self._announce_safely()

    async def _run(self, wake: asyncio.Event) -> None:
        while True:
            delay = self._schedule.next_at - self._loop.time()
            if delay > 0:
                wake.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(delay):  # `wait_for` may lose a cancellation
                        await wake.wait()
                continue
            await self._announce_safely()

    async def _announce_safely(self) -> None:
        try:
            await self._announce()
        except Exception:
            log.exception("a fault of ours in an announce")
            self.status = "the announce failed for a fault of ours"
            self._schedule.failed(self._loop.time())

    async def _announce(self) -> None:
        """Ask the trackers in order until one answers."""
        event = self._schedule.event()
        problem = ""
        patience: list[float] = []
        urls = self._tiers.in_order()
        if event is Event.STOPPED and self._current in urls:
            urls = [self._current]
        for url in urls:
            try:
                reply = await self._transport.announce(
                    url, self._request(url, event), trusted=url in self._trusted
                )
            except P2pfsError as error:
                problem = str(error)
                log.warning("announce: %s", problem)
                wish = error.retry_in if isinstance(error, RefusedError) else None
                patience.append(0.0 if wish is None else float(wish))
                continue
            self._succeeded(url, event, reply)
            return
        self.status = problem
        self._schedule.failed(self._loop.time(), min(patience, default=None))

    def _request(self, url: str, event: Event) -> AnnounceRequest:
        uploaded, downloaded, left = self._totals()
        if self._partial_seed and event is not Event.STOPPED:
            event = Event.PAUSED  # in every announce: there, but wanting nothing (BEP 21)
        return AnnounceRequest(
            torrent_id=self._torrent_id,
            peer_id=self._peer_id,
            port=self._port,
            uploaded=uploaded,
            downloaded=downloaded,
            left=left,
            event=event,
            numwant=0 if event is Event.STOPPED else NUMWANT,
            key=self._key,
            tracker_id=self._tracker_ids.get(url),
        )

    def _succeeded(self, url: str, event: Event, reply: AnnounceReply) -> None:
        self._current = url
        self._tiers.succeeded(url)
        if reply.tracker_id is not None:
            self._tracker_ids[url] = reply.tracker_id
        self._schedule.succeeded(event, reply.interval, reply.min_interval, self._loop.time())
        counts = ""
        if reply.complete is not None and reply.incomplete is not None:
            counts = f": {_some(reply.complete, 'seeder')}, {_some(reply.incomplete, 'leecher')}"
        self.status = f"{url} answered{counts}" + (
            f" (warning: {reply.warning})" if reply.warning else ""
        )
        log.info("announce: %s", self.status)
        if event is not Event.STOPPED:
            self._found(reply.peers)


def _some(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
