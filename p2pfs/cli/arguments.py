"""What is done to a command line before typer reads it.

Invariant: every token is kept, in its order; only the tokens of one space-separated
piece list (`-m 3 7 12`) are joined into one (`-m 3,7,12`), because an option of the
parser underneath takes a fixed number of values.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

__all__ = ["commands_in", "join_piece_lists"]

_LIST_COMMANDS = frozenset({"seed", "peer"})
_OPENS_LIST = re.compile(r"(-[Sv]*m=?|--missing(=|$))(?P<value>.*)", re.DOTALL)
_PIECES = re.compile(r"[0-9][0-9,-]*|,[0-9,-]*", re.ASCII)


def commands_in(argv: Sequence[str], known: Collection[str]) -> list[str]:
    """The command names that occur among the tokens, in their order.

    The first is usually the command; a name may also be the value of an option, so none
    of them may be left out when commands are loaded by need.
    """
    return [token for token in argv if token in known]


def join_piece_lists(argv: Sequence[str]) -> list[str]:
    """`-m 3 7 12 -f x` becomes `-m 3,7,12 -f x`, for the commands that take piece lists."""
    tokens = list(argv)
    if not any(token in _LIST_COMMANDS for token in tokens):
        return tokens
    joined: list[str] = []
    position = 0
    while position < len(tokens):
        token = tokens[position]
        position += 1
        if token == "--":
            return [*joined, token, *tokens[position:]]
        joined.append(token)
        opening = _OPENS_LIST.fullmatch(token)
        if opening is None or (opening["value"] and not _PIECES.fullmatch(opening["value"])):
            continue
        start = position
        while position < len(tokens) and _PIECES.fullmatch(tokens[position]):
            position += 1
        values = tokens[start:position]
        if not values:
            continue
        if opening["value"]:
            joined[-1] = ",".join([token, *values])
        else:
            joined.append(",".join(values))
    return joined
