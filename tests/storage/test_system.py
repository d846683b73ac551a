import errno

import pytest

from p2pfs.errors import StorageError
from p2pfs.storage.files import Files


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
