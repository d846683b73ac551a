import os

import pytest

from p2pfs.errors import StorageError
from p2pfs.storage.files import Files

posix = pytest.mark.skipif(os.name == "nt", reason="names below a descriptor are POSIX")


@pytest.fixture
def files():
    return Files()


@pytest.fixture
def root(files, tmp_path):
    root = files.open_root(tmp_path)
    yield root
    files.close_root(root)


def test_what_is_written_is_read_back(files, root):
    handle = files.open_write(root, ("a", "b", "c"), create=True)
    files.pwrite(handle, memoryview(b"hello"), 3)
    buffer = bytearray(8)

    assert files.pread_into(handle, memoryview(buffer), 0) == 8
    assert buffer == b"\0\0\0hello"
    assert files.pread_into(handle, memoryview(buffer), 6) == 2
    files.close(handle)
    files.close(handle)


def test_a_missing_file_is_an_error_that_names_it(files, root):
    with pytest.raises(StorageError, match="nothing-here"):
        files.open_read(root, ("nothing-here",))
    assert files.stat(root, ("nothing-here",)) is None
    assert files.stat(root, ("no", "folder")) is None


def test_a_file_where_a_folder_is_needed_is_an_error(files, root, tmp_path):
    (tmp_path / "plain").write_text("x")
    with pytest.raises(StorageError, match="folder on the way"):
        files.open_write(root, ("plain", "inner"), create=True)
    with pytest.raises(StorageError, match="is not a folder"):
        files.open_root(tmp_path / "plain", create=True)
    with pytest.raises(StorageError, match="is not a folder"):
        files.open_root(tmp_path / "plain" / "below", create=True)


def test_a_folder_is_not_opened_as_a_file(files, root, tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match=r"not a regular file|directory"):
        files.open_read(root, ("folder",))
    with pytest.raises(StorageError, match=r"not a regular file|directory"):
        files.open_write(root, ("folder",), create=True)


@posix
@pytest.mark.parametrize("opened", ["open_read", "open_write"])
def test_a_link_is_never_followed(files, root, tmp_path, opened):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (tmp_path / "link").symlink_to(outside / "secret")
    (tmp_path / "folder").symlink_to(outside)

    with pytest.raises(StorageError, match="symbolic link"):
        getattr(files, opened)(root, ("link",))
    with pytest.raises(StorageError, match="link"):
        getattr(files, opened)(root, ("folder", "secret"))
    with pytest.raises(StorageError, match="link"):
        files.open_write(root, ("folder", "new"), create=True)
    assert [path.name for path in outside.iterdir()] == ["secret"]


@posix
def test_a_pipe_is_refused_without_waiting_for_its_other_end(files, root, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StorageError, match="regular file"):
        files.open_read(root, ("pipe",))


def test_a_lock_is_had_by_one_only_and_ends_with_its_file(files, root):
    first = files.open_write(root, ("lock",), create=True)
    second = files.open_write(root, ("lock",))
    assert files.lock(first)
    assert not files.lock(second)
    files.close(first)
    assert files.lock(second)
    files.close(second)


@posix
def test_a_range_of_a_file_is_mapped_wherever_it_begins(files, root, tmp_path):
    content = bytes(range(251)) * 100
    (tmp_path / "x").write_bytes(content)
    handle = files.open_read(root, ("x",))
    with files.mapped(handle, 4099, 9000) as view:
        assert bytes(view) == content[4099:13099]
    files.close(handle)


@posix
def test_what_has_holes_or_is_shorter_is_not_mapped(files, root, tmp_path):
    with (tmp_path / "holes").open("wb") as file:
        file.truncate(1_000_000)
    (tmp_path / "short").write_bytes(b"x" * 5000)
    for name, length in (("holes", 100), ("short", 5001)):
        handle = files.open_read(root, (name,))
        with (
            pytest.raises(StorageError, match=f"cannot map .*{name}"),
            files.mapped(handle, 0, length),
        ):
            pass
        files.close(handle)
