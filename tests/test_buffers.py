"""Buffers begin where the kernel copies fastest, and are what their users take them for."""

from __future__ import annotations

import ctypes
import mmap

import pytest

from p2pfs.buffers import WORTH_IT, page_aligned


@pytest.mark.parametrize("size", [WORTH_IT, WORTH_IT + 1, 1 << 20])
def test_a_large_buffer_begins_with_a_page(size: int) -> None:
    buffer = page_aligned(size)

    assert ctypes.addressof(ctypes.c_char.from_buffer(buffer)) % mmap.PAGESIZE == 0


@pytest.mark.parametrize("size", [0, 1, WORTH_IT - 1, WORTH_IT, WORTH_IT + 1])
def test_a_buffer_has_its_size_is_zero_and_can_be_written(size: int) -> None:
    buffer = page_aligned(size)

    assert bytes(buffer) == bytes(size)
    buffer[:] = b"x" * size
    assert bytes(buffer) == b"x" * size
    assert (buffer.format, buffer.itemsize, buffer.readonly) == ("B", 1, False)
