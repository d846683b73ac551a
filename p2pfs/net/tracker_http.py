"""The tracker as people run it: announces, scrapes and the catalogue on one HTTP port.

Invariant: `/announce` and `/scrape` never wait for anything: they are answered in the
step of the event loop in which they arrive, ahead of every other route. Whatever is wrong
with an announce, the answer is a `failure reason` that a client can show (BEP 3).
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import random
import socket
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from p2pfs.errors import P2pfsError, UsageError
from p2pfs.formats.announce_http import encode_failure, encode_reply, parse_query
from p2pfs.formats.scrape_http import encode_scrape, parse_scrape_query
from p2pfs.net.asgi_server import AsgiServer, Receive, Scope, Send
from p2pfs.net.catalogue_http import CatalogueRoutes
from p2pfs.net.http_reply import header, send_json, send_reply
from p2pfs.net.listener import addresses_of, bind_port, is_any_address, listen_error
from p2pfs.tracker.catalogue import Catalogue
from p2pfs.tracker.peer_store import MemoryPeerStore
from p2pfs.tracker.service import DEFAULT_INTERVAL, TrackerService, lifetime_for

__all__ = ["DEFAULT_PORT", "TrackerServer"]

DEFAULT_PORT = 9999
_SWEEP_EVERY = 1.0
_SWEEP_BUDGET = 20_000
"""Rows looked at in one sweep: about a millisecond."""


class TrackerServer:
    """A tracker with its catalogue.

    `host` empty, `0.0.0.0` or `::` listens on both address families, any other address
    only on itself; `port` 0 takes any free one. `interval` and `min_interval` are seconds.
    The catalogue lives in `data_dir`, or in memory. `closed` refuses torrents that the
    catalogue does not have. `advertise` is the IP address under which peers on this
    machine are reached from elsewhere, if the tracker should not find out by itself.
    Raises `UsageError` for values out of range, `CatalogueError` when `data_dir` cannot
    be used.
    """

    def __init__(
        self,
        host: str = "",
        port: int = DEFAULT_PORT,
        *,
        interval: int = DEFAULT_INTERVAL,
        min_interval: int | None = None,
        data_dir: Path | str | None = None,
        closed: bool = False,
        advertise: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        if not 0 <= port <= 65535:
            raise UsageError(f"port {port} is outside 0..65535")
        self._host = host
        self._port = port
        self._clock = clock
        self.catalogue = Catalogue(Path(data_dir) / "catalogue.sqlite" if data_dir else None)
        self.store = MemoryPeerStore(lifetime_for(interval), rng=rng)
        self.service = TrackerService(
            self.store,
            interval=interval,
            min_interval=min_interval,
            allowed=self.catalogue.__contains__ if closed else None,
            advertise=[advertise] if advertise else [],
        )
        self._routes = CatalogueRoutes(self.catalogue, self.service.scrape)
        self._server: AsgiServer | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self.addresses: list[tuple[str, int]] = []

    @property
    def port(self) -> int:
        """The port listened on; 0 before `start`."""
        return self.addresses[0][1] if self.addresses else 0

    @property
    def url(self) -> str:
        """An announce address that works on this machine."""
        host = self.addresses[0][0] if self.addresses else self._host
        if is_any_address(host):
            host = "127.0.0.1"
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/announce"

    async def start(self) -> None:
        """Listen and answer. Raises `ListenError` when the port is taken."""
        try:
            sockets = bind_port(self._host, self._port)
        except (OSError, ValueError) as error:
            what = f"the tracker cannot listen on port {self._port}"
            raise listen_error(what, self._host, error, "-d", "--host") from error
        self.addresses = addresses_of(sockets)
        self._server = AsgiServer(self._answer, sockets)
        await self._server.start()
        self._sweeper = asyncio.create_task(self._sweep())

    async def close(self) -> None:
        """Stop listening, finish what is under way, close the catalogue."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeper
            self._sweeper = None
        if self._server is not None:
            await self._server.close()
            self._server = None
        self.catalogue.close()

    async def __aenter__(self) -> TrackerServer:
        await self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_EVERY)
            self.store.expire(self._clock(), _SWEEP_BUDGET)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path == "/announce":
            await self._announce(scope, send)
        elif path == "/scrape":
            await self._scrape(scope, send)
        elif path == "/torrents" or path.startswith("/torrents/"):
            await self._routes(scope, receive, send)
        elif path == "/health":
            await self._health(send)
        else:
            hint = "this is a p2pfs tracker: /announce, /scrape, /torrents and /health are here\n"
            await send_reply(send, hint.encode(), status=404)

    async def _announce(self, scope: Scope, send: Send) -> None:
        if scope["method"] != "GET":
            await send_reply(send, b"announces are GET requests\n", status=405, headers=_GET_ONLY)
            return
        source = scope["client"][0]

        def reached_at() -> str | None:
            return _own_address(header(scope, b"host"), source)

        try:
            request = parse_query(scope["query_string"], source)
            reply = self.service.announce(request, source, self._clock(), reached_at)
            body = encode_reply(reply)
        except P2pfsError as error:
            body = encode_failure(str(error))
        await send_reply(send, body)

    async def _scrape(self, scope: Scope, send: Send) -> None:
        if scope["method"] != "GET":
            await send_reply(send, b"scrapes are GET requests\n", status=405, headers=_GET_ONLY)
            return
        try:
            body = encode_scrape(self.service.scrape(parse_scrape_query(scope["query_string"])))
        except P2pfsError as error:
            body = encode_failure(str(error))
        await send_reply(send, body)

    async def _health(self, send: Send) -> None:
        from p2pfs import __version__

        await send_json(
            send,
            {
                "status": "ok",
                "version": __version__,
                "peers": self.store.peer_count,
                "torrents": self.store.torrent_count,
                "catalogue": len(self.catalogue),
            },
        )


_GET_ONLY = [(b"allow", b"GET")]


def _own_address(host_header: bytes, source: str) -> str | None:
    """The address of this machine that the asker at `source` can use.

    The one it asked us at, if it named an address; else the one that the system would
    answer it from.
    """
    named = _literal(host_header[:64])
    return named if named is not None else _route_to(source)


@lru_cache(maxsize=1024)
def _literal(host_header: bytes) -> str | None:
    text = host_header.decode("latin-1")
    bare = text[1:].partition("]")[0] if text.startswith("[") else text.partition(":")[0]
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return None
    unusable = address.is_loopback or address.is_unspecified or address.is_multicast
    return None if unusable else str(address)


@lru_cache(maxsize=1024)
def _route_to(source: str) -> str | None:
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((source, 9))  # UDP: picks a source address and sends nothing
            return str(probe.getsockname()[0])
    except OSError:
        return None
