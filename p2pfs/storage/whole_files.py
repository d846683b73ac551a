"""Small files that are written in one step: a reader sees all of one or none of it.

Invariant: what stands under a name is replaced by the caller's own rename or link, never
written into; and nothing half-written is left behind but by a crash.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

__all__ = ["written_aside"]


@contextlib.contextmanager
def written_aside(path: Path, data: bytes, *, private: bool = False) -> Iterator[Path]:
    """A new file in the folder of `path` (made if need be) that holds `data`, to be renamed.

    It is on the disk and as public as the user's mask says, or the user's alone if `private`,
    and gone after the block if it still has its first name. Raises `OSError`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".p2pfs-", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o600 if private else 0o666 & ~_mask())
        yield temporary
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def _mask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
