"""Files that are written aside, and then given their name in one step."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from p2pfs.storage.whole_files import written_aside


def test_what_is_renamed_stays_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a"

    with written_aside(path, b"whole") as temporary:
        assert temporary.parent == path.parent
        assert temporary.read_bytes() == b"whole"
        assert not path.exists()
        temporary.replace(path)

    assert [entry.name for entry in path.parent.iterdir()] == ["a"]
    assert path.read_bytes() == b"whole"


def test_what_is_not_renamed_is_gone(tmp_path: Path) -> None:
    with written_aside(tmp_path / "a", b"x"):
        pass
    with pytest.raises(RuntimeError), written_aside(tmp_path / "a", b"x"):
        raise RuntimeError

    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="there are no such permissions here")
def test_it_is_as_public_as_the_mask_of_the_user_says(tmp_path: Path) -> None:
    for mask, mode in ((0o022, 0o644), (0o077, 0o600)):
        before = os.umask(mask)
        try:
            with written_aside(tmp_path / "a", b"x") as temporary:
                assert stat.S_IMODE(temporary.stat().st_mode) == mode
        finally:
            os.umask(before)


def test_a_folder_that_cannot_be_one_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(OSError, match="file"), written_aside(tmp_path / "file" / "a", b"x"):
        pass


@pytest.mark.skipif(os.name != "posix", reason="there are no such permissions here")
def test_what_is_private_is_so_from_the_start(tmp_path: Path) -> None:
    with written_aside(tmp_path / "a", b"x", private=True) as temporary:
        assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
