"""Asks trackers for peers: announces and scrapes as a client sends them.

Invariant: what a tracker does never raises anything but `TrackerError`, and its message
says which tracker was asked, what happened and what can be done about it. Queries are
left out of messages, because they may hold pass keys.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from p2pfs.errors import FormatError, NetworkError, TrackerError
from p2pfs.formats.announce_http import (
    AnnounceReply,
    AnnounceRequest,
    Event,
    encode_query,
    parse_reply,
)
from p2pfs.formats.scrape_http import ScrapeEntry, encode_scrape_query, parse_scrape, scrape_url
from p2pfs.geometry import TorrentId
from p2pfs.net.both_families import BOTH, ask_each, first_of_each, merged
from p2pfs.net.http_client import HttpClient, HttpResponse, printable

if TYPE_CHECKING:
    from p2pfs.net.udp_announcer import UdpAnnouncer

__all__ = ["MAX_REPLY", "AnnounceClient", "RefusedError"]

MAX_REPLY = 1024 * 1024
"""Bytes of a tracker's answer, after decompression."""
_SCRAPED_AT_ONCE = 64
"""Info hashes in one scrape over HTTP: a URL of five kilobytes, which every server takes."""


class RefusedError(TrackerError):
    """The tracker said no (BEP 3); `retry_in` is its wish in seconds, if it has one (BEP 31)."""

    def __init__(self, message: str, retry_in: int | None) -> None:
        super().__init__(message)
        self.retry_in = retry_in


class AnnounceClient:
    """Announces over HTTP, HTTPS and UDP, as the URL of a tracker says.

    `seconds` is the time for one answer. `local` says whether trackers named by torrents
    may be in private networks (then only under /announce), `families` by which address
    families we are reached: a tracker that has both is told by both.
    """

    def __init__(
        self,
        *,
        seconds: float = 30.0,
        stop_seconds: float = 5.0,
        local: bool = True,
        families: Collection[int] = BOTH,
    ) -> None:
        self._seconds = seconds
        self._stop_seconds = stop_seconds
        self._local = local
        self._families = families
        self._http = HttpClient(local=local)
        self._udp: UdpAnnouncer | None = None

    async def announce(
        self, url: str, request: AnnounceRequest, *, trusted: bool = False
    ) -> AnnounceReply:
        """What the tracker at `url` answers; its intervals are passed on as they came.

        `trusted` is for a URL that the user typed. Raises `TrackerError`: `RefusedError`
        when it was the tracker that said no.
        """
        seconds = self._stop_seconds if request.event is Event.STOPPED else self._seconds
        try:
            if _is_udp(url):
                reply = await self._over_udp().announce(
                    url, request, trusted=trusted, seconds=seconds
                )
            else:
                reply = await self._over_http(url, request, trusted, seconds)
        except NetworkError as error:
            raise _no_answer(url, error) from error
        except FormatError as error:
            raise TrackerError(
                f"tracker {_shown(url)} answered something else than a tracker does "
                f"({error}); check host, port and path"
            ) from None
        if reply.failure is not None:
            raise RefusedError(
                f"tracker {_shown(url)} refused: {printable(reply.failure)}", reply.retry_in
            )
        return reply

    async def _over_http(
        self, url: str, request: AnnounceRequest, trusted: bool, seconds: float
    ) -> AnnounceReply:
        """By each family that the tracker and we have."""
        query = encode_query(request)

        async def ask(family: int) -> AnnounceReply:
            client = HttpClient(local=self._local, family=family)
            answer = await self._get(url, query, trusted, seconds, client)
            status = answer.status
            try:
                reply = parse_reply(answer.body)
            except FormatError as error:
                if status == 200:
                    raise
                raise FormatError(f"HTTP status {status}, {error}") from None
            if status != 200 and reply.failure is None:
                raise TrackerError(f"tracker {_shown(url)} answered with HTTP status {status}")
            return reply

        try:
            async with asyncio.timeout(seconds):
                addresses = await self._http.addresses(url, trusted=trusted)
        except TimeoutError:
            raise NetworkError(f"no address within {seconds:g} s") from None
        return merged(await ask_each(ask, list(first_of_each(addresses, self._families))))

    async def scrape(
        self, url: str, torrents: Iterable[TorrentId], *, trusted: bool = False
    ) -> dict[TorrentId, ScrapeEntry]:
        """The counts that the tracker with the announce address `url` knows (BEP 48, 15).

        Over UDP, what it does not know has zeros. Raises `TrackerError`.
        """
        wanted = list(dict.fromkeys(torrents))
        target = url if _is_udp(url) else scrape_url(url)
        if target is None:
            raise TrackerError(f"tracker {_shown(url)} has no scrape address")
        try:
            if _is_udp(url):
                return await self._over_udp().scrape(
                    url, wanted, trusted=trusted, seconds=self._seconds
                )
            found: dict[TorrentId, ScrapeEntry] = {}
            for start in range(0, len(wanted), _SCRAPED_AT_ONCE):
                query = encode_scrape_query(wanted[start : start + _SCRAPED_AT_ONCE])
                answer = await self._get(target, query, trusted, self._seconds, self._http)
                found |= parse_scrape(answer.body)
            return found
        except NetworkError as error:
            raise _no_answer(target, error) from error
        except FormatError as error:
            raise TrackerError(f"cannot scrape {_shown(target)}: {error}") from None

    async def close(self) -> None:
        """Nothing is kept open between announces; here for the day when it is."""

    async def _get(
        self, url: str, query: str, trusted: bool, seconds: float, client: HttpClient
    ) -> HttpResponse:
        base = url.partition("#")[0]
        full = f"{base}{'&' if '?' in base else '?'}{query}"
        return await client.request("GET", full, trusted=trusted, limit=MAX_REPLY, seconds=seconds)

    def _over_udp(self) -> UdpAnnouncer:
        from p2pfs.net.udp_announcer import UdpAnnouncer

        if self._udp is None:
            self._udp = UdpAnnouncer(local=self._local, families=self._families)
        return self._udp


def _is_udp(url: str) -> bool:
    return url[:6].lower() == "udp://"


def _no_answer(url: str, error: NetworkError) -> TrackerError:
    return TrackerError(
        f"tracker {_shown(url)} did not answer: {error}; check that it runs, and its host and port"
    )


def _shown(url: str) -> str:
    head = url.partition("?")[0]
    scheme, mark, rest = head.partition("://")
    return printable(f"{scheme}{mark}{rest.rpartition('@')[2]}", 200)
