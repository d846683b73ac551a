"""What was hashed is remembered for as long as its signature holds, and never longer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from p2pfs.errors import StorageError
from p2pfs.formats.metainfo import FileEntry, Metainfo, build
from p2pfs.storage.hash_cache import HashCache, InUse

CONTENT = Path("/shared/notes.txt")


@pytest.fixture
def metainfo() -> Metainfo:
    return build(
        name="notes.txt",
        files=[FileEntry(("notes.txt",), 5)],
        multi_file=False,
        piece_length=16384,
        pieces=bytes(20),
    )


def test_a_torrent_comes_back_for_the_same_signature_alone(metainfo: Metainfo) -> None:
    cache = HashCache()

    cache.put(CONTENT, ("size", 5, 1), metainfo)

    assert cache.get(CONTENT, ("size", 5, 1)) == metainfo
    assert cache.get(CONTENT, ("size", 5, 2)) is None
    assert cache.get(Path("/shared/other"), ("size", 5, 1)) is None


def test_a_newer_torrent_takes_the_place_of_the_older(metainfo: Metainfo) -> None:
    cache = HashCache()
    cache.put(CONTENT, 1, metainfo)

    cache.put(CONTENT, 2, metainfo)

    assert cache.get(CONTENT, 1) is None
    assert cache.get(CONTENT, 2) == metainfo


def test_what_is_forgotten_is_hashed_again(metainfo: Metainfo) -> None:
    cache = HashCache()
    cache.put(CONTENT, 1, metainfo)

    cache.forget(CONTENT)

    assert cache.get(CONTENT, 1) is None


def test_what_is_known_of_a_folder_is_what_lies_below_it(metainfo: Metainfo) -> None:
    cache = HashCache()
    for path in ("/shared/a", "/shared/deep/b", "/shared", "/shared2/c", "/shared!/d", "/other"):
        cache.put(Path(path), 1, metainfo)

    known = cache.known_below(Path("/shared"))

    assert {str(path) for path in known} == {"/shared/a", "/shared/deep/b", "/shared"}
    assert set(known.values()) == {metainfo}


def test_it_survives_the_process(tmp_path: Path, metainfo: Metainfo) -> None:
    path = tmp_path / "config" / "p1.sqlite"
    first = HashCache(path, exclusive=True)
    first.put(CONTENT, 1, metainfo)
    secret = first.secret("key")
    first.close()

    second = HashCache(path, exclusive=True)

    assert second.get(CONTENT, 1) == metainfo
    assert second.secret("key") == secret
    assert len(bytes.fromhex(secret)) == 16
    second.close()


def test_two_secrets_differ(tmp_path: Path) -> None:
    assert HashCache().secret("key") != HashCache().secret("key")


def test_a_name_in_no_encoding_can_be_remembered(metainfo: Metainfo) -> None:
    cache = HashCache()
    path = Path("/shared/caf\udce9")

    cache.put(path, ("caf\udce9", 1), metainfo)

    assert cache.get(path, ("caf\udce9", 1)) == metainfo


def test_an_exclusive_cache_keeps_others_out_until_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "p1.sqlite"
    first = HashCache(path, exclusive=True)

    with pytest.raises(InUse, match="in use"):
        HashCache(path, exclusive=True)
    first.close()

    HashCache(path, exclusive=True).close()


def test_a_process_that_dies_lets_go(tmp_path: Path) -> None:
    path = tmp_path / "p1.sqlite"
    program = (
        "import sys, os, signal; from pathlib import Path\n"
        "from p2pfs.storage.hash_cache import HashCache\n"
        "cache = HashCache(Path(sys.argv[1]), exclusive=True); cache.secret('key')\n"
        "print('ready', flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=False, timeout=60)

    cache = HashCache(path, exclusive=True)

    assert cache.secret("key")
    cache.close()


def test_others_may_share_one_that_is_not_exclusive(tmp_path: Path, metainfo: Metainfo) -> None:
    first, second = (HashCache(tmp_path / "hashes.sqlite") for _ in range(2))

    first.put(CONTENT, 1, metainfo)

    assert second.get(CONTENT, 1) == metainfo
    first.close()
    second.close()


def test_a_damaged_cache_is_made_anew(tmp_path: Path, metainfo: Metainfo) -> None:
    path = tmp_path / "p1.sqlite"
    path.write_bytes(b"not a database " * 100)

    cache = HashCache(path, exclusive=True)

    cache.put(CONTENT, 1, metainfo)
    assert cache.get(CONTENT, 1) == metainfo
    cache.close()


def test_a_place_that_cannot_be_used_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(StorageError, match="cannot use"):
        HashCache(tmp_path / "file" / "p1.sqlite")
