"""The system calls on content, one method each, and their errors in words.

Invariant: nothing else in this package touches content. Tests subclass `Files` and replace
`sys_*` calls to inject faults or to keep a log.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from p2pfs.errors import StorageError

__all__ = [
    "Buffer",
    "FileStat",
    "NoSuchFile",
    "SystemCalls",
    "as_stat",
    "explain",
    "explained",
    "is_executable",
    "retried",
]

Buffer = bytes | bytearray | memoryview
T = TypeVar("T")

_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_KIND, _REGULAR, _FOLDER = 0o170000, stat.S_IFREG, stat.S_IFDIR


class NoSuchFile(StorageError):
    """There is no regular file by this name: nothing, a folder, a link on the way to it."""


class FileStat(NamedTuple):
    """What identifies a file's content cheaply; `mtime_ns` is the modification time."""

    size: int
    mtime_ns: int
    inode: int
    is_file: bool
    is_folder: bool


def as_stat(found: os.stat_result) -> FileStat:
    kind = found.st_mode & _KIND
    seen = (found.st_size, found.st_mtime_ns, found.st_ino, kind == _REGULAR, kind == _FOLDER)
    return tuple.__new__(FileStat, seen)  # as FileStat(*seen), in half the time


def is_executable(found: os.stat_result) -> bool:
    """Whether a regular file may be executed by its owner; False where no such bits are known."""
    return os.name != "nt" and found.st_mode & (_KIND | stat.S_IXUSR) == _REGULAR | stat.S_IXUSR


def explain(verb: str, path: Path, error: OSError) -> StorageError:
    """The `StorageError` for a failed system call, in words a person can act on."""
    if error.errno in _FULL:
        return StorageError(
            f"cannot {verb} {path}: the disk is full: make room on it", disk_full=True
        )
    if error.errno == errno.ELOOP:
        return NoSuchFile(f"cannot {verb} {path}: it is a symbolic link")
    if error.errno == errno.ENOTDIR:
        return NoSuchFile(f"cannot {verb} {path}: a folder on the way is a file or a link")
    if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
        return StorageError(
            f"cannot {verb} {path}: something has this name already; "
            "move it away, or choose another folder"
        )
    if error.errno == errno.EFBIG:
        return StorageError(f"cannot {verb} {path}: too large for this file system")
    reason = error.strerror or type(error).__name__
    kind = NoSuchFile if error.errno in (errno.ENOENT, errno.EISDIR) else StorageError
    return kind(f"cannot {verb} {path}: {reason}")


@contextlib.contextmanager
def explained(verb: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise explain(verb, path, error) from error


def retried(call: Callable[..., T], *args: Any) -> T:
    while True:
        try:
            return call(*args)
        except InterruptedError:
            continue


_seek_lock = threading.Lock()


def _pread_into(fd: int, view: memoryview, offset: int) -> int:
    with _seek_lock:
        os.lseek(fd, offset, os.SEEK_SET)
        data = os.read(fd, len(view))
    view[: len(data)] = data
    return len(data)


def _pwrite(fd: int, data: Buffer, offset: int) -> int:
    with _seek_lock:
        os.lseek(fd, offset, os.SEEK_SET)
        return os.write(fd, data)


def _preadv_one(fd: int, view: memoryview, offset: int) -> int:
    return os.preadv(fd, (view,), offset)


def _sync(fd: int) -> None:
    if sys.platform == "darwin":  # fsync stops at the drive's cache there
        import fcntl

        try:
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EINVAL):
                raise
            os.fsync(fd)
    elif hasattr(os, "fdatasync"):
        os.fdatasync(fd)
    else:
        os.fsync(fd)


class SystemCalls:
    """Thin: raises `OSError`. Names are relative to `dir_fd`, or whole where that is None."""

    def sys_open(self, name: str, flags: int, dir_fd: int | None) -> int:
        return os.open(name, flags, 0o666, dir_fd=dir_fd)

    def sys_close(self, fd: int) -> None:
        os.close(fd)

    sys_pread = staticmethod(_preadv_one if hasattr(os, "preadv") else _pread_into)
    sys_pwrite = staticmethod(getattr(os, "pwrite", _pwrite))
    sys_sync = staticmethod(_sync)

    def sys_sync_all(self) -> None:
        os.sync()

    def sys_truncate(self, fd: int, length: int) -> None:
        os.ftruncate(fd, length)

    def sys_sync_folder(self, fd: int) -> None:
        os.fsync(fd)

    def sys_stat(self, name: str, dir_fd: int | None) -> os.stat_result:
        return os.stat(name, follow_symlinks=False, dir_fd=dir_fd)

    def sys_fstat(self, fd: int) -> os.stat_result:
        return os.fstat(fd)

    def sys_may_read(self, name: str, dir_fd: int | None) -> bool:
        effective = os.access in os.supports_effective_ids
        return os.access(name, os.R_OK, dir_fd=dir_fd, effective_ids=effective)

    def sys_scandir(
        self, folder: int | Path
    ) -> contextlib.AbstractContextManager[Iterator[os.DirEntry[str]]]:
        return os.scandir(folder)

    def sys_mkdir(self, name: str, dir_fd: int | None) -> None:
        os.mkdir(name, dir_fd=dir_fd)

    def sys_link(self, old: str, new: str, old_fd: int | None, new_fd: int | None) -> None:
        os.link(old, new, src_dir_fd=old_fd, dst_dir_fd=new_fd, follow_symlinks=False)

    def sys_rename(self, old: str, new: str, old_fd: int | None, new_fd: int | None) -> None:
        os.rename(old, new, src_dir_fd=old_fd, dst_dir_fd=new_fd)

    def sys_unlink(self, name: str, dir_fd: int | None) -> None:
        os.unlink(name, dir_fd=dir_fd)

    def sys_rmdir(self, name: str, dir_fd: int | None) -> None:
        os.rmdir(name, dir_fd=dir_fd)
