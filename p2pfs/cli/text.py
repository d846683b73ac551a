"""Text for a terminal: what came from others made safe, measured, cut, and written.

Invariant: what `printable` returns holds printable characters only: no control sequence, no
change of direction, no invisible character, no line end. Widths are columns of a terminal,
where a character takes none, one or two.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Sequence

from p2pfs.errors import StorageError, UsageError

__all__ = [
    "WILDCARDS",
    "check_words",
    "counted",
    "format_pieces",
    "literally",
    "pieces_differ",
    "printable",
    "quoted",
    "shorten",
    "width",
    "write_out",
]

WILDCARDS = frozenset("*?[")
"""What makes a word a pattern."""
_PLAIN = re.compile(r"[\w./-][\w@%+=:./-]*")
"""Without what some shells look for at the start of a word, or between words."""
_LIVE_IN_QUOTES = '"\\$`!'
"""What a shell looks for between double quotes too."""


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


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def width(text: str) -> int:
    """The columns that printable text takes."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def shorten(text: str, columns: int) -> str:
    """`text` cut to `columns` (at least 1), with an ellipsis in place of the rest."""
    if width(text) <= columns:
        return text
    left = columns - 1
    kept = 0
    for character in text:
        left -= _columns(character)
        if left < 0:
            break
        kept += 1
    return text[:kept] + "…"


def quoted(text: str) -> str:
    """`text` as it is typed in a shell, or where p2pfs asks for names: with quotes if need be."""
    if _PLAIN.fullmatch(text):
        return text
    if not any(mark in text for mark in _LIVE_IN_QUOTES):
        return f'"{text}"'
    return "'" + text.replace("'", "'\"'\"'") + "'"


def literally(text: str) -> str:
    """A pattern of the index that matches `text` alone."""
    return "".join(f"[{mark}]" if mark in WILDCARDS else mark for mark in text)


def counted(number: int, word: str) -> str:
    """`1 file`, `2 files`."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def pieces_differ(number: int, total: int) -> str:
    """`1 of 1 piece differs`, `2 of 3 pieces differ`."""
    return f"{number} of {counted(total, 'piece')} differ{'s' if number == 1 else ''}"


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


def write_out(text: str) -> None:
    """Write to standard output, at once.

    Raises `BrokenPipeError` when its reader went away, `StorageError` when it is, say, full.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StorageError(f"cannot write to standard output: {error.strerror}") from error


def check_words(words: Sequence[str], what: str) -> list[str]:
    """The words from a command line, each once; `UsageError` for one that is empty or no text."""
    for word in words:
        if not word:
            raise UsageError(f"{what} is empty")
        try:
            word.encode()
        except UnicodeEncodeError:
            raise UsageError(f"{word!a} is not text, so it cannot be {what}") from None
    return list(dict.fromkeys(words))
