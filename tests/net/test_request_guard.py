"""Who may ask: by host name, by origin, by token, and how often somebody may guess."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from p2pfs.errors import FormatError, UsageError
from p2pfs.net import request_guard
from p2pfs.net.asgi_server import Scope
from p2pfs.net.request_guard import RequestGuard, WrongTokens, sender
from p2pfs.net.routing import Refused
from p2pfs.tracker.rights import ANONYMOUS, node_publisher

KEY = "0123456789abcdef" * 2


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def guard(*names: str, token: str | None = None, clock: Clock | None = None) -> RequestGuard:
    return RequestGuard(names=names, token=token, clock=clock or Clock())


def scope(method: str = "GET", source: str = "10.0.0.9", **headers: str) -> Scope:
    given = {"host": "10.0.0.1:9999"} | headers
    return {
        "method": method,
        "client": (source, 5),
        "headers": [
            (name.replace("_", "-").encode(), value.encode("latin-1"))
            for name, value in given.items()
        ],
    }


async def refusal(asked: RequestGuard, request: Scope) -> Refused | None:
    try:
        await asked(request)
    except Refused as error:
        return error
    return None


@pytest.mark.parametrize(
    "host",
    [
        "10.0.0.1",
        "10.0.0.1:9999",
        "[::1]:9999",
        "[2001:db8::1]",
        "8.8.8.8:1",
        "localhost",
        "LocalHost:9999",
        "classroom-7:9999",
        "printer.local",
        "nas.lan:80",
        "nas.home.arpa",
        "host.docker.internal:9999",
        "app.localhost",
        "Index.Example.org:9999",
        "index.example.org.",
        "",
    ],
)
async def test_names_that_nobody_outside_can_own_are_answered_to(host: str) -> None:
    assert await refusal(guard("index.example.ORG"), scope(host=host)) is None


@pytest.mark.parametrize(
    "host",
    [
        "attacker.example.com",
        "attacker.example.com:9999",
        "10.0.0.1.attacker.com",
        "index.example.org.attacker.com",
        "local.attacker.com",
        "attacker.com:9999:10.0.0.1",
        "attacker.com@10.0.0.1",
        "[attacker.com]",
        "[::1].attacker.com",
        "a.b/10.0.0.1",
        "\x1b[2J.evil",
    ],
)
async def test_any_other_name_is_refused_with_what_to_do(host: str) -> None:
    error = await refusal(guard("index.example.org"), scope(host=host))

    assert error is not None
    assert error.status == 421
    assert "--allow-host" in str(error)
    assert str(error).isprintable()


async def test_the_names_of_the_machine_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "room7")
    monkeypatch.setattr(socket, "getfqdn", lambda: "Room7.school.example")
    request_guard._looked_up.cache_clear()

    assert await refusal(guard(), scope(host="room7.school.example:9999")) is None
    assert await refusal(guard(), scope(host="room8.school.example:9999")) is not None
    request_guard._looked_up.cache_clear()


async def test_a_name_server_that_is_silent_does_not_hold_up_the_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, answered = threading.Event(), threading.Event()

    def look_up() -> str:
        asked.set()
        answered.wait(10)
        return "late.example"

    monkeypatch.setattr(socket, "getfqdn", look_up)
    monkeypatch.setattr(request_guard, "_NAME_SECONDS", 0.01)
    request_guard._looked_up.cache_clear()
    errors = await asyncio.gather(
        *(refusal(guard(), scope(host="late.example")) for _ in range(20))
    )
    lookups = [one for one in threading.enumerate() if one.name == "own names"]
    answered.set()
    for one in lookups:
        one.join(10)

    assert asked.is_set()
    assert len(lookups) == 1
    assert {error.status for error in errors if error} == {421}
    assert await refusal(guard(), scope(host="late.example")) is None
    request_guard._looked_up.cache_clear()


@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ({}, True),
        ({"origin": "http://10.0.0.1:9999"}, True),
        ({"origin": "http://10.0.0.1"}, False),
        ({"origin": "http://attacker.example.com"}, False),
        ({"origin": "null"}, False),
        ({"sec_fetch_site": "cross-site"}, False),
        ({"sec_fetch_site": "same-site"}, False),
        ({"sec_fetch_site": "same-origin"}, True),
        ({"sec_fetch_site": "none"}, True),
    ],
)
async def test_pages_of_other_sites_read_what_they_can_and_change_nothing(
    headers: dict[str, str], passes: bool
) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        error = await refusal(guard(), scope(method, **headers))
        assert (error is None) == passes
        assert error is None or error.status == 403
    assert await refusal(guard(), scope("GET", **headers)) is None


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ("", 401),
        ("Bearer ", 401),
        ("Basic secret-token", 401),
        ("secret-token", 401),
        ("Bearer secret-toke", 401),
        ("Bearer secret-token2", 401),
        ("Bearer \xff", 401),
        ("Bearer secret-token", None),
        ("bearer   secret-token ", None),
    ],
)
async def test_changes_take_the_token_where_there_is_one(given: str, status: int | None) -> None:
    asked = guard(token="secret-token")

    error = await refusal(asked, scope("POST", authorization=given))

    assert (error.status if error else None) == status
    if error:
        assert (b"www-authenticate", b"Bearer") in error.headers
    assert await refusal(asked, scope("GET", authorization=given)) is None


@pytest.mark.parametrize("token", ["", " ", "two words", "ümlaut", "x" * 2000, "line\n"])
def test_a_token_that_no_header_can_carry_is_refused(token: str) -> None:
    with pytest.raises(UsageError, match="token"):
        guard(token=token)


async def test_who_guesses_tokens_has_to_wait_and_nobody_else() -> None:
    clock = Clock()
    asked = guard(token="secret-token", clock=clock)
    wrong = scope("POST", authorization="Bearer wrong")
    right = scope("POST", authorization="Bearer secret-token")
    statuses = [error.status for _ in range(1000) if (error := await refusal(asked, wrong))]

    assert statuses == [401] * 20 + [429] * 980
    locked = await refusal(asked, right)
    assert locked is not None
    assert (locked.status, list(locked.headers)) == (429, [(b"retry-after", b"60")])
    other = scope("POST", "10.0.0.10", authorization="Bearer secret-token")
    assert await refusal(asked, other) is None
    clock.now += 60
    assert await refusal(asked, right) is None


async def test_a_missing_token_is_no_guess() -> None:
    asked = guard(token="secret-token")

    for _ in range(100):
        error = await refusal(asked, scope("POST"))
        assert error is not None
        assert error.status == 401


def test_wrong_tokens_are_counted_for_a_while_and_for_so_many_addresses() -> None:
    wrong = WrongTokens()
    for second in range(19):
        wrong.add("192.0.2.1", second)
    assert wrong.wait("192.0.2.1", 19.0) == 0
    wrong.add("192.0.2.1", 59.0)
    assert wrong.wait("192.0.2.1", 59.5) == 0.5
    assert wrong.wait("192.0.2.1", 60.0) == 0
    wrong.add("192.0.2.1", 61.0)
    assert wrong.wait("192.0.2.1", 61.0) == 0
    for number in range(10_000):
        wrong.add(f"10.{number >> 8}.{number & 255}.1", 61.0)
    assert len(wrong._wrong) == 4096


def test_a_network_of_ipv6_counts_as_one_address() -> None:
    wrong = WrongTokens()
    for number in range(20):
        wrong.add(f"2001:db8::{number:x}", 0.0)

    assert wrong.wait("2001:db8::ffff", 1.0) > 0
    assert wrong.wait("2001:db8:0:1::1", 1.0) == 0
    assert wrong.wait("::ffff:10.0.0.1", 1.0) == 0


def test_a_node_says_and_proves_who_it_is() -> None:
    assert sender(scope()) == ANONYMOUS
    assert sender(scope(p2pfs_node="1", p2pfs_node_key=KEY)) == node_publisher("1", KEY)
    for half in ({"p2pfs_node": "1"}, {"p2pfs_node_key": KEY}, {"p2pfs_node": "a/b"}):
        with pytest.raises(FormatError):
            sender(scope(**half))
