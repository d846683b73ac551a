"""What of one torrent is here, what is wanted and what is left: in pieces, bytes and files.

Invariant: only what is verified counts, and asking costs no I/O.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from p2pfs.formats.bitfield import Bitfield
from p2pfs.formats.file_choice import numbered_files
from p2pfs.net.progress import FileProgress
from p2pfs.storage.pieces import PieceStore

if TYPE_CHECKING:
    from p2pfs.swarm.transfer import Transfer

__all__ = ["Holdings"]


class Holdings:
    """`wanted`: the pieces that a seeder still wants; None for a download of what was chosen."""

    def __init__(self, store: PieceStore, wanted: Bitfield | None) -> None:
        self._store = store
        self._metainfo = store.metainfo
        self.downloads = wanted is None
        """Whether it was opened to be downloaded, complete by now or not."""
        self.wanted = store.wanted if wanted is None else wanted
        """The pieces that are wanted; None for all of them."""
        self.transfer: Transfer | None = None
        """Knows better than the store, once there is one."""

    @property
    def have(self) -> Bitfield:
        """The pieces that are here; for reading."""
        return self._store.verified if self.transfer is None else self.transfer.have

    @property
    def finished(self) -> bool:
        """Whether nothing is left to fetch: complete, or a partial seeder."""
        if self.transfer is None:
            return not self.downloads or self.satisfied
        return self.transfer.finished

    @property
    def satisfied(self) -> bool:
        """Whether every piece of what was chosen to be downloaded is here."""
        if self.wanted is None:
            return self.have.complete
        return self.downloads and not (self.wanted - self.have).count

    @property
    def left(self) -> int:
        """Bytes that trackers are told are still to come.

        Of a download what is wanted; once that is here all that is missing, so that a part is
        never taken for the whole.
        """
        have = self.have
        if self.downloads and self.wanted is not None and not self.satisfied:
            return self._bytes_of(self.wanted - have)
        return self._metainfo.total_length - self._bytes_of(have)

    def counts(self) -> tuple[int, int, int, int]:
        """Pieces that are here, of how many, and the same in bytes; of a download the wanted."""
        have, geometry = self.have, self._metainfo.geometry
        total, pieces = geometry.total_length, geometry.piece_count
        if self.downloads and self.wanted is not None:
            total, pieces = self._bytes_of(self.wanted), self.wanted.count
            have = have & self.wanted
        return have.count, pieces, self._bytes_of(have), total

    def _bytes_of(self, pieces: Bitfield) -> int:
        geometry = self._metainfo.geometry
        if pieces.complete:
            return geometry.total_length
        done = pieces.count * geometry.piece_length
        last = geometry.piece_count - 1
        if pieces.count and pieces[last]:
            done -= geometry.piece_length - geometry.piece_size(last)
        return done

    def files(self, limit: int | None = None) -> list[FileProgress]:
        """The files (the first `limit` of them), padding left out."""
        have, layout, found = self.have, self._store.layout, []
        chosen, length = self._store.chosen, layout.geometry.piece_length
        for number, index in islice(numbered_files(self._metainfo), limit):
            entry, pieces = self._metainfo.files[index], layout.pieces_of(index)
            begin = layout.starts[index]
            done = sum(
                min((piece + 1) * length, begin + entry.length) - max(piece * length, begin)
                for piece in pieces
                if piece in have
            )
            found.append(
                FileProgress(
                    number=number,
                    name="/".join(entry.path),
                    size=entry.length,
                    done=done,
                    wanted=self.downloads and (chosen is None or index in chosen),
                    path=self._store.file_path(index),
                )
            )
        return found
