"""Case 25: other clients and ours, both ways; also killed and restarted, and hybrid torrents."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from interop_cells import ALL, NAME, Cell, NotRun, make_content, run_cell, run_opentracker, same
from interop_clients import CLIENTS, LIBTORRENT, ForeignClient

from tests.e2e.processes import Lab, Running, no_traceback
from tests.support.namespaces import why_not

pytestmark = pytest.mark.torture
needs_libtorrent = pytest.mark.skipif(
    importlib.util.find_spec("libtorrent") is None, reason="libtorrent is not installed"
)

SIZE = 64 << 20
RATE = "16M"


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_content(tmp_path_factory.mktemp("content"), SIZE)


def name_of(cell: Cell) -> str:
    way = "seeds" if cell.seeds else "downloads"
    return f"{way}-{'magnet' if cell.magnet else 'torrent'}-{cell.scheme}"


@pytest.mark.parametrize("cell", ALL, ids=name_of)
@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_a_foreign_client_and_ours_have_the_same_bytes(
    client: ForeignClient, cell: Cell, content: Path, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    try:
        run_cell(
            client, cell, content, tmp_path, loopback=why_not() is not None and client.loopback
        )
    except NotRun as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("scheme", ["http", "udp"])
def test_our_clients_meet_at_a_foreign_tracker(scheme: str, content: Path, tmp_path: Path) -> None:
    try:
        run_opentracker(scheme, content, tmp_path)
    except NotRun as reason:
        pytest.skip(str(reason))


# -- killed and started again


def foreign(lab: Lab, torrent: str, folder: Path, *more: str) -> Running:
    process = lab.start(sys.executable, str(LIBTORRENT), torrent, str(folder), *more)
    process.event("ready")
    return process


@needs_libtorrent
def test_libtorrent_killed_half_way_goes_on_with_us(
    lab: Lab, content: Path, figures: Callable[[str], None]
) -> None:
    lab.tracker()
    torrent = lab.torrent(str(content))
    (lab.folder / "seeds").symlink_to(content.parent)
    seeder = lab.seed("-f", torrent, "--up-limit", RATE)
    (lab.folder / "theirs").mkdir()
    theirs = foreign(lab, torrent, lab.folder / "theirs")
    theirs.event("progress", lambda event: event["done"] > SIZE / 2)
    theirs.kill()

    foreign(lab, torrent, lab.folder / "theirs").event("complete")

    same(content, lab.folder / "theirs" / NAME)
    sent = seeder.leave()["torrents"][0]["uploaded"]
    figures(f"killed half-way: {sent / SIZE:.2f} copies sent in all")
    no_traceback(seeder)


@needs_libtorrent
def test_we_killed_half_way_go_on_with_libtorrent(
    lab: Lab, content: Path, figures: Callable[[str], None]
) -> None:
    lab.tracker()
    torrent = lab.torrent(str(content))
    theirs = foreign(lab, torrent, content.parent, "--up-limit", str(SIZE // 4))
    ours = lab.download(torrent)
    ours.progress(lambda event: event["bytes_done"] > SIZE / 2)
    ours.kill()

    again = lab.download(torrent)

    assert again.wait() == 0, str(again)
    same(content, lab.folder / "output" / NAME)
    sent = theirs.leave()["uploaded"]
    figures(f"killed half-way: {sent / SIZE:.2f} copies sent in all")
    assert sent <= 1.2 * SIZE
    no_traceback(again)


# -- torrents of both versions (BEP 52), of which we use the first half


def hybrid(lab: Lab, content: Path) -> str:
    """A .torrent of libtorrent's making that has both."""
    import libtorrent as lt  # type: ignore[import-untyped,unused-ignore]

    torrent = lt.create_torrent(lt.list_files(str(content)), 1 << 18)
    torrent.add_tracker(lab.announce_url)
    lt.set_piece_hashes(torrent, str(content.parent))
    made = torrent.generate()
    assert {b"pieces", b"file tree"} <= made[b"info"].keys()
    (lab.folder / "hybrid.torrent").write_bytes(lt.bencode(made))
    return "hybrid.torrent"


@needs_libtorrent
def test_a_hybrid_torrent_is_downloaded_from_libtorrent(lab: Lab, content: Path) -> None:
    lab.tracker()
    torrent = hybrid(lab, content)
    foreign(lab, torrent, content.parent).event("complete")

    ours = lab.download(torrent)

    assert ours.wait() == 0, str(ours)
    same(content, lab.folder / "output" / NAME)


@needs_libtorrent
def test_a_hybrid_torrent_is_downloaded_by_libtorrent(lab: Lab, content: Path) -> None:
    lab.tracker()
    torrent = hybrid(lab, content)
    (lab.folder / "seeds").symlink_to(content.parent)
    seeder = lab.seed("-f", torrent)
    (lab.folder / "theirs").mkdir()

    foreign(lab, torrent, lab.folder / "theirs").event("complete")

    same(content, lab.folder / "theirs" / NAME)
    no_traceback(seeder)
