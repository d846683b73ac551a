"""The options that `tracker` and `index` share, and the server that they describe.

Invariant: both commands serve with the very same server; what differs is in their own modules.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from p2pfs.net.tracker_http import TrackerServer

__all__ = [
    "Advertise",
    "AllowHosts",
    "Closed",
    "DataDir",
    "Interval",
    "ListenHost",
    "ListenPort",
    "MinInterval",
    "NoUdp",
    "PublishToken",
    "make_server",
    "udp_detail",
]

ListenHost = Annotated[
    str,
    typer.Option(
        "--host",
        "--bind",
        metavar="ADDRESS",
        help="Listen on this address; 0.0.0.0 means all, IPv4 and IPv6.",
    ),
]
ListenPort = Annotated[
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
]
Interval = Annotated[
    int | None,
    typer.Option("--interval", metavar="SECONDS", help="How often peers are asked to announce."),
]
MinInterval = Annotated[
    int | None,
    typer.Option(
        "--min-interval", metavar="SECONDS", help="How often they may, when they are stuck."
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        file_okay=False,
        help="Keep the catalogue here (default: `tracker` in memory, `index` in --config-dir).",
    ),
]
Closed = Annotated[
    bool, typer.Option("--closed", help="Refuse torrents that the catalogue does not have.")
]
Advertise = Annotated[
    str | None,
    typer.Option(
        "--advertise",
        metavar="ADDRESS",
        help="The address under which others reach this machine.",
    ),
]
PublishToken = Annotated[
    str | None,
    typer.Option(
        "--publish-token",
        metavar="TOKEN",
        envvar="P2PFS_TOKEN",
        help="Only who has this token may publish, withdraw and register.",
    ),
]
AllowHosts = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-host",
        metavar="NAME",
        help="Also answer requests that call this machine NAME; may be repeated.",
    ),
]
NoUdp = Annotated[
    bool, typer.Option("--no-udp", help="Take announces over HTTP alone, not over UDP.")
]


def make_server(
    *,
    host: str,
    port: int,
    interval: int | None,
    min_interval: int | None,
    data_dir: Path | None,
    closed: bool,
    advertise: str | None,
    publish_token: str | None,
    allow_hosts: list[str] | None,
    no_udp: bool,
) -> TrackerServer:
    """The server that the options describe, not started yet.

    Raises what `TrackerServer` raises, and `UsageError` for a token that cannot be one.
    """
    from p2pfs.net.index_client import check_token
    from p2pfs.net.tracker_http import TrackerServer
    from p2pfs.tracker.service import DEFAULT_INTERVAL

    if publish_token is not None:
        publish_token = publish_token.strip()
        check_token(publish_token)
    return TrackerServer(
        host,
        port,
        interval=DEFAULT_INTERVAL if interval is None else interval,
        min_interval=min_interval,
        data_dir=data_dir,
        closed=closed,
        advertise=advertise,
        publish_token=publish_token,
        allow_hosts=allow_hosts or (),
        udp=not no_udp,
    )


def udp_detail(server: TrackerServer, address: str) -> dict[str, str]:
    """For the ready line: the URL for announces over UDP by those who reach us at `address`."""
    from p2pfs.cli.screen import address_text

    if server.udp_url is None:
        return {}
    return {"udp": f"udp://{address_text((address, server.port))}/announce"}
