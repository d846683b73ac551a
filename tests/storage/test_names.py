import errno
import os
import sys
import threading
from pathlib import Path

import pytest

from p2pfs.errors import StorageError
from p2pfs.storage.files import Files, NoSuchFile

posix = pytest.mark.skipif(os.name == "nt", reason="names below a descriptor are POSIX")


@pytest.fixture
def files():
    return Files()


@pytest.fixture
def root(files, tmp_path):
    root = files.open_root(tmp_path)
    yield root
    files.close_root(root)


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


@posix
def test_a_root_at_rest_has_nothing_open_and_is_found_again(files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    root = files.open_root(Path("in"))
    files.close(files.open_write(root, ("folder", "file"), create=True))

    files.rest(root)

    assert (root.fd, root.folders) == (-1, {})
    monkeypatch.chdir("/")
    assert files.stat(root, ("folder", "file")).is_file
    files.close_root(root)
    with pytest.raises(StorageError):
        files.stat(root, ("folder", "file"))


@posix
def test_a_root_that_went_away_while_it_rested_is_as_good_as_empty(files, root, tmp_path):
    (tmp_path / "file").write_text("x")
    files.rest(root)
    away = tmp_path.with_name(tmp_path.name + " away")
    tmp_path.rename(away)

    assert files.stat(root, ("file",)) is None
    with pytest.raises(NoSuchFile):
        files.open_read(root, ("file",))

    away.rename(tmp_path)
    files.close(files.open_read(root, ("file",)))


@posix
def test_a_root_in_use_is_not_put_to_rest(files, root, tmp_path):
    (tmp_path / "file").write_text("x")
    used, free = threading.Event(), threading.Event()

    def use():
        with root.lock:
            used.set()
            free.wait(10)

    user = threading.Thread(target=use)
    user.start()
    used.wait(10)
    files.rest(root)
    assert root.fd >= 0
    free.set()
    user.join()


@posix
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may do all")
def test_a_folder_without_permission_is_a_clear_error(files, root, tmp_path):
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(StorageError, match="Permission denied"):
        files.open_write(root, ("closed", "file"), create=True)


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
    assert {name for name, *_ in files.list_folder(root, ())} == {
        "a", "c", "folder", "link", "outside", "taken",
    }  # fmt: skip
    files.close_root(root)
