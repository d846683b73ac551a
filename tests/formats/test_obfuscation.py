"""Disguised greetings: understood in any cut, answered in the clear, or refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfs.errors import WireError
from p2pfs.formats import obfuscation
from p2pfs.formats.obfuscation import (
    DisguisedGreeting,
    Rc4,
    disguised_name,
    public_key,
    shared_secret,
)
from tests.support.disguise import IN_THE_CLEAR, RC4, Caller

INFO_HASH = bytes(range(20))
OURS = 0xFEDCBA9876543210FEDCBA9876543210FEDCBA98
CHOSEN = bytes(8) + b"\0\0\0\1" + bytes(2)
WORDS = b"\x13BitTorrent protocol and so on"


def find(name: bytes) -> bytes | None:
    return {disguised_name(INFO_HASH): INFO_HASH}.get(name)


def whole(data: bytes) -> list[bytes]:
    return [data]


def byte_by_byte(data: bytes) -> list[bytes]:
    return [data[n : n + 1] for n in range(len(data))]


@pytest.fixture(params=[whole, byte_by_byte], ids=["whole", "byte by byte"])
def cut(request: pytest.FixtureRequest) -> Callable[[bytes], list[bytes]]:
    return request.param


def tell(greeting: DisguisedGreeting, parts: list[bytes]) -> bytes:
    return b"".join([greeting.receive(part) for part in parts])


@pytest.mark.parametrize(
    ("key", "stream"),
    # RFC 6229: the key stream from its 1024th byte on
    [
        ("0102030405", "30abbcc7c20b01609f23ee2d5f6bb7df"),
        ("0102030405060708090a0b0c0d0e0f10", "bdf0324e6083dcc6d3cedd3ca8c53c16"),
    ],
)
def test_the_cipher_gives_the_known_stream_after_what_is_discarded(key: str, stream: str) -> None:
    found = Rc4(bytes.fromhex(key)).apply(bytes(16)).hex()

    assert found == stream


def test_the_quicker_cipher_goes_on_where_the_other_is() -> None:
    plain, quick = Rc4(b"one key"[:5]), Rc4(b"one key"[:5])
    for cipher in (plain, quick):
        cipher.apply(b"some bytes of a greeting")

    assert quick.quicker().apply(WORDS * 9) == plain.apply(WORDS * 9)


def test_both_ends_find_the_same_secret() -> None:
    assert shared_secret(5**60, public_key(7**50)) == shared_secret(7**50, public_key(5**60))


@pytest.mark.parametrize("key", [bytes(96), b"\0" * 95 + b"\1", b"\xff" * 96])
def test_keys_that_give_the_secret_away_are_refused(key: bytes) -> None:
    with pytest.raises(WireError):
        DisguisedGreeting(OURS, find).receive(key)


@pytest.mark.parametrize("pads", [(b"", b""), (b"x" * 512, b"y" * 512)], ids=["none", "most"])
@pytest.mark.parametrize("first", [b"", WORDS], ids=["silent", "with first words"])
def test_a_greeting_is_answered_and_what_follows_is_in_the_clear(cut, pads, first) -> None:
    caller = Caller(INFO_HASH, first_padding=pads[0], padding=pads[1])
    greeting = DisguisedGreeting(OURS, find)

    their_key = tell(greeting, cut(caller.hello()))
    assert their_key == public_key(OURS)
    assert not greeting.understood
    answer = tell(greeting, cut(caller.asks(their_key, first)))

    assert caller.hears(answer) == CHOSEN
    assert greeting.understood
    assert greeting.plain() == first
    assert greeting.receive(b"then") == b""
    assert greeting.plain() == b"then"
    assert greeting.plain() == b""


def test_what_comes_along_with_the_greeting_is_not_lost() -> None:
    caller = Caller(INFO_HASH)
    greeting = DisguisedGreeting(OURS, find)
    their_key = greeting.receive(caller.hello())

    greeting.receive(caller.asks(their_key, WORDS) + b"more, in the clear")

    assert greeting.plain() == WORDS + b"more, in the clear"


def test_who_offers_nothing_but_rc4_is_heard_and_answered_under_it(cut) -> None:
    caller = Caller(INFO_HASH, offered=RC4, padding=b"pad")
    greeting = DisguisedGreeting(OURS, find)
    their_key = tell(greeting, cut(caller.hello()))

    answer = tell(greeting, cut(caller.asks(their_key, WORDS) + caller.says.apply(b"more")))
    assert caller.hears(answer) == bytes(8) + b"\0\0\0\2" + bytes(2)
    assert greeting.plain() == WORDS + b"more"
    tell(greeting, cut(caller.says.apply(b"and more")))
    assert greeting.plain() == b"and more"
    assert greeting.ciphers is not None
    heard, said = greeting.ciphers
    assert heard.apply(caller.says.apply(b"then")) == b"then"
    assert caller.hears(said.apply(b"answered")) == b"answered"


def test_who_offers_both_goes_on_in_the_clear() -> None:
    caller = Caller(INFO_HASH, offered=RC4 | IN_THE_CLEAR)
    greeting = DisguisedGreeting(OURS, find)

    answer = greeting.receive(caller.asks(greeting.receive(caller.hello())))

    assert caller.hears(answer) == CHOSEN
    assert greeting.ciphers is None


def test_without_openssl_s_rc4_all_goes_on_in_the_clear_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(obfuscation, "has_quick_rc4", lambda: False)
    caller = Caller(INFO_HASH, offered=RC4 | IN_THE_CLEAR)
    greeting = DisguisedGreeting(OURS, find)

    answer = greeting.receive(caller.asks(greeting.receive(caller.hello())))

    assert caller.hears(answer) == CHOSEN
    assert "no way to go on" in refused(Caller(INFO_HASH, offered=RC4))


def refused(caller: Caller, *, rc4: bool = True, length: int | None = None, more: int = 0) -> str:
    greeting = DisguisedGreeting(OURS, find, rc4=rc4)
    their_key = greeting.receive(caller.hello())
    with pytest.raises(WireError) as error:
        greeting.receive(caller.asks(their_key, WORDS, length=length) + bytes(more))
    assert not greeting.understood
    return str(error.value)


def test_a_torrent_that_is_not_open_is_refused() -> None:
    assert "not shared here" in refused(Caller(bytes(20)))


@pytest.mark.parametrize(("offered", "rc4"), [(RC4, False), (0, True), (4, True)])
def test_who_offers_nothing_that_is_known_is_refused(offered: int, rc4: bool) -> None:
    assert "no way to go on" in refused(Caller(INFO_HASH, offered=offered), rc4=rc4)


@pytest.mark.parametrize(
    "caller",
    [
        Caller(INFO_HASH, verification=b"verified"),
        Caller(INFO_HASH, padding=b"z" * 513),
        Caller(INFO_HASH, first_padding=b"z" * 513),
    ],
    ids=["no verification", "much padding", "much padding at first"],
)
def test_what_the_protocol_does_not_allow_is_refused(caller: Caller) -> None:
    assert "handshake" in refused(caller, more=600)


def test_long_first_words_are_refused_before_they_come() -> None:
    assert "too long" in refused(Caller(INFO_HASH), length=1025)


@settings(max_examples=50)
@given(st.lists(st.binary(min_size=1, max_size=400), max_size=12))
def test_whatever_comes_is_refused_or_waited_for_within_bounds(parts: list[bytes]) -> None:
    greeting = DisguisedGreeting(OURS, find)
    try:
        for part in parts:
            greeting.receive(part)
            assert not greeting.understood
    except WireError:
        return
    assert sum(map(len, parts)) < 96 + 512 + 20
