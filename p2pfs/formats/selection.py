"""Which pieces a partial seeder has, as people write it.

Invariant: a selection that exists holds at least one piece, and every piece that was named
exists; shares are exact, so that adjoining shares leave no piece between them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from p2pfs.errors import UsageError
from p2pfs.formats.bitfield import Bitfield

__all__ = ["first_piece", "last_piece", "parse_pieces", "select_pieces"]

_INDEX = re.compile(r"[0-9]{1,12}", re.ASCII)
_RUN = re.compile(r"([0-9]{1,12})-([0-9]{1,12})", re.ASCII)
_SHARE = re.compile(r"(?P<whole>[0-9]{0,12})(?:\.(?P<part>[0-9]{1,18}))?(?P<percent>%)?", re.ASCII)


def parse_pieces(texts: Iterable[str], piece_count: int) -> set[int]:
    """Piece indices from `3 7`, `3,7` and `3-9`, together.

    Raises `UsageError` for text of another form, a run backwards, or a piece that the
    torrent does not have.
    """
    runs: set[tuple[int, int]] = set()
    for text in texts:
        for word in dict.fromkeys(text.replace(",", " ").split()):
            if _INDEX.fullmatch(word):
                first = last = int(word)
            elif run := _RUN.fullmatch(word):
                first, last = int(run[1]), int(run[2])
            else:
                raise UsageError(
                    f"{word[:40]!r} is not a piece or a run of pieces such as 3 or 3-9: "
                    f"{_has(piece_count)}"
                )
            if first > last:
                raise UsageError(f"the run {word} goes backwards: {_has(piece_count)}")
            if last >= piece_count:
                raise UsageError(f"there is no piece {last}: {_has(piece_count)}")
            runs.add((first, last))
    pieces: set[int] = set()
    end = -1
    for first, last in sorted(runs):
        pieces.update(range(max(first, end + 1), last + 1))
        end = max(end, last)
    return pieces


def first_piece(text: str, piece_count: int) -> int:
    """The piece a range starts at: an index, or a share of the pieces rounded down."""
    bound = _bound(text, piece_count)
    if isinstance(bound, int):
        return bound
    numerator, denominator = bound
    return piece_count * numerator // denominator


def last_piece(text: str, piece_count: int) -> int:
    """The last piece of a range: an index, or ceil(share x pieces) - 1 (-1 for a share of 0)."""
    bound = _bound(text, piece_count)
    if isinstance(bound, int):
        return bound
    numerator, denominator = bound
    return -(-piece_count * numerator // denominator) - 1


def _bound(text: str, piece_count: int) -> int | tuple[int, int]:
    """An index, or a share as an exact fraction."""
    word = text.strip()
    if _INDEX.fullmatch(word):
        index = int(word)
        if index >= piece_count:
            raise UsageError(f"there is no piece {index}: {_has(piece_count)}")
        return index
    match = _SHARE.fullmatch(word)
    digits = "" if match is None else match["whole"] + (match["part"] or "")
    if match is None or not digits:
        raise UsageError(
            f"{text[:40]!r} is neither a piece such as 7 nor a share such as 0.2 or 20%: "
            f"{_has(piece_count)}"
        )
    share = int(digits), 10 ** (len(match["part"] or "") + (2 if match["percent"] else 0))
    if share[0] > share[1]:
        raise UsageError(f"the share {word} is more than all: {_has(piece_count)}")
    return share


def select_pieces(
    piece_count: int,
    *,
    missing: Iterable[str] = (),
    first: str | None = None,
    last: str | None = None,
) -> Bitfield:
    """The pieces from `first` to `last`, inclusive, less the `missing` ones.

    A bound is a piece index (`7`) or a share of all pieces (`0.2`, `20%`). Raises
    `UsageError`, naming the number of pieces, for what is out of range, for a range that
    runs backwards, and when nothing is left.
    """
    start = 0 if first is None else first_piece(first, piece_count)
    stop = piece_count - 1 if last is None else last_piece(last, piece_count)
    lacking = parse_pieces(missing, piece_count)
    if start > stop and piece_count:
        raise UsageError(
            f"the range {first or 0} to {last if last is not None else 'the end'} "
            f"(pieces {start} to {stop}) holds no piece: {_has(piece_count)}"
        )
    have = Bitfield.of(piece_count, (i for i in range(start, stop + 1) if i not in lacking))
    if piece_count and not have.count:
        raise UsageError(f"no piece is left to seed: {_has(piece_count)}")
    return have


def _has(piece_count: int) -> str:
    if piece_count == 1:
        return "the torrent has 1 piece, number 0"
    if not piece_count:
        return "the torrent has no pieces, because it has no bytes"
    return f"the torrent has {piece_count} pieces, 0 to {piece_count - 1}"
