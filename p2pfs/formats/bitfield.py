"""Which pieces somebody has: the bitfield of BEP 3.

Invariant: `raw` has exactly ceil(n / 8) bytes, its spare bits are zero, and `count`
is the number of bits set. Piece 0 is the high bit of the first byte. Reading `raw`
in a hot loop is welcome; writing to it is not, because `count` would not follow.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import compress

from p2pfs.errors import GeometryError, WireError

__all__ = ["Bitfield"]

_MASKS = tuple(128 >> bit for bit in range(8))
_SET_BITS = tuple(tuple(bit for bit in range(8) if byte & _MASKS[bit]) for byte in range(256))
_NON_ZERO = re.compile(rb"[^\0]").finditer
_DIGIT_VALUES = bytes.maketrans(b"01", b"\0\1")


class Bitfield:
    """A mutable set of piece indices out of 0..n-1.

    `len()` is n, the number of pieces of the torrent; `count` says how many are in the
    set. Iteration works on a snapshot, so the set may change while it runs.
    """

    __slots__ = ("_n", "count", "raw", "spare_bits_were_set")

    raw: bytearray
    """The packed bits, high bit first; for reading."""
    count: int
    """How many pieces are in the set, 0..n."""
    spare_bits_were_set: bool
    """Whether the bytes this was read from had bits beyond piece n-1 (they are masked)."""

    def __init__(self, n: int) -> None:
        if n < 0:
            raise GeometryError(f"a bitfield cannot have {n} pieces")
        self._n = n
        self.raw = bytearray((n + 7) >> 3)
        self.count = 0
        self.spare_bits_were_set = False

    @classmethod
    def full(cls, n: int) -> Bitfield:
        """All n pieces."""
        field = cls(n)
        field._load(b"\xff" * len(field.raw))
        return field

    @classmethod
    def of(cls, n: int, indices: Iterable[int]) -> Bitfield:
        """The given pieces of n; raises `GeometryError` for an index outside 0..n-1."""
        field = cls(n)
        for index in indices:
            field.add(index)
        return field

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview, n: int) -> Bitfield:
        """The payload of a bitfield message for a torrent of n pieces.

        Raises `WireError` unless there are exactly ceil(n / 8) bytes. Spare bits are
        masked and remembered in `spare_bits_were_set`.
        """
        field = cls(n)
        if len(data) != len(field.raw):
            raise WireError(f"a bitfield of {n} pieces has {len(field.raw)} bytes, not {len(data)}")
        field.spare_bits_were_set = field._load(data)
        return field

    def _load(self, data: bytes | bytearray | memoryview) -> bool:
        self.raw[:] = data
        spare = -self._n & 7
        had_spare_bits = bool(spare and self.raw[-1] & ((1 << spare) - 1))
        if had_spare_bits:
            self.raw[-1] &= 0xFF << spare & 0xFF
        self.count = self._as_int().bit_count()
        return had_spare_bits

    def _as_int(self) -> int:
        return int.from_bytes(self.raw, "big")

    def _combined(self, bits: int) -> Bitfield:
        result = Bitfield(self._n)
        result.raw[:] = bits.to_bytes(len(self.raw), "big")
        result.count = bits.bit_count()
        return result

    def _out_of_range(self, index: int) -> GeometryError:
        return GeometryError(f"piece {index} is outside 0..{self._n - 1}")

    def _check_same_size(self, other: Bitfield) -> None:
        if other._n != self._n:
            raise GeometryError(f"bitfields of {self._n} and of {other._n} pieces do not compare")

    def __len__(self) -> int:
        """n: pieces in the torrent, not in the set."""
        return self._n

    def __contains__(self, index: object) -> bool:
        """Whether the piece is in the set; False for what is no piece of this torrent."""
        return (
            isinstance(index, int)
            and 0 <= index < self._n
            and self.raw[index >> 3] & _MASKS[index & 7] != 0
        )

    def __getitem__(self, index: int) -> bool:
        """Whether the piece is in the set; raises `GeometryError` outside 0..n-1."""
        if not 0 <= index < self._n:
            raise self._out_of_range(index)
        return self.raw[index >> 3] & _MASKS[index & 7] != 0

    def add(self, index: int) -> bool:
        """Put a piece in; True when it is new. Raises `GeometryError` outside 0..n-1."""
        if not 0 <= index < self._n:
            raise self._out_of_range(index)
        mask = _MASKS[index & 7]
        byte = self.raw[index >> 3]
        if byte & mask:
            return False
        self.raw[index >> 3] = byte | mask
        self.count += 1
        return True

    def discard(self, index: int) -> bool:
        """Take a piece out; True when it was in. Raises `GeometryError` outside 0..n-1."""
        if not 0 <= index < self._n:
            raise self._out_of_range(index)
        mask = _MASKS[index & 7]
        byte = self.raw[index >> 3]
        if not byte & mask:
            return False
        self.raw[index >> 3] = byte ^ mask
        self.count -= 1
        return True

    @property
    def complete(self) -> bool:
        """Whether every piece is in the set (true of a torrent without pieces)."""
        return self.count == self._n

    def __iter__(self) -> Iterator[int]:
        """The pieces in the set, ascending."""
        if self.count << 4 < self._n:
            return _set_bits(bytes(self.raw))
        # One byte for each bit: itertools then walks a full set at the speed of C.
        bits = f"{self._as_int():0{len(self.raw) << 3}b}".encode().translate(_DIGIT_VALUES)
        return compress(range(self._n), bits)

    def missing(self) -> Iterator[int]:
        """The pieces not in the set, ascending."""
        return iter(self._combined(self._as_int() ^ ((1 << self._n) - 1 << (-self._n & 7))))

    def is_interesting(self, other: Bitfield) -> bool:
        """Whether `other` has a piece that is not in this set (same n, else `GeometryError`)."""
        self._check_same_size(other)
        if other.count > self.count:
            return True
        return other.count != 0 and other._as_int() & ~self._as_int() != 0

    def __or__(self, other: Bitfield) -> Bitfield:
        """Pieces in either (same n, else `GeometryError`)."""
        self._check_same_size(other)
        return self._combined(self._as_int() | other._as_int())

    def __and__(self, other: Bitfield) -> Bitfield:
        """Pieces in both (same n, else `GeometryError`)."""
        self._check_same_size(other)
        return self._combined(self._as_int() & other._as_int())

    def __sub__(self, other: Bitfield) -> Bitfield:
        """Pieces in this set and not in `other` (same n, else `GeometryError`)."""
        self._check_same_size(other)
        return self._combined(self._as_int() & ~other._as_int())

    def to_bytes(self) -> bytes:
        """The payload of a bitfield message: ceil(n / 8) bytes, spare bits zero."""
        return bytes(self.raw)

    def copy(self) -> Bitfield:
        """An independent set with the same pieces."""
        twin = Bitfield(self._n)
        twin.raw[:] = self.raw
        twin.count = self.count
        return twin

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Bitfield):
            return NotImplemented
        return self._n == other._n and self.raw == other.raw

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Bitfield {self.count} of {self._n}>"


def _set_bits(raw: bytes) -> Iterator[int]:
    for byte in _NON_ZERO(raw):
        base = byte.start() << 3
        for bit in _SET_BITS[raw[byte.start()]]:
            yield base + bit
