"""docs/openapi.json tells what the running server does: every route, every answer."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from jsonschema import Draft202012Validator

from p2pfs.formats.announce_http import AnnounceRequest, encode_query, parse_reply
from p2pfs.formats.scrape_http import encode_scrape_query, parse_scrape
from p2pfs.geometry import PeerId, TorrentId
from p2pfs.net import catalogue_http, node_http
from p2pfs.net.tracker_http import TrackerServer
from p2pfs.tracker import catalogue, leases
from tests.support.metainfo import torrent
from tests.support.rawhttp import ask

DOCUMENT = json.loads((Path(__file__).parents[2] / "docs/openapi.json").read_text())
METHODS = ("get", "put", "post", "delete", "head", "options", "patch", "trace")
KEY = "0123456789abcdef" * 2
PROOF = f"P2pfs-Node: 1\r\nP2pfs-Node-Key: {KEY}\r\n"
WRONG_PROOF = PROOF.replace(KEY, "f" * 32)
TOKEN = "Authorization: Bearer open-sesame\r\n"
REBOUND = "Host: attacker.example.com\r\n"


def operations() -> dict[tuple[str, str], Any]:
    return {
        (method.upper(), path): operation
        for path, item in DOCUMENT["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    }


def registration(*torrents: str, key: str = KEY) -> bytes:
    return json.dumps({"key": key, "port": 5000, "torrents": torrents}).encode()


class Api:
    """Calls operations by their path in the document, and holds the answers against it."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, str, str]] = set()
        self.port = 0

    async def __call__(
        self,
        status: int,
        method: str,
        path: str,
        *,
        body: bytes = b"",
        headers: str = "",
        **use: str,
    ) -> Any:
        target = re.sub(r"\{(\w+)\}", lambda match: quote(use[match[1]], safe=""), path)
        target += f"?{use['query']}" if "query" in use else ""
        answered, head, data = await ask(
            self.port, target, method=method, body=body, headers=headers
        )
        assert answered == status, data
        self.seen.add((method, path, str(status)))
        response = operations()[method, path]["responses"][str(status)]
        [(kind, content)] = response["content"].items()
        assert f"content-type: {kind}".encode() in head.lower()
        if kind != "application/json":
            return data
        value = json.loads(data)
        schema = content["schema"] | {"components": DOCUMENT["components"]}
        Draft202012Validator(schema).validate(value)
        return value


@pytest.fixture
async def tracker() -> AsyncIterator[TrackerServer]:
    async with TrackerServer("127.0.0.1", 0) as server:
        yield server


def test_every_route_of_the_server_is_in_the_document_and_no_other() -> None:
    tracker = TrackerServer("127.0.0.1", 0)

    assert tracker.routes == set(operations())


def test_the_schemas_of_the_document_are_schemas() -> None:
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    for name in re.findall(r'"#/components/schemas/(\w+)"', json.dumps(DOCUMENT)):
        assert name in DOCUMENT["components"]["schemas"]
    assert len({one["operationId"] for one in operations().values()}) == len(operations())


async def test_every_answer_of_every_operation_is_as_the_document_says(
    tracker: TrackerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = Api()
    api.port = tracker.port
    await use_the_catalogue(api)
    await use_nodes(api)
    await use_swarms(api)
    await be_refused_for_the_host(api)
    await fill_up(api, monkeypatch)
    async with TrackerServer("127.0.0.1", 0, publish_token="open-sesame") as guarded:
        api.port = guarded.port
        await be_refused_for_the_token(api)

    documented = {
        (*operation, status)
        for operation, details in operations().items()
        for status in details["responses"]
    }
    assert api.seen == documented


async def use_the_catalogue(api: Api) -> None:
    entry = await api(201, "POST", "/torrents", body=torrent("a"), headers=PROOF)
    assert await api(200, "POST", "/torrents", body=torrent("a"), headers=PROOF) == entry
    await api(400, "POST", "/torrents", body=b"junk")
    await api(403, "POST", "/torrents", body=torrent("b"), headers="Origin: http://there\r\n")
    assert (await api(200, "GET", "/torrents"))["torrents"] == []
    assert (await api(200, "GET", "/torrents", query="all=1&pattern=A*"))["torrents"] == [entry]
    await api(400, "GET", "/torrents", query="limit=many")
    assert await api(200, "GET", "/torrents/{name}", name="a.torrent") == torrent("a")
    assert "a" in (await api(404, "GET", "/torrents/{name}", name="aa"))["near"]
    other = await api(201, "POST", "/torrents", body=torrent("a", 1))
    await api(409, "GET", "/torrents/{name}", name="a")
    await api(409, "DELETE", "/torrents/{name}", name="a")
    await api(403, "DELETE", "/torrents/{name}", name=entry["info_hash"])
    await api(404, "DELETE", "/torrents/{name}", name="nothing")
    await api(400, "DELETE", "/torrents/{name}", name="a", headers="P2pfs-Node: 1\r\n")
    pinned = f"a@{other['info_hash'][:8]}"
    assert await api(200, "DELETE", "/torrents/{name}", name=pinned) == other


async def use_nodes(api: Api) -> None:
    here = (await api(200, "GET", "/torrents", query="all=1"))["torrents"][0]["info_hash"]
    body = registration(here, "0" * 40)
    registered = await api(201, "PUT", "/nodes/{id}", id="1", body=body)
    assert registered["unknown"] == ["0" * 40]
    await api(200, "PUT", "/nodes/{id}", id="1", body=body)
    await api(409, "PUT", "/nodes/{id}", id="1", body=registration(key="f" * 32))
    await api(400, "PUT", "/nodes/{id}", id="1", body=b"{}")
    await api(403, "PUT", "/nodes/{id}", id="1", body=body, headers="Origin: null\r\n")
    await api(403, "POST", "/torrents", body=torrent("c"), headers=WRONG_PROOF)
    await api(200, "POST", "/nodes/{id}/renew", id="1", headers=PROOF)
    await api(403, "POST", "/nodes/{id}/renew", id="1", headers=WRONG_PROOF)
    await api(400, "POST", "/nodes/{id}/renew", id="1", headers="P2pfs-Node: 1\r\n")
    await api(404, "POST", "/nodes/{id}/renew", id="2", headers=PROOF.replace(": 1", ": 2"))
    assert [one["files"] for one in (await api(200, "GET", "/nodes"))["nodes"]] == [2]
    assert len((await api(200, "GET", "/nodes/{id}", id="1"))["torrents"]) == 1
    await api(404, "GET", "/nodes/{id}", id="2")
    assert (await api(200, "GET", "/torrents"))["torrents"][0]["live"]
    await api(403, "DELETE", "/nodes/{id}", id="1", headers=WRONG_PROOF)
    await api(400, "DELETE", "/nodes/{id}", id="1", headers="P2pfs-Node: 1\r\n")
    await api(200, "DELETE", "/nodes/{id}", id="1", headers=PROOF)
    await api(404, "DELETE", "/nodes/{id}", id="1", headers=PROOF)


async def use_swarms(api: Api) -> None:
    one = TorrentId(b"t" * 20)
    request = AnnounceRequest(one, PeerId(b"p" * 20), 5000, left=0)
    parameters = {each["name"] for each in operations()["GET", "/announce"]["parameters"]}
    assert set(re.findall(r"(?:^|&)(\w+)=", encode_query(request))) <= parameters
    reply = parse_reply(await api(200, "GET", "/announce", query=encode_query(request)))
    assert reply.complete == 1
    scraped = parse_scrape(await api(200, "GET", "/scrape", query=encode_scrape_query([one])))
    assert scraped[one].complete == 1
    assert (await api(200, "GET", "/health"))["peers"] == 1


async def be_refused_for_the_host(api: Api) -> None:
    for (method, path), operation in operations().items():
        if "421" in operation["responses"]:
            await api(421, method, path, id="1", name="a", headers=REBOUND)


async def be_refused_for_the_token(api: Api) -> None:
    changes = [one for one, operation in operations().items() if "401" in operation["responses"]]
    for method, path in changes:
        await api(401, method, path, id="1", name="a")
    await api(201, "PUT", "/nodes/{id}", id="1", body=registration(), headers=TOKEN)
    await api(200, "DELETE", "/nodes/{id}", id="1", headers=TOKEN)
    for _ in range(20):
        await api(401, "POST", "/torrents", headers=TOKEN.replace("open", "close"))
    for method, path in changes:
        await api(429, method, path, id="1", name="a", headers=TOKEN)


async def fill_up(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "MAX_ENTRIES", 1)
    monkeypatch.setattr(leases, "MAX_TORRENTS", 0)
    await api(503, "POST", "/torrents", body=torrent("one more"))
    await api(503, "PUT", "/nodes/{id}", id="1", body=registration("0" * 40))
    limits = catalogue_http.METAINFO_LIMITS
    smaller = type(limits)(1000, limits.max_depth, limits.max_tokens)
    monkeypatch.setattr(catalogue_http, "METAINFO_LIMITS", smaller)
    monkeypatch.setattr(node_http, "_MAX_BODY", 1000)
    await api(413, "POST", "/torrents", body=b"x" * 1001)
    await api(413, "PUT", "/nodes/{id}", id="1", body=b"x" * 1001)
