"""A web server with some files, which answers as web servers do or as a test wants it to."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from aiohttp import web

from p2pfs.formats.metainfo import Metainfo
from tests.support.swarm import Sample


@dataclass(frozen=True)
class Asked:
    """A request: its path as it came, and the first and last byte of its range."""

    path: str
    range: tuple[int, int] | None


Treat = Callable[["WebServer", web.Request, bytes], Awaitable[web.StreamResponse]]
"""Answers a request for a file of these bytes."""


class WebServer:
    """Serves `files` (path: bytes) on a free port of `host`, as `treat` does it."""

    def __init__(
        self, files: Mapping[str, bytes], treat: Treat | None = None, *, host: str = "127.0.0.1"
    ) -> None:
        self.host = host
        self.files = dict(files)
        self.asked: list[Asked] = []
        self.connections: set[Any] = set()
        self.port = 0
        self.treat = treat or in_parts

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}/"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def start(self) -> None:
        """Listen, again on the same port if it was stopped."""
        self._runner = web.ServerRunner(
            web.Server(self._serve, handler_cancellation=True), shutdown_timeout=0.1
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Be gone, and every connection with it."""
        for transport in self.connections:
            transport.abort()
        await self._runner.cleanup()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        assert request.method == "GET"
        self.asked.append(Asked(request.raw_path, range_of(request)))
        self.connections.add(request.transport)
        data = self.files.get(request.path.removeprefix("/"))
        if data is None:
            return web.Response(status=404, text="not here")
        return await self.treat(self, request, data)  # type: ignore[arg-type]

    def paths(self) -> list[str]:
        """What was asked for, each path once, in order."""
        return list(dict.fromkeys(asked.path for asked in self.asked))

    def bytes_asked(self) -> int:
        """The sum of the ranges that were asked for."""
        return sum(last - first + 1 for first, last in filter(None, (a.range for a in self.asked)))


def range_of(request: web.BaseRequest) -> tuple[int, int] | None:
    match = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("Range", ""))
    return None if match is None else (int(match[1]), int(match[2]))


async def in_parts(server: WebServer, request: web.Request, data: bytes) -> web.StreamResponse:
    """As it should be: 206 with what was asked for."""
    asked = range_of(request)
    if asked is None:
        return web.Response(body=data)
    first, last = asked
    if last >= len(data):
        return web.Response(status=416, headers={"Content-Range": f"bytes */{len(data)}"})
    return web.Response(
        status=206,
        body=data[first : last + 1],
        headers={"Content-Range": f"bytes {first}-{last}/{len(data)}"},
    )


def partly(
    request: web.Request, data: bytes, *, headers: dict[str, str] | None = None
) -> web.StreamResponse:
    """The head of a right answer, whose body is up to the caller."""
    first, last = range_of(request) or (0, len(data) - 1)
    found = {"Content-Range": f"bytes {first}-{last}/{len(data)}"}
    return web.StreamResponse(status=206, headers={**found, **(headers or {})})


async def as_a_whole(server: WebServer, request: web.Request, data: bytes) -> web.StreamResponse:
    """Ranges are not heeded."""
    return web.Response(body=data)


def with_seeds(sample: Sample, *urls: str) -> Sample:
    """The sample, with these web seeds in its metainfo."""
    return replace(sample, metainfo=replace(sample.metainfo, web_seeds=urls))


def served(sample: Sample) -> dict[str, bytes]:
    """The files of a sample as a web seed's address with a slash at its end has them."""
    metainfo: Metainfo = sample.metainfo
    if not metainfo.multi_file:
        return {metainfo.name: sample.content}
    return {
        "/".join((metainfo.name, *entry.path)): sample.path.joinpath(*entry.path).read_bytes()
        for entry in metainfo.files
    }
