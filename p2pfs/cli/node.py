"""`node`: a folder that is shared, with a menu to list, download and delete.

Invariant: `config/pN.config` says where node N is only while it runs (but for a crash), and
one number belongs to one node at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from p2pfs.cli.json_screen import JsonScreen
from p2pfs.cli.options import (
    Bind,
    DownLimit,
    IndexHost,
    IndexPort,
    Json,
    LogFile,
    NoLsd,
    NoPex,
    PeerPort,
    UpLimit,
    Verbose,
)
from p2pfs.cli.run import at_once, run_async, start_logging
from p2pfs.cli.screen import open_screen
from p2pfs.cli.text import counted, printable
from p2pfs.cli.units import rate_option
from p2pfs.errors import StorageError, UsageError

if TYPE_CHECKING:
    from p2pfs.cli.front import LineFront
    from p2pfs.cli.screen import Screen
    from p2pfs.cli.serving import Serving
    from p2pfs.storage.hash_cache import HashCache

__all__ = ["node", "parse_id", "shared_folder"]

_LAST = 10**9 - 1


def parse_id(text: str) -> int:
    """The ID of a node: a number from 1 to 999999999. Raises `UsageError` for anything else."""
    stripped = text.strip()
    if stripped.isascii() and stripped.isdecimal() and len(stripped) <= len(str(_LAST)):
        number = int(stripped)
        if number:
            return number
    raise UsageError(
        f"'{printable(stripped)[:40]}' is not the ID of a node: it is a positive number, "
        f"1 to {_LAST}"
    )


def shared_folder(root: Path, number: int) -> Path:
    """The folder of node `number`, which has to be there and readable.

    Raises `StorageError` that says what to do.
    """
    folder = root / f"p{number}"
    try:
        if not folder.is_dir():
            what = "is not a folder" if folder.exists() else "is not there"
            raise StorageError(
                f"the folder of node {number} {what}: make it with "
                f"mkdir -p {shlex.quote(str(folder))}"
            )
        next(folder.iterdir(), None)
    except OSError as error:
        raise StorageError(
            f"cannot read {folder}, the folder of node {number}: {error.strerror or error}; "
            f"allow it with chmod u+rwx {shlex.quote(str(folder))}"
        ) from error
    return folder


class _Setting(NamedTuple):
    """What the command line says of a node."""

    root: Path
    config_dir: Path
    host: str | None
    index_port: int
    port: int
    up_limit: int | None
    down_limit: int | None
    bind: str | None
    pex: bool
    lsd: bool
    serve: bool
    grace: float


def node(
    number: Annotated[
        str | None,
        typer.Option(
            "--id",
            metavar="N",
            help="Node N shares the folder pN (asked for when it is not given).",
        ),
    ] = None,
    root: Annotated[
        Path, typer.Option("--root", metavar="DIR", help="Where the folders p1, p2, ... are.")
    ] = Path(),
    host: IndexHost = None,
    index_port: IndexPort = 9999,
    port: PeerPort = 0,
    config_dir: Annotated[
        Path | None,
        typer.Option(
            "--config-dir",
            metavar="DIR",
            file_okay=False,
            help="Where server.config is, and pN.config is written (default: config in --root).",
        ),
    ] = None,
    up_limit: UpLimit = None,
    down_limit: DownLimit = None,
    bind: Bind = None,
    no_pex: NoPex = False,
    no_lsd: NoLsd = False,
    serve: Annotated[
        bool, typer.Option("--serve", help="No menu: share only, until `exit` or Ctrl-C.")
    ] = False,
    quit_grace: Annotated[
        float,
        typer.Option(
            "--quit-grace", metavar="SECONDS", min=0, help="Serve for so long after `quit`."
        ),
    ] = 10.0,
    as_json: Json = False,
    verbose: Verbose = 0,
    log_file: LogFile = None,
) -> None:
    """Share the folder pN, and list, download and delete files by a menu.

    \b
    Examples:
      p2pfs node --id 1
      p2pfs node --id 2 -i 10.0.0.5 --serve --up-limit 2M
    """
    start_logging(verbose, log_file)
    if as_json and not serve:
        raise UsageError("--json needs --serve: the menu is for people")
    wanted = None if number is None else parse_id(number)
    setting = _Setting(
        root=root,
        config_dir=root / "config" if config_dir is None else config_dir,
        host=host,
        index_port=index_port,
        port=port,
        up_limit=rate_option(up_limit),
        down_limit=rate_option(down_limit),
        bind=bind,
        pex=not no_pex,
        lsd=not no_lsd,
        serve=serve,
        grace=quit_grace,
    )
    screen = open_screen("node", as_json=as_json, console=not serve)

    async def work() -> int:
        from p2pfs.cli.front import LineFront

        async with LineFront(screen) as front:
            await _run(setting, screen, front, wanted)
        return 0

    run_async(work, screen.finish, patient=True)


async def _ask_id(front: LineFront) -> int:
    """The ID from the first line that comes in; people may try again."""
    while True:
        line = await front.ask("ID of this node, a positive number: ")
        if line is None:
            raise UsageError("no ID of the node was given: say it with --id, as in --id 1")
        try:
            return parse_id(line)
        except UsageError as error:
            if not front.screen.live:
                raise
            front.say(str(error))


async def _run(setting: _Setting, screen: Screen, front: LineFront, wanted: int | None) -> None:
    from p2pfs.cli.finding import locate
    from p2pfs.cli.serving import open_node
    from p2pfs.net.engine import Client
    from p2pfs.storage.sharing import FolderSource

    number = await _ask_id(front) if wanted is None else wanted
    folder = shared_folder(setting.root, number)
    screen.role = "node" if isinstance(screen, JsonScreen) else f"node {number}"
    find = partial(locate, setting.host, setting.index_port, setting.config_dir)
    located = await find()
    client = Client(
        port=setting.port,
        bind=setting.bind,
        up_limit=setting.up_limit,
        down_limit=setting.down_limit,
        peer_exchange=setting.pex,
        local_discovery=setting.lsd,
    )
    with _cache(setting.config_dir, number) as cache:
        async with open_node(
            screen,
            front.events,
            client,
            located,
            [FolderSource(folder)],
            node_id=str(number),
            key=cache.secret("key"),
            cache=cache,
            locate=find if setting.host is None else None,
        ) as serving:
            with _written(setting, number, folder, client.port):
                files = len(serving.node.files())
                if isinstance(screen, JsonScreen):
                    screen.ready(
                        client.addresses,
                        id=number,
                        folder=str(folder),
                        index=located.base,
                        files=files,
                    )
                else:
                    what = (
                        f"sharing {counted(files, 'file')} of {folder} with {serving.index.where}"
                    )
                    screen.ready(client.addresses, what=what)
                front.events.start()
                await _until_quit(setting, number, front, serving, folder)


async def _until_quit(
    setting: _Setting, number: int, front: LineFront, serving: Serving, folder: Path
) -> None:
    """The menu, or what comes in its place, then the last downloads from here.

    A first signal ends the menu, and is passed on after the last downloads; a second one
    ends those too.
    """
    stopped = False
    try:
        if setting.serve:
            await _serve(front, serving)
        else:
            from p2pfs.cli.menu import Menu

            await Menu(number, serving.node, front, folder).run()
    except asyncio.CancelledError:
        stopped = True
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()
    await front.finish_serving(serving.node, setting.grace)
    if stopped:
        raise asyncio.CancelledError


async def _serve(front: LineFront, serving: Serving) -> None:
    """Until `exit`; the end of the input is none."""
    while (line := await front.next_line()) is not None:
        word = line.strip().lower()
        if word in ("exit", "quit"):
            return
        if word:
            front.screen.note(f"{serving.status()}; exit ends it")
    await asyncio.Event().wait()


@contextlib.contextmanager
def _cache(config_dir: Path, number: int) -> Iterator[HashCache]:
    """What node `number` remembers, for itself alone; raises `StorageError` when it runs."""
    from p2pfs.net.config_files import address_in, node_config
    from p2pfs.storage.hash_cache import HashCache, InUse

    try:
        cache = HashCache(config_dir / f"p{number}.sqlite", exclusive=True)
    except InUse as error:
        there = address_in(node_config(config_dir, number))
        at = f", at {there}" if there else ""
        raise StorageError(
            f"node {number} runs already on this machine{at}: choose another --id, or stop that one"
        ) from error
    except StorageError as error:
        raise StorageError(
            f"{error}; a node has to write in {config_dir}: allow it with chmod -R u+rwX "
            f"{shlex.quote(str(config_dir))}, or choose another folder with --config-dir"
        ) from error
    with contextlib.closing(cache):
        yield cache


@contextlib.contextmanager
def _written(setting: _Setting, number: int, folder: Path, port: int) -> Iterator[None]:
    """Says in `pN.config` where the node is, while the block runs."""
    from p2pfs.net.config_files import node_config, remove_config, written
    from p2pfs.net.own_address import reached_at

    path = node_config(setting.config_dir, number)
    values = {
        "id": str(number),
        "host": reached_at(setting.bind),
        "port": str(port),
        "folder": str(folder.resolve()),
    }
    with at_once(partial(remove_config, path, values)), written(path, values):
        yield
