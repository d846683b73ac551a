"""The routes of the catalogue: every request has an answer, and none of them hurts."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from p2pfs.net.tracker_http import TrackerServer
from tests.support.metainfo import torrent
from tests.support.rawhttp import ask


@pytest.fixture
async def tracker() -> AsyncIterator[TrackerServer]:
    async with TrackerServer("127.0.0.1", 0) as server:
        yield server


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/torrents/", 200),
        ("HEAD", "/torrents", 200),
        ("GET", "/torrents?offset=x", 400),
        ("GET", "/torrents?limit=-1", 400),
        ("GET", "/torrents?limit=99999999999", 400),
        ("GET", "/torrents?offset=5&limit=0", 200),
        ("DELETE", "/torrents", 405),
        ("POST", "/torrents/name", 405),
        ("POST", "/torrents", 400),
        ("PUT", "/torrents", 405),
        ("GET", "/torrents/..%2f..%2fetc%2fpasswd", 404),
        ("GET", "/torrents/%ff%00.torrent", 404),
        ("GET", "/torrents/" + "x" * 5000, 404),
    ],
)
async def test_every_request_has_an_answer(
    tracker: TrackerServer, method: str, path: str, status: int
) -> None:
    answered, head, body = await ask(tracker.port, path, method=method)

    assert answered == status
    assert b"content-type: application/json" in head
    assert method == "HEAD" or isinstance(json.loads(body), dict)


async def test_pages_of_other_sites_cannot_publish(tracker: TrackerServer) -> None:
    status, _, body = await ask(
        tracker.port,
        "/torrents",
        method="POST",
        body=torrent("a"),
        headers="Host: here:1\r\nOrigin: http://there:1\r\n",
    )

    assert status == 403
    assert b"other sites" in body
    assert len(tracker.catalogue) == 0


async def test_a_torrent_is_sent_as_a_download_with_a_harmless_header(
    tracker: TrackerServer,
) -> None:
    entry, _ = tracker.catalogue.publish(torrent('a"b\u202e.html'), 0)

    _, head, _ = await ask(tracker.port, f"/torrents/{entry.torrent_id}")

    assert b"content-type: application/x-bittorrent" in head
    assert b"filename*=UTF-8''a%22b" in head
    assert b"nosniff" in head


async def test_a_new_torrent_is_created_and_an_old_one_is_known(tracker: TrackerServer) -> None:
    first = await ask(tracker.port, "/torrents", method="POST", body=torrent("a"))
    again = await ask(tracker.port, "/torrents", method="POST", body=torrent("a"))

    assert (first[0], again[0]) == (201, 200)
    assert json.loads(first[2])["name"] == "a"
