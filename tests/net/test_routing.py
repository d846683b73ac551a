"""Requests find their handlers, and errors become answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from p2pfs.errors import CatalogueError, FormatError
from p2pfs.net.asgi_server import Message, Scope
from p2pfs.net.http_reply import Reply, TooLarge, json_reply
from p2pfs.net.routing import Refused, Request, Router


async def admit(scope: Scope) -> None:
    if scope.get("stranger"):
        raise Refused(421, "who?", headers=[(b"x-why", b"so")])


async def show(request: Request) -> Reply:
    return json_reply({"argument": request.argument, **request.query("a", "b")})


def made() -> Router:
    router = Router(admit)
    router.add("/things", GET=show, POST=show)
    router.add("/things/{name}", GET=show)
    router.add("/nodes/{id}/renew", POST=show)
    router.add("/nodes/{id}", PUT=show)
    return router


async def ask(
    router: Router, method: str, path: str, query: str = "", **more: object
) -> tuple[int, Any, dict[bytes, bytes]]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError

    scope = {"method": method, "raw_path": path.encode(), "query_string": query.encode(), **more}
    await router(scope, receive, send)
    start, body = sent
    return start["status"], json.loads(body["body"]), dict(start["headers"])


@pytest.mark.parametrize(
    ("method", "path", "argument"),
    [
        ("GET", "/things", ""),
        ("HEAD", "/things", ""),
        ("GET", "/things/", ""),
        ("GET", "/things/a/b%2Fc", "a/b%2Fc"),
        ("GET", "/things/..%2f..%2fx", "..%2f..%2fx"),
        ("PUT", "/nodes/1", "1"),
        ("POST", "/nodes/1/renew", "1"),
    ],
)
async def test_a_request_finds_its_handler(method: str, path: str, argument: str) -> None:
    assert (await ask(made(), method, path))[:2] == (200, {"argument": argument})


@pytest.mark.parametrize("path", ["/", "/thing", "/thingsx", "/nodes", "/nodes/1/2", "//things"])
async def test_other_paths_are_not_there(path: str) -> None:
    status, answer, _ = await ask(made(), "GET", path)

    assert status == 404
    assert "/torrents" in answer["error"]


async def test_another_method_is_told_which_ones_there_are() -> None:
    status, answer, headers = await ask(made(), "DELETE", "/things")

    assert (status, headers[b"allow"]) == (405, b"GET, POST")
    assert "DELETE" in answer["error"]


async def test_who_is_not_admitted_is_answered_all_the_same() -> None:
    status, answer, headers = await ask(made(), "GET", "/things", stranger=True)

    assert (status, answer, headers[b"x-why"]) == (421, {"error": "who?"}, b"so")


@pytest.mark.parametrize(
    ("error", "status", "more"),
    [
        (FormatError("bad"), 400, {}),
        (TooLarge("bad"), 413, {}),
        (CatalogueError("bad"), 503, {}),
        (Refused(409, "bad", candidates=[1]), 409, {"candidates": [1]}),
    ],
)
async def test_what_goes_wrong_on_purpose_is_told(
    error: Exception, status: int, more: dict[str, object]
) -> None:
    async def fail(request: Request) -> Reply:
        raise error

    router = Router(admit)
    router.add("/fail", GET=fail)

    assert (await ask(router, "GET", "/fail"))[:2] == (status, {"error": "bad"} | more)


async def test_parameters_that_are_known_are_read_and_others_are_not() -> None:
    _, answer, _ = await ask(made(), "GET", "/things", "a=%C3%A4+1&a=2&c=3&b=")

    assert answer == {"argument": "", "a": "ä 1"}


async def test_very_many_parameters_are_refused() -> None:
    assert (await ask(made(), "GET", "/things", "&".join(["x=1"] * 21)))[0] == 400


def test_the_routes_can_be_listed() -> None:
    assert made().routes == {
        ("GET", "/things"),
        ("POST", "/things"),
        ("GET", "/things/{name}"),
        ("POST", "/nodes/{id}/renew"),
        ("PUT", "/nodes/{id}"),
    }
