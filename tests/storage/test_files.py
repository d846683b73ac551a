import errno
import os
import sys

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
    with pytest.raises(StorageError, match="is a file"):
        files.open_root(tmp_path / "plain", create=True)
    with pytest.raises(StorageError, match="is a file"):
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
def test_a_folder_swapped_for_a_link_while_it_is_known_leads_nowhere_else(files, root, tmp_path):
    files.close(files.open_write(root, ("inner", "file"), create=True))
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "inner").rename(tmp_path / "moved")
    (tmp_path / "inner").symlink_to(outside)

    files.close(files.open_write(root, ("inner", "other"), create=True))

    assert not list(outside.iterdir())


@posix
def test_a_folder_removed_and_made_again_is_found_again(files, root, tmp_path):
    files.close(files.open_write(root, ("inner", "file"), create=True))
    (tmp_path / "inner" / "file").unlink()
    (tmp_path / "inner").rmdir()
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "new").write_text("x")

    files.close(files.open_read(root, ("inner", "new")))


@posix
def test_a_pipe_is_refused_without_waiting_for_its_other_end(files, root, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StorageError, match="regular file"):
        files.open_read(root, ("pipe",))


def test_a_new_name_replaces_nothing(files, root, tmp_path):
    (tmp_path / "old").write_text("ours")
    (tmp_path / "taken").write_text("theirs")
    with pytest.raises(StorageError, match="already"):
        files.rename_new(root, ("old",), ("taken",))
    assert (tmp_path / "taken").read_text() == "theirs"

    files.rename_new(root, ("old",), ("free",))

    assert (tmp_path / "free").read_text() == "ours"
    assert not (tmp_path / "old").exists()


def test_a_folder_does_not_replace_a_folder_or_a_file(files, root, tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    (tmp_path / "plain").write_text("x")
    for taken in ("full", "plain"):
        with pytest.raises(StorageError, match="already"):
            files.rename_new(root, ("old",), (taken,))
    files.rename_new(root, ("old",), ("free",))
    assert (tmp_path / "free").is_dir()


@posix
@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP])
def test_where_there_are_no_hard_links_a_new_name_still_replaces_nothing(tmp_path, watched, code):
    def around(name, call, args):
        if name == "sys_link":
            raise OSError(code, "injected")
        return call(*args)

    files = watched(around)
    root = files.open_root(tmp_path)
    (tmp_path / "old").write_text("ours")
    (tmp_path / "taken").write_text("theirs")
    with pytest.raises(StorageError, match="already"):
        files.rename_new(root, ("old",), ("taken",))
    files.rename_new(root, ("old",), ("free",))
    assert (tmp_path / "free").read_text() == "ours"
    files.close_root(root)


def test_many_folders_do_not_keep_many_descriptors(files, root):
    for number in range(100):
        files.close(files.open_write(root, (f"folder {number}", "file"), create=True))
    assert len(root.folders) < 50


@pytest.mark.parametrize(
    ("code", "full"),
    [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EIO, False), (errno.EFBIG, False)],
)
def test_a_full_disk_is_told_from_other_trouble(tmp_path, watched, code, full):
    def around(name, call, args):
        if name == "sys_pwrite":
            raise OSError(code, "injected")
        return call(*args)

    files = watched(around)
    root = files.open_root(tmp_path)
    handle = files.open_write(root, ("file",), create=True)
    with pytest.raises(StorageError, match="file") as caught:
        files.pwrite(handle, b"x", 0)
    assert caught.value.disk_full == full
    files.close(handle)
    files.close_root(root)


def test_a_lock_is_had_by_one_only_and_ends_with_its_file(files, root):
    first = files.open_write(root, ("lock",), create=True)
    second = files.open_write(root, ("lock",))
    assert files.lock(first)
    assert not files.lock(second)
    files.close(first)
    assert files.lock(second)
    files.close(second)


@posix
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may do all")
def test_a_folder_without_permission_is_a_clear_error(files, root, tmp_path):
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(StorageError, match="Permission denied"):
        files.open_write(root, ("closed", "file"), create=True)


def test_reading_and_writing_without_positioned_calls_is_the_same(tmp_path):
    from p2pfs.storage import system

    class Plain(Files):
        sys_pread = staticmethod(system._pread_into)
        sys_pwrite = staticmethod(system._pwrite)

    files = Plain()
    root = files.open_root(tmp_path)
    handle = files.open_write(root, ("file",), create=True)
    files.pwrite(handle, memoryview(b"hello"), 2)
    buffer = bytearray(5)
    assert files.pread_into(handle, memoryview(buffer), 2) == 5
    assert buffer == b"hello"
    assert files.pread_into(handle, memoryview(buffer), 5) == 2
    files.close(handle)
    files.close_root(root)


def test_without_folder_descriptors_links_are_refused_as_well(tmp_path, monkeypatch):
    from p2pfs.storage import files as files_module
    from p2pfs.storage import names

    if sys.platform == "win32":
        pytest.skip("links need rights there")
    monkeypatch.setattr(names, "_DIR_FD", False)
    monkeypatch.setattr(files_module, "_NO_FOLLOW", 0)
    monkeypatch.setattr(files_module, "_FLAGS", names.OPEN_FLAGS)
    files = Files()
    root = files.open_root(tmp_path)
    (tmp_path / "outside").mkdir()
    (tmp_path / "folder").symlink_to(tmp_path / "outside")
    (tmp_path / "link").symlink_to(tmp_path / "outside" / "file")

    handle = files.open_write(root, ("a", "b"), create=True)
    files.pwrite(handle, b"x", 0)
    files.close(handle)
    assert (tmp_path / "a" / "b").read_bytes() == b"x"
    with pytest.raises(StorageError, match="link"):
        files.open_write(root, ("folder", "file"), create=True)
    with pytest.raises(StorageError, match="link"):
        files.open_read(root, ("link",))
    files.rename_new(root, ("a", "b"), ("c",))
    (tmp_path / "taken").write_text("x")
    with pytest.raises(StorageError, match="already"):
        files.rename_new(root, ("c",), ("taken",))
    assert {name for name, _ in files.list_folder(root, ())} == {
        "a", "c", "folder", "link", "outside", "taken",
    }  # fmt: skip
    files.close_root(root)
