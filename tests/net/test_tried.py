"""What is remembered of a search for metadata, and how it is told."""

from __future__ import annotations

from p2pfs.net.tried import MAX_REMEMBERED, Tried

ONE, TWO = ("10.0.0.1", 1), ("10.0.0.2", 2)


def explain(tried: Tried, *, too_large: int = 0, no_source: bool = False) -> list[str]:
    return tried.explain("no tracker", too_large=too_large, no_source=no_source).split("; ")


def test_at_first_nobody_is_known() -> None:
    assert explain(Tried()) == ["no tracker", "no peer is known"]


def test_whom_it_did_not_reach_and_why_is_told() -> None:
    tried = Tried()
    tried.heard_of(ONE, hearsay=False)
    tried.heard_of(TWO, hearsay=True)
    tried.unreached(ONE, "Connection refused")
    tried.unreached(TWO, "no handshake in time")
    tried.met(b"x" * 20, TWO)
    tried.ban(TWO[0], b"x" * 20)

    assert explain(tried) == [
        "no tracker",
        "2 addresses of peers known",
        "1 peer met",
        "1 gave wrong metadata",
        "10.0.0.1:1: Connection refused",
    ]
    assert list(tried.banned) == [(TWO[0], b"x" * 20)]


def test_peers_that_give_nothing_may_be_those_of_a_private_torrent() -> None:
    tried = Tried()
    tried.met(b"x" * 20, None)
    assert "that needs its .torrent" in explain(tried, no_source=True)[-1]
    assert explain(tried, no_source=True, too_large=30_000_000)[1:] == [
        "peers speak of 30 MB of metadata, and no more than 10 MB are taken",
        "1 peer met",
    ]


def test_what_was_hearsay_is_none_once_a_tracker_says_it() -> None:
    tried = Tried()
    tried.heard_of(ONE, hearsay=True)
    tried.heard_of(TWO, hearsay=True)
    tried.heard_of(ONE, hearsay=False)
    tried.heard_of(ONE, hearsay=True)

    assert list(tried.known(hearsay=False)) == [ONE]
    assert list(tried.known(hearsay=True)) == [TWO]


def test_a_name_that_has_addresses_now_is_no_address_itself() -> None:
    tried = Tried()
    tried.heard_of(("node-5", 1), hearsay=False)
    tried.unreached(("node-5", 1), "Name or service not known")
    assert explain(tried)[1:] == [
        "1 address of peers known",
        "node-5:1: Name or service not known",
    ]

    tried.resolved(("node-5", 1))

    assert explain(tried)[1:] == ["no peer is known"]


def test_what_is_remembered_is_bounded() -> None:
    tried = Tried()
    for number in range(2 * MAX_REMEMBERED):
        tried.heard_of(("10.0.0.1", number), hearsay=True)
        tried.unreached(("10.0.0.1", number), "no")
        tried.met(number.to_bytes(20, "big"), None)
        tried.ban("10.0.0.1", number.to_bytes(20, "big"))

    assert len(list(tried.known(hearsay=True))) == MAX_REMEMBERED
    assert len(list(tried.banned)) == MAX_REMEMBERED
    assert f"{MAX_REMEMBERED} peers met" in explain(tried)
