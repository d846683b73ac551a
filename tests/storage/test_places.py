import pytest

from p2pfs.errors import StorageError
from p2pfs.storage.places import hidden_name


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
