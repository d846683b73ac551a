"""Fetches over HTTP what one torrent asks of its web seeds (BEP 19).

Invariant: nothing is asked of an address that a URL from outside may not name; bytes are
taken no faster than the limit and the disk allow, and go the way of a peer's; every
connection ends with `close`.
"""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Final, Protocol

from p2pfs.errors import NetworkError
from p2pfs.formats.http_range import parse_retry_after
from p2pfs.formats.metainfo import Metainfo
from p2pfs.formats.web_seed_urls import file_url, web_seed_name
from p2pfs.net.addresses import LocalAddressError
from p2pfs.net.disk import Disk
from p2pfs.net.http_client import HttpClient, HttpPart
from p2pfs.net.limits import DownLimit
from p2pfs.net.progress import Source
from p2pfs.swarm.transfer import Transfer
from p2pfs.swarm.web_seed import Span, WebSeed
from p2pfs.swarm.web_seeding import Answer, WebSeeding
from p2pfs.swarm.web_spans import Files, Part

__all__ = ["CLIENT", "WebSeeds", "WebSeedsOwner"]

log = logging.getLogger(__name__)

CLIENT: Final = "web seed"
"""What a web seed is called where peers have the name of their program."""

MAX_SEEDS: Final = 20
"""Web seeds of one torrent that are asked; a torrent may name many more."""

SILENCE: Final = 20.0
"""Seconds for which a server may send nothing."""

CHUNK: Final = 256 * 1024
TICK: Final = 1.0
_ZEROS: Final = memoryview(bytes(64 * 1024))


class WebSeedsOwner(Protocol):
    """What web seeds need of the exchange that they give to."""

    @property
    def transfer(self) -> Transfer: ...

    def settle(self) -> None:
        """Carry out what the transfer decided."""
        ...


class WebSeeds:
    """The web seeds of one torrent while it is downloaded.

    `private`: they may be in private networks and on this machine.
    """

    def __init__(
        self,
        owner: WebSeedsOwner,
        metainfo: Metainfo,
        files: Files,
        disk: Disk,
        down_limit: DownLimit,
        rng: random.Random,
        *,
        private: bool,
    ) -> None:
        self.owner = owner
        self.disk = disk
        self.down_limit = down_limit
        self._metainfo = metainfo
        self.trusted = private
        self._loop = asyncio.get_running_loop()
        named = [(url, web_seed_name(url)) for url in metainfo.web_seeds]
        usable = [(url, name) for url, name in named if name is not None]
        rng.shuffle(usable)
        now, pieces = self._loop.time(), metainfo.geometry.piece_count
        self.seeding = WebSeeding(
            owner.transfer,
            metainfo.geometry,
            files,
            {number for number, entry in enumerate(metainfo.files) if entry.padding},
            [WebSeed(url, name, pieces, now) for url, name in usable[:MAX_SEEDS]],
            rng,
        )
        self._files = files
        self._http = HttpClient(local=False)
        self._stack = AsyncExitStack()
        self._opened = False
        self._lines: set[asyncio.Task[None]] = set()
        self._tick_at = now
        self._closed = False

    def look(self) -> None:
        """A few times a second: ask what is to be asked."""
        now = self._loop.time()
        if now >= self._tick_at:
            self._tick_at = now + TICK
            self.seeding.tick(now)
        for seed in self.seeding.seeds:
            while not self._closed and (span := self.seeding.next_span(seed, now)) is not None:
                task = self._loop.create_task(_Line(self, seed).work(span), name="web seed")
                self._lines.add(task)
                task.add_done_callback(self._lines.discard)

    async def close(self) -> None:
        """Ask for nothing any more; what came is still told."""
        self._closed = True
        for task in self._lines:
            task.cancel()
        await asyncio.gather(*self._lines, return_exceptions=True)
        await self._stack.aclose()

    async def http(self) -> HttpClient:
        """The client whose connections are kept until the end."""
        if not self._opened:
            self._opened = True
            await self._stack.enter_async_context(self._http)
        return self._http

    def next_span(self, seed: WebSeed) -> Span | None:
        return None if self._closed else self.seeding.next_span(seed, self._loop.time())

    def url(self, seed: WebSeed, file: int) -> str:
        """Where `seed` has file number `file`."""
        metainfo = self._metainfo
        path = metainfo.files[file].path if metainfo.multi_file else None
        return file_url(seed.url, metainfo.name, path)

    def start_of(self, file: int) -> int:
        """Where the file begins in the content."""
        return self._files.starts[file]

    # -- what is told

    @property
    def total(self) -> int:
        """Bytes of blocks that came."""
        return sum(seed.down.total for seed in self.seeding.seeds)

    def rate(self, now: float) -> float:
        """Bytes a second."""
        return sum(seed.down.rate(now) for seed in self.seeding.seeds)

    @property
    def giving(self) -> int:
        """Those that something is being received from."""
        return sum(1 for seed in self.seeding.seeds if any(span.gained for span in seed.spans))

    def sources(self) -> tuple[Source, ...]:
        """Those that gave something."""
        return tuple(
            Source(address=seed.name, client=CLIENT, bytes_down=seed.down.total, bytes_up=0)
            for seed in self.seeding.seeds
            if seed.down.total
        )

    def problems(self) -> tuple[str, ...]:
        """Why those that give nothing (now) do so."""
        return tuple(
            f"web seed {seed.name}: {seed.problem}" for seed in self.seeding.seeds if seed.problem
        )


class _Line:
    """One connection at a time to one web seed, and one request after the other."""

    def __init__(self, seeds: WebSeeds, seed: WebSeed) -> None:
        self._seeds = seeds
        self._seed = seed
        self._seeding = seeds.seeding
        self._loop = asyncio.get_running_loop()
        self._open = asyncio.Event()

    # -- what the limit tells

    def pause(self) -> None:
        self._open.clear()

    def resume(self) -> None:
        self._open.set()

    async def _allowance(self) -> int:
        """How many bytes may be received now, once some may."""
        limit = self._seeds.down_limit
        while True:
            await self._seeds.disk.calm()
            allowance = limit.allowance()
            if allowance > 0:
                return min(allowance, CHUNK)
            limit.wait(self)
            await self._open.wait()

    # -- the work

    async def work(self, span: Span) -> None:
        """Fetch `span`, and more while there is more to ask for."""
        more: Span | None = span
        while more is not None:
            span = more
            try:
                await self._fetch(span)
            except LocalAddressError as error:
                self._failed(f"{error} (--allow-private-web-seeds changes that)")
            except NetworkError as error:
                self._failed(str(error))
            except Exception:
                log.exception("a fault of ours with web seed %s", self._seed.name)
                self._failed("a fault of ours")
            finally:
                self._seeding.ended(span, self._loop.time())
                self._seeds.owner.settle()
            more = self._seeds.next_span(self._seed)

    def _failed(self, reason: str) -> None:
        log.info("web seed %s: %s", self._seed.name, reason)
        self._seeding.failed(self._seed, reason, self._loop.time())

    async def _fetch(self, span: Span) -> None:
        while (part := self._seeding.next_part(span)) is not None:
            if part.padding:
                wanted = await self._pad(span, part)
            else:
                wanted = await self._ask(span, part)
            if not wanted:
                return

    async def _pad(self, span: Span, part: Part) -> bool:
        place, end = part.place, part.place + part.length
        while place < end:
            zeros = _ZEROS[: end - place]
            if not self._take(span, place, zeros):
                return False
            place += len(zeros)
            await asyncio.sleep(0)
        return True

    async def _ask(self, span: Span, part: Part) -> bool:
        """Fetch a part; whether to go on with the next one."""
        seeds = self._seeds
        http = await seeds.http()
        async with http.part(
            seeds.url(self._seed, part.file),
            trusted=seeds.trusted,
            offset=part.offset,
            length=part.length,
            silence=SILENCE,
        ) as body:
            begin = self._seeding.answered(span, part, _head(body), self._loop.time())
            if begin is None:
                log.info("web seed %s: %s", self._seed.name, self._seed.problem)
                return False
            place = seeds.start_of(part.file) + begin
            end = part.place + part.length
            while place < end:
                data = await body.read(min(await self._allowance(), end - place))
                if not data:
                    raise NetworkError("the file ended early")
                seeds.down_limit.took(len(data), self)
                if not self._take(span, place, memoryview(data)):
                    return False
                place += len(data)
        return True

    def _take(self, span: Span, place: int, data: memoryview) -> bool:
        wanted = self._seeding.received(span, place, data, self._loop.time())
        self._seeds.owner.settle()
        return wanted


def _head(body: HttpPart) -> Answer:
    return Answer(
        body.status,
        body.header("Content-Range"),
        body.length,
        body.header("Content-Encoding"),
        parse_retry_after(body.header("Retry-After"), datetime.now(UTC)),
    )
