import errno
import threading

import pytest

from p2pfs.errors import StorageError
from p2pfs.storage import flushing
from p2pfs.storage.pieces import PieceStore


def test_a_checkpoint_with_nothing_new_touches_nothing(either, tmp_path, start, watched):
    calls = []

    def around(name, call, args):
        calls.append(name)
        return call(*args)

    store = start(either, tmp_path, files=watched(around))
    store.write_piece(0, either.piece(0))
    store.checkpoint()
    calls.clear()
    store.checkpoint()
    assert not calls


def test_checkpoints_beside_writers_and_the_finish_harm_nothing(tree, tmp_path, start, write):
    for turn in range(5):
        store = start(tree, tmp_path / str(turn))
        over = threading.Event()
        errors = []

        def keep(store=store, over=over, errors=errors):
            while not over.is_set():
                try:
                    store.checkpoint()
                except StorageError as error:
                    errors.append(error)

        keeper = threading.Thread(target=keep)
        keeper.start()
        write(store, tree)
        path = store.finish(durable=False)
        store.settle()
        over.set()
        keeper.join()
        assert not errors
        assert tree.is_at(path)
        assert [found.name for found in path.parent.iterdir()] == [tree.metainfo.name]


def test_many_files_are_flushed_several_at_a_time(
    tree, tmp_path, watched, start, write, monkeypatch
):
    monkeypatch.setattr(flushing, "_MANY_FILES", 3)
    together = threading.Barrier(2)
    threads = set()

    def around(name, call, args):
        if name == "sys_sync" and threading.current_thread().name.startswith("flush"):
            threads.add(threading.current_thread())
            together.wait(20)
        return call(*args)

    store = start(tree, tmp_path, files=watched(around))
    write(store, tree)  # four files with content
    store.checkpoint()
    assert len(threads) > 1


@pytest.mark.parametrize("many", [0, 500], ids=["many", "few"])
def test_a_flush_that_fails_among_many_is_told(
    tree, tmp_path, watched, start, write, monkeypatch, many
):
    monkeypatch.setattr(flushing, "_MANY_FILES", many)
    flushed = []

    def around(name, call, args):
        if name == "sys_sync":
            flushed.append(args)
            if failing and len(flushed) == 2:
                raise OSError(errno.EIO, "injected")
        return call(*args)

    failing = False
    store = start(tree, tmp_path, files=watched(around))
    write(store, tree)
    flushed.clear()
    failing = True
    with pytest.raises(StorageError, match="flush"):
        store.checkpoint()
    failing = False
    with pytest.raises(StorageError, match="in doubt"):
        store.finish()


def test_after_a_failed_flush_no_checkpoint_is_claimed_until_a_new_start(
    single, tmp_path, watched, quick
):
    failing = False

    def around(name, call, args):
        if failing and name == "sys_sync":
            raise OSError(errno.EIO, "injected")
        return call(*args)

    store = PieceStore.open_download(single.metainfo, tmp_path, files=watched(around))
    store.write_piece(0, single.piece(0))
    failing = True
    with pytest.raises(StorageError, match="flush"):
        store.checkpoint()
    failing = False
    with pytest.raises(StorageError, match="flush"):
        store.checkpoint()
    store.close(clean=False)

    again = PieceStore.open_download(single.metainfo, tmp_path, files=quick)

    assert list(again.verified) == [0]
    again.checkpoint()
    again.close()
