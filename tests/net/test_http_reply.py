"""Bodies of requests are bounded in size and in time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from p2pfs.errors import FormatError
from p2pfs.net.asgi_server import Message, Receive
from p2pfs.net.http_reply import header, read_body, send_json


def coming(*parts: bytes, then: Sequence[Message] = ()) -> Receive:
    messages: list[Message] = [
        {"type": "http.request", "body": part, "more_body": number < len(parts) - 1}
        for number, part in enumerate(parts)
    ]
    messages += then

    async def receive() -> Message:
        if messages:
            return messages.pop(0)
        await asyncio.sleep(60)
        raise AssertionError

    return receive


async def test_a_body_in_parts_is_put_together() -> None:
    assert await read_body(coming(b"ab", b"", b"c"), 3, 5) == b"abc"


async def test_a_body_beyond_the_limit_is_refused_before_it_is_all_there() -> None:
    with pytest.raises(FormatError, match="larger than 3"):
        await read_body(coming(b"ab", b"cd", b"never read"), 3, 5)


async def test_a_body_that_does_not_come_is_given_up() -> None:
    with pytest.raises(FormatError, match=r"within 0\.01 s"):
        await read_body(coming(), 3, 0.01)


async def test_a_client_that_leaves_is_noticed() -> None:
    with pytest.raises(FormatError, match="went away"):
        await read_body(coming(then=[{"type": "http.disconnect"}]), 3, 5)


def test_headers_are_found_by_name() -> None:
    scope = {"headers": [(b"host", b"a"), (b"host", b"b")]}

    assert header(scope, b"host") == b"a"
    assert header(scope, b"origin") == b""


async def test_json_is_sent_as_plain_ascii() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await send_json(send, {"name": "\u00fc\x1b"}, status=404)

    assert sent[0]["status"] == 404
    assert sent[1]["body"] == b'{"name": "\\u00fc\\u001b"}'
