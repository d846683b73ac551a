"""Which index a command talks to, when it was told and when it was not.

Invariant: one order everywhere: `-i`, then `server.config`, then `P2PFS_INDEX`, then who
announces itself on the network; and an error says what was tried, and what to do.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from p2pfs.cli.where import tracker_base
from p2pfs.errors import UsageError

__all__ = [
    "CONFIG_DIR",
    "INDEX_VARIABLE",
    "Located",
    "find_index",
    "locate",
    "token_of_environment",
]

CONFIG_DIR = Path("config")
INDEX_VARIABLE = "P2PFS_INDEX"
TOKEN_VARIABLE = "P2PFS_TOKEN"


@dataclass(frozen=True, slots=True)
class Located:
    """The URL of an index, and what to do when nothing answers there."""

    base: str
    advice: str


def token_of_environment() -> str | None:
    """The publish token that the environment holds, if it does."""
    return os.environ.get(TOKEN_VARIABLE, "").strip() or None


async def find_index(
    host: str | None, port: int = 9999, config_dir: Path = CONFIG_DIR, *, seconds: float = 2.0
) -> str:
    """The URL of an index that answers; `host` and `port` are those of `-i` and `-d`.

    `seconds` is how long to listen on the network. Raises `UsageError` when none is known or
    several are, `TrackerError` when the one that is known does not answer, `StorageError`
    when `server.config` cannot be used.
    """
    from p2pfs.net.index_client import IndexClient

    located = await locate(host, port, config_dir, seconds=seconds)
    await IndexClient(located.base, advice=located.advice).reach()
    return located.base


async def locate(
    host: str | None, port: int = 9999, config_dir: Path = CONFIG_DIR, *, seconds: float = 2.0
) -> Located:
    """As `find_index`, but it need not answer: for those who wait for it."""
    if host is not None:
        return Located(
            tracker_base(host, port), "check host (-i) and port (-d), and that the index runs there"
        )
    return (
        _from_config(config_dir)
        or _from_environment(port)
        or await _from_network(config_dir, seconds)
    )


def _from_config(config_dir: Path) -> Located | None:
    from p2pfs.net.config_files import read_config, server_config

    path = server_config(config_dir)
    values = read_config(path)
    if values is None:
        return None
    host, number = values.get("host", ""), values.get("port", "")
    try:
        if not (number.isascii() and number.isdecimal() and len(number) <= 5) or "/" in host:
            raise UsageError(f"{host!r} and {number!r} are no host and port")
        base = tracker_base(host, int(number))
    except UsageError as error:
        raise UsageError(
            f"{path} does not say where the index is ({error}); correct or remove it, or name "
            "the index with -i HOST"
        ) from None
    return Located(
        base,
        f"{path} says that the index is there: start it, or remove that file if it was left "
        "behind, or name another index with -i HOST",
    )


def _from_environment(port: int) -> Located | None:
    text = os.environ.get(INDEX_VARIABLE, "").strip()
    if not text:
        return None
    try:
        base = tracker_base(text, port)
    except UsageError as error:
        raise UsageError(f"the environment variable {INDEX_VARIABLE}: {error}") from None
    return Located(
        base,
        f"the environment variable {INDEX_VARIABLE} names it: correct it, or name another "
        "index with -i HOST",
    )


async def _from_network(config_dir: Path, seconds: float) -> Located:
    from p2pfs.net.config_files import server_config
    from p2pfs.net.discovery import find_indexes

    found = {tracker_base(one.host, one.port): one.name for one in await find_indexes(seconds)}
    if len(found) > 1:
        choices = ", ".join(sorted(f"{base} ({name})" for base, name in found.items()))
        raise UsageError(f"several indexes are on this network: {choices}; choose with -i HOST")
    for base in found:
        return Located(
            base, "it announced itself on this network, but may have stopped: name one with -i HOST"
        )
    raise UsageError(
        f"no index is known: there is no {server_config(config_dir)}, {INDEX_VARIABLE} is not "
        "set, and none announces itself on this network; say where one is with -i HOST, or "
        "start one with `p2pfs index`"
    )
