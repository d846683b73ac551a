"""`share`: files and folders shared until stopped, with an index of its own if need be.

Invariant: the line that it prints to be typed elsewhere works as it stands there, once it
is printed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2pfs.cli.json_screen import JsonScreen
from p2pfs.cli.options import (
    Bind,
    Json,
    LogFile,
    NoLsd,
    NoPex,
    PeerPort,
    UpLimit,
    Verbose,
)
from p2pfs.cli.run import run_async, start_logging
from p2pfs.cli.screen import address_text, open_screen
from p2pfs.cli.text import check_words, counted, printable, quoted
from p2pfs.cli.units import rate_option
from p2pfs.errors import ListenError, StorageError

if TYPE_CHECKING:
    from p2pfs.cli.finding import Located
    from p2pfs.cli.screen import Screen
    from p2pfs.cli.serving import Serving
    from p2pfs.net.engine import Torrent
    from p2pfs.net.node import NodeFile
    from p2pfs.storage.hash_cache import HashCache
    from p2pfs.storage.sharing import Source

__all__ = ["command_elsewhere", "share", "sources_of", "where_option"]

DEFAULT_PORT = 9999
_PORTS_TRIED = 10
_NAMED = 5
"""Names that stand in the line to type elsewhere."""

_LOOK_EVERY = 0.1
_SETTLES = 5.0
"""Seconds given to files that were written just now before the ready line."""


def share(
    path: Annotated[
        list[str], typer.Argument(metavar="PATH", help="The files and folders to share.")
    ],
    host: Annotated[
        str | None,
        typer.Option(
            "--index-host",
            "--tracker-host",
            "-i",
            metavar="HOST",
            help="The index: a host, HOST:PORT or a URL; without it, one is started here.",
        ),
    ] = None,
    index_port: Annotated[
        int,
        typer.Option(
            "--index-port",
            "--tracker-port",
            "-d",
            metavar="PORT",
            min=0,
            max=65535,
            help="The index's port; of one that is started here the first free one from here on, "
            "0: any.",
        ),
    ] = 9999,
    as_one: Annotated[
        bool,
        typer.Option("--as-one", help="Each folder as one torrent, not each file for itself."),
    ] = False,
    port: PeerPort = 0,
    up_limit: UpLimit = None,
    bind: Bind = None,
    no_pex: NoPex = False,
    no_lsd: NoLsd = False,
    advertise: Annotated[
        str | None,
        typer.Option(
            "--advertise",
            metavar="ADDRESS",
            help="The address under which others reach this machine.",
        ),
    ] = None,
    no_mdns: Annotated[
        bool, typer.Option("--no-mdns", help="Do not announce an index of our own on the network.")
    ] = False,
    as_json: Json = False,
    verbose: Verbose = 0,
    log_file: LogFile = None,
) -> None:
    """Share files and folders by name, until `exit` or Ctrl-C.

    Without -i it starts an index of its own, and prints the line to type elsewhere.

    \b
    Examples:
      p2pfs share movie.mkv
      p2pfs share photos/ notes.txt -i 10.0.0.5 --up-limit 5M
    """
    start_logging(verbose, log_file)
    paths = [Path(word) for word in check_words(path, "a path to share")]
    up = rate_option(up_limit)
    screen = open_screen("share", as_json=as_json)

    async def work() -> int:
        from p2pfs.cli.finding import locate
        from p2pfs.cli.front import Events
        from p2pfs.cli.serving import open_node
        from p2pfs.net.engine import Client

        sources = sources_of(paths, as_one=as_one)
        await asyncio.to_thread(_check_usable, sources)
        client = Client(
            port=port,
            bind=bind,
            up_limit=up,
            peer_exchange=not no_pex,
            local_discovery=not no_lsd,
        )
        async with contextlib.AsyncExitStack() as stack:
            cache = stack.enter_context(_cache(screen))
            if host is None:
                opened = _own_index(index_port, bind, advertise, mdns=not no_mdns)
                located = await stack.enter_async_context(opened)
            else:
                located = await locate(host, index_port)
            events = Events(screen)
            stack.callback(events.flush)
            opening = open_node(
                screen,
                events,
                client,
                located,
                sources,
                node_id=f"share-{os.urandom(4).hex()}",
                key=os.urandom(16).hex(),
                cache=cache,
            )
            serving = await stack.enter_async_context(opening)
            await _settled(serving, sources)
            events.start()
            command = command_elsewhere(
                [_typed(file) for file in serving.node.files()],
                where_option(located.base, advertise),
                alone=host is None,
            )
            _tell_ready(screen, serving, command)
            return await _until_exit(screen, serving)

    run_async(work, screen.finish)


def sources_of(paths: Sequence[Path], *, as_one: bool) -> list[Source]:
    """What there is to share at the paths, each place once.

    Raises `StorageError` when there is no such file.
    """
    from p2pfs.storage.sharing import FileSource, FolderSource, TreeSource

    places: dict[str, Path] = {}
    for path in paths:
        places.setdefault(os.path.realpath(path), path)
    sources: list[Source] = []
    for place, path in places.items():
        if not path.is_dir():
            sources.append(FileSource(path))
        elif as_one:
            sources.append(TreeSource(path))
        else:
            sources.append(FolderSource(Path(place)))
    return sources


def _check_usable(sources: Sequence[Source]) -> None:
    """Raise `StorageError` when nothing can be shared, now or later."""
    from p2pfs.storage.files import Files

    reasons: list[str] = []
    for source in sources:
        found = source.scan(Files())
        if found.items or source.folder is not None:
            return
        reasons += (f"{path}: {reason}" for path, reason in found.problems.items())
    raise StorageError("there is nothing to share: " + "; ".join(reasons or ["it has just gone"]))


def _typed(file: NodeFile) -> str:
    """What somebody types to get this file: its name, or the hash if that does not print."""
    return file.name if file.name.isprintable() else file.info_hash


def command_elsewhere(names: Sequence[str], where: str, *, alone: bool) -> str:
    """What to type on another machine to get what is shared here.

    `where` are the options that name the index; `alone` says that it has nothing else.
    """
    if len(names) > 1 and alone:
        return f'p2pfs get "*" {where}'
    if not names or len(names) > _NAMED:
        return f"p2pfs ls {where}"
    words = " ".join(quoted(printable(name)) for name in names)
    if any(name.startswith("-") for name in names):  # no option, though it looks like one
        return f"p2pfs get {where} -- {words}"
    return f"p2pfs get {words} {where}"


def where_option(base: str, advertise: str | None) -> str:
    """The option that names the index at the URL `base`, of use on other machines too."""
    from urllib.parse import urlsplit

    from p2pfs.net.own_address import reached_at

    parts = urlsplit(base)
    host, port = parts.hostname or "", parts.port or 80
    if parts.scheme != "http" or parts.path:
        return f"-i {quoted(base)}"
    if host in ("127.0.0.1", "::1", "localhost"):
        host = reached_at(None, advertise)
    return f"-i {quoted(host if port == DEFAULT_PORT else address_text((host, port)))}"


@contextlib.asynccontextmanager
async def _own_index(
    first: int, bind: str | None, advertise: str | None, *, mdns: bool
) -> AsyncIterator[Located]:
    """An index in this process, on the first free port."""
    from p2pfs.cli.finding import Located
    from p2pfs.cli.index import open_index
    from p2pfs.net.own_address import reached_at
    from p2pfs.net.tracker_http import TrackerServer

    address = reached_at(bind, advertise)
    async with contextlib.AsyncExitStack() as stack:
        ports = range(first, min(first + _PORTS_TRIED, 65536)) if first else ()
        for port in (*ports, 0):
            make = partial(TrackerServer, bind or "", port, advertise=advertise)
            try:
                server = await stack.enter_async_context(open_index(make, address, None, mdns=mdns))
            except ListenError:
                if not port:
                    raise
            else:
                break
        yield Located(server.url.removesuffix("/announce"), "it runs in this program")


@contextlib.contextmanager
def _cache(screen: Screen) -> Iterator[HashCache]:
    """What was hashed before, by any `share` of this user; nothing where that cannot be kept."""
    from p2pfs.storage.hash_cache import HashCache

    home = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    try:
        folder = Path(home) if home else Path.home() / ".cache"
        cache = HashCache(folder / "p2pfs" / "hashes.sqlite")
    except (StorageError, RuntimeError) as error:  # RuntimeError: a user without a home
        screen.note(f"{error}; everything is hashed anew")
        cache = HashCache()
    with contextlib.closing(cache):
        yield cache


async def _settled(serving: Serving, sources: Sequence[Source]) -> None:
    """Until all that is there is shared, but not for long: what is being written comes later."""
    from p2pfs.storage.files import Files

    def names() -> set[str]:
        return {name for source in sources for name in source.scan(Files()).items}

    wanted = await asyncio.to_thread(names)
    for _ in range(int(_SETTLES / _LOOK_EVERY)):
        if wanted <= {file.name for file in serving.node.files()}:
            return
        await asyncio.sleep(_LOOK_EVERY)


def _tell_ready(screen: Screen, serving: Serving, command: str) -> None:
    files = len(serving.node.files())
    if isinstance(screen, JsonScreen):
        index = serving.index.base
        screen.ready(serving.client.addresses, index=index, files=files, command=command)
        return
    what = f"sharing {counted(files, 'file')} with {serving.index.where}"
    screen.ready(serving.client.addresses, what=what)
    screen.note("to be typed on other machines:")
    screen.write(command)


async def _until_exit(screen: Screen, serving: Serving) -> int:
    from p2pfs.cli.session import Session

    client = serving.client

    def busy() -> list[Torrent]:
        return [torrent for torrent in client.torrents if torrent.connected]

    session = Session(screen, also=busy, output=Path(), stay=True, status=serving.status)
    try:
        return await session.run()
    finally:
        sent = [torrent.progress() for torrent in client.torrents]
        screen.latest = [progress for progress in sent if progress.uploaded]
