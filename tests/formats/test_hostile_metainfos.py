"""Every hostile torrent through both doors: refused with a reason, or mapped to safe names."""

from __future__ import annotations

import time
from pathlib import PurePosixPath, PureWindowsPath

import pytest

from p2pfs.errors import FormatError
from p2pfs.formats.metainfo import Metainfo, parse, parse_info
from p2pfs.formats.paths import disk_name, disk_paths
from tests.formats.hostile_metainfos import GOOD, HOSTILE, Hostile, torrent

REFUSED = [case for case in HOSTILE if case.refused is not None]
MAPPED = [case for case in HOSTILE if case.disk is not None]


def on_disk(metainfo: Metainfo) -> tuple[tuple[str, ...], ...]:
    paths = disk_paths((file.path for file in metainfo.files), portable=True)
    root = (disk_name(metainfo.name, portable=True),) if metainfo.multi_file else ()
    return tuple(root + path for path in paths)


def test_the_frame_around_the_cases_is_good():
    assert parse(torrent(GOOD)).name == "name"
    assert parse_info(GOOD).trackers == ()


def test_there_are_enough_cases_and_no_two_are_one():
    assert len(HOSTILE) > 100
    assert len({case.title for case in HOSTILE}) == len(HOSTILE)


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_a_hostile_file_is_refused_with_a_reason(case: Hostile):
    start = time.thread_time()

    with pytest.raises(FormatError) as caught:
        parse(case.data)
    assert case.refused in str(caught.value)
    assert len(str(caught.value)) < 200
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()
    assert time.thread_time() - start < 10


@pytest.mark.parametrize("case", [case for case in REFUSED if case.info is not None], ids=str)
def test_hostile_metadata_of_a_peer_is_refused_likewise(case: Hostile):
    with pytest.raises(FormatError) as caught:
        parse_info(case.info)
    assert case.refused in str(caught.value)


@pytest.mark.parametrize("case", MAPPED, ids=str)
def test_an_odd_torrent_gets_safe_names(case: Hostile):
    metainfo = parse(case.data)

    assert on_disk(metainfo) == case.disk
    assert parse_info(case.info).files == metainfo.files
    assert parse(metainfo.to_bytes()) == metainfo


@pytest.mark.parametrize("case", MAPPED, ids=str)
def test_no_mapped_name_leaves_the_folder_on_any_platform(case: Hostile):
    for path in on_disk(parse(case.data)):
        for flavour in (PurePosixPath, PureWindowsPath):
            joined = flavour("root", *path)
            assert joined.parts == ("root", *path)
            assert ".." not in joined.parts
            assert not PureWindowsPath(*path).is_absolute()
        assert all(len(part.encode()) <= 255 for part in path)
