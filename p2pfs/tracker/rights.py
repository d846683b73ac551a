"""Who may take a name out of the catalogue again.

Invariant: a node alone decides over what it alone published and nobody else serves; what
nodes published is never withdrawn by somebody else. Everything here is a plain decision.
"""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from hashlib import blake2b
from typing import NamedTuple

from p2pfs.errors import CatalogueError, FormatError

__all__ = ["ANONYMOUS", "NotYours", "Publisher", "Withdrawal", "node_publisher", "withdrawal"]

_ID = re.compile(r"(?!\.+\Z)[A-Za-z0-9._-]{1,64}")
_KEY = re.compile(r"[0-9A-Za-z]{16,128}")


class Publisher(NamedTuple):
    """A node by its id and the digest of its secret key."""

    node_id: str
    proof: bytes


ANONYMOUS = Publisher("", b"")
"""Everybody who published without saying who they are."""


class NotYours(CatalogueError):
    """Others have a share in what was to be withdrawn."""


class Withdrawal(NamedTuple):
    """Whether the entry goes; and whose it is from now on if it stays."""

    granted: bool
    publishers: frozenset[Publisher]


def node_publisher(node_id: str, key: str) -> Publisher:
    """The identity of a node. Raises `FormatError` when the id or the key cannot be one."""
    if not _ID.fullmatch(node_id):
        raise FormatError(f"{node_id[:80]!a} is no node id: 1 to 64 of A-Z a-z 0-9 . _ -")
    if not _KEY.fullmatch(key):
        raise FormatError("the key of a node is 32 hexadecimal digits")
    return Publisher(node_id, blake2b(key.encode(), digest_size=16).digest())


def withdrawal(
    publishers: AbstractSet[Publisher], holders: AbstractSet[Publisher], asker: Publisher
) -> Withdrawal:
    """What becomes of an entry that `asker` wants to withdraw.

    `holders` are the nodes that serve the content at the moment: what its publisher gives
    up is theirs then. What was published anonymously is everybody's.
    """
    if not publishers - {ANONYMOUS}:
        return Withdrawal(True, frozenset())
    if asker not in publishers:
        return Withdrawal(False, frozenset(publishers))
    others = frozenset((publishers | holders if asker != ANONYMOUS else publishers) - {asker})
    return Withdrawal(not others, others)
