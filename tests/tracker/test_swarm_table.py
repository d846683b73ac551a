"""The rows of one swarm: three runs, whatever moves."""

from __future__ import annotations

import random

from hypothesis import example, given, settings
from hypothesis import strategies as st

from p2pfs.tracker.swarm_table import Counts, PeerKind, SwarmTable


def kinds(table: SwarmTable) -> str:
    """The runs as the table sees them: d downloader, p partial seed, s seed."""
    partials = table.seeds_from - table.partials_from
    return "d" * table.partials_from + "p" * partials + "s" * (len(table.ids) - table.seeds_from)


def put(table: SwarmTable, name: bytes, kind: PeerKind) -> None:
    row = table.find(name)
    row = (
        table.move(row, kind)
        if row >= 0
        else table.insert(name, kind, random.Random(len(table.ids)))
    )
    table.touch(row, (name * 4)[:4] + b"\0\5", float(name[0]))


def test_rows_stand_in_runs_by_what_they_want() -> None:
    table = SwarmTable(0)

    for name, kind in ((b"a", 2), (b"b", 0), (b"c", 1), (b"d", 0), (b"e", 2)):
        put(table, name, PeerKind(kind))

    assert kinds(table) == "ddpss"
    assert {bytes(name) for name in table.ids[:2]} == {b"b", b"d"}
    assert table.ids[2] == b"c"
    assert table.counts() == Counts(complete=2, incomplete=3, downloaded=0, downloaders=2)


@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.sampled_from([*PeerKind, None])), min_size=1, max_size=120
    )
)
@settings(max_examples=60)
def test_whatever_moves_every_row_stays_whole_and_in_its_run(
    steps: list[tuple[int, PeerKind | None]],
) -> None:
    table = SwarmTable(0)
    model: dict[bytes, PeerKind] = {}
    for number, kind in steps:
        name = bytes([number])
        if kind is not None:
            put(table, name, kind)
            model[name] = kind
        elif (row := table.find(name)) >= 0:
            table.remove(row)
            del model[name]

    runs = kinds(table)
    assert sorted(table.ids) == sorted(model)
    for row, name in enumerate(table.ids):
        assert runs[row] == "dps"[model[name]]
        assert table.find(name) == row
        assert table.v4[6 * row : 6 * row + 6] == name * 4 + b"\0\5"
        assert table.seen[row] == name[0]


def test_addresses_of_the_second_family_move_with_their_row() -> None:
    table = SwarmTable(0)
    for number in range(30):
        put(table, bytes([number]), PeerKind(number % 3))
    chosen = table.find(b"\7")
    table.touch(chosen, b"\x20" * 16 + b"\0\x09", 1.0)
    put(table, b"\7", PeerKind.SEED)
    table.remove(table.find(b"\0"))
    put(table, b"\x63", PeerKind.DOWNLOADER)

    asker = b"\x21" * 16 + b"\0\1"
    picked = table.pick(-1, PeerKind.DOWNLOADER, 100, random.Random(1))
    found = {address: row for row, address in table.listed(picked, asker)}

    assert found[b"\x20" * 16 + b"\0\x09"] == table.find(b"\7")
    assert len(found) == 30
    assert table.packed(picked, asker) == (
        b"".join(one for one in found if len(one) == 6),
        b"\x20" * 16 + b"\0\x09",
    )


@given(st.integers(0, 260), st.integers(0, 60), st.integers(-1, 259), st.integers(0, 2**32))
@example(2, 1, -1, 0)
@example(9, 4, 3, 0)
@example(21, 10, 20, 5)
@settings(max_examples=200)
def test_a_pick_is_of_different_others_and_as_many_as_there_are(
    count: int, want: int, row: int, seed: int
) -> None:
    table = SwarmTable(0)
    for number in range(count):
        put(table, number.to_bytes(2, "big"), PeerKind.DOWNLOADER)
    row = row if row < count else -1

    picked = table.pick(row, PeerKind.DOWNLOADER, want, random.Random(seed))

    rows = [place for run in picked for place in range(*run)]
    assert len(set(rows)) == len(rows) == min(want, count - (row >= 0))
    assert row not in rows
    assert all(0 <= place < count for place in rows)


def test_new_rows_are_put_anywhere_in_their_run() -> None:
    table = SwarmTable(0)
    for number in range(200):
        put(table, bytes([number]), PeerKind(number % 2 * 2))

    downloaders = [name[0] for name in table.ids[:100]]

    assert downloaders != sorted(downloaders)
    assert sum(abs(name // 2 - row) for row, name in enumerate(downloaders)) > 1500
