import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from p2pfs.errors import StorageError
from p2pfs.storage.places import hidden_name

posix = pytest.mark.skipif(os.name == "nt", reason="names below a descriptor are POSIX")


def test_two_torrents_of_one_name_do_not_harm_each_other(sample, tmp_path, start):
    first, second = sample(9000, seed=1), sample(9000, seed=2)
    one, two = start(first, tmp_path), start(second, tmp_path)
    for index in range(first.count):
        assert one.write_piece(index, first.piece(index))
        assert two.write_piece(index, second.piece(index))
    assert first.is_at(one.finish())

    with pytest.raises(StorageError, match="already"):
        two.finish()
    two.close()
    with pytest.raises(StorageError, match="differs"):
        start(second, tmp_path)

    assert first.is_at(one.final_path)
    one.final_path.rename(tmp_path / "moved away")
    again = start(second, tmp_path)
    assert again.finished
    assert second.is_at(again.final_path)
    assert first.is_at(tmp_path / "moved away")


def test_names_no_disk_should_have_are_mapped_and_kept_apart(sample, tmp_path, start, write):
    odd = sample(
        {"CON": 300, "x" * 300: 40, "A": 100, "a": 200, "\u00e9": 10, "e\u0301": 20, "d./e ": 7}
    )
    store = start(odd, tmp_path)
    write(store, odd)
    top = store.finish()
    names = [path for path in top.rglob("*") if path.is_file()]
    assert len(names) == 7
    assert all(len(path.name.encode()) <= 255 for path in names)
    assert start(odd, tmp_path).finished


def test_the_longest_name_still_has_a_hidden_one(sample, tmp_path, start, completes):
    long = sample(5000, name="n" * 251 + ".txt")
    assert len(hidden_name(long.metainfo, "resume").encode()) <= 255
    assert completes(start(long, tmp_path), long)


def test_what_a_folder_lacks_is_downloaded_into_it(
    tree, tmp_path, start, write, completes, snapshot
):
    top = tree.lay_out(tmp_path)
    (top / "d").unlink()
    (top / "deep" / "empty").unlink()
    (top / "notes").write_text("of the user")
    before = snapshot(tmp_path)

    store = start(tree, tmp_path)

    missing = set(store.verified.missing())
    assert missing == set(store.layout.pieces_of(4))
    write(store, tree, sorted(missing)[:1])
    assert snapshot(top) == {path[6:]: value for path, value in before.items()}
    store.close()
    assert completes(start(tree, tmp_path), tree)
    after = snapshot(tmp_path)
    assert {path: after[path] for path in before} == before
    assert sorted(after) == sorted([*before, "thing/d", "thing/deep/empty"])


def test_an_empty_folder_at_the_real_name_is_filled(tree, tmp_path, start, completes):
    (tmp_path / "thing").mkdir()
    assert completes(start(tree, tmp_path), tree)
    assert [path.name for path in tmp_path.iterdir()] == ["thing"]


def test_a_file_that_appears_in_the_folder_and_differs_stops_the_finish(
    tree, tmp_path, start, write
):
    (tmp_path / "thing").mkdir()
    store = start(tree, tmp_path)
    write(store, tree)
    (tmp_path / "thing" / "d").write_text("of the user")
    with pytest.raises(StorageError, match="d exists and differs"):
        store.finish()
    assert (tmp_path / "thing" / "d").read_text() == "of the user"
    assert store.read(0, 0, 100) == tree.piece(0)[:100]
    (tmp_path / "thing" / "d").unlink()
    assert tree.is_at(store.finish())


@posix
@pytest.mark.parametrize("at", ["sys_mkdir", "sys_rename", "sys_link"])
def test_a_folder_that_gets_the_name_at_this_moment_is_filled(tree, tmp_path, start, watched, at):
    """Whatever is about to happen below the name `thing`: somebody else is quicker."""
    others = tmp_path / "thing" / "deep" / "note of another"

    def around(name, call, args):
        if name == at and around.armed and "thing" in args[:2]:
            around.armed = False
            others.parent.mkdir(parents=True)
            others.write_text("another")
        return call(*args)

    around.armed = True
    store = start(tree, tmp_path, files=watched(around))
    for index in range(tree.count):
        assert store.write_piece(index, tree.piece(index))

    path = store.finish()

    assert tree.is_at(path)
    assert around.armed == (at == "sys_link")  # a folder is not linked
    if at != "sys_link":
        assert others.read_text() == "another"


@posix
def test_downloads_that_finish_together_fill_one_folder(tmp_path, start, sample, write):
    for turn in range(10):
        folder = tmp_path / str(turn)
        samples = [
            sample({f"{number % 2}/{number}.bin": 3000}, name="2024", seed=number)
            for number in range(6)
        ]
        stores = [start(one, folder) for one in samples]
        for store, one in zip(stores, samples, strict=True):
            write(store, one)
        barrier = threading.Barrier(len(stores))

        def finish(store, barrier=barrier):
            barrier.wait(10)
            return store.finish()

        with ThreadPoolExecutor(len(stores)) as pool:
            paths = list(pool.map(finish, stores))

        assert set(paths) == {folder / "2024"}
        assert all(one.is_at(folder / "2024") for one in samples)
        assert [path.name for path in folder.iterdir()] == ["2024"]


def test_a_stop_before_the_flush_takes_back_nothing_but_our_own(
    sample, tmp_path, start, write, snapshot
):
    first = sample({"05/a.jpg": 5000}, name="2024", seed=1)
    second = sample({"05/b.jpg": 5000}, name="2024", seed=2)
    store = start(first, tmp_path)
    write(store, first)
    top = store.finish(durable=False)
    (top / "notes").write_text("of the user")
    other = start(second, tmp_path)
    write(other, second)
    other.finish()
    store.close(clean=False)
    before = snapshot(tmp_path / "2024")
    seen = []

    def progress(done, total):  # while it is rechecked under its hidden name
        seen.append(snapshot(tmp_path / "2024"))

    again = start(first, tmp_path, progress=progress)

    assert again.finished
    assert first.is_at(top)
    assert snapshot(top) == before
    del before["05/a.jpg"]
    assert before in seen


def test_a_tree_without_bytes_joins_a_folder_that_is_there(sample, tmp_path, start):
    (tmp_path / "2024" / "05").mkdir(parents=True)
    (tmp_path / "2024" / "05" / "b.jpg").write_text("of the user")
    empty = sample({"05/a.txt": 0}, name="2024")

    store = start(empty, tmp_path)

    assert store.finished
    assert store.content_path == tmp_path / "2024" / "05" / "a.txt"
    assert store.content_path.read_bytes() == b""
    assert (tmp_path / "2024" / "05" / "b.jpg").read_text() == "of the user"
    assert start(empty, tmp_path).finished


# -- what others do to content in the making


@posix
@pytest.mark.parametrize("how", ["another file", "a link", "a folder", "nothing"])
def test_a_file_replaced_while_it_is_made_does_not_get_the_real_name(
    either, tmp_path, start, write, how
):
    target = tmp_path / "precious"
    target.write_bytes(b"x" * 13_000)
    output = tmp_path / "output"
    store = start(either, output)
    write(store, either)
    path = output.joinpath(*store._places.parts(0))
    path.unlink()
    if how == "another file":
        path.write_bytes(bytes(13_000 if path.parent == output else 5000))
    elif how == "a link":
        path.symlink_to(target)
    elif how == "a folder":
        path.mkdir()

    with pytest.raises(StorageError, match=r"another program|removed"):
        store.finish()

    assert not store.finished
    assert not os.path.lexists(store.final_path)
    assert target.read_bytes() == b"x" * 13_000


@posix
def test_a_folder_swapped_for_a_link_while_it_is_filled_stays_hidden(tree, tmp_path, start, write):
    outside = tmp_path / "outside"
    (outside / "er").mkdir(parents=True)
    (outside / "er" / "b.bin").write_text("precious")
    output = tmp_path / "output"
    store = start(tree, output)
    write(store, tree, range(3))
    folder = output.joinpath(*store._places.top, "deep")
    folder.rename(tmp_path / "aside")
    folder.symlink_to(outside)

    write(store, tree, range(3, tree.count))  # to where the open folder is now
    with pytest.raises(StorageError, match="another program"):
        store.finish()

    assert not os.path.lexists(store.final_path)
    assert [path.name for path in outside.rglob("*")] == ["er", "b.bin"]
    assert (outside / "er" / "b.bin").read_text() == "precious"
    store.close(clean=False)
    with pytest.raises(StorageError, match="link"):
        start(tree, output)
    folder.unlink()
    (tmp_path / "aside").rename(folder)
    again = start(tree, output)
    write(again, tree, list(again.verified.missing()))
    assert tree.is_at(again.finish())


@posix
def test_a_file_replaced_before_the_first_write_of_a_session_is_noticed(
    single, tmp_path, start, write
):
    store = start(single, tmp_path)
    write(store, single, range(3))
    path = tmp_path.joinpath(*store._places.parts(0))
    store.close()
    again = start(single, tmp_path)
    path.rename(tmp_path / "aside")
    path.write_bytes(bytes(13_000))

    with pytest.raises(StorageError, match="another program"):
        write(again, single, range(3, single.count))

    assert not again.final_path.exists()
    again.close(clean=False)
    third = start(single, tmp_path)
    write(third, single, list(third.verified.missing()))
    assert single.is_at(third.finish())
