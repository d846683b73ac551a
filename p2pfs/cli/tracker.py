"""`tracker`: the meeting point of a swarm, with the catalogue of what is shared.

Invariant: the ready line comes after the tracker answers, and names every address it
listens on.
"""

from __future__ import annotations

import asyncio

from p2pfs.cli import tracker_options as of
from p2pfs.cli.options import Json, LogFile, Verbose
from p2pfs.cli.run import run_async, start_logging
from p2pfs.cli.screen import open_screen

__all__ = ["tracker"]


def tracker(
    host: of.ListenHost = "0.0.0.0",
    port: of.ListenPort = 9999,
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
    """Run a tracker with its catalogue, until it is stopped with Ctrl-C.

    \b
    Examples:
      p2pfs tracker
      p2pfs tracker -d 7070 --data-dir ~/.local/share/p2pfs
    """
    start_logging(verbose, log_file)
    screen = open_screen("tracker", as_json=as_json, console=False)

    async def work() -> int:
        from p2pfs.net.own_address import reached_at

        address = reached_at(host, advertise)
        server = of.make_server(
            host=host,
            port=port,
            interval=interval,
            min_interval=min_interval,
            data_dir=data_dir,
            closed=closed,
            advertise=advertise,
            publish_token=publish_token,
            allow_hosts=allow_hosts,
            no_udp=no_udp,
        )
        async with server:
            screen.ready(server.addresses, **of.udp_detail(server, address))
            await asyncio.Event().wait()
        return 0

    run_async(work, screen.finish)
