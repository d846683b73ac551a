"""Small configuration files: `key = value` lines, made for people and scripts to read.

Invariant: `parse(encode(values))` gives the same values back, whatever text is in them, and
a file holds only what prints: other characters are written as JSON writes them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from p2pfs.errors import FormatError

__all__ = ["MAX_BYTES", "encode", "parse"]

MAX_BYTES = 64 * 1024

_KEY = re.compile(r"[a-z][a-z0-9_-]{0,63}")


def parse(text: str) -> dict[str, str]:
    """The values in `text`, in order; empty lines and those that begin with `#` do not count.

    A value in double quotes is read as a JSON string. Raises `FormatError` that names the
    line when one is not `key = value`, a key comes twice, or there is too much.
    """
    if len(text) > MAX_BYTES:
        raise FormatError(f"more than {MAX_BYTES} characters")
    values: dict[str, str] = {}
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        key, equals, value = line.partition("=")
        key, value = key.rstrip().lower(), value.lstrip()
        if not equals or not _KEY.fullmatch(key):
            raise FormatError(f"line {number} is not `key = value`")
        if key in values:
            raise FormatError(f"line {number} gives {key} a second value")
        values[key] = _unquoted(value, number) if value.startswith('"') else value
    return values


def encode(values: Mapping[str, str]) -> str:
    """The file that holds `values`.

    Keys are lower-case letters, digits, `-` and `_`, at most 64 of them. Raises
    `FormatError` for a key that cannot be one, and for too much.
    """
    lines = []
    for key, value in values.items():
        if not _KEY.fullmatch(key):
            raise FormatError(f"{key!r} cannot be the name of a value")
        plain = value.isprintable() and value == value.strip() and not value.startswith('"')
        lines.append(f"{key} = {value if plain else json.dumps(value)}\n")
    text = "".join(lines)
    if len(text) > MAX_BYTES:
        raise FormatError(f"more than {MAX_BYTES} characters")
    return text


def _unquoted(value: str, number: int) -> str:
    try:
        text = json.loads(value)
    except (ValueError, RecursionError):
        text = None
    if not isinstance(text, str):
        raise FormatError(f"line {number} has a quote that does not end")
    return text
