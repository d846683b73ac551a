"""Case 18: content is truncated, edited, replaced or deleted under the seeder that serves it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from p2pfs.formats.metainfo import Metainfo
from p2pfs.storage.hashing import verify_piece
from tests.e2e.processes import Lab, Running, no_traceback, until
from tests.support import fake_peer
from tests.support.fake_peer import Wire

pytestmark = pytest.mark.torture

NAME = "content.bin"
PIECE = 256 * 1024
PIECES = 64
SIZE = PIECES * PIECE


def truncate(path: Path) -> None:
    os.truncate(path, SIZE // 2 + 1000)


def edit_a_little(path: Path) -> None:
    with path.open("r+b") as file:
        for piece in (3, 30, 31, 60):
            file.seek(piece * PIECE + 5)
            file.write(b"changed")


def edit_everything(path: Path) -> None:
    with path.open("r+b") as file:
        for piece in range(PIECES):
            file.seek(piece * PIECE)
            file.write(b"changed")


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(bytes(SIZE))
    other.replace(path)


def delete(path: Path) -> None:
    path.unlink()


def right_pieces(path: Path, metainfo: Metainfo) -> set[int]:
    """What a file has of a torrent, now."""
    if not path.exists():
        return set()
    content = path.read_bytes()
    return {
        piece
        for piece in range(PIECES)
        if verify_piece(content[piece * PIECE : (piece + 1) * PIECE], metainfo.piece_digest(piece))
    }


def advertised(port: int, metainfo: Metainfo) -> set[int]:
    """The pieces that a seeder tells a newcomer it has."""
    wire = Wire.dial(port)
    try:
        wire.send(fake_peer.handshake(metainfo.torrent_id.v1, fake_peer.peer_id()))
        wire.take_handshake()
        wire.send(fake_peer.message(fake_peer.INTERESTED))
        while (told := wire.take()) is not None:
            if told.kind == fake_peer.BITFIELD:
                bits = "".join(f"{byte:08b}" for byte in told.body)
                return {piece for piece in range(PIECES) if bits[piece] == "1"}
            if told.kind == fake_peer.UNCHOKE:
                return set()
        return set()
    finally:
        wire.close()


@pytest.mark.parametrize("change", [truncate, edit_a_little, edit_everything, replace, delete])
def test_what_changed_under_a_seeder_is_not_offered_and_never_accepted(
    change: Callable[[Path], None], lab: Lab, figures: Callable[[str], None]
) -> None:
    lab.tracker("--interval", "10", "--min-interval", "5")
    lab.content(NAME, SIZE)
    torrent = lab.torrent(f"seeds/{NAME}", "-l", "256KiB")
    metainfo = lab.metainfo(torrent)
    (lab.folder / "kept").mkdir()
    shutil.copy(lab.folder / "seeds" / NAME, lab.folder / "kept" / NAME)
    path = lab.folder / "seeds" / NAME
    seeder = lab.seed("-f", torrent, "--up-limit", "3M")
    port = seeder.event("ready")["port"]
    leecher = lab.download(torrent)
    leecher.progress(lambda event: event["pieces_done"] >= 10)
    assert len(advertised(port, metainfo)) == PIECES

    change(path)
    changed = time.monotonic()
    mine = path.read_bytes() if path.exists() else None
    right = right_pieces(path, metainfo)

    until(lambda: advertised(port, metainfo) <= right, patience=20)
    noticed = time.monotonic() - changed
    offered = advertised(port, metainfo)
    good = lab.p2pfs("seed", *lab.where, "-f", f"kept/{NAME}", "-f", torrent, "--json")
    good.event("ready")
    assert leecher.wait() == 0, str(leecher)

    (state,) = leecher.last("final")["torrents"]
    figures(
        f"{change.__name__}: {len(right)} pieces are right, {len(offered)} offered after "
        f"{noticed:.1f} s; the leecher refused {state['hash_failures']} pieces"
    )
    assert lab.sha256(f"output/{NAME}") == lab.sha256(f"kept/{NAME}")
    assert offered == right
    assert (path.read_bytes() if path.exists() else None) == mine
    assert state["hash_failures"] <= 4
    told = seeder.last()
    assert NAME in (told["error"] or "")
    assert_still_runs(seeder)


def assert_still_runs(seeder: Running) -> None:
    assert seeder.leave()["exit_code"] == 0
    no_traceback(seeder)
    assert seeder.errors == []
