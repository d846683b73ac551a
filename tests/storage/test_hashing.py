import errno
import hashlib
import threading

import pytest

from p2pfs.errors import StorageError
from p2pfs.formats.file_list import FileEntry
from p2pfs.geometry import Geometry
from p2pfs.storage.files import Files
from p2pfs.storage.hashing import (
    block_digests,
    hash_pieces,
    recheck,
    verify_chunks,
    verify_piece,
)
from p2pfs.storage.layout import Layout


@pytest.fixture
def standing(tree, tmp_path):
    """The content of a tree on the disk: what `hash_pieces` needs."""
    top = tree.lay_out(tmp_path)
    files = Files()
    root = files.open_root(top)
    entries = tree.metainfo.files
    layout = Layout.of(entries, tree.metainfo.geometry)
    yield tree, files, layout, (lambda number: files.open_read(root, entries[number].path)), top
    files.close_root(root)


def test_a_piece_is_right_only_with_its_own_digest():
    digest = hashlib.sha1(b"piece").digest()
    assert verify_piece(memoryview(b"piece"), digest)
    assert not verify_piece(b"Piece", digest)
    assert verify_chunks([b"pi", b"", b"ece"], digest)
    assert not verify_chunks([b"pi", b"eces"], digest)


def test_each_block_has_its_digest_and_the_last_may_be_short():
    data = bytes(range(256)) * 10
    assert block_digests(data, 1000) == [
        hashlib.sha1(data[start : start + 1000]).digest() for start in (0, 1000, 2000)
    ]


@pytest.mark.parametrize("threads", [1, 3])
def test_pieces_across_files_get_their_digests(standing, threads):
    tree, files, layout, opened, _ = standing
    digests = {}
    hash_pieces(layout, opened, digests.__setitem__, files=files, threads=threads)
    assert b"".join(digests[index] for index in range(tree.count)) == tree.metainfo.pieces


def test_each_file_is_opened_once_and_closed(standing):
    tree, files, layout, opened, _ = standing
    seen, closed = [], []

    def counted(number):
        seen.append(number)
        return opened(number)

    hash_pieces(
        layout,
        counted,
        lambda index, digest: None,
        files=files,
        threads=3,
        closing=lambda number, handle: closed.append(number),
    )
    with_bytes = [number for number, entry in enumerate(tree.metainfo.files) if entry.length]
    assert sorted(seen) == sorted(closed) == with_bytes


def test_the_large_and_the_odd_are_hashed_right(tmp_path):
    content = bytes(range(251)) * 5000
    (tmp_path / "file").write_bytes(content)
    files = Files()
    root = files.open_root(tmp_path)
    for piece_length in (700_000, 262_144, 16_384, 1_000_003, 2_000_000):
        layout = Layout([len(content)], Geometry(len(content), piece_length))
        digests = {}
        hash_pieces(
            layout,
            lambda number: files.open_read(root, ("file",)),
            digests.__setitem__,
            files=files,
        )
        assert [digests[index] for index in sorted(digests)] == [
            hashlib.sha1(content[start : start + piece_length]).digest()
            for start in range(0, len(content), piece_length)
        ]
    files.close_root(root)


@pytest.mark.parametrize("length", [5_000_000, 30_000_000])
def test_each_part_of_a_file_is_asked_for_in_advance_once(tmp_path, length):
    with (tmp_path / "file").open("wb") as file:
        file.truncate(length)
    asked = []

    class Watched(Files):
        def advise(self, handle, offset, length):
            asked.append((offset, offset + length))

    files = Watched()
    root = files.open_root(tmp_path)
    hash_pieces(
        Layout([length], Geometry(length, 262_144)),
        lambda number: files.open_read(root, ("file",)),
        lambda index, digest: None,
        files=files,
        threads=1,
    )
    files.close_root(root)

    assert asked[0][0] == 0
    assert [first for first, _ in asked[1:]] == [after for _, after in asked[:-1]]
    assert asked[-1][1] >= length


def test_a_missing_or_short_file_costs_only_its_pieces(standing):
    tree, files, layout, opened, top = standing
    (top / "a.txt").write_bytes((top / "a.txt").read_bytes()[:3000])
    (top / "deep" / "er" / "b.bin").unlink()  # bytes 5000 to 8000 of the content

    right = recheck(layout, tree.metainfo.pieces, opened, files=files)

    assert list(right) == [0, 4, 5, 6]


def test_a_file_that_cannot_be_opened_now_is_not_taken_for_a_wrong_one(tree, tmp_path, watched):
    top = tree.lay_out(tmp_path)

    def around(name, call, args):
        if name == "sys_open" and args[0] == "d":
            raise OSError(errno.EMFILE, "injected")
        return call(*args)

    files = watched(around)
    root = files.open_root(top)
    layout = Layout.of(tree.metainfo.files, tree.metainfo.geometry)
    with pytest.raises(StorageError):
        recheck(
            layout,
            tree.metainfo.pieces,
            lambda number: files.open_read(root, tree.metainfo.files[number].path),
            files=files,
        )
    files.close_root(root)


def test_a_damaged_range_costs_its_pieces(single, tmp_path, watched):
    single.lay_out(tmp_path)

    def around(name, call, args):
        if name == "sys_pread" and args[2] == 4096:
            raise OSError(errno.EIO, "injected")
        return call(*args)

    files = watched(around)
    root = files.open_root(tmp_path)
    layout = Layout.of(single.metainfo.files, single.metainfo.geometry)
    right = recheck(
        layout,
        single.metainfo.pieces,
        lambda number: files.open_read(root, ("thing.bin",)),
        files=files,
    )
    assert list(right.missing()) == [2]
    files.close_root(root)


def test_a_changed_byte_costs_its_piece(standing):
    tree, files, layout, opened, top = standing
    data = bytearray((top / "a.txt").read_bytes())
    data[2500] ^= 1
    (top / "a.txt").write_bytes(data)
    right = recheck(layout, tree.metainfo.pieces, opened, files=files)
    assert set(range(tree.count)) - set(right) == {1}


def test_only_the_pieces_asked_for_are_rechecked(standing):
    tree, files, layout, opened, _ = standing
    right = recheck(layout, tree.metainfo.pieces, opened, files=files, indices=[1, 2, 4])
    assert list(right) == [1, 2, 4]


def test_progress_goes_up_to_all_on_the_callers_thread(standing):
    tree, files, layout, opened, _ = standing
    calls = []

    def progress(done, total):
        calls.append((done, total, threading.current_thread()))

    recheck(layout, tree.metainfo.pieces, opened, files=files, indices=[0, 2, 4], progress=progress)
    assert [done for done, _, _ in calls] == [2048, 4096, 6144]
    assert {total for _, total, _ in calls} == {6144}
    assert {thread for _, _, thread in calls} == {threading.current_thread()}


def test_what_progress_raises_ends_the_work(standing):
    tree, files, layout, opened, _ = standing
    before = threading.active_count()

    def progress(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recheck(layout, tree.metainfo.pieces, opened, files=files, progress=progress)
    assert threading.active_count() == before


def test_strict_hashing_raises_what_the_disk_says(standing):
    _, files, layout, opened, top = standing
    (top / "d").unlink()
    with pytest.raises(StorageError, match="d"):
        hash_pieces(layout, opened, lambda index, digest: None, files=files)


def test_nothing_to_hash_is_done_at_once():
    layout = Layout([0], Geometry(0, 16384))
    right = recheck(layout, b"", lambda number: pytest.fail("opened"), files=Files())
    assert right.complete


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_not_many_more_files_are_open_at_once_than_any_system_allows(tmp_path, threads):
    entries = [FileEntry((f"{number:04}",), 1000) for number in range(1500)]
    for entry in entries:
        (tmp_path / entry.path[0]).write_bytes(bytes(1000))
    layout = Layout.of(entries, Geometry(1500 * 1000, 16 * 1024))
    files, lock = Files(), threading.Lock()
    opened_now, most = 0, 0

    def opened(number):
        nonlocal opened_now, most
        with lock:
            opened_now += 1
            most = max(most, opened_now)
        return files.open_read(root, entries[number].path)

    def closing(number, handle):
        nonlocal opened_now
        with lock:
            opened_now -= 1

    with files.rooted(tmp_path) as root:
        hash_pieces(layout, opened, lambda *_: None, files=files, threads=threads, closing=closing)

    assert opened_now == 0
    assert most <= 256 + 2 * threads


def test_padding_that_fills_whole_jobs_is_hashed(tmp_path):
    length = 1 << 22
    entries = [
        FileEntry(("a",), length),
        FileEntry((".pad", "1-x"), 4 * length, padding=True),
        FileEntry(("b",), length),
    ]
    for name in "ab":
        (tmp_path / name).write_bytes(bytes(length))
    layout = Layout.of(entries, Geometry(6 * length, length))
    files = Files()

    def opened(number):
        if number == layout.zeros:
            return files.open_zeros(root, length)
        return files.open_read(root, entries[number].path)

    digests = hashlib.sha1(bytes(length)).digest() * 6
    with files.rooted(tmp_path) as root:
        assert recheck(layout, digests, opened, files=files, threads=2).count == 6


def test_without_any_thread_to_be_had_the_caller_hashes(standing, monkeypatch):
    tree, files, layout, opened, _ = standing

    def none(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none)
    digests, told = {}, []
    hash_pieces(
        layout,
        opened,
        digests.__setitem__,
        files=files,
        threads=2,
        progress=lambda done, total: told.append(done),
    )
    assert b"".join(digests[index] for index in range(tree.count)) == tree.metainfo.pieces
    assert told[-1] == layout.geometry.total_length


def test_many_threads_have_few_files_open(tmp_path):
    count = 2000
    (tmp_path / "top").mkdir()
    for number in range(count):
        (tmp_path / "top" / str(number)).write_bytes(bytes(20_000))
    files, opened = Files(), []
    root = files.open_root(tmp_path / "top")
    entries = [FileEntry((str(number),), 20_000) for number in range(count)]
    layout = Layout.of(entries, Geometry(count * 20_000, 16 * 1024))
    most, lock = 0, threading.Lock()

    def open_one(number):
        nonlocal most
        with lock:
            opened.append(number)
            most = max(most, len(opened))
        return files.open_read(root, entries[number].path)

    def closing(number, handle):
        with lock:
            opened.remove(number)

    hash_pieces(layout, open_one, lambda *_: None, files=files, threads=32, closing=closing)
    files.close_root(root)
    assert not opened
    assert most <= 32 * 4 + 32
