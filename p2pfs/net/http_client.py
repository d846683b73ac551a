"""HTTP requests that cannot be turned against us (aiohttp underneath).

Invariant: every address is checked before it is connected to, on every redirect again;
a body is never larger than its limit, counted after decompression, or it is read bit by
bit; everything that can go wrong outside ends as a `NetworkError`, or as a status that the
caller looks at.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2pfs.errors import NetworkError
from p2pfs.formats.http_range import byte_range
from p2pfs.formats.reach import Reach, reach_of
from p2pfs.net.addresses import LocalAddressError, resolve

if TYPE_CHECKING:
    import aiohttp
    from yarl import URL

__all__ = ["HttpClient", "HttpPart", "HttpResponse", "printable", "reason_for"]

MAX_REDIRECTS = 5
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_CONNECT_SECONDS = 10.0
_IDLE_SECONDS = 5.0
"""How long a kept connection may be idle: less than servers allow, so that none is closed
just as a request goes out."""
_KEPT_SESSIONS = 8
_RECEIVE_AHEAD = 128 * 1024
"""Bytes of a body that are held before they are read."""
_NOTHING: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A whole answer; `url` is where it finally came from."""

    status: int
    body: bytes
    url: str


def printable(text: str, limit: int = 300) -> str:
    """`text` from outside as it may be shown: one line, no control characters, bounded."""
    shown = "".join(char if char.isprintable() else "?" for char in text[:limit])
    return shown + ("..." if len(text) > limit else "")


class HttpPart:
    """An answer whose body is read bit by bit, no faster than `read` is called."""

    def __init__(self, response: aiohttp.ClientResponse, silence: float) -> None:
        self._response = response
        self._silence = silence

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def length(self) -> int | None:
        """The bytes of the body, if the server says so."""
        return self._response.content_length

    def header(self, name: str) -> str:
        """The value of a header; empty when there is none."""
        return self._response.headers.get(name, "")

    async def read(self, limit: int) -> bytes:
        """Up to `limit` bytes as they come, none at the end. Raises `NetworkError`."""
        with _network_errors(f"nothing came for {self._silence:g} s"):
            async with asyncio.timeout(self._silence):
                return await self._response.content.read(limit)


class HttpClient:
    """Sends requests, each on a connection of its own.

    Inside `async with`, connections are kept for the requests that follow. `local` says
    whether URLs from outside may name trackers in private networks; with `family` only
    addresses of that family are connected to.
    """

    def __init__(self, *, local: bool = True, family: int | None = None) -> None:
        self._local = local
        self._family = family
        self._kept: dict[frozenset[tuple[str, int]], aiohttp.ClientSession] | None = None

    async def __aenter__(self) -> HttpClient:
        self._kept = {}
        return self

    async def __aexit__(self, *exception: object) -> None:
        kept, self._kept = self._kept or {}, None
        for session in kept.values():
            await session.close()

    async def request(
        self,
        method: str,
        url: str,
        *,
        trusted: bool,
        limit: int,
        seconds: float,
        body: bytes | None = None,
        content_type: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> HttpResponse:
        """One request with its redirects; `limit` bytes of answer and `seconds` at most.

        `url` is sent as it stands, so it must be encoded. Only GET follows redirects, and
        what is in `headers` is sent to no other address than `url`. Raises `NetworkError`.
        """
        sent = dict(headers or {})
        if content_type:
            sent["Content-Type"] = content_type
        with _network_errors(f"no complete answer within {seconds:g} s"):
            async with (
                asyncio.timeout(seconds),
                self._answer(
                    method, url, trusted=trusted, encoding="gzip", headers=sent, body=body
                ) as (response, final_url),
            ):
                content = await _read(response, limit)
                return HttpResponse(response.status, content, final_url)

    @contextlib.asynccontextmanager
    async def part(
        self, url: str, *, trusted: bool, offset: int, length: int, silence: float
    ) -> AsyncIterator[HttpPart]:
        """GET `length` bytes of a file from `offset` on, with redirects; its body is still to come.

        For `silence` seconds the server may say nothing. Whether the answer is what was
        asked for is for the caller to see. Raises `NetworkError`.
        """
        asked = {"Range": byte_range(offset, length)}
        async with contextlib.AsyncExitStack() as stack:
            with _network_errors(f"no answer within {silence:g} s"):
                async with asyncio.timeout(silence):
                    response, _ = await stack.enter_async_context(
                        self._answer(
                            "GET", url, trusted=trusted, encoding="identity", everywhere=asked
                        )
                    )
            yield HttpPart(response, silence)

    @contextlib.asynccontextmanager
    async def _answer(
        self,
        method: str,
        url: str,
        *,
        trusted: bool,
        encoding: str,
        everywhere: Mapping[str, str] = _NOTHING,
        headers: Mapping[str, str] = _NOTHING,
        body: bytes | None = None,
    ) -> AsyncIterator[tuple[aiohttp.ClientResponse, str]]:
        """The answer that is no redirect, and its URL.

        `everywhere` goes to every address on the way, `headers` to the first one alone.
        """
        own = {"User-Agent": _user_agent(), "Accept-Encoding": encoding, **everywhere}
        sent = {**own, **headers}
        local = self._local
        target = _url(url)
        for hop in range(MAX_REDIRECTS + 1):
            try:
                addresses = await self._resolve(target, trusted=trusted, local=local)
            except LocalAddressError as error:
                if not hop:
                    raise
                raise NetworkError(f"redirected: {error}") from None
            async with (
                self._session(addresses) as session,
                session.request(
                    method, target, data=body, headers=sent, allow_redirects=False
                ) as response,
            ):
                if method != "GET" or response.status not in _REDIRECTS:
                    yield response, str(target)
                    return
                target = _redirected(target, response.headers.get("Location"))
            sent = own
            if any(reach_of(one) is Reach.GLOBAL for one, _ in addresses):
                trusted = local = False  # nobody outside leads us to what is inside
        raise NetworkError(f"more than {MAX_REDIRECTS} redirects")

    async def addresses(self, url: str, *, trusted: bool) -> list[tuple[str, int]]:
        """Where `url` would be asked: hosts, each with its family. Raises `NetworkError`."""
        return await self._resolve(_url(url), trusted=trusted, local=self._local)

    async def _resolve(self, target: URL, *, trusted: bool, local: bool) -> list[tuple[str, int]]:
        """The addresses that `target` may be asked at, each with its family."""
        if target.scheme not in ("http", "https"):
            scheme = printable(target.scheme)
            raise NetworkError(f"only http and https can be asked, not {scheme!r}")
        found = await resolve(
            target.raw_host, target.port, path=target.raw_path, trusted=trusted, local=local
        )
        if self._family is None:
            return found
        found = [one for one in found if one[1] == self._family]
        if not found:
            raise NetworkError("a redirect that leads to another address family")
        return found

    @contextlib.asynccontextmanager
    async def _session(
        self, addresses: Sequence[tuple[str, int]]
    ) -> AsyncIterator[aiohttp.ClientSession]:
        """The session for these addresses: a kept one, or one for this request alone."""
        kept, key = self._kept, frozenset(addresses)
        if kept is not None and (key in kept or len(kept) < _KEPT_SESSIONS):
            if key not in kept:
                kept[key] = _new_session(addresses, keep=True)
            yield kept[key]
        else:
            async with _new_session(addresses, keep=False) as session:
                yield session


@contextlib.contextmanager
def _network_errors(too_late: str) -> Iterator[None]:
    """Turns what may go wrong outside into `NetworkError`; `too_late` says that time ran out."""
    import aiohttp

    try:
        yield
    except TimeoutError as error:
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            raise NetworkError(f"no connection within {_CONNECT_SECONDS:g} s") from None
        raise NetworkError(too_late) from None
    except (aiohttp.ClientError, OSError, ValueError, zlib.error) as error:
        raise NetworkError(reason_for(error)) from error


def _new_session(addresses: Sequence[tuple[str, int]], *, keep: bool) -> aiohttp.ClientSession:
    import aiohttp

    return aiohttp.ClientSession(
        connector=_connector(addresses, keep),
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(sock_connect=_CONNECT_SECONDS),
        read_bufsize=_RECEIVE_AHEAD,
    )


def _connector(addresses: Sequence[tuple[str, int]], keep: bool) -> aiohttp.TCPConnector:
    """A connector to these addresses and no others, whatever the name means by then."""
    import aiohttp
    from aiohttp.abc import AbstractResolver, ResolveResult

    class Checked(AbstractResolver):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
        ) -> list[ResolveResult]:
            return [
                ResolveResult(
                    hostname=host, host=one, port=port, family=kind, proto=0, flags=_NUMERIC
                )
                for one, kind in addresses
            ]

        async def close(self) -> None:
            pass

    if not keep:
        return aiohttp.TCPConnector(resolver=Checked(), force_close=True, use_dns_cache=False)
    return aiohttp.TCPConnector(
        resolver=Checked(), keepalive_timeout=_IDLE_SECONDS, use_dns_cache=False
    )


_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


def _url(text: str) -> URL:
    """`text` as a URL with a host that can be asked for; raises `NetworkError`."""
    from yarl import URL

    try:
        url = URL(text, encoded=True)
        _ = url.raw_host, url.port  # looked at only when they are asked for
    except ValueError as error:
        raise NetworkError(f"not a URL that can be asked: {printable(str(error))}") from error
    return url


def _redirected(source: URL, location: str | None) -> URL:
    if not location:
        raise NetworkError("a redirect that does not say where to")
    target = source.join(_url(location))
    if source.scheme == "https" and target.scheme != "https":
        raise NetworkError("a redirect from https to plain http is not followed")
    return target


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", "", "gzip", "x-gzip", "deflate"):
        raise NetworkError(f"the answer is packed as {printable(encoding, 40)!r}")
    unpacker = None if encoding in ("identity", "") else zlib.decompressobj(47)
    parts: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        part = chunk if unpacker is None else unpacker.decompress(chunk, limit - size + 1)
        size += len(part)
        if size > limit:
            raise NetworkError(f"the answer is larger than {limit} bytes")
        parts.append(part)
    if unpacker is not None and size and not unpacker.eof:
        raise NetworkError("the answer is cut off")
    return b"".join(parts)


def reason_for(error: Exception) -> str:
    """Why a connection failed, in words."""
    cause = getattr(error, "os_error", error)
    if isinstance(cause, ConnectionRefusedError):
        return "nothing listens there (connection refused)"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    status = getattr(error, "message", "") or str(error) or type(error).__name__
    return printable(str(status))


def _user_agent() -> str:
    from p2pfs import __version__

    return f"p2pfs/{__version__}"
