"""What is hashed by child processes; a process of its own makes them (see test_children)."""

import hashlib
import sys

import pytest

from tests.support.alone import run_python

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="children are made on Linux")

PIECE = 16 * 1024

SETUP = """
import os, sys, threading
from pathlib import Path
from p2pfs.errors import P2pfsError
from p2pfs.storage import digesting, hash_jobs
from p2pfs.storage.creating import hash_tree
from p2pfs.storage.files import Files

here, top = os.getpid(), Path(sys.argv[1])
digesting._LARGE, digesting._MANY = 1_000_000, 100
hash_jobs._SMALLEST_JOB = 64 * 1024

class Watched(Files):
    "Tells who opened something, and that something was mapped."

    def sys_open(self, name, flags, dir_fd):
        if name.endswith(".bin"):
            where = "a child" if os.getpid() != here else threading.current_thread().name
            self.log(where)
        return super().sys_open(name, flags, dir_fd)

    def mapped(self, handle, offset, length):
        self.log("mapped")
        return super().mapped(handle, offset, length)

    def log(self, what):
        with open(sys.argv[1] + ".log", "a") as log:
            log.write(what + "\\n")

def make(files=None, **more):
    return hash_tree(top, 16 * 1024, threads=2, files=files or Watched(), **more)
"""


@pytest.fixture
def few(tmp_path):
    """A folder of three files, the large ones beginning anywhere in a page."""
    return lay_out(tmp_path, {"a.bin": 1_200_001, "b.bin": 700_000, "c.bin": 12_345})


@pytest.fixture
def many(tmp_path):
    """A folder of many small files, some of them empty."""
    return lay_out(tmp_path, {f"{number:03}.bin": number * 7 for number in range(150)})


def lay_out(tmp_path, sizes):
    top = tmp_path / "top"
    top.mkdir()
    seen = b""
    for name, size in sizes.items():
        content = hashlib.shake_128(name.encode()).digest(size)
        (top / name).write_bytes(content)
        seen += content
    return top, b"".join(
        hashlib.sha1(seen[start : start + PIECE]).digest() for start in range(0, len(seen), PIECE)
    )


def run(top, code):
    return run_python(SETUP, code, arguments=(top,))


def logged(top):
    return set(top.with_name("top.log").read_text().splitlines())


@pytest.mark.parametrize("content", ["few", "many"])
def test_children_hash_what_is_large_or_many_files(content, request):
    top, digests = request.getfixturevalue(content)
    said = run(top, "print(make().pieces.hex())")
    assert said.strip() == digests.hex()
    assert logged(top) == {"a child"} | ({"mapped"} if content == "few" else set())


def test_without_children_threads_do_the_same(few):
    top, digests = few
    said = run(top, "digesting.can_fork = lambda: False; print(make().pieces.hex())")
    assert said.strip() == digests.hex()
    assert all(name.startswith("hash-") for name in logged(top))


def test_threads_hash_it_when_the_system_gives_no_more_processes(few):
    top, digests = few
    said = run(
        top,
        """
        def none():
            raise BlockingIOError("no more")
        os.fork = none
        print(make().pieces.hex())
        """,
    )
    assert said.strip() == digests.hex()
    assert all(name.startswith("hash-") for name in logged(top))


def test_a_file_that_cannot_be_mapped_is_read(few):
    top, digests = few
    said = run(
        top,
        """
        import mmap
        def refuse(*_, **__):
            raise OSError("no such device")
        class Unmapped(Watched):
            def mapped(self, handle, offset, length):
                mmap.mmap = refuse
                return super().mapped(handle, offset, length)
        print(make(Unmapped()).pieces.hex())
        """,
    )
    assert said.strip() == digests.hex()
    assert logged(top) == {"a child", "mapped"}


def test_progress_grows_to_the_whole_also_where_children_die(few):
    top, digests = few
    said = run(
        top,
        """
        class Deadly(Watched):
            def mapped(self, handle, offset, length):
                os._exit(1)
        seen = []
        def progress(done, total):
            assert total == 1_912_346
            seen.append(done)
        print(make(Deadly(), progress=progress).pieces.hex())
        print(seen == sorted(set(seen)), seen[-1])
        """,
    )
    assert said.splitlines() == [digests.hex(), "True 1912346"]


def test_a_file_that_is_cut_short_while_it_is_mapped_is_an_error_and_no_crash(few):
    top, _ = few
    said = run(
        top,
        """
        import contextlib
        class Cutting(Watched):
            @contextlib.contextmanager
            def mapped(self, handle, offset, length):
                with super().mapped(handle, offset, length) as view:
                    os.truncate(handle.path, 0)
                    yield view
        try:
            make(Cutting())
        except P2pfsError as error:
            print(error)
        """,
    )
    assert "changed while it was hashed" in said


@pytest.mark.parametrize("content", ["few", "many"])
def test_a_file_that_is_written_to_meanwhile_is_an_error(content, request):
    top, _ = request.getfixturevalue(content)
    said = run(
        top,
        """
        class Written(Watched):
            def fstat(self, handle):
                if handle.path.name in ("b.bin", "100.bin"):
                    os.utime(handle.path, (1, 1))
                return super().fstat(handle)
        try:
            make(Written())
        except P2pfsError as error:
            print(error)
        """,
    )
    assert ".bin changed while it was hashed" in said


def test_a_file_with_holes_is_read_because_looking_fills_them_in_memory(tmp_path):
    top = tmp_path / "top"
    top.mkdir()
    with (top / "a.bin").open("wb") as file:
        file.truncate(1_200_000)
    said = run(top, "print(make().pieces.hex())")
    sizes = [min(PIECE, 1_200_000 - start) for start in range(0, 1_200_000, PIECE)]
    assert said.strip() == "".join(hashlib.sha1(bytes(size)).hexdigest() for size in sizes)
    assert (top / "a.bin").stat().st_blocks == 0


def test_padding_and_modes_are_the_same_with_children(many):
    top, _ = many
    (top / "007.bin").chmod(0o755)
    said = run(
        top,
        """
        one = make(pad=True, modes=True)
        digesting.can_fork = lambda: False
        two = make(pad=True, modes=True)
        print(one == two, [entry.path for entry in one.files if entry.executable])
        """,
    )
    assert said == "True [('007.bin',)]\n"
    assert logged(top) > {"a child"}


def test_many_folders_and_many_files_in_a_piece_need_few_descriptors(tmp_path):
    top = tmp_path / "top"
    for number in range(500):
        folder = top / f"{number % 200:03}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.bin").write_bytes(b"x")
    said = run(
        top,
        """
        import resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (150, 150))
        one = make()
        digesting.can_fork = lambda: False
        print(one == hash_tree(top, 16 * 1024, threads=1))
        """,
    )
    assert said == "True\n"


def test_the_command_makes_children(tmp_path):
    (tmp_path / "a.bin").write_bytes(bytes(range(256)) * 5000)
    said = run_python(
        """
        import os, sys
        from p2pfs.storage import digesting
        from p2pfs.cli import main
        fork = os.fork
        def counted():
            print("forked", flush=True) if (child := fork()) else None
            return child
        os.fork = counted
        digesting._LARGE = 1_000_000
        digesting.default_threads = lambda: 2
        os.chdir(sys.argv[1])
        try:
            main(["make-torrent", "a.bin"])
        except SystemExit as end:
            assert not end.code
        """,
        arguments=(tmp_path,),
    )
    assert said.splitlines()[:2] == ["forked", "forked"]
    assert said.splitlines()[-1].startswith("info hash")


def test_what_progress_raises_ends_the_work_and_leaves_no_child(many):
    top, _ = many
    said = run(
        top,
        """
        def progress(done, total):
            raise KeyboardInterrupt
        try:
            make(progress=progress)
        except KeyboardInterrupt:
            print("stopped")
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            print("none")
        """,
    )
    assert said == "stopped\nnone\n"


def test_names_that_would_be_one_file_are_refused_whatever_the_children_do(many):
    top, _ = many
    said = run(
        top,
        """
        from p2pfs.storage import creating
        from p2pfs.errors import MetainfoError
        def refuse(files):
            raise MetainfoError("two are one")
        creating.write_files = refuse
        try:
            make()
        except MetainfoError as error:
            print(error)
        """,
    )
    assert said == "two are one\n"
