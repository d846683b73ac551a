import errno
import os

import pytest

from p2pfs.errors import StorageError
from p2pfs.formats.bitfield import Bitfield
from p2pfs.storage.pieces import PieceStore

posix = pytest.mark.skipif(os.name == "nt", reason="needs POSIX files")


@pytest.fixture
def seed(quick):
    stores = []

    def go(sample, path, **options):
        store = PieceStore.open_seed(sample.metainfo, path, **{"files": quick, **options})
        stores.append(store)
        return store

    yield go
    for store in stores:
        store.close()


def test_right_content_is_seeded_whole(either, tmp_path, seed):
    top = either.lay_out(tmp_path)
    store = seed(either, top)
    assert store.complete
    assert store.finished
    assert store.finish() == top
    for index in range(either.count):
        assert store.read(index, 0, len(either.piece(index))) == either.piece(index)


def test_pieces_that_differ_are_not_seeded(either, tmp_path, seed):
    top = either.lay_out(tmp_path)
    path = top if top.is_file() else top / "a.txt"
    data = bytearray(path.read_bytes())
    data[2100] ^= 1
    path.write_bytes(data)
    assert list(seed(either, top).verified.missing()) == [1]
    assert seed(either, top, verify=False).complete


def test_a_partial_seeder_has_exactly_what_it_says_and_is_right(single, tmp_path, seed):
    top = single.lay_out(tmp_path)
    have = Bitfield.of(single.count, [1, 3])
    calls = []
    store = seed(single, top, have=have, progress=lambda done, total: calls.append((done, total)))
    assert list(store.verified) == [1, 3]
    assert calls[-1] == (4096, 4096)
    assert store.verified is not have


def test_what_is_seeded_is_never_opened_for_writing_or_written(either, tmp_path, seed, watched):
    top = either.lay_out(tmp_path)

    def around(name, call, args):
        assert name not in {"sys_pwrite", "sys_truncate", "sys_rename", "sys_link", "sys_unlink"}
        if name == "sys_open":
            assert not args[1] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        return call(*args)

    store = seed(either, top, files=watched(around))
    for index in range(either.count):
        store.read(index, 0, 10 if index + 1 < either.count else 1)
        store.write_piece(index, either.piece(index))
        store.checkpoint()
    store.drop(0)
    with pytest.raises(StorageError, match="only read"):
        store.write_piece(0, either.piece(0))
    with pytest.raises(StorageError, match="only read"):
        store.write_block(0, 0, b"x")
    store.checkpoint()
    store.settle()
    assert os.listdir(tmp_path) == [either.metainfo.name]  # noqa: PTH208


def test_a_short_or_missing_file_costs_its_pieces_even_unverified(tree, tmp_path, seed):
    top = tree.lay_out(tmp_path)
    (top / "d").unlink()
    for verify in (True, False):
        store = seed(tree, top, verify=verify)
        assert set(store.verified.missing()) == set(store.layout.pieces_of(4))
    os.truncate(top / "a.txt", 100)
    store = seed(tree, top, verify=False)
    assert not any(index in store.verified for index in store.layout.pieces_of(0))


@pytest.mark.parametrize("change", ["cut", "edited", "replaced", "deleted"])
def test_a_seeded_file_that_changes_is_noticed(single, tmp_path, seed, change):
    top = single.lay_out(tmp_path)
    store = seed(single, top)
    assert store.check_unchanged(0)
    if change == "cut":
        os.truncate(top, 100)
    elif change == "edited":
        top.write_bytes(bytes(13_000))
        os.utime(top, ns=(1, 1))
    elif change == "replaced":
        old = top.stat()
        (tmp_path / "other").write_bytes(bytes(13_000))
        os.utime(tmp_path / "other", ns=(old.st_atime_ns, old.st_mtime_ns))
        (tmp_path / "other").replace(top)
    else:
        top.unlink()
    assert not store.check_unchanged(0)
    if change == "cut":
        with pytest.raises(StorageError):
            store.read(6, 0, 10)


def touch_later(path):
    """As if it had been written some time after it was opened."""
    found = path.stat()
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + 10**9))


def test_of_a_changed_file_the_pieces_that_still_hold_are_kept(tree, tmp_path, seed):
    top = tree.lay_out(tmp_path)
    store = seed(tree, top)
    data = bytearray((top / "a.txt").read_bytes())
    data[2100] ^= 1
    (top / "a.txt").write_bytes(data)
    touch_later(top / "a.txt")

    assert store.recheck_changed([2, 4]) == []
    assert store.recheck_changed([0, 4]) == [1]
    assert list(store.verified.missing()) == [1]
    assert store.recheck_changed([0]) == []

    (top / "a.txt").unlink()
    assert store.recheck_changed([0]) == [0, 2]


@pytest.mark.skipif(os.name == "nt", reason="open files cannot be replaced on Windows")
def test_a_source_is_not_read_from_once_its_file_changed(single, tmp_path, seed, monkeypatch):
    monkeypatch.setattr("p2pfs.storage.handles.CHECK_EVERY", 0.0)
    top = single.lay_out(tmp_path)
    store = seed(single, top)
    source = store.source(0)
    assert os.pread(source.fileno(), 10, 0) == single.content[:10]

    touch_later(top)

    for _ in range(2):
        with pytest.raises(StorageError, match="changed"):
            source.fileno()
    with pytest.raises(StorageError, match="changed"):
        store.read_file(0, 0, 10)
    assert store.recheck_changed([0]) == []
    assert os.pread(source.fileno(), 10, 0) == single.content[:10]
    assert store.read_file(0, 0, 10) == single.content[:10]


def test_the_folder_above_will_do_too(either, tmp_path, seed):
    either.lay_out(tmp_path)
    assert seed(either, tmp_path).complete


def test_a_folder_may_have_another_name_than_the_torrent(tree, tmp_path, seed):
    top = tree.lay_out(tmp_path)
    assert seed(tree, top.rename(tmp_path / "renamed")).complete


@posix
def test_names_that_only_this_system_can_have_are_found(sample, tmp_path, seed):
    odd = sample({"aa:b": 3000, "CON": 100, "AA:B": 100, "dots...": 5})
    assert seed(odd, odd.lay_out(tmp_path)).complete


def test_nothing_there_is_a_clear_error(either, tmp_path, seed):
    with pytest.raises(StorageError, match="no-such"):
        seed(either, tmp_path / "no-such")
    with pytest.raises(StorageError, match="none of the files"):
        seed(either, tmp_path)


def test_a_file_for_a_folder_is_a_clear_error(tree, tmp_path, seed):
    (tmp_path / "plain").write_text("x")
    with pytest.raises(StorageError, match="is a file"):
        seed(tree, tmp_path / "plain")


def test_pieces_of_another_torrent_are_a_clear_error(single, tmp_path, seed):
    with pytest.raises(StorageError, match="3 pieces"):
        seed(single, single.lay_out(tmp_path), have=Bitfield.full(3))


@posix
def test_links_inside_a_seeded_folder_are_not_followed(tree, tmp_path, seed):
    top = tree.lay_out(tmp_path)
    (top / "d").rename(tmp_path / "outside")
    (top / "d").symlink_to(tmp_path / "outside")
    store = seed(tree, top)
    assert set(store.verified.missing()) == set(store.layout.pieces_of(4))
    with pytest.raises(StorageError, match="link"):
        store.source(4).fileno()


@posix
def test_a_link_to_a_folder_inside_is_not_followed_either(tree, tmp_path, seed):
    top = tree.lay_out(tmp_path)
    (top / "deep").rename(tmp_path / "outside")
    (top / "deep").symlink_to(tmp_path / "outside")
    store = seed(tree, top)
    assert list(store.verified) == [0, 1, 4, 5, 6]
    assert not store.check_unchanged(1)


@posix
@pytest.mark.parametrize("hidden", ["sys_open", "sys_stat"])
def test_a_folder_that_may_not_be_read_is_a_clear_error(tree, tmp_path, seed, watched, hidden):
    top = tree.lay_out(tmp_path)

    def around(name, call, args):
        if name == hidden and args[0] == "a.txt":
            raise PermissionError(errno.EACCES, "Permission denied")
        return call(*args)

    with pytest.raises(StorageError, match="Permission denied"):
        seed(tree, top, files=watched(around))


@posix
def test_a_link_that_the_user_names_is_followed(single, tmp_path, seed):
    single.lay_out(tmp_path).rename(tmp_path / "real")
    (tmp_path / "link").symlink_to("real")
    assert seed(single, tmp_path / "link").complete


def test_an_empty_file_is_seeded(sample, tmp_path, seed):
    empty = sample(0)
    assert seed(empty, empty.lay_out(tmp_path)).complete


@posix
def test_content_to_seed_is_not_kept_open_before_somebody_wants_it(either, tmp_path, seed):
    store = seed(either, either.lay_out(tmp_path))

    assert store._places.root.fd == -1

    assert store.read(0, 0, 100) == either.piece(0)[:100]
