import copy
import hashlib
import os
import pickle

import pytest

from p2pfs.errors import P2pfsError, StorageError
from p2pfs.formats.metainfo import parse
from p2pfs.storage.creating import hash_tree, make_metainfo

posix = pytest.mark.skipif(os.name == "nt", reason="needs POSIX files")


def test_a_file_becomes_a_single_file_torrent(tmp_path):
    content = os.urandom(100_000)
    (tmp_path / "thing.bin").write_bytes(content)

    metainfo = make_metainfo(
        tmp_path / "thing.bin",
        trackers=[["http://tracker.example/announce"]],
        comment="hello",
        private=True,
        web_seeds=["http://web.example/thing.bin"],
    )

    assert metainfo.name == "thing.bin"
    assert not metainfo.multi_file
    assert metainfo.geometry.piece_length == 16384
    assert metainfo.piece_digest(6) == hashlib.sha1(content[6 * 16384 :]).digest()
    assert metainfo.private
    assert metainfo.trackers == (("http://tracker.example/announce",),)
    assert parse(metainfo.to_bytes()) == metainfo


def test_a_folder_is_ordered_by_the_bytes_of_its_paths(tmp_path):
    top = tmp_path / "top"
    for path in ("b/z", "b.txt", "a", "é", "b/a/x", "B", "empty"):
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_text("" if path == "empty" else path)

    tree = hash_tree(top)

    assert ["/".join(entry.path) for entry in tree.files] == [
        "B", "a", "b/a/x", "b/z", "b.txt", "empty", "é",
    ]  # fmt: skip
    content = b"".join(
        b"" if entry.path == ("empty",) else "/".join(entry.path).encode() for entry in tree.files
    )
    assert tree.pieces == hashlib.sha1(content).digest()
    assert tree.multi_file
    assert tree.name == "top"


def test_the_same_content_gives_the_same_bytes_on_any_number_of_threads(tree, tmp_path):
    top = tree.lay_out(tmp_path)
    made = {make_metainfo(top, threads=threads).to_bytes() for threads in (1, 2, 5)}
    assert len(made) == 1


def test_what_was_made_describes_what_is_downloaded(either, tmp_path):
    top = either.lay_out(tmp_path)
    tree = hash_tree(top, piece_length=2048)
    assert sorted(entry.path for entry in tree.files) == sorted(
        entry.path for entry in either.metainfo.files
    )
    assert len(tree.pieces) == 20 * either.count


def test_our_own_working_files_are_not_shared(tmp_path):
    top = tmp_path / "top"
    top.mkdir()
    (top / "real").write_text("x")
    (top / ".hidden").write_text("x")
    (top / ".real.0123456789abcdef.p2pfs-part").write_text("x")
    (top / ".tree.0123456789abcdef.p2pfs-part").mkdir()
    (top / ".tree.0123456789abcdef.p2pfs-part" / "inner").write_text("x")
    assert [entry.path for entry in hash_tree(top).files] == [(".hidden",), ("real",)]


@posix
def test_links_and_pipes_in_a_folder_are_left_out_and_named(tmp_path):
    top = tmp_path / "top"
    (top / "inner").mkdir(parents=True)
    (top / "real").write_text("x")
    (top / "link").symlink_to(top / "real")
    (top / "loop").symlink_to(top)
    os.mkfifo(top / "inner" / "pipe")

    tree = hash_tree(top)

    assert [entry.path for entry in tree.files] == [("real",)]
    assert tree.skipped == ("inner/pipe", "link", "loop")


@posix
def test_a_link_that_the_user_names_is_followed_and_names_the_torrent_after_its_target(tmp_path):
    (tmp_path / "real.bin").write_bytes(b"x" * 10)
    (tmp_path / "link").symlink_to("real.bin")
    assert hash_tree(tmp_path / "link").name == "real.bin"


@posix
def test_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StorageError, match="neither a regular file nor a folder"):
        hash_tree(tmp_path / "pipe")


def test_nothing_there_and_nothing_in_it_are_clear_errors(tmp_path):
    with pytest.raises(StorageError, match="no-such"):
        hash_tree(tmp_path / "no-such")
    (tmp_path / "folder" / "empty").mkdir(parents=True)
    with pytest.raises(StorageError, match="no file to share"):
        hash_tree(tmp_path / "folder")


@posix
@pytest.mark.parametrize("name", [b"bad\xffname", b"back\\slash", b"new\nline"])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_name_no_torrent_can_have_is_refused_before_any_hashing(tmp_path, name, kind):
    top = tmp_path / "top"
    top.mkdir()
    bad = top / os.fsdecode(name)
    try:
        if kind == "folder":
            bad.mkdir()
            bad = bad / "file"
        bad.write_text("x")
    except OSError:
        pytest.skip("this file system does not take the name")
    with pytest.raises(StorageError, match="cannot be shared") as caught:
        hash_tree(top, progress=lambda done, total: pytest.fail("hashed"))
    str(caught.value).encode()


def test_a_piece_length_out_of_range_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    for bad in (0, -1, 2**31):
        with pytest.raises(P2pfsError):
            hash_tree(tmp_path / "file", piece_length=bad)


def test_an_empty_file_can_be_shared(tmp_path):
    (tmp_path / "empty").touch()
    metainfo = make_metainfo(tmp_path / "empty")
    assert metainfo.geometry.piece_count == 0
    assert metainfo.total_length == 0


@pytest.mark.parametrize("change", ["grows", "shrinks", "is edited"])
def test_a_file_that_changes_while_it_is_hashed_is_an_error(tmp_path, watched, change):
    path = tmp_path / "file"
    path.write_bytes(bytes(600_000))
    reads = 0

    def around(name, call, args):
        nonlocal reads
        if name == "sys_pread":
            reads += 1
            if reads == 2:
                with path.open("r+b") as file:
                    if change == "shrinks":
                        file.truncate(10)
                    else:
                        file.seek(0, 2 if change == "grows" else 0)
                        file.write(b"x")
        return call(*args)

    with pytest.raises(StorageError, match=r"changed|shorter"):
        hash_tree(path, files=watched(around), threads=1)


def test_progress_is_told_in_bytes(tmp_path):
    (tmp_path / "file").write_bytes(bytes(9_000_000))
    calls = []
    hash_tree(tmp_path / "file", progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (9_000_000, 9_000_000)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_what_was_made_can_be_copied_and_sent_to_another_process(tree, tmp_path):
    made = make_metainfo(tree.lay_out(tmp_path))
    assert pickle.loads(pickle.dumps(made)) == copy.deepcopy(made) == made


def test_the_order_of_files_does_not_go_by_the_locale(tmp_path, monkeypatch):
    top = tmp_path / "top"
    top.mkdir()
    for name in ("а", "ю", "б", "z"):
        (top / name).write_text(name)
    monkeypatch.setattr(os, "fsencode", lambda name: name.encode("koi8-r"))
    assert [entry.path[0] for entry in hash_tree(top).files] == ["z", "а", "б", "ю"]
