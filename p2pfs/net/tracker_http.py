"""The tracker as people run it: announces, scrapes and the index on one HTTP port, and the
announces and scrapes over UDP under the same number.

Invariant: `/announce` and `/scrape` never wait for anything: they are answered in the
step of the event loop in which they arrive, ahead of every other route. Whatever is wrong
with an announce, the answer is a `failure reason` that a client can show (BEP 3).
"""

from __future__ import annotations

import os
import random
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from p2pfs.errors import ListenError, P2pfsError, UsageError
from p2pfs.formats.announce_http import encode_failure, encode_reply, parse_query
from p2pfs.formats.scrape_http import encode_scrape, parse_scrape_query
from p2pfs.net.asgi_server import AsgiServer, Receive, Scope, Send
from p2pfs.net.catalogue_http import CatalogueRoutes
from p2pfs.net.datagrams import DatagramServer
from p2pfs.net.http_front import Quick
from p2pfs.net.http_reply import header, send_json, send_reply
from p2pfs.net.index_keeping import IndexKeeper
from p2pfs.net.listener import (
    UdpPortError,
    addresses_of,
    bind_both,
    bind_port,
    is_any_address,
    listen_error,
)
from p2pfs.net.node_http import NodeRoutes
from p2pfs.net.own_address import address_for
from p2pfs.net.request_guard import RequestGuard
from p2pfs.net.routing import Router
from p2pfs.net.tracker_udp import UdpTracker, drop_nonsense, kept_secret
from p2pfs.net.workers import Workers
from p2pfs.tracker.catalogue import Catalogue
from p2pfs.tracker.last_known import LastKnown
from p2pfs.tracker.peer_store import MemoryPeerStore
from p2pfs.tracker.presence import Presence
from p2pfs.tracker.service import DEFAULT_INTERVAL, TrackerService, lifetime_for

__all__ = ["DEFAULT_PORT", "TrackerServer"]

DEFAULT_PORT = 9999
_WORKERS = 8
"""Threads for the catalogue: what they publish at the same time shares one commit."""


class TrackerServer:
    """A tracker with its index: the catalogue of what is shared, and the nodes that share it.

    `host` empty, `0.0.0.0` or `::` listens on both address families, any other address
    only on itself; `port` 0 takes any free one. `interval` and `min_interval` are seconds.
    The catalogue lives in `data_dir`, together with the last known counts and nodes, or in
    memory. `closed` refuses torrents that the catalogue does not have. `advertise` is the
    IP address under which peers on this machine are reached from elsewhere, if the tracker
    should not find out by itself. With `publish_token` only its holders may publish,
    withdraw and register nodes. `allow_hosts` are names by which the index is asked, beside
    its addresses and the names of its machine and local network. Without `udp` it is HTTP
    alone.
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
        publish_token: str | None = None,
        allow_hosts: Sequence[str] = (),
        udp: bool = True,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        if not 0 <= port <= 65535:
            raise UsageError(f"port {port} is outside 0..65535")
        self._host = host
        self._port = port
        self._clock = clock
        names = [*allow_hosts, advertise] if advertise else allow_hosts
        guard = RequestGuard(names=names, token=publish_token, clock=clock)
        lifetime = lifetime_for(interval)
        self.catalogue = Catalogue(Path(data_dir) / "catalogue.sqlite" if data_dir else None)
        self.store = MemoryPeerStore(lifetime, rng=rng)
        self.service = TrackerService(
            self.store,
            interval=interval,
            min_interval=min_interval,
            allowed=self.catalogue.__contains__ if closed else None,
            advertise=[advertise] if advertise else [],
            tracker_id=os.urandom(8).hex().encode(),
        )
        last_known = LastKnown(self.catalogue.database, lifetime, clock()) if data_dir else None
        self.presence = Presence(self.store, self.catalogue.__contains__, last_known, clock())
        self._workers = Workers(_WORKERS)
        self._keeper = IndexKeeper(self.store, self.presence, self._workers, clock)
        self._router = Router(guard)
        CatalogueRoutes(self.catalogue, self.presence, guard, self._workers).enter(self._router)
        NodeRoutes(
            self.catalogue, self.presence, self.service, guard, self._workers, clock=clock
        ).enter(self._router)
        self._plain = {
            "/announce": self._announce,
            "/scrape": self._scrape,
            "/health": self._health,
        }
        self._server: AsgiServer | None = None
        secret = kept_secret(Path(data_dir) if data_dir else None)
        self._udp = UdpTracker(self.service, secret, clock=clock) if udp else None
        self._datagrams: DatagramServer | None = None
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

    @property
    def udp_url(self) -> str | None:
        """The same for announces over UDP, if they are answered."""
        return None if self._udp is None else self.url.replace("http:", "udp:", 1)

    async def start(self) -> None:
        """Listen and answer. Raises `ListenError` when the port is taken."""
        sockets, beside = self._bind()
        self.addresses = addresses_of(sockets)
        quick = {b"/announce": self._announced, b"/scrape": self._scraped}
        self._server = AsgiServer(self._answer, sockets, quick)
        if self._udp is not None:
            drop_nonsense(beside)
            self._datagrams = DatagramServer(self._udp.answer, beside)
            await self._datagrams.start()
        await self._server.start()
        self._keeper.start()

    def _bind(self) -> tuple[list[socket.socket], list[socket.socket]]:
        """Sockets for HTTP, and for UDP if it is wanted."""
        try:
            if self._udp is None:
                return bind_port(self._host, self._port), []
            return bind_both(self._host, self._port)
        except UdpPortError as error:
            what = f"the tracker cannot listen on UDP port {self._port}"
            refused = listen_error(what, self._host, error, "-d", "--host")
            raise ListenError(f"{refused}, or leave UDP out with --no-udp") from error
        except (OSError, ValueError) as error:
            what = f"the tracker cannot listen on port {self._port}"
            raise listen_error(what, self._host, error, "-d", "--host") from error

    async def close(self) -> None:
        """Stop listening, finish what is under way, save what is known, close the catalogue."""
        if self._datagrams is not None:
            await self._datagrams.close()
            self._datagrams = None
        if self._server is not None:
            await self._server.close()
            self._server = None
        await self._keeper.close()
        await self._workers.close()
        self.catalogue.close()

    async def __aenter__(self) -> TrackerServer:
        await self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    @property
    def routes(self) -> set[tuple[str, str]]:
        """Every method and path that is answered here."""
        return {("GET", path) for path in self._plain} | self._router.routes

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        plain = self._plain.get(path)
        if plain is not None:
            await plain(scope, send)
        elif path.startswith(("/torrents", "/nodes")):
            await self._router(scope, receive, send)
        else:
            await send_reply(send, _HINT, status=404)

    async def _quickly(self, answer: Quick, what: bytes, scope: Scope, send: Send) -> None:
        if scope["method"] != "GET":
            text = b"%b are GET requests\n" % what
            await send_reply(send, text, status=405, headers=_GET_ONLY)
            return
        body = answer(scope["query_string"], scope["client"][0], header(scope, b"host"))
        await send_reply(send, body)

    async def _announce(self, scope: Scope, send: Send) -> None:
        await self._quickly(self._announced, b"announces", scope, send)

    async def _scrape(self, scope: Scope, send: Send) -> None:
        await self._quickly(self._scraped, b"scrapes", scope, send)

    def _announced(self, query: bytes, source: str, host: bytes) -> bytes:
        try:
            request = parse_query(query, source)
            reply = self.service.announce(
                request, source, self._clock(), partial(address_for, host, source)
            )
            return encode_reply(reply)
        except P2pfsError as error:
            return encode_failure(str(error))

    def _scraped(self, query: bytes, source: str, host: bytes) -> bytes:
        try:
            return encode_scrape(self.service.scrape(parse_scrape_query(query)))
        except P2pfsError as error:
            return encode_failure(str(error))

    async def _health(self, scope: Scope, send: Send) -> None:
        from p2pfs import __version__

        if scope["method"] not in ("GET", "HEAD"):
            await send_json(send, {"error": "health is asked with GET"}, status=405)
            return
        await send_json(
            send,
            {
                "status": "ok",
                "version": __version__,
                "peers": self.store.peer_count,
                "torrents": self.store.torrent_count,
                "catalogue": len(self.catalogue),
                "nodes": len(self.presence.leases),
            },
        )


_HINT = b"this is a p2pfs index: /announce, /scrape, /torrents, /nodes and /health are here\n"
_GET_ONLY = [(b"allow", b"GET")]
