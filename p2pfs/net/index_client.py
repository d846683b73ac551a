"""The index from the outside: list, fetch and publish by name, and hold a node's lease there.

Invariant: what is fetched under a name or info hash has that name or hash, and every error
says which index was asked, what came of it and what to do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar
from urllib.parse import quote

from p2pfs.errors import CatalogueError, FormatError, NetworkError, TrackerError, UsageError
from p2pfs.formats import metainfo
from p2pfs.formats.bencode import METAINFO_LIMITS
from p2pfs.formats.index_json import (
    Listed,
    NodeInfo,
    Registered,
    parse_candidates,
    parse_entry,
    parse_lease,
    parse_listing,
    parse_nodes,
    parse_object,
)
from p2pfs.net.http_client import HttpClient, HttpResponse, printable

__all__ = [
    "AmbiguousError",
    "IndexClient",
    "Listed",
    "NodeInfo",
    "NodeTaken",
    "NotAllowed",
    "Registered",
    "UnknownError",
    "base_url",
    "check_token",
]

_SECONDS = 30.0
_UPLOAD_SECONDS = 60.0
_LEASE_SECONDS = 8.0
"""For renewing and leaving: a lease is renewed every 10 s and ends after 30."""
_MAX_JSON = 16 * 1024 * 1024
_PAGE = 500
_MAX_LISTED = 100_000
TORRENT_TYPE = "application/x-bittorrent"

T = TypeVar("T")
Listing: TypeAlias = list[Listed]
Nodes: TypeAlias = list[NodeInfo]
"""In the class below `list` is a method."""

_PINNED = re.compile(r"(?s)(.+)@([0-9a-fA-F]{4,40})")
_NODE_ID = re.compile(r"(?!\.+\Z)[A-Za-z0-9._-]{1,64}")
_TOKEN = re.compile(r"[!-~]{1,1024}")


class UnknownError(CatalogueError):
    """The index has nothing of that name; `near` are names that resemble it."""

    def __init__(self, message: str, near: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.near = tuple(near)


class AmbiguousError(CatalogueError):
    """The name means several contents: `candidates`."""

    def __init__(self, message: str, candidates: Sequence[Listed] = ()) -> None:
        super().__init__(message)
        self.candidates = list(candidates)


class NodeTaken(CatalogueError):
    """Another node that lives, or did a moment ago, is registered with this id."""


class NotAllowed(CatalogueError):
    """The index does not let us do this: no token or a wrong one, or what is another's."""


def base_url(host: str, port: int) -> str:
    """Where the index on `host` answers; IPv6 addresses get their brackets."""
    bare = host.strip("[]")
    return f"http://{f'[{bare}]' if ':' in bare else bare}:{port}"


def check_token(token: str) -> None:
    """Raise `UsageError` unless `token` can be sent: 1 to 1,024 visible ASCII characters."""
    if not _TOKEN.fullmatch(token):
        raise UsageError(
            "a publish token is 1 to 1024 letters, digits and signs without blanks: this one is not"
        )


class IndexClient:
    """Asks the index at the URL `base`; `token` allows to publish where that is restricted.

    `node` is the id of a node with its secret key (what publishes and registers as this
    node), `advice` what to do when nothing answers at `base`; `called` is what the user calls
    it. Inside `async with`, connections are kept for the requests that follow; outside each
    request has its own.
    Every method raises `TrackerError` when the index is not there and `CatalogueError`
    when it refuses. Raises `UsageError` for a token or id that cannot be one.
    """

    def __init__(
        self,
        base: str,
        *,
        token: str | None = None,
        node: tuple[str, str] | None = None,
        called: str = "index",
        advice: str | None = None,
    ) -> None:
        if token is not None:
            check_token(token)
        if node is not None and not _NODE_ID.fullmatch(node[0]):
            raise UsageError(f"{printable(node[0], 80)!r} cannot be the id of a node")
        self.base = base.rstrip("/")
        self._node = node
        self._called = called
        self._advice = advice or f"check host (-i) and port (-d), and that the {called} runs there"
        self._rights: dict[str, str] = {}
        if token is not None:
            self._rights["Authorization"] = f"Bearer {token}"
        if node is not None:
            self._rights |= {"P2pfs-Node": node[0], "P2pfs-Node-Key": node[1]}
        self._http = HttpClient()

    async def __aenter__(self) -> IndexClient:
        await self._http.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._http.__aexit__(*exception)

    def move(self, base: str, advice: str) -> None:
        """The index is at another URL from now on."""
        self.base = base.rstrip("/")
        self._advice = advice

    @property
    def where(self) -> str:
        """What to call it in messages."""
        return f"the {self._called} at {printable(self.base.partition('://')[2] or self.base, 100)}"

    async def reach(self) -> None:
        """Whether anything answers there, whatever it says."""
        await self._request("GET", "/health")

    # -- the catalogue

    async def list(self, pattern: str | None = None, *, everything: bool = False) -> Listing:
        """What is shared now, by name; `everything`: also what nobody has at the moment.

        `pattern` is a glob, or part of a name; case does not count.
        """
        query = "&all=1" if everything else ""
        if pattern is not None:
            query += f"&pattern={quote(pattern, safe='')}"
        found: dict[str, Listed] = {}
        offset, total = 0, 1
        while offset < min(total, _MAX_LISTED):
            path = f"/torrents?offset={offset}&limit={_PAGE}{query}"
            answer = await self._request("GET", path)
            if answer.status != 200:
                raise self._refused("does not list its torrents", answer)
            page, total = self._read(parse_listing, answer.body)
            if not page:
                break
            found |= {one.info_hash: one for one in page}
            offset += len(page)
        return list(found.values())

    async def fetch(self, wanted: str) -> bytes:
        """The metainfo file called `wanted`: a name, NAME@HASH or an info hash.

        Raises `UnknownError` when the index does not have it, `AmbiguousError` when the
        name means several things.
        """
        path = f"/torrents/{quote(wanted, safe='')}.torrent"
        answer = await self._request("GET", path, limit=METAINFO_LIMITS.max_bytes)
        if answer.status != 200:
            raise self._refused(None, answer)
        shown = printable(wanted)
        try:
            torrent = metainfo.parse(answer.body)
        except FormatError as error:
            raise CatalogueError(
                f"{self.where} sent something for '{shown}' that is no torrent: {error}"
            ) from None
        if not _is_meant(torrent, wanted):
            raise CatalogueError(
                f"{self.where} sent '{printable(torrent.shared_name)}' ({torrent.torrent_id}) "
                f"instead of '{shown}'"
            )
        return answer.body

    async def publish(self, data: bytes) -> Listed:
        """Give a metainfo file to the index; what it made of it.

        The same content again changes nothing. Raises `NotAllowed` where that takes a token.
        """
        answer = await self._request(
            "POST", "/torrents", body=data, kind=TORRENT_TYPE, seconds=_UPLOAD_SECONDS
        )
        if answer.status not in (200, 201):
            raise self._refused("did not take the torrent", answer)
        return self._read(parse_entry, answer.body)

    async def withdraw(self, wanted: str) -> Listed:
        """Take what is called `wanted` out of the catalogue; what it was.

        Raises as `fetch`, and `NotAllowed` for what others published.
        """
        answer = await self._request("DELETE", f"/torrents/{quote(wanted, safe='')}")
        if answer.status != 200:
            raise self._refused(f"did not withdraw '{printable(wanted)}'", answer)
        return self._read(parse_entry, answer.body)

    # -- nodes

    async def register(self, port: int, torrents: Sequence[str]) -> Registered:
        """Become the seed of these info hashes, reached at `port`, for as long as renewed.

        Replaces the list given before. Raises `NodeTaken` when somebody else has the id.
        """
        node_id, key = self._own_node()
        body = {"key": key, "port": port, "torrents": list(torrents)}
        answer = await self._request(
            "PUT",
            f"/nodes/{node_id}",
            body=json.dumps(body).encode(),
            kind="application/json",
        )
        if answer.status in (200, 201):
            return self._read(parse_lease, answer.body)
        refused = self._refused(f"did not register node {node_id}", answer)
        raise NodeTaken(str(refused)) if answer.status == 409 else refused

    async def renew(self) -> bool:
        """Say that this node lives; False when the index does not know it: register anew."""
        node_id, _ = self._own_node()
        answer = await self._request(
            "POST", f"/nodes/{node_id}/renew", body=b"", seconds=_LEASE_SECONDS
        )
        if answer.status == 404:
            return False
        if answer.status != 200:
            raise self._refused(f"did not renew node {node_id}", answer)
        return True

    async def unregister(self) -> None:
        """Leave; that the index does not know this node is as good."""
        node_id, _ = self._own_node()
        answer = await self._request("DELETE", f"/nodes/{node_id}", seconds=_LEASE_SECONDS)
        if answer.status not in (200, 404):
            raise self._refused(f"did not unregister node {node_id}", answer)

    async def nodes(self) -> Nodes:
        """The registered nodes."""
        answer = await self._request("GET", "/nodes")
        if answer.status != 200:
            raise self._refused("does not list its nodes", answer)
        return self._read(parse_nodes, answer.body)

    def _own_node(self) -> tuple[str, str]:
        if self._node is None:
            raise UsageError("only a node registers: give its id and key")
        return self._node

    # -- requests and their errors

    async def _request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        kind: str | None = None,
        seconds: float = _SECONDS,
        limit: int = _MAX_JSON,
    ) -> HttpResponse:
        try:
            return await self._http.request(
                method,
                self.base + path,
                trusted=True,
                limit=limit,
                seconds=seconds,
                body=body,
                content_type=kind,
                headers=None if method == "GET" else self._rights,
            )
        except NetworkError as error:
            raise TrackerError(f"cannot reach {self.where}: {error}; {self._advice}") from error

    def _refused(self, what: str | None, answer: HttpResponse) -> CatalogueError:
        """The error for an answer that is not what was asked for."""
        try:
            value = parse_object(answer.body)
        except FormatError:
            value = {}
        text = f"{self.where}{f' {what}' if what else ''}: {_said(value, answer)}"
        if answer.status in (401, 403, 429):
            return NotAllowed(text)
        if answer.status == 404 and isinstance(value.get("near"), list):
            return UnknownError(text, [one for one in value["near"] if isinstance(one, str)])
        if answer.status == 409 and "candidates" in value:
            return AmbiguousError(text, parse_candidates(value))
        return CatalogueError(text)

    def _read(self, parse: Callable[[bytes], T], body: bytes) -> T:
        """`parse(body)`, whose `FormatError` means that this is no index of ours."""
        try:
            return parse(body)
        except FormatError:
            raise TrackerError(
                f"{self.where} answers, but not as a p2pfs index does; {self._advice}"
            ) from None


def _said(value: Mapping[str, Any], answer: HttpResponse) -> str:
    """What the index said was wrong, or its bare status."""
    text = value.get("error")
    if isinstance(text, str):
        return printable(text, 1000)
    return f"HTTP status {answer.status}; is this a p2pfs index?"


def _is_meant(torrent: metainfo.Metainfo, wanted: str) -> bool:
    """Whether somebody who asked for `wanted` may get this; a folder stands for its only file."""
    own = str(torrent.torrent_id)
    pinned = _PINNED.fullmatch(wanted)
    if pinned and own.startswith(pinned[2].lower()) and _is_called(torrent, pinned[1]):
        return True
    name = wanted.removesuffix(".torrent")
    return wanted.lower() == own or _is_called(torrent, wanted) or _is_called(torrent, name)


def _is_called(torrent: metainfo.Metainfo, name: str) -> bool:
    return f"{torrent.shared_name}/".startswith(f"{name}/")
