"""Keeps one torrent announced: carries out what `swarm.announcing` decides.

Invariant: one announce is under way at a time; a tracker's failure is waited out and
told in `status`, never raised.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from p2pfs.errors import P2pfsError
from p2pfs.formats.announce_http import AnnounceReply, AnnounceRequest, Event, PeerAddress
from p2pfs.geometry import PeerId, TorrentId
from p2pfs.net.announce_client import RefusedError
from p2pfs.swarm.announcing import AnnounceSchedule, Tiers

__all__ = ["Announcer", "Transport"]

log = logging.getLogger(__name__)

NUMWANT: Final = 100
MAX_TRACKER_ID: Final = 256
"""Bytes of a tracker id that is sent back; a longer one is ignored."""

GOODBYE_TIMEOUT: Final = 3.0
"""Seconds that leaving may take."""

FIRST_ANSWER: Final = 1.0
"""Seconds of those in which the answer to the very first announce is waited for."""

_OUR_FAULT: Final = "the announce failed for a fault of ours"


class Transport(Protocol):
    """Whatever carries an announce to a URL."""

    async def announce(
        self, url: str, request: AnnounceRequest, *, trusted: bool
    ) -> AnnounceReply: ...

    async def close(self) -> None: ...


class Announcer:
    """`totals` gives (uploaded, downloaded, left) in bytes; `found` takes new peers.

    `returned` is called when a tracker may have forgotten what it knew: it answers again
    after it did not, or with another tracker id than before. `switched` is for a private
    torrent: it stays with its tracker as long as that answers (BEP 27), and hears of a
    change before the peers that the other tracker names are `found`.
    """

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
        returned: Callable[[], None],
        rng: random.Random,
        switched: Callable[[], None] | None = None,
    ) -> None:
        self._transport = transport
        self._switched = switched
        self._tiers = tiers
        self._trusted = trusted
        self._torrent_id = torrent_id
        self._peer_id = peer_id
        self._port = port
        self._key = key
        self._partial_seed = partial_seed
        self._totals = totals
        self._found = found
        self._returned = returned
        self._loop = asyncio.get_running_loop()
        self._schedule = AnnounceSchedule(self._loop.time(), rng, complete=complete)
        self._tracker_ids: dict[str, bytes] = {}
        self._silent: set[str] = set()
        self._wake: asyncio.Event | None = None
        self._turn = asyncio.Lock()
        self._saying: Event | None = None
        self._asking: str | None = None
        self._more = False
        self._goodbye: asyncio.Task[None] | None = None
        self._patient_until = 0.0
        self._task: asyncio.Task[None] | None = None
        self._current: str | None = None
        self.status = "not announced yet" if tiers else "no tracker"
        """What the trackers said last, in words."""

    def start(self) -> None:
        """Announce from now on; once is enough."""
        if self._tiers and self._task is None:
            self._wake = asyncio.Event()
            self._task = self._loop.create_task(self._run(self._wake), name="announcer")

    def go_on(
        self,
        *,
        complete: bool,
        partial_seed: bool,
        totals: Callable[[], tuple[int, int, int]],
        found: Callable[[Iterable[PeerAddress]], None],
        returned: Callable[[], None],
        chosen: Sequence[str] = (),
        tiers: Sequence[Sequence[str]] = (),
    ) -> None:
        """Announce for a torrent whose metadata has come; the trackers see no change of peer.

        Also to the trackers that the user has `chosen` for it, which are asked before all
        others and are trusted, and to those of its `tiers`.
        """
        self._trusted |= set(chosen)
        if self._tiers.extend(chosen, tiers):
            self.status = "not announced yet" if self._task is None else self.status
            self._schedule.more_trackers(self._loop.time())
            self._more = self._saying is not None
            self._look_again()
        self._partial_seed = partial_seed
        self._totals, self._found, self._returned = totals, found, returned
        if complete:
            self._schedule.was_complete()

    async def stop(self, patience: float = 0.0) -> None:
        """Announce what is still to be told, that it is complete, then `stopped`; no more.

        For `patience` seconds a tracker that does not answer is asked again, so that it
        counts the download. May be called more than once.
        """
        if self._task is None or self._wake is None:
            return
        self._patient_until = self._loop.time() + patience
        self._wake.set()
        if self._goodbye is None:
            goodbye = self._leave(self._task, self._wake)
            self._goodbye = self._loop.create_task(goodbye, name="goodbye")
        await asyncio.wait([self._goodbye], timeout=patience + GOODBYE_TIMEOUT)
        rest = [task for task in (self._goodbye, self._task) if not task.done()]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    def completed(self) -> None:
        self._schedule.completed(self._loop.time())
        self._look_again()

    def satisfied(self) -> None:
        """All that is wanted is here, which is not everything: a partial seed from now on."""
        self._partial_seed = True
        self._schedule.due(self._loop.time())
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

    async def _leave(self, announcing: asyncio.Task[None], wake: asyncio.Event) -> None:
        if self._saying is Event.COMPLETED:  # said a second time it might count twice
            async with self._turn:
                pass
        elif self._saying is Event.STARTED:  # its tracker may list us any moment
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FIRST_ANSWER), self._turn:
                    pass
        unanswered = self._asking
        announcing.cancel()
        await asyncio.gather(announcing, return_exceptions=True)
        schedule = self._schedule
        while schedule.completion_untold:
            patient = self._loop.time() < self._patient_until
            if not (schedule.started or patient):
                break
            wake.clear()
            await self._announce_safely()
            if schedule.completion_untold and schedule.next_at > self._loop.time():
                if schedule.next_at >= self._patient_until:
                    break
                await self._until_due(wake)
        known = schedule.stop()
        self._current = self._current or unanswered
        if known or unanswered is not None:
            await self._announce_safely()
        self.status = "not announced any more"

    async def _run(self, wake: asyncio.Event) -> None:
        while True:
            if self._schedule.next_at > self._loop.time():
                wake.clear()
                await self._until_due(wake)
            else:
                await self._announce_safely()

    async def _until_due(self, wake: asyncio.Event) -> None:
        """Until the next announce is due, or may be."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(self._schedule.next_at):  # `wait_for` may lose a
                await wake.wait()  # cancellation

    async def _announce_safely(self) -> None:
        async with self._turn:
            self._saying = self._schedule.event()
            try:
                await self._announce(self._saying)
            except Exception:
                log.exception("a fault of ours in an announce")
                self.status = _OUR_FAULT
                self._schedule.failed(self._loop.time())
            finally:
                self._saying = self._asking = None

    async def _announce(self, event: Event) -> None:
        """Ask the trackers in order until one answers, those that are added meanwhile too."""
        problem = ""
        patience: list[float] = []
        asked: set[str] = set()
        while rest := [url for url in self._in_order(event) if url not in asked]:
            self._asking = url = rest[0]
            asked.add(url)
            try:
                reply = await self._transport.announce(
                    url, self._request(url, event), trusted=url in self._trusted
                )
            except P2pfsError as error:
                problem = str(error)
                log.warning("announce: %s", problem)
                self._silent.add(url)
                wish = error.retry_in if isinstance(error, RefusedError) else None
                patience.append(0.0 if wish is None else float(wish))
                continue
            except Exception:  # the next tracker may be one that we cope with
                log.exception("a fault of ours in an announce")
                problem = _OUR_FAULT
                self._silent.add(url)
                patience.append(0.0)
                continue
            self._succeeded(url, event, reply)
            if self._more:
                self._schedule.more_trackers(self._loop.time())
                self._more = False
            return
        self.status = problem
        self._schedule.failed(self._loop.time(), min(patience, default=None))

    def _in_order(self, event: Event) -> list[str]:
        urls = self._tiers.in_order()
        if event is Event.STOPPED and self._current in urls:
            return [self._current]
        if self._switched is not None and self._current is not None:
            urls.sort(key=lambda url: url != self._current)
        return urls

    def _request(self, url: str, event: Event) -> AnnounceRequest:
        uploaded, downloaded, left = self._totals()
        if event is Event.NONE and self._switched is not None and self._current != url:
            event = Event.STARTED  # nothing was ever told there
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
        if self._switched is not None and self._current not in (None, url):
            self._switched()
        self._current = url
        self._tiers.succeeded(url)
        returned = self._is_back(url, reply.tracker_id)
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
            if returned:
                self._returned()

    def _is_back(self, url: str, tracker_id: bytes | None) -> bool:
        """Whether the tracker was away since it answered last, by all that can be told."""
        back = url in self._silent
        self._silent.discard(url)
        if tracker_id is not None and len(tracker_id) <= MAX_TRACKER_ID:
            known = self._tracker_ids.get(url)
            back = back or (known is not None and known != tracker_id)
            self._tracker_ids[url] = tracker_id
        return back


def _some(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
