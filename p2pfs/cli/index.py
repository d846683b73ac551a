"""`index`: the tracker with its catalogue, found by everyone who wants to share by name.

Invariant: `server.config` says where the index is only while it answers there (but for a
crash), and one config dir has one index at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2pfs.cli import tracker_options as of
from p2pfs.cli.finding import CONFIG_DIR
from p2pfs.cli.options import Json, LogFile, Verbose
from p2pfs.cli.run import run_async, start_logging
from p2pfs.cli.screen import address_text, open_screen
from p2pfs.errors import StorageError

if TYPE_CHECKING:
    from p2pfs.net.tracker_http import TrackerServer

__all__ = ["index", "open_index"]


@contextlib.asynccontextmanager
async def open_index(
    make: Callable[[], TrackerServer], address: str, config_dir: Path | None, *, mdns: bool
) -> AsyncIterator[TrackerServer]:
    """An index that runs, and is found at `address` by who looks for one.

    It says so in `config_dir`, if there is one, and with `mdns` on the network; `make` makes
    the server once nobody else has `config_dir`. Raises `StorageError` when another index
    has it or nothing can be written there, and what the server raises.
    """
    from p2pfs.net.config_files import server_config, written
    from p2pfs.net.discovery import Advertisement

    async with contextlib.AsyncExitStack() as stack:
        if config_dir is not None:
            stack.enter_context(_alone(config_dir))
        server = await stack.enter_async_context(make())
        if mdns:
            advertisement = Advertisement()
            stack.push_async_callback(advertisement.close)
            await advertisement.start(server.port, [address], f"p2pfs on {socket.gethostname()}")
        if config_dir is not None:
            values = {"host": address, "port": str(server.port)}
            stack.enter_context(written(server_config(config_dir), values))
        yield server


@contextlib.contextmanager
def _alone(config_dir: Path) -> Iterator[None]:
    from p2pfs.net.config_files import address_in, held, server_config

    path = server_config(config_dir)
    with held(path) as ours:
        if not ours:
            there = address_in(path)
            at = f", at {there}" if there else ""
            raise StorageError(
                f"another index runs with the config dir {config_dir}{at}: use that one, stop "
                "it, or choose another --config-dir"
            )
        yield


def index(
    host: of.ListenHost = "0.0.0.0",
    port: of.ListenPort = 9999,
    config_dir: Annotated[
        Path,
        typer.Option(
            "--config-dir",
            metavar="DIR",
            file_okay=False,
            help="Write server.config here, by which nodes on this machine find the index.",
        ),
    ] = CONFIG_DIR,
    no_mdns: Annotated[
        bool, typer.Option("--no-mdns", help="Do not announce the index on the network.")
    ] = False,
    interval: of.Interval = None,
    min_interval: of.MinInterval = None,
    data_dir: of.DataDir = None,
    closed: of.Closed = False,
    advertise: of.Advertise = None,
    publish_token: of.PublishToken = None,
    allow_hosts: of.AllowHosts = None,
    no_udp: of.NoUdp = False,
    as_json: Json = False,
    verbose: Verbose = 0,
    log_file: LogFile = None,
) -> None:
    """Run the index: a tracker by which people find shared files by name, until Ctrl-C.

    It is found through CONFIG/server.config, and on the local network by itself.

    \b
    Examples:
      p2pfs index
      p2pfs index -d 0 --config-dir /srv/share/config
      p2pfs index --advertise 203.0.113.7 --allow-host share.example
    """
    start_logging(verbose, log_file)
    screen = open_screen("index", as_json=as_json, console=False)

    def make() -> TrackerServer:
        return of.make_server(
            host=host,
            port=port,
            interval=interval,
            min_interval=min_interval,
            data_dir=config_dir if data_dir is None else data_dir,
            closed=closed,
            advertise=advertise,
            publish_token=publish_token,
            allow_hosts=allow_hosts,
            no_udp=no_udp,
        )

    async def work() -> int:
        from p2pfs.net.own_address import reached_at

        address = reached_at(host, advertise)
        async with open_index(make, address, config_dir, mdns=not no_mdns) as server:
            where = address_text((address, server.port))
            screen.note(f"others reach this index with -i {where}")
            screen.ready(server.addresses, **of.udp_detail(server, address))
            await asyncio.Event().wait()
        return 0

    run_async(work, screen.finish)
