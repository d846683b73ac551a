"""Small whole replies to HTTP requests, and bounded bodies of requests (ASGI).

Invariant: a reply carries its length and a type that no browser guesses at, and the body
of a request is never larger or slower in coming than the caller allowed.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from p2pfs.errors import FormatError

if TYPE_CHECKING:
    from p2pfs.net.asgi_server import Receive, Scope, Send

__all__ = [
    "Reply",
    "TooLarge",
    "header",
    "json_reply",
    "long_json_reply",
    "plain_reply",
    "read_body",
    "send_json",
    "send_reply",
]

_GUARD = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]
_PLAIN = b"text/plain; charset=utf-8"
_PLAIN_HEAD = b"".join(
    [
        b"HTTP/1.1 200 OK\r\n",
        *(b"%b: %b\r\n" % field for field in [(b"content-type", _PLAIN), *_GUARD]),
    ]
)
_KEPT = _PLAIN_HEAD + b"content-length: %d\r\n\r\n%b"
_LAST = _PLAIN_HEAD + b"connection: close\r\ncontent-length: %d\r\n\r\n%b"


class TooLarge(FormatError):
    """The body of a request is larger than what is taken."""


class Reply(NamedTuple):
    """A whole reply; `kind` is its content type."""

    body: bytes
    status: int = 200
    kind: bytes = b"application/json"
    headers: Sequence[tuple[bytes, bytes]] = ()


def plain_reply(body: bytes, keep: bool) -> bytes:
    """What `send_reply` sends, as one piece; `keep` says that the connection stays open."""
    return (_KEPT if keep else _LAST) % (len(body), body)


def json_reply(
    value: object, status: int = 200, headers: Sequence[tuple[bytes, bytes]] = ()
) -> Reply:
    """`value` as JSON: plain ASCII without a `<`, so that nothing can take it for a page."""
    return Reply(json.dumps(value).replace("<", "\\u003c").encode(), status, headers=headers)


def long_json_reply(value: Mapping[str, object], name: str, rows: Sequence[object]) -> Reply:
    """`value` with `rows` under `name` as `json_reply` makes it, for very many rows.

    They are encoded one by one: other threads get their turn in between.
    """
    head = json_reply(value).body[:-1]
    body = b", ".join([json_reply(row).body for row in rows])
    return Reply(b"%b, %b: [%b]}" % (head, json.dumps(name).encode(), body))


async def send_reply(
    send: Send,
    body: bytes,
    *,
    status: int = 200,
    kind: bytes = _PLAIN,
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> None:
    """Send one whole reply; `kind` is its content type."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", kind),
                (b"content-length", b"%d" % len(body)),
                *_GUARD,
                *headers,
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def send_json(send: Send, value: object, *, status: int = 200) -> None:
    """Send `value` as `json_reply` makes it."""
    reply = json_reply(value, status)
    await send_reply(send, reply.body, status=status, kind=reply.kind)


def header(scope: Scope, name: bytes) -> bytes:
    """The first header called `name` (lower case), empty without one."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return b""


async def read_body(receive: Receive, limit: int, seconds: float) -> bytes:
    """The body of a request; `TooLarge` beyond `limit` bytes, `FormatError` beyond `seconds`."""
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise FormatError("the client went away in the middle of its request")
                part = message.get("body", b"")
                size += len(part)
                if size > limit:
                    raise TooLarge(f"the body is larger than {limit} bytes")
                parts.append(part)
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        raise FormatError(f"the body did not arrive within {seconds:g} s") from None
