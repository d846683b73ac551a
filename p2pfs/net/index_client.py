"""The index from the outside: list, fetch and publish by name, and hold a node's lease there.

Invariant: what is fetched under a name or info hash has that name or hash, and every error
says which index was asked, what came of it and what to do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeGuard
from urllib.parse import quote

from p2pfs.errors import CatalogueError, FormatError, NetworkError, TrackerError, UsageError
from p2pfs.formats import metainfo
from p2pfs.formats.bencode import METAINFO_LIMITS
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
]

_SECONDS = 30.0
_UPLOAD_SECONDS = 60.0
_LEASE_SECONDS = 8.0
"""For renewing and leaving: a lease is renewed every 10 s and ends after 30."""
_MAX_JSON = 16 * 1024 * 1024
_PAGE = 500
_MAX_LISTED = 100_000
_MAX_NAME = 8192
TORRENT_TYPE = "application/x-bittorrent"

_HASH = re.compile(r"[0-9a-fA-F]{40}")
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


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of the catalogue: `size` in bytes, `published` in seconds since 1970.

    `name` is as the index has it, and may hold what does not print: show it through
    `printable`. `live`: somebody has it now; `unconfirmed`: nobody was heard of since the
    index was started.
    """

    name: str
    size: int
    info_hash: str
    published: int
    seeders: int
    leechers: int
    downloaded: int
    files: int = 1
    live: bool = True
    unconfirmed: bool = False


@dataclass(frozen=True, slots=True)
class Registered:
    """A lease of `lease` seconds, to be renewed every `renew_every`.

    `unknown` are the info hashes that the index has no .torrent of.
    """

    lease: float
    renew_every: float
    unknown: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A registered node; `since` in seconds since 1970, `files` how many it seeds."""

    id: str
    host: str
    port: int
    files: int
    since: int
    unconfirmed: bool = False


Listing: TypeAlias = list[Listed]
Nodes: TypeAlias = list[NodeInfo]


def base_url(host: str, port: int) -> str:
    """Where the index on `host` answers; IPv6 addresses get their brackets."""
    bare = host.strip("[]")
    return f"http://{f'[{bare}]' if ':' in bare else bare}:{port}"


class IndexClient:
    """Asks the index at the URL `base`; `token` allows to publish where that is restricted.

    `node` is the id of a node with its secret key (what publishes and registers as this
    node), `advice` what to do when nothing answers at `base`. Inside `async with`,
    connections are kept for the requests that follow; outside each request has its own.
    Every method raises `TrackerError` when the index is not there and `CatalogueError`
    when it refuses. Raises `UsageError` for a token or id that cannot be one.
    """

    def __init__(
        self,
        base: str,
        *,
        token: str | None = None,
        node: tuple[str, str] | None = None,
        advice: str = "check host (-i) and port (-d), and that the index runs there",
    ) -> None:
        if token is not None and not _TOKEN.fullmatch(token):
            raise UsageError("the token has characters other than letters, digits and signs")
        if node is not None and not _NODE_ID.fullmatch(node[0]):
            raise UsageError(f"{printable(node[0], 80)!r} cannot be the id of a node")
        self.base = base.rstrip("/")
        self._node = node
        self._advice = advice
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

    @property
    def where(self) -> str:
        """What to call the index in messages."""
        return f"the index at {printable(self.base.partition('://')[2] or self.base, 100)}"

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
        offset = 0
        while offset < _MAX_LISTED:
            path = f"/torrents?offset={offset}&limit={_PAGE}{query}"
            answer = await self._request("GET", path)
            if answer.status != 200:
                raise self._refused("does not list its torrents", answer)
            page = self._rows(self._json(answer), "torrents")
            for entry in page:
                one = self._listed(entry)
                found[one.info_hash] = one
            offset += len(page)
            if len(page) < _PAGE:
                break
        return list(found.values())

    async def fetch(self, wanted: str) -> bytes:
        """The metainfo file called `wanted`: a name, NAME@HASH or an info hash.

        Raises `UnknownError` when the index does not have it, `AmbiguousError` when the
        name means several things.
        """
        answer = await self._request("GET", f"/torrents/{quote(wanted, safe='')}.torrent")
        if answer.status != 200:
            raise self._refused(None, answer)
        shown = printable(wanted)
        try:
            torrent = metainfo.parse(answer.body)
        except FormatError as error:
            raise CatalogueError(
                f"{self.where} sent something for {shown!r} that is no torrent: {error}"
            ) from None
        if not _is_meant(torrent, wanted):
            raise CatalogueError(
                f"{self.where} sent {printable(torrent.shared_name)!r} ({torrent.torrent_id}) "
                f"instead of {shown!r}"
            )
        return answer.body

    async def publish(self, data: bytes) -> Listed:
        """Give a metainfo file to the index; what it made of it.

        The same content again changes nothing. Raises `NotAllowed` where that takes a token.
        """
        answer = await self._request("POST", "/torrents", body=data, kind=TORRENT_TYPE)
        if answer.status not in (200, 201):
            raise self._refused("did not take the torrent", answer)
        return self._listed(self._json(answer))

    async def withdraw(self, wanted: str) -> Listed:
        """Take what is called `wanted` out of the catalogue; what it was.

        Raises as `fetch`, and `NotAllowed` for what others published.
        """
        answer = await self._request("DELETE", f"/torrents/{quote(wanted, safe='')}")
        if answer.status != 200:
            raise self._refused(f"did not withdraw {printable(wanted)!r}", answer)
        return self._listed(self._json(answer))

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
        if answer.status == 409:
            raise NodeTaken(f"{self.where} did not register node {node_id}: {_error(answer)}")
        if answer.status not in (200, 201):
            raise self._refused(f"did not register node {node_id}", answer)
        value = self._json(answer)
        lease, every = value.get("lease"), value.get("renew_every")
        unknown = self._rows(value, "unknown")
        if (
            not _is_seconds(lease)
            or not _is_seconds(every)
            or not all(isinstance(one, str) and _HASH.fullmatch(one) for one in unknown)
        ):
            raise self._not_ours()
        return Registered(float(lease), float(every), tuple(one.lower() for one in unknown))

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
        return [self._node_info(one) for one in self._rows(self._json(answer), "nodes")]

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
        seconds: float | None = None,
    ) -> HttpResponse:
        if seconds is None:
            seconds = _SECONDS if body is None else _UPLOAD_SECONDS
        try:
            return await self._http.request(
                method,
                self.base + path,
                trusted=True,
                limit=METAINFO_LIMITS.max_bytes if path.endswith(".torrent") else _MAX_JSON,
                seconds=seconds,
                body=body,
                content_type=kind,
                headers=None if method == "GET" else self._rights,
            )
        except NetworkError as error:
            raise TrackerError(f"cannot reach {self.where}: {error}; {self._advice}") from error

    def _json(self, answer: HttpResponse) -> Mapping[str, Any]:
        value = _object(answer)
        if value is None:
            raise self._not_ours()
        return value

    def _rows(self, value: Mapping[str, Any], name: str) -> Sequence[Any]:
        rows = value.get(name)
        if not isinstance(rows, list):
            raise self._not_ours()
        return rows

    def _refused(self, what: str | None, answer: HttpResponse) -> CatalogueError:
        """The error for an answer that is not what was asked for."""
        text = f"{self.where}{f' {what}' if what else ''}: {_error(answer)}"
        value = _object(answer) or {}
        if answer.status == 404 and "near" in value:
            near = [one for one in self._rows(value, "near") if isinstance(one, str)]
            return UnknownError(text, near)
        if answer.status == 409 and "candidates" in value:
            found = [one for one in self._rows(value, "candidates") if isinstance(one, dict)]
            return AmbiguousError(text, [self._listed(one) for one in found])
        if answer.status in (401, 403, 429):
            return NotAllowed(text)
        return CatalogueError(text)

    def _listed(self, entry: object) -> Listed:
        numbers = ("size", "published", "seeders", "leechers", "downloaded")
        if (
            not isinstance(entry, dict)
            or not all(isinstance(entry.get(name), str) for name in ("name", "info_hash"))
            or not all(type(entry.get(name)) is int for name in numbers)
            or len(entry["name"]) > _MAX_NAME
            or not _HASH.fullmatch(entry["info_hash"])
        ):
            raise self._not_ours()
        return Listed(
            name=entry["name"],
            info_hash=entry["info_hash"].lower(),
            **{name: entry[name] for name in numbers},
        )

    def _node_info(self, entry: object) -> NodeInfo:
        kinds = {
            "id": str,
            "host": str,
            "port": int,
            "files": int,
            "since": int,
            "unconfirmed": bool,
        }
        if not isinstance(entry, dict) or not all(
            type(entry.get(name)) is kind for name, kind in kinds.items()
        ):
            raise self._not_ours()
        values = {name: entry[name] for name in kinds}
        values |= {"id": printable(entry["id"], 64), "host": printable(entry["host"], 64)}
        return NodeInfo(**values)

    def _not_ours(self) -> TrackerError:
        return TrackerError(
            f"{self.where} answers, but not as a p2pfs index does; check host (-i) and port (-d)"
        )


def _is_meant(torrent: metainfo.Metainfo, wanted: str) -> bool:
    """Whether somebody who asked for `wanted` may get this."""
    names = (torrent.shared_name, torrent.name)
    if wanted in names or wanted in [f"{name}.torrent" for name in names]:
        return True
    own = str(torrent.torrent_id)
    pinned = _PINNED.fullmatch(wanted)
    if pinned and pinned[1] in names:
        return own.startswith(pinned[2].lower())
    return wanted.lower() == own


def _is_seconds(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and 0 < value < 86400


def _object(answer: HttpResponse) -> Mapping[str, Any] | None:
    try:
        value = json.loads(answer.body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _error(answer: HttpResponse) -> str:
    """What the index said was wrong, or its bare status."""
    text = (_object(answer) or {}).get("error")
    if isinstance(text, str):
        return printable(text, 1000)
    return f"HTTP status {answer.status}; is this a p2pfs index?"
