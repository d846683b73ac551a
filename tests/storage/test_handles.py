import os
import threading

import pytest

from p2pfs.errors import StorageError
from p2pfs.storage.files import Files
from p2pfs.storage.handles import HandlePool, ReadPool, SourceCache


@pytest.fixture
def opened(tmp_path):
    """Opens file `number`, whose content is its number; keeps count."""
    files = Files()
    for number in range(20):
        (tmp_path / str(number)).write_text(str(number))
    root = files.open_root(tmp_path)

    def go(number):
        go.calls.append(number)
        return files.open_read(root, (str(number),))

    go.calls = []
    go.files = files
    yield go
    files.close_root(root)


def content(fd):
    return int(os.pread(fd, 10, 0))


def test_a_pool_opens_a_file_once_and_keeps_it(opened):
    pool = HandlePool(opened.files, opened, 4)
    for _ in range(3):
        assert content(pool.acquire(7).fd) == 7
        pool.release(7)
    assert opened.calls == [7]
    pool.close()


def test_a_pool_closes_the_least_recently_used(opened):
    pool = HandlePool(opened.files, opened, 2)
    for number in (0, 1, 0, 2, 0, 1):
        pool.acquire(number)
        pool.release(number)
    assert opened.calls == [0, 1, 2, 1]
    pool.close()


def test_a_pool_at_rest_keeps_open_only_what_is_in_use(opened):
    pool = HandlePool(opened.files, opened, 4)
    used, free = pool.acquire(1), pool.acquire(2)
    pool.release(2)

    pool.rest()

    assert free.fd == -1
    assert content(used.fd) == 1
    pool.release(1)
    assert content(pool.acquire(2).fd) == 2
    pool.release(2)
    pool.close()


def test_a_pool_never_closes_a_file_in_use(opened):
    pool = HandlePool(opened.files, opened, 2)
    held = [pool.acquire(number) for number in range(5)]
    assert [content(handle.fd) for handle in held] == [0, 1, 2, 3, 4]
    for number in range(5):
        pool.release(number)
    pool.close()
    assert all(handle.fd == -1 for handle in held)


def test_a_pool_on_many_threads_never_mixes_files_up(opened):
    pool = HandlePool(opened.files, opened, 3)
    wrong = []

    def work(start):
        for turn in range(300):
            number = (start * 7 + turn * 3) % 20
            handle = pool.acquire(number)
            if content(handle.fd) != number:
                wrong.append(number)
            pool.release(number)

    threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    pool.close()


def test_sources_are_bounded_and_open_again_when_asked(opened):
    cache = SourceCache(opened.files, opened, 2)
    for number in (0, 1, 2, 0):
        assert content(cache.get(number).fileno()) == number
    assert opened.calls == [0, 1, 2, 0]
    assert content(cache.get(2).fileno()) == 2
    assert opened.calls == [0, 1, 2, 0]
    cache.close()
    assert content(cache.get(0).fileno()) == 0
    cache.close()


def test_a_source_is_one_object_and_keeps_its_descriptor(opened):
    cache = SourceCache(opened.files, opened, 2)
    source = cache.get(3)
    assert cache.get(3) is source
    assert source.fileno() == source.fileno()
    assert opened.calls == [3]
    cache.close()


def test_a_source_that_cannot_be_opened_says_so_each_time(opened, tmp_path):
    cache = SourceCache(opened.files, opened, 2)
    (tmp_path / "3").unlink()
    for _ in range(2):
        with pytest.raises(StorageError):
            cache.get(3).fileno()
    (tmp_path / "3").write_text("3")
    assert content(cache.get(3).fileno()) == 3
    cache.close()


def test_a_read_pool_closes_each_file_after_its_last_reader(opened):
    closing = []
    pool = ReadPool(opened.files, {1: 2, 2: 1}, opened, lambda number, _: closing.append(number))
    pool.acquire(1)
    pool.release(1)
    pool.acquire(2)
    pool.release(2)
    assert closing == [2]
    assert pool.acquire(1).fd >= 0
    pool.release(1)
    assert closing == [2, 1]
    assert opened.calls == [1, 2]
