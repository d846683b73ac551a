"""The only system calls on content: opening, positioned reads and writes, syncing, renaming.

Invariant: a name is resolved below an opened `Root` one component at a time and never through
a symbolic link, nothing but a regular file is ever opened, a write is whole or an error, and
every `OSError` leaves as a `StorageError` that names the file. Tests subclass `Files` and
replace its `sys_*` calls to inject faults or to record them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from p2pfs.errors import StorageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["FileStat", "Files", "OpenFile", "Parts", "Root"]

Parts = tuple[str, ...]
"""A relative path as its components, each already judged safe by `formats.paths`."""

Buffer = bytes | bytearray | memoryview
T = TypeVar("T")

_DIR_FD = {os.open, os.mkdir, os.rename, os.unlink, os.stat, os.rmdir} <= os.supports_dir_fd
_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOINHERIT", 0)
_FILE_FLAGS = _FLAGS | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_FOLDER_FLAGS = _FLAGS | os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.EMLINK, errno.EOPNOTSUPP, errno.EACCES}
_KIND, _REGULAR, _FOLDER = 0o170000, stat.S_IFREG, stat.S_IFDIR
_CACHED_FOLDERS = 32
_LOCK_BYTE = 1 << 40


class FileStat(NamedTuple):
    """What identifies a file's content cheaply; `mtime_ns` is the modification time."""

    size: int
    mtime_ns: int
    inode: int
    is_file: bool
    is_folder: bool


class Root:
    """An opened folder below which names are resolved; caches the folders last used.

    Its lock covers each resolution, so that a cached folder is never closed while in use.
    """

    __slots__ = ("fd", "folders", "lock", "path")

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self.fd = fd
        self.folders: dict[Parts, int] = {}
        self.lock = threading.RLock()

    def full(self, parts: Parts) -> Path:
        """The path to show in a message."""
        return self.path.joinpath(*parts)


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


def _explain(verb: str, path: Path, error: OSError) -> StorageError:
    """The `StorageError` for a failed system call, in words a person can act on."""
    if error.errno in _FULL:
        return StorageError(f"cannot {verb} {path}: the disk is full", disk_full=True)
    if error.errno == errno.ELOOP:
        return StorageError(f"cannot {verb} {path}: it is a symbolic link")
    if error.errno == errno.ENOTDIR:
        return StorageError(f"cannot {verb} {path}: a folder on the way is a file or a link")
    if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
        return StorageError(
            f"cannot {verb} {path}: something has this name already; "
            "move it away, or choose another folder"
        )
    if error.errno == errno.EFBIG:
        return StorageError(f"cannot {verb} {path}: too large for this file system")
    reason = error.strerror or type(error).__name__
    return StorageError(f"cannot {verb} {path}: {reason}")


@contextlib.contextmanager
def _explained(verb: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _explain(verb, path, error) from error


def _retried(call: Callable[..., T], *args: Any) -> T:
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
    if fcntl is not None and hasattr(fcntl, "F_FULLFSYNC"):
        try:
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EINVAL):
                raise
    if hasattr(os, "fdatasync"):
        os.fdatasync(fd)
    else:
        os.fsync(fd)


class Files:
    """The door to the disk. Every method blocks and raises `StorageError`; safe on any thread."""

    # The system calls themselves: names are relative to `dir_fd`, or whole where it is None.

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

    # Roots and folders.

    def open_root(self, path: Path, *, create: bool = False) -> Root:
        """Open the folder that the user named (links in its own path are the user's will)."""
        try:
            if create:
                path.mkdir(parents=True, exist_ok=True)
            if not path.is_dir():
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            fd = _retried(self.sys_open, str(path), _FOLDER_FLAGS, None) if _DIR_FD else -1
        except (FileExistsError, NotADirectoryError) as error:
            raise StorageError(f"cannot open the folder {path}: it is a file") from error
        except OSError as error:
            raise _explain("open the folder", path, error) from error
        return Root(path, fd)

    def close_root(self, root: Root) -> None:
        """Close the folder and all it cached; open files stay open."""
        with root.lock:
            self._forget(root)
            fd, root.fd = root.fd, -1
            if fd >= 0:
                self._close_fd(fd)

    def _close_fd(self, fd: int) -> None:
        try:  # noqa: SIM105 (this is a hot path)
            self.sys_close(fd)
        except OSError:
            pass  # nothing can be done, and nothing is lost

    def _forget(self, root: Root) -> bool:
        """Close the cached folders; True when there were any."""
        known = list(root.folders.values())
        root.folders.clear()
        for fd in known:
            self._close_fd(fd)
        return bool(known)

    def _folder(self, root: Root, parts: Parts, create: bool) -> int:
        """The descriptor of a folder below `root` (owned by the cache)."""
        if not parts:
            return root.fd
        fd = root.folders.get(parts)
        if fd is not None:
            return fd
        parent = self._folder(root, parts[:-1], create)
        flags = _FOLDER_FLAGS | os.O_NOFOLLOW
        try:
            fd = _retried(self.sys_open, parts[-1], flags, parent)
        except FileNotFoundError:
            if not create:
                raise
            with contextlib.suppress(FileExistsError):
                _retried(self.sys_mkdir, parts[-1], parent)
            fd = _retried(self.sys_open, parts[-1], flags, parent)
        root.folders[parts] = fd
        return fd

    def _place(self, root: Root, parts: Parts, create: bool = False) -> tuple[str, int | None]:
        """How to call `parts` in a system call: (name, dir_fd)."""
        if _DIR_FD:
            return parts[-1], self._folder(root, parts[:-1], create)
        path = root.path
        for part in parts[:-1]:
            path = path / part
            if create:
                with contextlib.suppress(FileExistsError):
                    self.sys_mkdir(str(path), None)
            if not stat.S_ISDIR(self.sys_stat(str(path), None).st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return str(path / parts[-1]), None

    def _named(
        self, root: Root, parts: Parts, call: Callable[[str, int | None], T], create: bool = False
    ) -> T:
        """`call(name, dir_fd)`; a cached folder that was moved away is looked up once more."""
        with root.lock:
            while len(root.folders) > _CACHED_FOLDERS:
                self._close_fd(root.folders.pop(next(iter(root.folders))))
            try:
                return _retried(call, *self._place(root, parts, create))
            except FileNotFoundError:
                if not self._forget(root):
                    raise
                return _retried(call, *self._place(root, parts, create))

    def make_folder(self, root: Root, parts: Parts) -> bool:
        """Create a folder and those on the way to it; False when it was there already."""
        with _explained("create the folder", root.full(parts)):
            try:
                self._named(root, parts, self.sys_mkdir, create=True)
                return True
            except FileExistsError:
                found = self.stat(root, parts)
                if found is None or not found.is_folder:
                    raise
                return False

    def stat(self, root: Root, parts: Parts) -> FileStat | None:
        """What stands at a name, links not followed; None when nothing does."""
        try:
            found = self._named(root, parts, self.sys_stat)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _explain("look at", root.full(parts), error) from error
        return _as_stat(found)

    def list_folder(self, root: Root, parts: Parts) -> list[tuple[str, FileStat]]:
        """What is in a folder, links not followed: (name, stat), in no order."""
        with _explained("list", root.full(parts)), root.lock:
            where = self._folder(root, parts, False) if _DIR_FD else root.full(parts)
            with _retried(self.sys_scandir, where) as entries:
                return [
                    (entry.name, _as_stat(entry.stat(follow_symlinks=False))) for entry in entries
                ]

    def sync_folder(self, root: Root, parts: Parts = ()) -> None:
        """Make the names in a folder survive a power loss (nothing to do on Windows)."""
        if not _DIR_FD:
            return
        with _explained("flush the folder", root.full(parts)), root.lock:
            try:
                _retried(self.sys_sync_folder, self._folder(root, parts, False))
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # not on this file system
                    raise

    def rename_new(self, root: Root, old: Parts, new: Parts) -> None:
        """Give a file or folder a name that is free; what stands there is never replaced.

        Raises `StorageError` when the new name is taken.
        """

        def go() -> None:
            old_name, old_fd = self._place(root, old)
            new_name, new_fd = self._place(root, new, create=True)
            moved = _retried(self.sys_stat, old_name, old_fd)
            if _DIR_FD and stat.S_ISREG(moved.st_mode):
                try:
                    _retried(self.sys_link, old_name, new_name, old_fd, new_fd)
                except OSError as error:
                    if error.errno not in _NO_LINKS:
                        raise
                else:
                    _retried(self.sys_unlink, old_name, old_fd)
                    return
            if _exists(lambda: _retried(self.sys_stat, new_name, new_fd)):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            _retried(self.sys_rename, old_name, new_name, old_fd, new_fd)

        with _explained("finish", root.full(new)), root.lock:
            self._forget(root)
            try:
                go()
            finally:
                self._forget(root)

    def unlink(self, root: Root, parts: Parts) -> bool:
        """Remove a file; False when there was none."""
        return self._removed(root, parts, self.sys_unlink)

    def remove_folder(self, root: Root, parts: Parts) -> bool:
        """Remove an empty folder; False when there was none."""
        with root.lock:
            self._forget(root)
            return self._removed(root, parts, self.sys_rmdir)

    def _removed(self, root: Root, parts: Parts, call: Callable[[str, int | None], None]) -> bool:
        with _explained("remove", root.full(parts)):
            try:
                self._named(root, parts, call)
            except FileNotFoundError:
                return False
            return True

    # Files.

    def open_read(self, root: Root, parts: Parts) -> OpenFile:
        """Open a regular file for reading only. `StorageError` when there is none."""
        return self._open(root, parts, os.O_RDONLY, "open", create=False)

    def open_write(self, root: Root, parts: Parts, *, create: bool = False) -> OpenFile:
        """Open a regular file for reading and writing; `create` also makes its folders."""
        flags = os.O_RDWR | (os.O_CREAT if create else 0)
        return self._open(root, parts, flags, "write", create=create)

    def _open(self, root: Root, parts: Parts, flags: int, verb: str, *, create: bool) -> OpenFile:
        flags |= _FILE_FLAGS

        def go(name: str, dir_fd: int | None) -> int:
            return self.sys_open(name, flags, dir_fd)

        try:
            fd = self._named(root, parts, go, create)
        except OSError as error:
            raise _explain(verb, root.full(parts), error) from error
        try:
            found = _as_stat(_retried(self.sys_fstat, fd))
        except OSError as error:
            self._close_fd(fd)
            raise _explain(verb, root.full(parts), error) from error
        if not found.is_file:
            self._close_fd(fd)
            raise StorageError(f"cannot {verb} {root.full(parts)}: it is not a regular file")
        return OpenFile(fd, root, parts, found)

    def close(self, handle: OpenFile) -> None:
        """Close a file, once: a second call does nothing."""
        fd, handle.fd = handle.fd, -1
        if fd >= 0:
            self._close_fd(fd)

    def fstat(self, handle: OpenFile) -> FileStat:
        """Size and identity of an open file."""
        try:
            return _as_stat(_retried(self.sys_fstat, handle.fd))
        except OSError as error:
            raise _explain("look at", handle.path, error) from error

    def pread_into(self, handle: OpenFile, view: memoryview, offset: int) -> int:
        """Fill `view` from `offset`; the count is short only at the end of the file."""
        done = 0
        while done < len(view):
            try:
                count = self.sys_pread(handle.fd, view[done:] if done else view, offset + done)
            except InterruptedError:
                continue
            except OSError as error:
                raise _explain("read", handle.path, error) from error
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
                raise _explain("write", handle.path, error) from error
            if count == 0:
                raise StorageError(f"cannot write {handle.path}: nothing more is taken")
            done += count

    def truncate(self, handle: OpenFile, length: int) -> None:
        """Set the length; what is added reads as zeros and takes no space where holes exist."""
        with _explained("set the size of", handle.path):
            _retried(self.sys_truncate, handle.fd, length)

    def sync(self, handle: OpenFile) -> None:
        """Make the content survive a power loss."""
        with _explained("flush", handle.path):
            _retried(self.sys_sync, handle.fd)

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

    def advise(self, handle: OpenFile, offset: int, length: int) -> None:
        """Hint that a range is about to be read."""
        if hasattr(os, "posix_fadvise"):
            with contextlib.suppress(OSError):
                os.posix_fadvise(handle.fd, offset, length, os.POSIX_FADV_WILLNEED)


def _as_stat(found: os.stat_result) -> FileStat:
    kind = found.st_mode & _KIND
    return FileStat(
        found.st_size, found.st_mtime_ns, found.st_ino, kind == _REGULAR, kind == _FOLDER
    )


def _exists(look: Callable[[], object]) -> bool:
    try:
        look()
    except FileNotFoundError:
        return False
    return True


def _lock_windows(fd: int) -> bool:  # pragma: no cover - runs on Windows only
    import msvcrt

    lock: Any = msvcrt
    try:
        os.lseek(fd, _LOCK_BYTE, os.SEEK_SET)
        lock.locking(fd, lock.LK_NBLCK, 1)
    except OSError:
        return False
    return True
