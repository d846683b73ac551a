"""`tracker`: the meeting point of a swarm, with the catalogue of what is shared.

Invariant: the ready line comes after the tracker answers, and names every address it
listens on.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from p2pfs.cli.options import Json, LogFile, Verbose
from p2pfs.cli.run import run_async, start_logging
from p2pfs.cli.screen import open_screen

__all__ = ["tracker"]


def tracker(
    host: Annotated[
        str,
        typer.Option(
            "--host",
            "--bind",
            metavar="ADDRESS",
            help="Listen on this address; 0.0.0.0 means all, IPv4 and IPv6.",
        ),
    ] = "0.0.0.0",
    port: Annotated[
        int,
        typer.Option(
            "--port",
            "--tracker-port",
            "-d",
            metavar="PORT",
            min=0,
            max=65535,
            help="Listen on this port; 0: any free port.",
        ),
    ] = 9999,
    interval: Annotated[
        int | None,
        typer.Option(
            "--interval", metavar="SECONDS", help="How often peers are asked to announce."
        ),
    ] = None,
    min_interval: Annotated[
        int | None,
        typer.Option(
            "--min-interval", metavar="SECONDS", help="How often they may, when they are stuck."
        ),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir",
            metavar="DIR",
            file_okay=False,
            help="Keep the catalogue here (default: in memory).",
        ),
    ] = None,
    closed: Annotated[
        bool, typer.Option("--closed", help="Refuse torrents that the catalogue does not have.")
    ] = False,
    advertise: Annotated[
        str | None,
        typer.Option(
            "--advertise",
            metavar="ADDRESS",
            help="The address under which others reach peers on this machine.",
        ),
    ] = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    log_file: LogFile = None,
) -> None:
    """Run a tracker with its catalogue, until it is stopped with Ctrl-C.

    \b
    Examples:
      p2pfs tracker
      p2pfs tracker -d 7070 --data-dir ~/.local/share/p2pfs
    """
    start_logging(verbose, log_file)
    screen = open_screen("tracker", as_json=as_json, console=False)

    async def work() -> int:
        from p2pfs.net.tracker_http import TrackerServer
        from p2pfs.tracker.service import DEFAULT_INTERVAL

        server = TrackerServer(
            host,
            port,
            interval=DEFAULT_INTERVAL if interval is None else interval,
            min_interval=min_interval,
            data_dir=data_dir,
            closed=closed,
            advertise=advertise,
        )
        async with server:
            screen.ready(server.addresses)
            await asyncio.Event().wait()
        return 0

    run_async(work, screen.finish)
