"""The files by which programs on one machine find each other: `server.config`, `pN.config`.

Invariant: a reader sees a whole file or none, and nobody removes what another has written
in the meantime. A crash may leave a file behind: its reader has to reckon with that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from p2pfs.errors import FormatError, StorageError, UsageError
from p2pfs.formats import config_file
from p2pfs.storage.files import Files
from p2pfs.storage.whole_files import written_aside

__all__ = [
    "UnusableConfig",
    "address_in",
    "held",
    "node_config",
    "read_config",
    "remove_config",
    "server_config",
    "write_config",
    "written",
]


_MEND = "correct or remove it, or name the index with -i HOST"


class UnusableConfig(StorageError, UsageError):
    """What is there does not say what it should, or cannot be read: it is for the user to mend."""


def server_config(folder: Path) -> Path:
    """Where the index that has `folder` says its `host` and `port`."""
    return folder / "server.config"


def node_config(folder: Path, number: int) -> Path:
    """Where node `number` says its `id`, `host`, `port` and `folder`."""
    return folder / f"p{number}.config"


def write_config(path: Path, values: Mapping[str, str]) -> None:
    """Write `values` to `path`, with its folder if need be; blocks.

    Raises `StorageError`, and `FormatError` for values that no such file can hold.
    """
    data = config_file.encode(values).encode()
    try:
        with written_aside(path, data) as temporary:
            temporary.replace(path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error


def read_config(path: Path) -> dict[str, str] | None:
    """What `path` says; None when there is no such file. Blocks.

    Raises `UnusableConfig` when it cannot be read, or holds something else.
    """
    try:
        if not path.exists():
            return None
        if not path.is_file():  # a pipe would be waited for without end
            raise UnusableConfig(f"cannot read {path}: it is not a regular file; {_MEND}")
        with path.open("rb") as file:
            data = file.read(config_file.MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnusableConfig(f"cannot read {path}: {error.strerror or error}; {_MEND}") from error
    try:
        return config_file.parse(data.decode())
    except UnicodeDecodeError:
        raise UnusableConfig(f"{path} is not a text in UTF-8; {_MEND}") from None
    except FormatError as error:
        raise UnusableConfig(f"cannot use {path}: {error}; {_MEND}") from None


def address_in(path: Path) -> str | None:
    """`HOST:PORT` of whoever wrote `path`, as far as it says so. Blocks."""
    with contextlib.suppress(StorageError):
        values = read_config(path) or {}
        if {"host", "port"} <= values.keys():
            return f"{values['host']}:{values['port']}"
    return None


def remove_config(path: Path, values: Mapping[str, str]) -> bool:
    """Remove `path` if it still says `values`; whether it did. Blocks, raises `StorageError`."""
    try:
        if read_config(path) != values:
            return False
    except StorageError:  # it became something else
        return False
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"cannot remove {path}: {error.strerror or error}") from error
    return True


@contextlib.contextmanager
def written(path: Path, values: Mapping[str, str]) -> Iterator[None]:
    """`path` says `values` while the block runs; raises as `write_config`."""
    write_config(path, values)
    try:
        yield
    finally:
        remove_config(path, values)


@contextlib.contextmanager
def held(path: Path) -> Iterator[bool]:
    """Claims what `path` stands for among the programs that run; False: another has it.

    The claim ends with the block, or with this program, however that ends. Raises
    `StorageError` when the folder cannot be written to.
    """
    files = Files()
    with files.rooted(path.parent, create=True) as root:
        handle = files.open_write(root, (f".{path.name}.lock",), create=True)
        try:
            yield files.lock(handle)
        finally:
            files.close(handle)
