"""Text that came from others, made safe for a terminal.

Invariant: what leaves here holds printable characters only: no control sequence, no
change of direction, no invisible character, no line end.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["format_pieces", "printable", "shorten"]


def printable(text: str) -> str:
    """`text` with every character that does not print written as `\\xNN` or `\\uNNNN`."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else _escape(character) for character in text
    )


def _escape(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def shorten(text: str, width: int) -> str:
    """`text` cut to `width` characters (at least 1), with an ellipsis in place of the rest."""
    return text if len(text) <= width else text[: width - 1] + "…"


def format_pieces(pieces: Sequence[int], limit: int = 12) -> str:
    """Ascending indices as runs: `3, 7-9, 12`; at most `limit` runs are written out."""
    runs: list[tuple[int, int]] = []
    for piece in pieces:
        if runs and runs[-1][1] == piece - 1:
            runs[-1] = (runs[-1][0], piece)
        else:
            runs.append((piece, piece))
    shown = ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in runs[:limit])
    return shown if len(runs) <= limit else f"{shown}, and {len(runs) - limit} more runs"
