"""An index among pages, guessers and names that mean harm: nothing runs, nothing leaks out."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from p2pfs.net.tracker_http import TrackerServer
from tests.support.metainfo import torrent
from tests.support.rawhttp import ask

KEY = "0123456789abcdef" * 2
TOKEN = "Authorization: Bearer secret-token\r\n"
REGISTRATION = json.dumps({"key": KEY, "port": 5000, "torrents": []}).encode()
CHANGES = [
    ("POST", "/torrents", torrent("a")),
    ("DELETE", "/torrents/kept", b""),
    ("PUT", "/nodes/1", REGISTRATION),
    ("POST", "/nodes/1/renew", b""),
    ("DELETE", "/nodes/1", b""),
]
READS = ["/torrents", "/torrents?all=1", "/torrents/kept.torrent", "/nodes", "/nodes/1"]
NASTY = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</title><script>",
    "a\u202egpj.exe",
    "\u0085\u009b2Jx",
    "{{7*7}}${jndi:x}",
    "'; DROP TABLE torrents; --",
    "%3Cscript%3E",
]


@pytest.fixture
async def tracker() -> AsyncIterator[TrackerServer]:
    async with TrackerServer("127.0.0.1", 0, publish_token="secret-token") as server:
        server.catalogue.publish(torrent("kept"), 0)
        yield server


@pytest.mark.parametrize("path", READS)
async def test_a_page_that_rebound_its_name_to_us_reads_nothing(
    tracker: TrackerServer, path: str
) -> None:
    status, _, body = await ask(tracker.port, path, headers="Host: attacker.example.com\r\n")

    assert status == 421
    assert list(json.loads(body)) == ["error"]


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
async def test_a_page_of_another_site_changes_nothing_even_with_the_token(
    tracker: TrackerServer, method: str, path: str, body: bytes
) -> None:
    headers = TOKEN + "Origin: http://attacker.example.com\r\n"

    status, _, _ = await ask(tracker.port, path, method=method, body=body, headers=headers)

    assert status == 403
    assert (len(tracker.catalogue), len(tracker.presence.leases)) == (1, 0)


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
async def test_nothing_is_changed_without_the_token(
    tracker: TrackerServer, method: str, path: str, body: bytes
) -> None:
    statuses = [
        (await ask(tracker.port, path, method=method, body=body, headers=headers))[0]
        for headers in ("", TOKEN.replace("secret", "guess"))
    ]

    assert statuses == [401, 401]
    assert (len(tracker.catalogue), len(tracker.presence.leases)) == (1, 0)


async def test_a_thousand_wrong_tokens_are_told_to_wait(tracker: TrackerServer) -> None:
    statuses = []
    for number in range(1000):
        headers = f"Authorization: Bearer guess-{number}\r\n"
        statuses.append((await ask(tracker.port, "/torrents", method="POST", headers=headers))[0])

    assert statuses == [401] * 20 + [429] * 980
    _, head, _ = await ask(tracker.port, "/torrents", method="POST", headers=TOKEN)
    assert b"retry-after: " in head
    assert (await ask(tracker.port, "/torrents?all=1"))[0] == 200


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize(
    "path",
    [
        "/torrents/..%2f..%2f..%2fetc%2fpasswd",
        "/torrents/../../etc/passwd",
        "/torrents/%2e%2e/%2e%2e/etc/passwd.torrent",
        "/torrents/..%5c..%5cwindows",
        "/torrents/%00",
        "/nodes/..%2f1",
        "/nodes/%1b%5b2J",
    ],
)
async def test_a_path_that_climbs_finds_nothing(
    tracker: TrackerServer, method: str, path: str
) -> None:
    status, _, body = await ask(tracker.port, path, method=method, headers=TOKEN)

    assert status == 404
    assert json.loads(body)["error"].isprintable()


@pytest.mark.parametrize("name", NASTY)
async def test_a_nasty_name_comes_back_as_escaped_data_and_nothing_else(
    tracker: TrackerServer, name: str
) -> None:
    published = await ask(
        tracker.port, "/torrents", method="POST", body=torrent(name), headers=TOKEN
    )
    listed = await ask(tracker.port, "/torrents?all=1")
    both = torrent(name, 1)
    await ask(tracker.port, "/torrents", method="POST", body=both, headers=TOKEN)
    quoted = "".join(f"%{byte:02x}" for byte in name.encode())
    ambiguous = await ask(tracker.port, f"/torrents/{quoted}")
    unknown = await ask(tracker.port, f"/torrents/{quoted}x")

    assert [one[0] for one in (published, listed, ambiguous, unknown)] == [201, 200, 409, 404]
    assert json.loads(published[2])["name"] == name
    assert name in [one["name"] for one in json.loads(listed[2])["torrents"]]
    for _, head, body in (published, listed, ambiguous, unknown):
        assert b"content-type: application/json" in head
        assert b"x-content-type-options: nosniff" in head
        assert b"<" not in body
        assert all(32 <= byte < 127 for byte in body)


@pytest.mark.parametrize("name", ["../up", "a/../../b", "\x1b[2J", "a\nb", "..", "/etc/passwd"])
async def test_a_name_that_leads_astray_is_not_published(tracker: TrackerServer, name: str) -> None:
    data = torrent("x" * len(name.encode())).replace(b"x" * len(name.encode()), name.encode())

    status, _, body = await ask(tracker.port, "/torrents", method="POST", body=data, headers=TOKEN)

    assert status == 400
    assert json.loads(body)["error"].isprintable()
    assert len(tracker.catalogue) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b"[" * 100_000,
        b'{"key": 5}',
        b"\xff\xfe",
        json.dumps({"key": KEY, "port": 0, "torrents": []}).encode(),
        json.dumps({"key": KEY, "port": 65536, "torrents": []}).encode(),
        json.dumps({"key": KEY, "port": True, "torrents": []}).encode(),
        json.dumps({"key": KEY, "port": "5000", "torrents": []}).encode(),
        b'{"key": "%s", "port": 1e999, "torrents": []}' % KEY.encode(),
        b'{"key": "%s", "port": %s, "torrents": []}' % (KEY.encode(), b"9" * 5000),
        json.dumps({"key": KEY, "port": 5000, "torrents": "0" * 40}).encode(),
        json.dumps({"key": KEY, "port": 5000, "torrents": ["0" * 39]}).encode(),
        json.dumps({"key": KEY, "port": 5000, "torrents": [None]}).encode(),
        json.dumps({"key": "\ud800", "port": 5000, "torrents": []}).encode(),
        json.dumps({"key": "<b>", "port": 5000, "torrents": []}).encode(),
    ],
)
async def test_a_registration_that_is_none_is_refused(tracker: TrackerServer, body: bytes) -> None:
    status, _, answer = await ask(tracker.port, "/nodes/1", method="PUT", body=body, headers=TOKEN)

    assert status == 400
    assert json.loads(answer)["error"]
    assert len(tracker.presence.leases) == 0
