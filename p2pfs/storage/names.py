"""Names below an opened folder: resolved without following links, created, moved, removed.

Invariant: a name is resolved one component at a time from the descriptor of the folder
before it, never through a symbolic link, where the platform can do that; elsewhere each
component is looked at first. No name that is taken is ever given to something else.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

from p2pfs.errors import StorageError
from p2pfs.storage.system import (
    FileStat,
    SystemCalls,
    as_stat,
    explain,
    explained,
    is_executable,
    retried,
)

__all__ = ["Listed", "Names", "Parts", "Root"]

Parts = tuple[str, ...]
"""A relative path as its components, each already judged safe by `formats.paths`."""

T = TypeVar("T")


class Listed(NamedTuple):
    """What is in a folder by this name; `executable` by its owner, if it is a regular file."""

    name: str
    found: FileStat
    executable: bool


OPEN_FLAGS = (
    getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOINHERIT", 0)
)
_DIR_FD = {os.open, os.mkdir, os.rename, os.unlink, os.stat, os.rmdir} <= os.supports_dir_fd
_LINKS = os.link in os.supports_dir_fd and os.link in os.supports_follow_symlinks
_FOLDER_FLAGS = OPEN_FLAGS | os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.EMLINK, errno.EOPNOTSUPP, errno.EACCES}
_CACHED_FOLDERS = 32


class Root:
    """An opened folder below which names are resolved; caches the folders last used.

    Its lock covers each resolution, so that a cached folder is never closed while in use.
    At rest (`Names.rest`) it has nothing open, and is found again by its path.
    """

    __slots__ = ("closed", "fd", "folders", "lock", "path", "place")

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self.place = str(path) if path.is_absolute() else os.path.abspath(path)  # noqa: PTH100
        self.fd = fd
        self.closed = False
        self.folders: dict[Parts, int] = {}
        self.lock = threading.RLock()

    def full(self, parts: Parts) -> Path:
        """The path to show in a message."""
        return self.path.joinpath(*parts)


class Names(SystemCalls):
    """What `Files` can do with names. Every method blocks and raises `StorageError`."""

    def open_root(self, path: Path, *, create: bool = False) -> Root:
        """Open the folder that the user named (links in its own path are the user's will)."""
        try:
            if create:
                path.mkdir(parents=True, exist_ok=True)
            if not path.is_dir():
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            fd = retried(self.sys_open, str(path), _FOLDER_FLAGS, None) if _DIR_FD else -1
        except (FileExistsError, NotADirectoryError) as error:
            raise StorageError(f"{path} is not a folder: choose another one") from error
        except OSError as error:
            raise explain("open the folder", path, error) from error
        return Root(path, fd)

    @contextlib.contextmanager
    def rooted(self, path: Path, *, create: bool = False) -> Iterator[Root]:
        """The same for a while: closed at the end, whatever happens."""
        root = self.open_root(path, create=create)
        try:
            yield root
        finally:
            self.close_root(root)

    def close_root(self, root: Root) -> None:
        """Close the folder and all it cached; open files stay open."""
        with root.lock:
            root.closed = True
            self.rest(root)

    def rest(self, root: Root) -> None:
        """Close the folder and all it cached until it is used again; never waits for a user."""
        if not root.lock.acquire(blocking=False):
            return
        try:
            self._forget(root)
            fd, root.fd = root.fd, -1
            if fd >= 0:
                self._close_fd(fd)
        finally:
            root.lock.release()

    def _close_fd(self, fd: int) -> None:
        try:  # noqa: SIM105 (this is a hot path)
            self.sys_close(fd)
        except OSError:
            pass  # nothing can be done, and nothing is lost

    def forget_folders(self, root: Root) -> None:
        """Look up every folder anew, for somebody may have moved one."""
        with root.lock:
            self._forget(root)

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
            if root.fd < 0 and not root.closed:
                root.fd = retried(self.sys_open, root.place, _FOLDER_FLAGS, None)
            return root.fd
        fd = root.folders.get(parts)
        if fd is not None:
            return fd
        parent = self._folder(root, parts[:-1], create)
        flags = _FOLDER_FLAGS | os.O_NOFOLLOW
        try:
            fd = retried(self.sys_open, parts[-1], flags, parent)
        except FileNotFoundError:
            if not create:
                raise
            with contextlib.suppress(FileExistsError):
                retried(self.sys_mkdir, parts[-1], parent)
            fd = retried(self.sys_open, parts[-1], flags, parent)
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

    def _evict(self, root: Root) -> None:
        """Close all but the folders used last, before one more is opened."""
        while len(root.folders) > _CACHED_FOLDERS:
            self._close_fd(root.folders.pop(next(iter(root.folders))))

    def _named(
        self, root: Root, parts: Parts, call: Callable[[str, int | None], T], create: bool = False
    ) -> T:
        """`call(name, dir_fd)`; a cached folder that was moved away is looked up once more."""
        with root.lock:
            self._evict(root)
            try:
                return retried(call, *self._place(root, parts, create))
            except FileNotFoundError:
                if not self._forget(root):
                    raise
                return retried(call, *self._place(root, parts, create))

    def stat(self, root: Root, parts: Parts) -> FileStat | None:
        """What stands at a name, links not followed; None when nothing does."""
        try:
            found = self._named(root, parts, self.sys_stat)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise explain("look at", root.full(parts), error) from error
        return as_stat(found)

    def readable(self, root: Root, parts: Parts) -> bool:
        """Whether this process may read a file."""
        try:
            return self._named(root, parts, self.sys_may_read)
        except OSError:
            return False

    def may_execute(self, root: Root, parts: Parts) -> bool:
        """Whether its owner may execute a file; False where the system knows no such bits."""
        with explained("look at", root.full(parts)):
            return is_executable(self._named(root, parts, self.sys_stat))

    def list_folder(self, root: Root, parts: Parts) -> list[Listed]:
        """What is in a folder, links not followed, in no order."""
        with explained("list", root.full(parts)), root.lock:
            self._evict(root)
            where = self._folder(root, parts, False) if _DIR_FD else root.full(parts)
            with retried(self.sys_scandir, where) as entries:
                looked = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
        return [Listed(name, as_stat(found), is_executable(found)) for name, found in looked]

    def sync_folder(self, root: Root, parts: Parts = ()) -> None:
        """Make the names in a folder survive a power loss (nothing to do on Windows)."""
        if not _DIR_FD:
            return
        with explained("flush the folder", root.full(parts)):
            with root.lock:  # which is not to be held for as long as the flush takes
                folder = self._folder(root, parts, False)
                fd = retried(self.sys_open, ".", _FOLDER_FLAGS, folder)
            try:
                retried(self.sys_sync_folder, fd)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # not on this file system
                    raise
            finally:
                self._close_fd(fd)

    def rename_new(self, root: Root, old: Parts, new: Parts) -> None:
        """Give a file or folder a name that is free; what stands there is never replaced.

        Raises `StorageError` when the new name is taken.
        """

        def go() -> None:
            old_name, old_fd = self._place(root, old)
            new_name, new_fd = self._place(root, new, create=True)
            moved = retried(self.sys_stat, old_name, old_fd)
            if stat.S_ISDIR(moved.st_mode) and os.name != "nt":
                retried(self.sys_mkdir, new_name, new_fd)  # a name that is free from here on
                try:
                    retried(self.sys_rename, old_name, new_name, old_fd, new_fd)
                except OSError:
                    with contextlib.suppress(OSError):
                        self.sys_rmdir(new_name, new_fd)
                    raise
                return
            if _LINKS and stat.S_ISREG(moved.st_mode):
                try:
                    retried(self.sys_link, old_name, new_name, old_fd, new_fd)
                except OSError as error:
                    if error.errno not in _NO_LINKS:
                        raise
                else:
                    retried(self.sys_unlink, old_name, old_fd)
                    return
            if _exists(lambda: retried(self.sys_stat, new_name, new_fd)):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            retried(self.sys_rename, old_name, new_name, old_fd, new_fd)

        with explained("finish", root.full(new)), root.lock:
            self._forget(root)
            try:
                go()
            except FileNotFoundError:  # a folder on the way was replaced at this moment
                self._forget(root)
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
        with explained("remove", root.full(parts)):
            try:
                self._named(root, parts, call)
            except FileNotFoundError:
                return False
            return True


def _exists(look: Callable[[], object]) -> bool:
    try:
        look()
    except FileNotFoundError:
        return False
    return True
