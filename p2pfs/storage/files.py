"""The door to the disk: files opened, read, written and flushed.

Invariant: nothing but a regular file is ever opened, a write is whole or an error, and every
`OSError` leaves as a `StorageError` that names the file and says whether the disk is full.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from p2pfs.errors import StorageError
from p2pfs.storage.names import OPEN_FLAGS, Listed, Names, Parts, Root
from p2pfs.storage.system import (
    Buffer,
    FileStat,
    NoSuchFile,
    as_stat,
    explain,
    explained,
    retried,
)

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["FileStat", "Files", "Listed", "NoSuchFile", "OpenFile", "Parts", "Root"]

_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_FLAGS = OPEN_FLAGS | _NO_FOLLOW | getattr(os, "O_NONBLOCK", 0)
_LOCK_BYTE = 1 << 40


class OpenFile:
    """An open regular file; `found` is what it looked like then."""

    __slots__ = ("_parts", "_root", "fd", "found")

    def __init__(self, fd: int, root: Root, parts: Parts, found: FileStat) -> None:
        self.fd = fd
        self.found = found
        self._root = root
        self._parts = parts

    @property
    def path(self) -> Path:
        """What to call it in messages."""
        return self._root.full(self._parts)

    def fileno(self) -> int:
        return self.fd


class Files(Names):
    """All that this package does to disks. Methods block and are safe on any thread."""

    def open_read(self, root: Root, parts: Parts) -> OpenFile:
        """Open a regular file for reading only. `StorageError` when there is none."""
        return self._open(root, parts, os.O_RDONLY, "open", create=False)

    def open_write(self, root: Root, parts: Parts, *, create: bool = False) -> OpenFile:
        """Open a regular file for reading and writing; `create` also makes its folders."""
        flags = os.O_RDWR | (os.O_CREAT if create else 0)
        return self._open(root, parts, flags, "write", create=create)

    def _open(self, root: Root, parts: Parts, flags: int, verb: str, *, create: bool) -> OpenFile:
        flags |= _FLAGS

        def go(name: str, dir_fd: int | None) -> int:
            if not _NO_FOLLOW:
                self._refuse_link(name)
            return self.sys_open(name, flags, dir_fd)

        try:
            fd = self._named(root, parts, go, create)
        except OSError as error:
            raise explain(verb, root.full(parts), error) from error
        try:
            found = as_stat(retried(self.sys_fstat, fd))
        except OSError as error:
            self._close_fd(fd)
            raise explain(verb, root.full(parts), error) from error
        if not found.is_file:
            self._close_fd(fd)
            raise NoSuchFile(f"cannot {verb} {root.full(parts)}: it is not a regular file")
        return OpenFile(fd, root, parts, found)

    def open_zeros(self, root: Root, length: int) -> OpenFile:
        """A file without a name of `length` zeros, which take no space where holes exist."""
        with explained("make zeros for", root.path):
            if hasattr(os, "memfd_create"):
                fd = os.memfd_create("zeros", os.MFD_CLOEXEC)
            else:
                with tempfile.TemporaryFile() as file:
                    fd = os.dup(file.fileno())
            try:
                retried(self.sys_truncate, fd, length)
                found = as_stat(retried(self.sys_fstat, fd))
            except BaseException:
                self._close_fd(fd)
                raise
        return OpenFile(fd, root, ("padding",), found)

    def allow_execution(self, handle: OpenFile) -> None:
        """Let those execute a file who may read it; nothing where the system knows no such bits."""
        if hasattr(os, "fchmod"):
            with explained("set the mode of", handle.path):
                mode = stat.S_IMODE(os.fstat(handle.fd).st_mode) & 0o777
                os.fchmod(handle.fd, mode | (mode & 0o444) >> 2)

    def _refuse_link(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISLNK(self.sys_stat(path, None).st_mode):
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))

    def close(self, handle: OpenFile) -> None:
        """Close a file, once: a second call does nothing."""
        fd, handle.fd = handle.fd, -1
        if fd >= 0:
            self._close_fd(fd)

    def fstat(self, handle: OpenFile) -> FileStat:
        """Size and identity of an open file."""
        try:
            return as_stat(retried(self.sys_fstat, handle.fd))
        except OSError as error:
            raise explain("look at", handle.path, error) from error

    def pread_into(self, handle: OpenFile, view: memoryview, offset: int) -> int:
        """Fill `view` from `offset`; the count is short only at the end of the file."""
        done = 0
        while done < len(view):
            try:
                count = self.sys_pread(handle.fd, view[done:] if done else view, offset + done)
            except InterruptedError:
                continue
            except OSError as error:
                raise explain("read", handle.path, error) from error
            if count == 0:
                break
            done += count
        return done

    def pwrite(self, handle: OpenFile, data: Buffer, offset: int) -> None:
        """Write all of `data` at `offset`."""
        size = len(data)
        done = 0
        while done < size:
            try:
                rest = memoryview(data)[done:] if done else data
                count = self.sys_pwrite(handle.fd, rest, offset + done)
            except InterruptedError:
                continue
            except OSError as error:
                raise explain("write", handle.path, error) from error
            if count == 0:
                raise StorageError(f"cannot write {handle.path}: nothing more is taken")
            done += count

    def truncate(self, handle: OpenFile, length: int) -> None:
        """Set the length; what is added reads as zeros and takes no space where holes exist."""
        with explained("set the size of", handle.path):
            retried(self.sys_truncate, handle.fd, length)

    def sync(self, handle: OpenFile) -> None:
        """Make the content survive a power loss."""
        with explained("flush", handle.path):
            retried(self.sys_sync, handle.fd)

    def sync_all(self) -> None:
        """Start flushing everything at once, where the system can: makes many `sync` cheap."""
        if hasattr(os, "sync"):
            self.sys_sync_all()

    def lock(self, handle: OpenFile) -> bool:
        """Take the file for this process until it is closed; False when another has it.

        Where the file system knows no locks, everybody gets it.
        """
        if fcntl is None:
            return _lock_windows(handle.fd)
        try:
            fcntl.flock(handle.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def in_memory(self, fd: int, offset: int) -> bool:
        """Whether the byte at `offset` can be read without waiting; True when none can tell."""
        if not hasattr(os, "RWF_NOWAIT"):
            return True
        try:
            os.preadv(fd, (bytearray(1),), offset, os.RWF_NOWAIT)
        except BlockingIOError:
            return False
        except OSError:  # not every file system can tell, and a real error shows when reading
            return True
        return True

    @contextlib.contextmanager
    def mapped(self, handle: OpenFile, offset: int, length: int) -> Iterator[memoryview]:
        """A range of a file in place, for reading. `StorageError` where that cannot be.

        Nor is a file with holes mapped: in memory (tmpfs) those are filled by looking at them.
        Whoever reads there after the file was cut short is killed by the system (SIGBUS).
        """
        before = offset % mmap.ALLOCATIONGRANULARITY
        flags = getattr(mmap, "MAP_SHARED", 0) | getattr(mmap, "MAP_POPULATE", 0)
        with contextlib.ExitStack() as stack:
            try:
                status = self.sys_fstat(handle.fd)
                if status.st_blocks * 512 < status.st_size:
                    raise StorageError(f"cannot map {handle.path}: it has holes")
                whole = mmap.mmap(
                    handle.fd,
                    before + length,
                    flags=flags,
                    prot=mmap.PROT_READ,
                    offset=offset - before,
                )
            except (OSError, ValueError) as error:  # ValueError: it is not as long as that
                raise StorageError(f"cannot map {handle.path}: {error}") from error
            view = stack.enter_context(memoryview(stack.enter_context(whole)))
            yield stack.enter_context(view[before:])

    def advise(self, handle: OpenFile, offset: int, length: int) -> None:
        """Hint that a range is about to be read."""
        if hasattr(os, "posix_fadvise"):
            with contextlib.suppress(OSError):
                os.posix_fadvise(handle.fd, offset, length, os.POSIX_FADV_WILLNEED)


def _lock_windows(fd: int) -> bool:  # pragma: no cover - runs on Windows only
    import msvcrt

    lock: Any = msvcrt
    try:
        os.lseek(fd, _LOCK_BYTE, os.SEEK_SET)
        lock.locking(fd, lock.LK_NBLCK, 1)
    except OSError:
        return False
    return True
