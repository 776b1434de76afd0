"""Tests that a malformed row of delimited text does not affect the other rows."""

from __future__ import annotations

import csv
import gzip
import io
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecellm_lite.tables import lines as lines_module
from ecellm_lite.tables import source as source_module
from ecellm_lite.tables.opening import open_table
from ecellm_lite.tables.row import CELL_CHARACTERS
from tests.tables.reading import read, write

GOOD = [{"id": str(number), "title": f"Mug é{number}", "price": f"{number}.50"} for number in range(1, 7)]


def lines() -> list[bytes]:
    return [b'%s,"%s",%s\n' % tuple(cell.encode() for cell in row.values()) for row in GOOD]


BROKEN = {
    "too many": b"x,y,z,w\n",
    "too few": b"x,y\n",
    "NUL": b"x,a\0b,z\n",
    "invalid UTF-8": b"x,caf\xe9,z\n",
    "quote not closed": b'x,"y,z\n',
    "quote not closed at the end": b'x,y,"z\n',
    "quote not doubled": b'x,"a "b" c",z\n',
    "quote not doubled over lines": b'x,"one\ntwo "b" two\nthree",z\n',
    "lone return": b"x,a\rb,z\n",
}

LARGE = {
    "10 MB cell": b"x," + b"y" * 10_000_000 + b",z\n",
    "10 MB cell in quotes": b'x,"' + (b"y" * 99 + b"\n") * 100_000 + b'",z\n',
    "30 MB cell in quotes": b'x,"' + (b"y" * 999 + b"\n") * 30_000 + b'",z\n',
    "30 MB cell in one line": b"x," + b"y" * 30_000_000 + b",z\n",
}


@pytest.mark.parametrize(
    ("broken", "place"),
    [*((row, place) for row in BROKEN.values() for place in (1, 3, 6)), *((row, 3) for row in LARGE.values())],
    ids=[*(f"{name} {place}" for name in BROKEN for place in (1, 3, 6)), *LARGE],
)
def test_a_broken_row_does_not_affect_others(tmp_path: Path, broken: bytes, place: int) -> None:
    data = lines()
    data.insert(place, broken)
    _, rows = read(write(tmp_path / "x.csv", b"id,title,price\n" + b"".join(data)))
    assert [dict(row.cells) for row in rows if row.error is None] == GOOD
    [bad] = [row for row in rows if row.error]
    assert bad.number == place + 1
    assert bad.error is not None
    assert bad.error.line == bad.line == place + 2
    assert [row.number for row in rows] == list(range(1, 8))


@pytest.mark.parametrize(("broken", "field"), [(b"x,a\0b,z\n", "title"), (b"x,y,caf\xe9\n", "price")])
def test_a_broken_cell_is_named_with_its_column(tmp_path: Path, broken: bytes, field: str) -> None:
    _, rows = read(write(tmp_path / "x.csv", b"id,title,price\n" + b"".join([*lines(), broken])))
    assert rows[-1].error is not None
    assert rows[-1].error.field == field


def test_each_broken_row_has_its_own_error(tmp_path: Path) -> None:
    broken = list(BROKEN.values())
    data = [line for pair in zip(lines() * 2, broken, strict=False) for line in pair] + lines()
    _, rows = read(write(tmp_path / "x.csv", b"id,title,price\n" + b"".join(data)))
    assert sum(1 for row in rows if row.error) == len(broken)
    assert [dict(row.cells) for row in rows if not row.error] == [*(GOOD * 2)[: len(broken)], *GOOD]


def test_an_endless_line_is_not_held_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines_module, "LINE_CHARACTERS", 1000)
    _, rows = read(write(tmp_path / "x.csv", "a,b\n1,2\n3," + "x" * 100_000 + "\n5,6\n"))
    assert [row.error is None for row in rows] == [True, False, True]
    assert rows[2].line == 4


def test_an_endless_line_takes_bounded_memory(tmp_path: Path) -> None:
    """A line of 60 MB is never in memory as a whole."""
    path = tmp_path / "x.csv.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b"a,b\n1,2\n3,")
        for _ in range(60):
            file.write(b"x" * 1_000_000)
        file.write(b"\n5,6\n")
    tracemalloc.start()
    try:
        _, rows = read(path)
        assert tracemalloc.get_traced_memory()[1] < 45 << 20
    finally:
        tracemalloc.stop()
    assert [row.error is None for row in rows] == [True, False, True]


def test_memory_does_not_grow_with_the_length_of_a_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "HEAD", 1 << 16)

    def peak(count: int) -> int:
        path = tmp_path / f"{count}.csv"
        with path.open("w") as file:
            file.write("id,title\n")
            file.writelines(f'{number},"Mug, number {number}"\n' for number in range(count))
        tracemalloc.start()
        try:
            with open_table(path) as table:
                total = sum(1 for _ in table.rows())
            assert total == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(30_000) < 1.05 * peak(5_000)


CELL = st.sampled_from(["Mug é", 'Lamp, "big"', "two\nlines é", "a\n\nb", "plain", '"q"', "", "x\r\ny"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(st.lists(st.tuples(CELL, CELL, st.booleans()), min_size=3, max_size=9), st.sampled_from(list(BROKEN)), st.data())
def test_a_broken_row_among_multi_line_rows_fails_alone(
    tmp_path: Path, data: list[tuple[str, str, bool]], broken: str, draw: st.DataObject
) -> None:
    rows = [["0", "é", "quoted, é"], *([str(place), *row[:2]] for place, row in enumerate(data, 1))]
    texts: list[bytes] = []
    for row, (*_, all_quoted) in zip(rows, [("", "", False), *data], strict=True):
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL if all_quoted else csv.QUOTE_MINIMAL).writerow(row)
        texts.append(text.getvalue().encode())
    texts.insert(draw.draw(st.integers(1, len(texts))), BROKEN[broken])
    _, read_rows = read(write(tmp_path / "x.csv", b"id,title,price\n" + b"".join(texts)), quote='"')
    assert [list(row.cells.values()) for row in read_rows if row.error is None] == rows
    assert sum(1 for row in read_rows if row.error) == 1


def test_a_cut_file_gives_its_rows_and_an_error(tmp_path: Path) -> None:
    packed = gzip.compress(b"a,b\n" + b"".join(b"%d,%d\n" % (number, number * 7919 % 1000) for number in range(5000)))
    _, rows = read(write(tmp_path / "x.csv.gz", packed[: len(packed) // 2]))
    assert rows[-1].error is not None
    assert len(rows) > 1000
    assert all(row.error is None for row in rows[:-2])


def test_cells_up_to_the_size_limit_are_read(tmp_path: Path) -> None:
    most = "x" * CELL_CHARACTERS
    _, rows = read(write(tmp_path / "x.csv", f'a,b\n1,"{most}"\n2,"{most}y"\n3,z\n'))
    assert [row.error is None for row in rows] == [True, False, True]
    assert rows[0].cells["b"] == most
