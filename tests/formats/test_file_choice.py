from dataclasses import replace

import pytest

from p2pfs.errors import UsageError
from p2pfs.formats.file_choice import choose_files, numbered_files
from p2pfs.formats.magnet import Magnet, selected_files
from p2pfs.formats.metainfo import FileEntry, build
from tests.support.metainfo import described


@pytest.fixture
def album():
    files = [
        FileEntry(("disc1", "01.flac"), 3),
        FileEntry((".pad", "x"), 1, padding=True),
        FileEntry(("disc1", "02.flac"), 3),
        FileEntry(("disc2", "01.flac"), 3),
        FileEntry(("cover.jpg",), 3),
        FileEntry(("7",), 3),
    ]
    return build(name="album", files=files, multi_file=True, piece_length=16384, pieces=bytes(20))


@pytest.mark.parametrize(
    ("words", "chosen"),
    [
        (["*.jpg"], {4}),
        (["disc1"], {0, 2}),
        (["disc1/"], {0, 2}),
        (["disc?"], {0, 2, 3}),
        (["*/01.flac"], {0, 3}),
        (["disc1/02.flac"], {2}),
        (["1"], {0}),
        (["2-3"], {2, 3}),
        (["1,4", "cover.jpg"], {0, 3 + 1}),
        (["7"], {5}),
        (["*"], {0, 2, 3, 4, 5}),
        ([0, 2], {0, 2}),
        ([5, "disc1"], {0, 2, 5}),
    ],
)
def test_files_are_chosen_by_path_pattern_and_number(album, words, chosen):
    assert choose_files(album, words) == chosen


@pytest.mark.parametrize("word", ["0", "6", "3-2", "1-9", "*.mp3", "disc3", ".pad/1-1", "", "x-1"])
def test_a_word_that_stands_for_no_file_is_refused(album, word):
    with pytest.raises(UsageError, match="no file"):
        choose_files(album, [word])


def test_how_many_files_there_are_instead_is_told(album):
    with pytest.raises(UsageError, match=r"p2pfs show numbers its 5 files$"):
        choose_files(album, ["x"])
    with pytest.raises(UsageError, match=r"film has no file 'x': p2pfs show numbers its 1 file$"):
        choose_files(described("film"), ["x"])


@pytest.mark.parametrize("index", [-1, 1, 6])
def test_an_index_that_is_no_file_or_padding_is_refused(album, index):
    with pytest.raises(UsageError, match="no file"):
        choose_files(album, [0, index])


def test_most_of_very_many_files_are_chosen_by_what_a_link_selects():
    many = tuple(FileEntry((f"{number // 1000}", f"{number}"), 5) for number in range(200_000))
    metainfo = replace(described("album/x"), files=many)
    link = Magnet(metainfo.torrent_id, selected=((0, len(many) - 2),))

    assert choose_files(metainfo, selected_files(link, metainfo)) == set(range(len(many) - 1))


def test_numbers_leave_padding_out(album):
    assert list(numbered_files(album)) == [(1, 0), (2, 2), (3, 3), (4, 4), (5, 5)]
