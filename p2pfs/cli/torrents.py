"""`make-torrent`, `show` and `verify`: .torrent files and the content they describe.

Invariant: these commands never go to the network and never write content.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from p2pfs.cli import content, torrent_files
from p2pfs.cli.hashing import emit, hash_bar
from p2pfs.cli.options import Force, Json, LogFile, Verbose
from p2pfs.cli.run import error_text, exit_code_for, start_logging
from p2pfs.cli.text import counted, format_pieces, pieces_differ, printable
from p2pfs.cli.units import format_size, parse_size
from p2pfs.cli.where import check_url
from p2pfs.errors import P2pfsError, UsageError

if TYPE_CHECKING:
    from p2pfs.formats.metainfo import Metainfo
    from p2pfs.storage.pieces import PieceStore

__all__ = ["make_torrent", "show", "verify"]

_MAX_FILES_SHOWN = 20
_NO_FILE = "a link or no regular file"


def _say(text: str) -> None:
    typer.echo(printable(text))


@contextmanager
def _final_object(as_json: bool) -> Iterator[None]:
    """With `--json`, an error is also the final object."""
    try:
        yield
    except (P2pfsError, OSError) as error:
        if as_json:
            code = exit_code_for(error)
            emit("final", ok=False, exit_code=code, error=error_text(error))
        raise


def make_torrent(
    path: Annotated[str, typer.Argument(metavar="PATH", help="The file or folder to share.")],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write here, or into this folder (default: torrents/NAME.torrent).",
        ),
    ] = None,
    tracker: Annotated[
        list[str] | None,
        typer.Option("--tracker", "-t", metavar="URL", help="An announce URL; may be repeated."),
    ] = None,
    piece_length: Annotated[
        str | None,
        typer.Option(
            "--piece-length",
            "-l",
            metavar="SIZE",
            help="A power of two from 16KiB to 16MiB (default: by the size of the content).",
        ),
    ] = None,
    pad: Annotated[
        bool,
        typer.Option("--pad", help="Begin every file with a piece, by padding (BEP 47)."),
    ] = False,
    private: Annotated[
        bool, typer.Option("--private", help="Peers come from the named trackers only (BEP 27).")
    ] = False,
    web_seed: Annotated[
        list[str] | None,
        typer.Option("--web-seed", "-w", metavar="URL", help="A web seed (BEP 19); repeatable."),
    ] = None,
    comment: Annotated[
        str | None, typer.Option("--comment", "-c", metavar="TEXT", help="Free text.")
    ] = None,
    date: Annotated[
        bool,
        typer.Option("--date", help="Write the time of making; the bytes then differ each time."),
    ] = False,
    force: Force = False,
    as_json: Json = False,
    verbose: Verbose = 0,
    log_file: LogFile = None,
) -> None:
    """Make a .torrent of a file or folder.

    Equal content, name and options give equal files: one swarm for everyone.

    \b
    Examples:
      p2pfs make-torrent movie.mkv
      p2pfs make-torrent photos/ -t http://10.0.0.5:9999/announce -l 1MiB
    """
    from p2pfs.storage.creating import hash_tree

    start_logging(verbose, log_file)
    gc.set_threshold(100_000)  # thousands of files are many objects, and no garbage
    with _final_object(as_json):
        length = _piece_length(piece_length)
        for url in tracker or ():
            check_url(url, ("http", "https", "udp"))
        for url in web_seed or ():
            check_url(url, ("http", "https"), example="http://host/folder/")
        if not path:
            raise UsageError("the name of what to share is empty")
        shared = Path(path)
        target = torrent_files.torrent_place(output, shared)
        if target.exists():
            torrent_files.refuse_overwriting(target, shared, force=force)
        with hash_bar(f"hashing {path}", as_json=as_json, still=True) as progress:
            tree = hash_tree(
                shared, length, progress=progress, pad=pad, modes=True, leave_out=target
            )
        metainfo = content.build_metainfo(
            tree,
            private=private,
            trackers=tracker or (),
            web_seeds=web_seed or (),
            comment=comment,
            creation_date=int(datetime.now(UTC).timestamp()) if date else None,
        )
        torrent_files.write_torrent(target, metainfo, overwrite=force)
    if as_json:
        described = _description(metainfo)
        emit(
            "final",
            ok=True,
            exit_code=0,
            error=None,
            path=str(target),
            skipped=list(tree.skipped),
            **described,
        )
        return
    for name in tree.skipped:
        reason = "what this command writes" if _is_file(shared / name, target) else _NO_FILE
        _say(f"left out, because it is {reason}: {name}")
    files = counted(sum(not file.padding for file in metainfo.files), "file")
    pieces = counted(metainfo.geometry.piece_count, "piece")
    _say(
        f"{target}: {format_size(metainfo.total_length)} in {files}, "
        f"{pieces} of {format_size(metainfo.geometry.piece_length)}"
    )
    _say(f"info hash {metainfo.torrent_id}")


def _is_file(entry: Path, file: Path) -> bool:
    """Whether an entry of a folder is this file, not merely a link that leads to it."""
    try:
        return not entry.is_symlink() and entry.samefile(file)
    except OSError:
        return False


def _piece_length(text: str | None) -> int | None:
    if text is None:
        return None
    length = parse_size(text)
    if length & (length - 1) or not 16 * 1024 <= length <= 16 * 1024 * 1024:
        raise UsageError(
            f"a piece of {text} is not possible: a power of two from 16KiB to 16MiB is"
        )
    return length


def _description(metainfo: Metainfo) -> dict[str, Any]:
    from p2pfs.formats.file_choice import numbered_files

    return {
        "name": metainfo.name,
        "info_hash": str(metainfo.torrent_id),
        "bytes": metainfo.total_length,
        "pieces": metainfo.geometry.piece_count,
        "piece_length": metainfo.geometry.piece_length,
        "private": metainfo.private,
        "trackers": [list(tier) for tier in metainfo.trackers],
        "web_seeds": list(metainfo.web_seeds),
        "comment": metainfo.comment,
        "created_by": metainfo.created_by,
        "creation_date": metainfo.creation_date,
        "links": metainfo.links,
        "files": [
            {
                "number": number,
                "path": "/".join(metainfo.files[index].path),
                "bytes": metainfo.files[index].length,
                "executable": metainfo.files[index].executable,
                "hidden": metainfo.files[index].hidden,
            }
            for number, index in numbered_files(metainfo)
        ],
    }


def show(
    torrent: Annotated[
        Path, typer.Argument(metavar="FILE.torrent", readable=False, help="The file to show.")
    ],
    every_file: Annotated[bool, typer.Option("--all", help="List all files.")] = False,
    as_json: Json = False,
    verbose: Verbose = 0,
    log_file: LogFile = None,
) -> None:
    """Show what a .torrent file describes, its files with their numbers for `--files`.

    \b
    Example:
      p2pfs show torrents/movie.mkv.torrent
    """
    from p2pfs.formats.file_choice import numbered_files

    start_logging(verbose, log_file)
    with _final_object(as_json):
        metainfo = torrent_files.read_torrent(torrent)
    if as_json:
        described = _description(metainfo)
        emit("final", ok=True, exit_code=0, error=None, path=str(torrent), **described)
        return
    geometry = metainfo.geometry
    pieces = f"{geometry.piece_count} of {format_size(geometry.piece_length)}"
    rows = [
        ("name", metainfo.name),
        ("info hash", str(metainfo.torrent_id)),
        ("size", f"{format_size(metainfo.total_length)} ({metainfo.total_length} bytes)"),
        ("pieces", pieces),
        ("private", "yes" if metainfo.private else "no"),
    ]
    rows += [("tracker", ", ".join(tier)) for tier in metainfo.trackers]
    rows += [("web seed", url) for url in metainfo.web_seeds]
    if metainfo.comment is not None:
        rows.append(("comment", metainfo.comment))
    if metainfo.created_by is not None:
        rows.append(("created by", metainfo.created_by))
    if metainfo.creation_date is not None:
        rows.append(("created", _date(metainfo.creation_date)))
    for title, value in rows:
        _say(f"{title:<11}{value}")
    files = list(numbered_files(metainfo))
    _say(f"{'files':<11}{len(files)}")
    for number, index in files if every_file else files[:_MAX_FILES_SHOWN]:
        file = metainfo.files[index]
        mark = " *" if file.executable else ""
        _say(f"  {number:>4} {format_size(file.length):>10}  {'/'.join(file.path)}{mark}")
    if len(files) > _MAX_FILES_SHOWN and not every_file:
        _say(f"  and {len(files) - _MAX_FILES_SHOWN} more: --all or --json lists all")
    if any(file.executable for file in metainfo.files):
        _say("  * executable")
    if metainfo.links:
        _say(f"  {counted(metainfo.links, 'symbolic link')} in the torrent: never made here")


def _date(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return f"{seconds} seconds after 1970"


def verify(
    torrent: Annotated[
        Path, typer.Argument(metavar="FILE.torrent", readable=False, help="What it should be.")
    ],
    path: Annotated[
        Path, typer.Argument(metavar="PATH", readable=False, help="The file or folder to check.")
    ],
    as_json: Json = False,
    verbose: Verbose = 0,
    log_file: LogFile = None,
) -> None:
    """Check content on disk against a .torrent file; exits 1 when anything differs.

    \b
    Example:
      p2pfs verify torrents/movie.mkv.torrent output/movie.mkv
    """
    from p2pfs.storage.pieces import PieceStore

    start_logging(verbose, log_file)
    with _final_object(as_json):
        metainfo = torrent_files.read_torrent(torrent)
        with hash_bar(f"checking {path}", as_json=as_json) as progress:
            store = PieceStore.open_seed(metainfo, path, verify=True, progress=progress)
        good = store.verified.copy()
        damaged, unsure = _judged(store)
        store.close()
    total = metainfo.geometry.piece_count
    bad = list(good.missing())
    ok = not bad
    if as_json:
        emit(
            "final",
            ok=ok,
            exit_code=0 if ok else 1,
            name=metainfo.name,
            pieces=total,
            pieces_good=good.count,
            bad=bad,
            damaged_files=damaged,
            unsure_files=unsure,
            error=None if ok else pieces_differ(len(bad), total),
        )
    elif ok:
        _say(f"{path}: all {counted(total, 'piece')} right")
    else:
        _say_files("differs or is missing", damaged)
        _say_files("cannot be verified without its neighbours", unsure)
        reason = f"p2pfs: {path}: {pieces_differ(len(bad), total)} ({format_pieces(bad)})"
        typer.echo(printable(reason), err=True)
    raise typer.Exit(0 if ok else 1)


def _say_files(what: str, names: Sequence[str]) -> None:
    for name in names[:_MAX_FILES_SHOWN]:
        _say(f"{what}: {name}")
    if len(names) > _MAX_FILES_SHOWN:
        _say(f"and {len(names) - _MAX_FILES_SHOWN} more: --json lists all")


def _judged(store: PieceStore) -> tuple[list[str], list[str]]:
    """The files that differ or are missing, and those of which that cannot be told alone.

    A piece that lies also in a file that is not there says nothing about the others in it.
    """
    layout, entries = store.layout, store.metainfo.files

    def lacks(number: int) -> bool:
        found = store.stats[number]
        return found is None or not found.is_file or found.size != layout.lengths[number]

    lacking = set(filter(lacks, layout.stored))
    untold = {index for number in lacking for index in layout.pieces_of(number)}
    differing: list[str] = []
    unsure: list[str] = []
    for number in layout.stored:
        bad = [index for index in layout.pieces_of(number) if index not in store.verified]
        if bad:
            alone = number not in lacking and untold.issuperset(bad)
            (unsure if alone else differing).append("/".join(entries[number].path))
    return differing, unsure
