"""How progress, peers and sources look, as text and as JSON objects.

Invariant: pure functions of the engine's snapshots; whatever a peer or a torrent named
itself passes through `printable` here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from p2pfs.cli.text import counted, format_pieces, printable, shorten, width
from p2pfs.cli.units import format_duration, format_rate, format_size

if TYPE_CHECKING:
    from p2pfs.net.progress import FileProgress, PeerInfo, Progress
    from p2pfs.net.tried import Fetched

__all__ = [
    "bar_line",
    "bar_lines",
    "describe_missing",
    "file_object",
    "files_table",
    "metadata_line",
    "peer_object",
    "peers_table",
    "progress_line",
    "progress_object",
    "sources_table",
    "table",
    "upload_line",
]

_MISSING_LISTED = 10_000
"""Missing pieces listed one by one in a JSON event; the count is always exact."""

_BARS = 8
"""Downloads that get a bar of their own."""


def share_done(progress: Progress) -> float:
    """The part of the content that is here, 0..1."""
    if progress.bytes_total:
        return progress.bytes_done / progress.bytes_total
    return 1.0 if progress.pieces_done == progress.pieces_total else 0.0


def percent(progress: Progress) -> str:
    """`42.0 %`, rounded down, so that 100 % means all of it."""
    return f"{int(share_done(progress) * 1000) / 10:.1f} %"


def progress_line(progress: Progress) -> str:
    """One line that says where a torrent stands: part, pieces, bytes, rates, time, peers."""
    parts = [
        f"{printable(progress.name)}: {progress.state} {percent(progress)}",
        f"{progress.pieces_done}/{progress.pieces_total} pieces",
        f"{format_size(progress.bytes_done)} of {format_size(progress.bytes_total)}",
        f"down {format_rate(progress.down_rate)}",
        f"up {format_rate(progress.up_rate)}",
        counted(progress.peers, "peer"),
    ]
    if progress.state == "downloading":
        parts.insert(5, f"ETA {format_duration(progress.eta)}")
    if progress.web_seeds:
        parts.append(counted(progress.web_seeds, "web seed"))
    if progress.wasted:
        parts.append(f"{format_size(progress.wasted)} wasted")
    if progress.hash_failures:
        parts.append(counted(progress.hash_failures, "bad piece"))
    if progress.error:
        parts.append(printable(progress.error))
    elif progress.tracker and not progress.peers and not progress.web_seeds:
        parts.append(printable(progress.tracker))
    return ", ".join(parts)


def metadata_line(fetched: Fetched, *, tried: bool = False) -> str:
    """One line that says how far the metadata of a magnet link is, and from how many peers.

    `tried`: with all that was tried and what came of it.
    """
    name = printable(fetched.name)
    if not fetched.sources:
        parts = [f"{name}: looking for a peer with the metadata"]
    else:
        parts = [f"{name}: fetching metadata from {counted(fetched.sources, 'peer')}"]
    if fetched.bytes_total:
        parts.append(f"{format_size(fetched.bytes_done)} of {format_size(fetched.bytes_total)}")
    elif fetched.peers > fetched.sources and not tried:
        parts.append(f"{fetched.peers} connected")
    elif fetched.tracker and not fetched.peers and not tried:
        parts.append(printable(fetched.tracker))
    if tried:
        parts.append(printable(fetched.tried))
    return ", ".join(parts)


def bar_line(all_progress: Sequence[Progress], columns: int) -> str:
    """The live bar, at most `columns` wide: all torrents together."""
    loading = [p for p in all_progress if p.state not in ("seeding", "stopped")]
    shown = loading or list(all_progress)
    total = sum(p.bytes_total for p in shown)
    done = sum(p.bytes_done for p in shown)
    share = done / total if total else 1.0
    down = sum(p.down_rate for p in all_progress)
    up = sum(p.up_rate for p in all_progress)
    peers = sum(p.peers for p in all_progress)
    name = printable(shown[0].name) if len(shown) == 1 else f"{len(shown)} files"
    tail = [f"{int(share * 1000) / 10:5.1f} %"]
    tail.append(f"{sum(p.pieces_done for p in shown)}/{sum(p.pieces_total for p in shown)}")
    if loading:
        tail.append(f"down {format_rate(down)}")
    if up or not loading:
        tail.append(f"up {format_rate(up)}")
    if loading:
        eta = (total - done) / down if down > 0 else None
        tail.append(f"ETA {format_duration(eta)}")
    tail.append(counted(peers, "peer"))
    text = "  ".join(tail)
    name = shorten(name, max(8, columns // 4))
    room = columns - len(text) - width(name) - 5
    if room >= 4:
        filled = int(share * room)
        return f"{name} [{'#' * filled}{'-' * (room - filled)}] {text}"
    return shorten(f"{name} {text}", columns)


def bar_lines(all_progress: Sequence[Progress], columns: int) -> list[str]:
    """A bar for each of several downloads, then the one for all together."""
    loading = [p for p in all_progress if p.state not in ("seeding", "stopped")]
    single = loading[:_BARS] if len(loading) > 1 else []
    return [*(bar_line([p], columns) for p in single), bar_line(all_progress, columns)]


def describe_missing(progress: Progress) -> str:
    """What nobody has, and how many were asked, in one line."""
    count = len(progress.missing)
    them = "it" if count == 1 else "them"
    asked = (
        "no peer is known yet"
        if not progress.asked
        else f"the one peer asked does not have {them}"
        if progress.asked == 1
        else f"none of the {progress.asked} peers asked has {them}"
    )
    return (
        f"Missing {count} of {counted(progress.pieces_total, 'piece')} of "
        f"{printable(progress.name)} ({format_pieces(progress.missing)}): {asked}; "
        f"waiting for a peer that has {them}"
    )


def upload_line(progress: Progress) -> str:
    """What was sent of one torrent, in bytes and in copies of its content."""
    copies = progress.uploaded / progress.bytes_total if progress.bytes_total else 0.0
    takers = sum(1 for source in progress.sources if source.bytes_up)
    return (
        f"{printable(progress.name)}: sent {format_size(progress.uploaded)} "
        f"({copies:.2f} copies) to {counted(takers, 'peer')}"
    )


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    colour: bool = False,
    left: Collection[int] = (0, 1),
) -> str:
    """A table of printable text, the columns in `left` aligned so; escape codes by `colour`."""
    from io import StringIO

    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for number, title in enumerate(header):
        made.add_column(title, justify="left" if number in left else "right", no_wrap=True)
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    columns = sum(max(map(cell_len, column)) + 2 for column in zip(header, *rows, strict=True))
    out = StringIO()
    console = Console(
        file=out,
        width=columns,
        force_terminal=colour,
        color_system="standard" if colour else None,
        legacy_windows=False,
        _environ={},
    )
    console.print(made)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def sources_table(progress: Progress, *, colour: bool = False) -> str:
    """What came from whom, largest part first; the empty string when nothing has."""
    sources = [s for s in progress.sources if s.bytes_down or s.bytes_up]
    if not sources:
        return ""
    total = sum(s.bytes_down for s in sources)
    rows = [
        (
            printable(s.address),
            shorten(printable(s.client), 30),
            format_size(s.bytes_down),
            f"{100 * s.bytes_down / total:.1f} %" if total else "-",
            format_size(s.bytes_up),
        )
        for s in sorted(sources, key=lambda s: (-s.bytes_down, -s.bytes_up, s.address))
    ]
    return table(("peer", "client", "received", "share", "sent"), rows, colour=colour)


def files_table(progress: Progress, *, colour: bool = False) -> str:
    """The files of a torrent of several, as far as they were asked for; else the empty string."""
    if not progress.files or progress.files_total < 2:
        return ""
    rows = [
        (
            str(file.number),
            shorten(printable(file.name), 60),
            format_size(file.size),
            f"{int(1000 * file.done / file.size) / 10 if file.size else 100.0:.1f} %",
            "" if file.wanted or progress.state == "seeding" else "not chosen",
        )
        for file in progress.files
    ]
    text = table(("no", "file", "size", "done", ""), rows, colour=colour, left=(1, 4))
    more = progress.files_total - len(progress.files)
    return f"{text}\nand {more} more" if more > 0 else text


def file_object(file: FileProgress) -> dict[str, Any]:
    """One file of a torrent for JSON."""
    return {
        "number": file.number,
        "name": file.name,
        "bytes": file.size,
        "bytes_done": file.done,
        "wanted": file.wanted,
        "path": file.path.as_posix(),
    }


def peers_table(peers: Sequence[tuple[Progress, PeerInfo]], *, colour: bool = False) -> str:
    """The connections, one a line."""
    rows = [
        (
            printable(peer.address),
            shorten(printable(peer.client), 30),
            shorten(printable(progress.name), 30),
            printable(peer.direction),
            f"{peer.pieces}/{progress.pieces_total}",
            format_rate(peer.down_rate),
            format_rate(peer.up_rate),
            format_size(peer.bytes_down),
            format_size(peer.bytes_up),
        )
        for progress, peer in peers
    ]
    if not rows:
        return "no connections"
    header = ("peer", "client", "torrent", "direction", "has", "down", "up", "received", "sent")
    return table(header, rows, colour=colour)


def progress_object(progress: Progress) -> dict[str, Any]:
    """A torrent's state for `--json`: bytes, bytes a second, seconds."""
    missing = list(progress.missing[:_MISSING_LISTED])
    return {
        "name": progress.name,
        "state": progress.state,
        "percent": int(share_done(progress) * 1000) / 10,
        "pieces_done": progress.pieces_done,
        "pieces_total": progress.pieces_total,
        "bytes_done": progress.bytes_done,
        "bytes_total": progress.bytes_total,
        "down_rate": round(progress.down_rate),
        "up_rate": round(progress.up_rate),
        "eta": None if progress.eta is None else round(progress.eta, 1),
        "peers": progress.peers,
        "downloaded": progress.downloaded,
        "uploaded": progress.uploaded,
        "wasted": progress.wasted,
        "hash_failures": progress.hash_failures,
        "missing": missing,
        "missing_count": len(progress.missing),
        "asked": progress.asked,
        "error": progress.error,
        "tracker": progress.tracker,
        "sources": [
            {
                "address": source.address,
                "client": source.client,
                "bytes_down": source.bytes_down,
                "bytes_up": source.bytes_up,
            }
            for source in progress.sources
        ],
    }


def peer_object(name: str, peer: PeerInfo) -> dict[str, Any]:
    """A connection for `--json`."""
    return {
        "torrent": name,
        "address": peer.address,
        "client": peer.client,
        "direction": peer.direction,
        "pieces": peer.pieces,
        "down_rate": round(peer.down_rate),
        "up_rate": round(peer.up_rate),
        "bytes_down": peer.bytes_down,
        "bytes_up": peer.bytes_up,
    }
