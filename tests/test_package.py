"""The library: its public names, and a swarm in ten lines."""

from __future__ import annotations

from pathlib import Path

import pytest

import p2pfs


@pytest.mark.parametrize("name", p2pfs.__all__)
def test_every_public_name_can_be_had(name: str) -> None:
    assert getattr(p2pfs, name) is not None
    assert name in dir(p2pfs)


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        p2pfs.Nonsense  # noqa: B018


def test_every_error_has_one_root() -> None:
    for name in p2pfs.__all__:
        if name.endswith("Error"):
            assert issubclass(getattr(p2pfs, name), p2pfs.P2pfsError)


async def test_a_swarm_in_ten_lines(tmp_path: Path) -> None:
    source = tmp_path / "story.txt"
    source.write_bytes(b"once upon a time " * 5000)
    torrent = p2pfs.make_torrent(source)
    async with p2pfs.Tracker("127.0.0.1", 0) as tracker, p2pfs.Client() as a, p2pfs.Client() as b:
        have = p2pfs.select_pieces(torrent.geometry.piece_count, first="0.5")
        await a.seed(torrent, source, have=have, trackers=[tracker.url])
        await b.seed(torrent, source, trackers=[tracker.url])
        async with p2pfs.Client() as c:
            download = await c.download(torrent, tmp_path / "out", trackers=[tracker.url])
            path = await download.wait()
            progress = download.progress()
    assert path.read_bytes() == source.read_bytes()
    assert progress.pieces_done == progress.pieces_total
