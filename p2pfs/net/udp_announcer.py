"""Asks UDP trackers (BEP 15): announces and scrapes, sent again when nothing comes back.

Invariant: an answer counts only from the address that was asked, with the transaction id
and the action of what was asked; everything else is as if it had not come. What a URL says
leaves this machine only after the other end has answered as a UDP tracker does.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from p2pfs.errors import FormatError, NetworkError
from p2pfs.formats import announce_udp as udp
from p2pfs.formats.announce_http import AnnounceReply, AnnounceRequest
from p2pfs.formats.scrape_http import ScrapeEntry
from p2pfs.geometry import TorrentId
from p2pfs.net.addresses import resolve
from p2pfs.net.both_families import BOTH, ask_each, first_of_each, merged

__all__ = ["UdpAnnouncer", "waits"]

FIRST_WAIT: Final = 15.0
"""Seconds until a question is sent again; they double each time."""
PATIENCE: Final = 20.0
"""Seconds after which a tracker is given up at the most: a question and its repetition. Other
trackers may be waiting for their turn; whoever announces comes back by itself."""
SHORT_PATIENCE: Final = 5.0
"""The same for a tracker that did not answer the last time."""
_MAX_DOUBLINGS: Final = 8
_ID_SECONDS: Final = 60.0
_MAX_KEPT: Final = 256

Address: TypeAlias = tuple[str, int]
Encode: TypeAlias = Callable[[bytes, bytes], bytes]
"""Connection id and transaction id -> a question."""


@dataclass(frozen=True, slots=True)
class _Target:
    """What the URL of a UDP tracker says; `rest` is what follows the port."""

    host: str | None
    port: int | None
    rest: str

    @property
    def path(self) -> str:
        """What is asked for there, for the rules about addresses: without a path, announces."""
        return self.rest if self.rest.strip("/") else "/announce"


def waits() -> Iterator[float]:
    """Seconds to wait for an answer before a question is sent again, for ever (BEP 15)."""
    return (FIRST_WAIT * 2 ** min(sent, _MAX_DOUBLINGS) for sent in itertools.count())


class UdpAnnouncer:
    """Keeps the connection ids that trackers gave out, and who did not answer.

    `local` says whether trackers named by torrents may be in private networks, `families`
    by which address families we are reached.
    """

    def __init__(self, *, local: bool = True, families: Collection[int] = BOTH) -> None:
        self._local = local
        self._families = families
        self._ids: dict[Address, tuple[bytes, float]] = {}
        """By address: the id, and until when it may be used."""
        self._silent: dict[tuple[str | None, int | None], None] = {}

    async def announce(
        self, url: str, request: AnnounceRequest, *, trusted: bool, seconds: float
    ) -> AnnounceReply:
        """What the tracker says, a refusal as `failure`; by IPv4 and IPv6 where it has both.

        Gives up after `seconds` or `PATIENCE`; after `SHORT_PATIENCE` if it did not answer
        the last time. Raises `NetworkError`, and `FormatError` for nonsense.
        """
        target = _parse(url)
        rest = target.rest.encode()

        def encode(connection_id: bytes, transaction: bytes) -> bytes:
            return udp.encode_announce(connection_id, transaction, request, rest)

        async def ask(address: Address) -> AnnounceReply:
            reply = await self._ask(address, udp.Action.ANNOUNCE, encode)
            failure = _refusal(reply)
            if failure is not None:
                return AnnounceReply(failure=failure)
            return udp.parse_announce_reply(reply, 16 if ":" in address[0] else 4)

        async with self._patience(target, seconds):
            replies = await ask_each(ask, await self._addresses(target, trusted))
        return merged(replies)

    async def scrape(
        self, url: str, torrents: Sequence[TorrentId], *, trusted: bool, seconds: float
    ) -> dict[TorrentId, ScrapeEntry]:
        """The counts of `torrents`; what the tracker does not know has zeros. Raises as above."""
        target = _parse(url)
        found: dict[TorrentId, ScrapeEntry] = {}
        async with self._patience(target, seconds):
            addresses = await self._addresses(target, trusted)
            for start in range(0, len(torrents), udp.MAX_SCRAPE):
                part = torrents[start : start + udp.MAX_SCRAPE]
                replies = await ask_each(partial(self._counts, part), addresses, grace=0.0)
                found |= zip(part, replies[0], strict=True)
        return found

    async def _counts(self, torrents: Sequence[TorrentId], address: Address) -> list[ScrapeEntry]:
        def encode(connection_id: bytes, transaction: bytes) -> bytes:
            return udp.encode_scrape(connection_id, transaction, torrents)

        reply = await self._ask(address, udp.Action.SCRAPE, encode)
        failure = _refusal(reply)
        if failure is not None:
            raise FormatError(f"the tracker refused: {ascii(failure)[:200]}")
        return udp.parse_scrape_reply(reply, len(torrents))

    async def _addresses(self, target: _Target, trusted: bool) -> list[Address]:
        """One address of each family that the tracker and we have."""
        found = await resolve(
            target.host,
            target.port,
            path=target.path,
            trusted=trusted,
            local=self._local,
            kind=socket.SOCK_DGRAM,
        )
        first = first_of_each(found, self._families)
        return [(host, target.port or 0) for host in first.values()]

    @contextlib.asynccontextmanager
    async def _patience(self, target: _Target, seconds: float) -> AsyncIterator[None]:
        """`NetworkError` when the block takes too long; whoever was silent before has less time."""
        key = (target.host, target.port)
        seconds = min(seconds, SHORT_PATIENCE if key in self._silent else PATIENCE)
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError:
            self._silent[key] = None
            _bound(self._silent)
            raise NetworkError(f"no answer within {seconds:g} s") from None
        self._silent.pop(key, None)

    async def _ask(self, address: Address, action: udp.Action, encode: Encode) -> bytes:
        """The answer to one question, which is sent again and again (BEP 15).

        A repeated question has the same transaction id, so that a late answer is welcome,
        and a new connection id, in case the old one was the reason for the silence.
        """
        transaction, connecting = os.urandom(4), os.urandom(4)
        async with _line_to(address) as line:
            for wait in waits():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        kept = self._kept_id(address)
                        if kept is not None:
                            reply = await line.ask(encode(kept, transaction), transaction, action)
                            if _refusal(reply) is None:
                                return reply  # else it may be the id that is refused
                        fresh = await self._connect(line, address, connecting)
                        return await line.ask(encode(fresh, transaction), transaction, action)
                self._ids.pop(address, None)
        raise AssertionError

    def _kept_id(self, address: Address) -> bytes | None:
        connection_id, until = self._ids.get(address, (b"", 0.0))
        return connection_id if asyncio.get_running_loop().time() < until else None

    async def _connect(self, line: _Line, address: Address, transaction: bytes) -> bytes:
        reply = await line.ask(udp.encode_connect(transaction), transaction, udp.Action.CONNECT)
        failure = _refusal(reply)
        if failure is not None:
            raise FormatError(f"no connection id but {ascii(failure)[:200]}")
        connection_id = udp.parse_connect_reply(reply)
        self._ids.pop(address, None)
        self._ids[address] = (connection_id, asyncio.get_running_loop().time() + _ID_SECONDS)
        _bound(self._ids)
        return connection_id


class _Line(asyncio.DatagramProtocol):
    """A socket connected to one address: the system drops what comes from any other."""

    def __init__(self) -> None:
        self.transport: asyncio.DatagramTransport | None = None
        self._waiting: asyncio.Future[bytes] | None = None
        self._wanted: tuple[int, bytes] = (0, b"")

    def datagram_received(self, data: bytes, source: object) -> None:
        if self._waiting is None or self._waiting.done():
            return
        with contextlib.suppress(FormatError):
            action, transaction = udp.parse_reply_header(data)
            wanted, expected = self._wanted
            if transaction == expected and action in (wanted, udp.Action.ERROR):
                self._waiting.set_result(data)

    def error_received(self, error: Exception) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)

    async def ask(self, question: bytes, transaction: bytes, action: udp.Action) -> bytes:
        """The answer, however long it takes; raises `OSError` when nobody is there."""
        assert self.transport is not None
        self._waiting = asyncio.get_running_loop().create_future()
        self._wanted = (action, transaction)
        self.transport.sendto(question)
        return await self._waiting


@contextlib.asynccontextmanager
async def _line_to(address: Address) -> AsyncIterator[_Line]:
    loop = asyncio.get_running_loop()
    transport, line = await loop.create_datagram_endpoint(_Line, remote_addr=address)
    line.transport = transport
    try:
        yield line
    finally:
        transport.close()


def _parse(url: str) -> _Target:
    try:
        parts = urlsplit(url)
        rest = f"{parts.path}?{parts.query}" if parts.query else parts.path
        return _Target(parts.hostname, parts.port, rest)
    except ValueError:
        raise NetworkError("the URL names no host that can be used") from None


def _refusal(reply: bytes) -> str | None:
    """What the tracker says, if it refuses."""
    if udp.parse_reply_header(reply)[0] != udp.Action.ERROR:
        return None
    return udp.parse_error(reply) or "no reason given"


def _bound(kept: dict[Any, Any]) -> None:
    """Forget the oldest of more than enough."""
    if len(kept) > _MAX_KEPT:
        del kept[next(iter(kept))]
