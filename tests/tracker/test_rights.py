"""Who may withdraw what."""

from __future__ import annotations

import pytest

from p2pfs.errors import FormatError
from p2pfs.tracker.rights import ANONYMOUS, Publisher, node_publisher, withdrawal

KEY = "0123456789abcdef" * 2
ONE, TWO, THREE = (Publisher(name, b"key") for name in "123")


@pytest.mark.parametrize(
    ("publishers", "holders", "asker", "granted", "left"),
    [
        # published by nobody we know of, or anonymously: anybody's
        (set(), set(), ANONYMOUS, True, set()),
        ({ANONYMOUS}, set(), ANONYMOUS, True, set()),
        ({ANONYMOUS}, {TWO}, ONE, True, set()),
        # by one node: only that one's
        ({ONE}, set(), ONE, True, set()),
        ({ONE}, {ONE}, ONE, True, set()),
        ({ONE}, set(), TWO, False, {ONE}),
        ({ONE}, {TWO}, TWO, False, {ONE}),
        ({ONE}, set(), ANONYMOUS, False, {ONE}),
        ({ONE}, set(), Publisher("1", b"another key"), False, {ONE}),
        # shared: it stays, without the one who leaves
        ({ONE, TWO}, set(), ONE, False, {TWO}),
        ({ONE, ANONYMOUS}, set(), ONE, False, {ANONYMOUS}),
        ({ONE, ANONYMOUS}, {TWO}, ANONYMOUS, False, {ONE}),
        # others serve it: it is theirs from then on
        ({ONE}, {ONE, TWO, THREE}, ONE, False, {TWO, THREE}),
    ],
)
def test_an_entry_goes_when_nobody_else_has_a_share_in_it(
    publishers: set[Publisher],
    holders: set[Publisher],
    asker: Publisher,
    granted: bool,
    left: set[Publisher],
) -> None:
    assert withdrawal(publishers, holders, asker) == (granted, left)


def test_the_same_id_with_another_key_is_another_node() -> None:
    one = node_publisher("1", KEY)

    assert one == node_publisher("1", KEY)
    assert one.node_id == "1"
    assert KEY.encode() not in one.proof
    assert one != node_publisher("1", "f" * 32)


@pytest.mark.parametrize("node_id", ["", ".", "..", "a/b", "a b", "x" * 65, "\x1b[2J", "ä", "1\n"])
def test_an_id_that_could_be_anything_else_is_refused(node_id: str) -> None:
    with pytest.raises(FormatError, match="no node id") as caught:
        node_publisher(node_id, KEY)

    assert str(caught.value).isprintable()


@pytest.mark.parametrize("key", ["", "short", "x" * 129, "0123456789abcde\n", "0123456789abcdeß"])
def test_a_key_that_cannot_be_one_is_refused(key: str) -> None:
    with pytest.raises(FormatError, match="32 hexadecimal digits"):
        node_publisher("1", key)
