"""The options that several commands share, with their names, help and checks.

Invariant: an option has one spelling and one meaning in every command that takes it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "Bind",
    "ConfigDir",
    "DownLimit",
    "Files",
    "First",
    "Force",
    "Host",
    "IndexHost",
    "IndexPort",
    "Json",
    "Last",
    "LogFile",
    "MetadataTimeout",
    "Missing",
    "NoLsd",
    "NoPex",
    "NoWebSeeds",
    "Output",
    "PeerFile",
    "PeerPort",
    "PrivateWebSeeds",
    "Sequential",
    "TrackerPort",
    "UpLimit",
    "Verbose",
]


def _complete_shared(incomplete: str) -> list[str]:
    """Names in seeds/, and .torrent files: what `-f` usually means."""
    found = [entry.name for entry in Path("seeds").glob("*") if not entry.name.startswith(".")]
    found += [str(entry) for entry in Path().glob("*.torrent")]
    found += [str(entry) for entry in Path("torrents").glob("*.torrent")]
    return sorted(name for name in found if name.startswith(incomplete))


def _complete_wanted(incomplete: str) -> list[str]:
    """Names that torrents/ knows, and .torrent files: what there is to download."""
    found = [entry.stem for entry in Path("torrents").glob("*.torrent")]
    found += [str(entry) for entry in Path().glob("*.torrent")]
    found += [str(entry) for entry in Path("torrents").glob("*.torrent")]
    return sorted(name for name in found if name.startswith(incomplete))


Verbose = Annotated[
    int,
    typer.Option(
        "--verbose",
        "-v",
        count=True,
        metavar="",
        show_default=False,
        help="Log to standard error; -vv logs more.",
    ),
]
LogFile = Annotated[
    Path | None,
    typer.Option("--log-file", metavar="FILE", dir_okay=False, help="Write the log to this file."),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object a line, and nothing else.")
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite the .torrent if it exists.")]
Host = Annotated[
    str | None,
    typer.Option(
        "--tracker-host",
        "-i",
        metavar="HOST",
        help="The tracker: a host, HOST:PORT or a URL; not needed if the torrent names one.",
    ),
]
TrackerPort = Annotated[
    int,
    typer.Option(
        "--tracker-port", "-d", metavar="PORT", min=1, max=65535, help="The tracker's port."
    ),
]
IndexHost = Annotated[
    str | None,
    typer.Option(
        "--index-host",
        "--tracker-host",
        "-i",
        metavar="HOST",
        help="The index: a host, HOST:PORT or a URL; without it config/server.config, "
        "P2PFS_INDEX in the environment, or what is found on this network.",
    ),
]
IndexPort = Annotated[
    int,
    typer.Option(
        "--index-port",
        "--tracker-port",
        "-d",
        metavar="PORT",
        min=1,
        max=65535,
        help="The index's port.",
    ),
]
ConfigDir = Annotated[
    Path,
    typer.Option(
        "--config-dir", metavar="DIR", file_okay=False, help="Where server.config is looked for."
    ),
]
PeerPort = Annotated[
    int,
    typer.Option(
        "--port",
        "-p",
        metavar="PORT",
        min=0,
        max=65535,
        help="Listen on the first free port of five from here on; 0: any free port.",
    ),
]
Bind = Annotated[
    str | None,
    typer.Option(
        "--bind",
        metavar="ADDRESS",
        help="Listen on this address only, and connect from it (default: all, IPv4 and IPv6).",
    ),
]
NoPex = Annotated[
    bool,
    typer.Option("--no-pex", help="Tell peers of no other peers, and do not hear of any."),
]
NoLsd = Annotated[
    bool,
    typer.Option(
        "--no-lsd",
        envvar="P2PFS_NO_LSD",
        show_envvar=False,
        help="Look for no peers by multicast on the local network (also: P2PFS_NO_LSD=1).",
    ),
]
NoWebSeeds = Annotated[
    bool,
    typer.Option("--no-web-seeds", help="Do not take from the web servers that a torrent names."),
]
PrivateWebSeeds = Annotated[
    bool,
    typer.Option(
        "--allow-private-web-seeds",
        help="Take from those in private networks and on this machine too.",
    ),
]
UpLimit = Annotated[
    str | None,
    typer.Option(
        "--up-limit", metavar="RATE", help="Send at most this: bytes a second as 500k, 2M, 1G."
    ),
]
DownLimit = Annotated[
    str | None, typer.Option("--down-limit", metavar="RATE", help="Receive at most this.")
]
Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="DIR", help="The folder to download into.")
]
Files = Annotated[
    list[str] | None,
    typer.Option(
        "--files",
        metavar="PATTERN",
        help="Fetch only these files of a torrent: a path, a folder, a pattern such as *.jpg, or "
        "numbers as `p2pfs show` prints them (3, 3-9); may be repeated.",
    ),
]
Sequential = Annotated[
    bool,
    typer.Option(
        "--sequential", help="Fetch in the order of the content, to read it while it comes."
    ),
]
Missing = Annotated[
    list[str] | None,
    typer.Option(
        "--missing",
        "-m",
        metavar="N ...",
        help="Pieces this seeder does not have: 3 7 12, or 3,7, or 3-9.",
    ),
]
First = Annotated[
    str | None,
    typer.Option(
        "--range-start",
        "-r1",
        metavar="X",
        help="The first piece this seeder has: a number, or a share such as 0.2 or 20%.",
    ),
]
Last = Annotated[
    str | None,
    typer.Option(
        "--range-end",
        "-r2",
        metavar="X",
        help="The last piece this seeder has: a number, or a share such as 0.4 or 40%.",
    ),
]
Shared = Annotated[
    list[str] | None,
    typer.Option(
        "--file",
        "-f",
        metavar="NAME|PATH|FILE.torrent",
        autocompletion=_complete_shared,
        help="What to share: a path or a name in seeds/ (default: everything in seeds/).",
    ),
]
PeerFile = Annotated[
    list[str] | None,
    typer.Option(
        "--file",
        "-f",
        metavar="NAME|PATH|FILE.torrent",
        autocompletion=_complete_shared,
        help="What to share or to fetch (default: 0short_story.txt).",
    ),
]
Wanted = Annotated[
    list[str] | None,
    typer.Option(
        "--file",
        "-f",
        metavar="NAME|FILE.torrent|MAGNET",
        autocompletion=_complete_wanted,
        help="The same as the argument.",
    ),
]
WantedArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME|FILE.torrent|MAGNET]...",
        autocompletion=_complete_wanted,
        help="What to fetch: a .torrent file, a magnet link, or a name that the tracker's "
        "catalogue knows.",
    ),
]
MetadataTimeout = Annotated[
    float,
    typer.Option(
        "--metadata-timeout",
        metavar="SECONDS",
        min=0,
        help="Give up on a magnet link after so long without any of its metadata.",
        show_default="never",
    ),
]
