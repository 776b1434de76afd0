"""Delimited text: what is broken costs no other row, and what was written comes back."""

from __future__ import annotations

import csv
import gzip
import importlib
import io
import os
import subprocess
import sys
import tracemalloc
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ecellm_lite.errors import InputError, UsageError
from ecellm_lite.tables import lines as lines_module
from ecellm_lite.tables import source as source_module
from ecellm_lite.tables.opening import open_table
from ecellm_lite.tables.row import CELL_CHARACTERS
from tests.tables.reading import cells, read, write

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
def test_a_broken_row_costs_no_other(tmp_path: Path, broken: bytes, place: int) -> None:
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
def test_a_broken_cell_is_named(tmp_path: Path, broken: bytes, field: str) -> None:
    _, rows = read(write(tmp_path / "x.csv", b"id,title,price\n" + b"".join([*lines(), broken])))
    assert rows[-1].error is not None
    assert rows[-1].error.field == field


def test_each_broken_row_has_its_own_error(tmp_path: Path) -> None:
    broken = list(BROKEN.values())
    data = [line for pair in zip(lines() * 2, broken, strict=False) for line in pair] + lines()
    _, rows = read(write(tmp_path / "x.csv", b"id,title,price\n" + b"".join(data)))
    assert sum(1 for row in rows if row.error) == len(broken)
    assert [dict(row.cells) for row in rows if not row.error] == [*(GOOD * 2)[: len(broken)], *GOOD]


def test_a_line_without_end_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines_module, "LINE_CHARACTERS", 1000)
    _, rows = read(write(tmp_path / "x.csv", "a,b\n1,2\n3," + "x" * 100_000 + "\n5,6\n"))
    assert [row.error is None for row in rows] == [True, False, True]
    assert rows[2].line == 4


def test_memory_is_bounded(tmp_path: Path) -> None:
    """A line of 60 MB is not held."""
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


def test_a_stream_takes_no_more_memory_the_longer_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "cp932", "gb18030"]
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0\ufeff\x1f"), max_size=12)


@st.composite
def tables(draw: st.DrawFn) -> tuple[str, list[list[str]]]:
    width = draw(st.integers(2, 5))
    encoding = draw(st.sampled_from(ENCODINGS))
    row = st.lists(TEXT, min_size=width, max_size=width)
    rows = draw(st.lists(row, min_size=1, max_size=8))
    columns = [f"column {place}" for place in range(1, width + 1)]
    try:
        "".join(cell for row in rows for cell in row).encode(encoding)
    except UnicodeEncodeError:
        assume(False)
    return encoding, [columns, *rows]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(tables(), st.sampled_from(",;\t|"), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_what_was_written_comes_back(
    tmp_path: Path, table: tuple[str, list[list[str]]], delimiter: str, end: str, all_quoted: bool
) -> None:
    encoding, rows = table
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    if all_quoted:
        writer.writerows(rows)
    else:
        for row in rows:
            text.write(delimiter.join(_cell(cell, delimiter) for cell in row) + end)
    path = write(tmp_path / "x.csv", text.getvalue(), encoding)
    told = {"encoding": encoding, "delimiter": delimiter, "quote": '"', "header_row": 1, "total_rows": True}
    _, read_rows = read(path, **told)
    columns, *data = rows
    assert [list(row.values()) for row in cells(read_rows)] == data
    assert all(list(row.cells) == columns for row in read_rows)


CELL = st.sampled_from(["Mug é", 'Lamp, "big"', "two\nlines é", "a\n\nb", "plain", '"q"', "", "x\r\ny"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(st.lists(st.tuples(CELL, CELL, st.booleans()), min_size=3, max_size=9), st.sampled_from(list(BROKEN)), st.data())
def test_a_broken_row_among_rows_of_several_lines(
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


WORD = st.text("abcdefgh éü日本,;|'", min_size=1, max_size=10).filter(str.strip)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(
    st.lists(st.tuples(WORD, WORD, st.decimals(0, 999, places=2)), min_size=4, max_size=12),
    st.sampled_from(",;\t|"),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_the_form_is_found(
    tmp_path: Path, data: list[tuple[str, str, Decimal]], delimiter: str, encoding: str, quoting: int
) -> None:
    rows = [[f"S{place}", *map(str, row)] for place, row in enumerate(data)]
    columns = ["sku", "title", "brand", "price"]
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, quoting=quoting)  # type: ignore[arg-type]
    writer.writerows([columns, *rows])
    _, read_rows = read(write(tmp_path / "x.csv", text.getvalue(), encoding))
    assert cells(read_rows) == [dict(zip(columns, row, strict=True)) for row in rows]


@pytest.mark.parametrize(
    "text",
    ["2024-01-02,Mug\n2024-01-03,Cup\n", "yes,Mug\nno,Cup\nyes,Lamp\n", "https://a.example/1\nhttps://a.example/2\n"],
)
def test_a_table_without_a_header(tmp_path: Path, text: str) -> None:
    table, rows = read(write(tmp_path / "x.csv", text))
    assert len(rows) == text.count("\n")
    assert table.columns is not None
    assert table.columns[0] == "column 1"


def test_a_header_of_years(tmp_path: Path) -> None:
    assert read(write(tmp_path / "x.csv", "Product,2021,2022\nMug,1,2\nCup,3,4\n"))[0].columns == (
        "Product",
        "2021",
        "2022",
    )


def test_a_header_that_stands_there_again_is_a_row(tmp_path: Path) -> None:
    _, rows = read(write(tmp_path / "x.csv", "title,brand\nMug,a\ntitle,brand\nLamp,b\n"))
    assert [row.cells["title"] for row in rows] == ["Mug", "title", "Lamp"]


def _cell(cell: str, delimiter: str) -> str:
    plain = not set(cell) & {delimiter, '"', "\n", "\r"} and cell.strip()
    return cell if plain else '"' + cell.replace('"', '""') + '"'


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(st.binary(max_size=300) | st.text("ab\"',;\t\r\n |0", max_size=120).map(str.encode))
def test_any_bytes_are_a_table_or_one_error(tmp_path: Path, data: bytes) -> None:
    path = write(tmp_path / "x", data)
    try:
        with open_table(path) as table:
            rows = list(table.rows())
    except InputError:
        return
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))
    assert sorted(row.line for row in rows) == [row.line for row in rows]


def test_carriage_returns_as_line_ends(tmp_path: Path) -> None:
    assert cells(read(write(tmp_path / "x.csv", "a,b\r1,2\r3,4\r"))[1]) == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]


def test_excels_own_first_line(tmp_path: Path) -> None:
    _, rows = read(write(tmp_path / "x.csv", "sep=;\r\na;b\r\n1,5;2\r\n"))
    assert cells(rows) == [{"a": "1,5", "b": "2"}]
    assert rows[0].line == 3


def test_one_column_with_commas(tmp_path: Path) -> None:
    texts = ["Good, but loud", "Arrived late", "Nice, warm, soft", "Broke", "It is fine, I think", "ok"]
    _, rows = read(write(tmp_path / "x.csv", "review\n" + "\n".join(texts)))
    assert cells(rows) == [{"review": text} for text in texts]


def test_a_packed_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "UNPACKED_ALWAYS", 1 << 16)
    path = write(tmp_path / "x.csv.gz", gzip.compress(b"a,b\n" + b"1,2\n" * 500_000))
    with pytest.raises(InputError):
        read(path)


def test_a_file_that_is_cut_off_gives_its_rows_and_an_error(tmp_path: Path) -> None:
    packed = gzip.compress(b"a,b\n" + b"".join(b"%d,%d\n" % (number, number * 7919 % 1000) for number in range(5000)))
    _, rows = read(write(tmp_path / "x.csv.gz", packed[: len(packed) // 2]))
    assert rows[-1].error is not None
    assert len(rows) > 1000
    assert all(row.error is None for row in rows[:-2])


@pytest.mark.parametrize("encoding", ["cp1252", "cp932", "cp1251"])
def test_encodings_are_found(tmp_path: Path, encoding: str) -> None:
    words = {"cp1252": "Größe schön für Käse", "cp932": "ステンレス製の水筒", "cp1251": "Кружка большая синяя"}[
        encoding
    ]
    data = [{"sku": f"S{place}", "name": f"{words} {place}"} for place in range(5)]
    text = "sku,name\n" + "".join(f"{row['sku']},{row['name']}\n" for row in data)
    assert cells(read(write(tmp_path / "x.csv", text, encoding))[1]) == data


@pytest.mark.parametrize(
    "setting",
    [{"encoding": "klingon"}, {"encoding": "base64"}, {"delimiter": "ab"}, {"quote": "''"}, {"header_row": 9}],
)
def test_a_setting_that_cannot_be_is_a_usage_error(tmp_path: Path, setting: dict[str, str | int]) -> None:
    with pytest.raises(UsageError) as error:
        read(write(tmp_path / "x.csv", "a,b\n1,2\n"), **setting)
    assert error.value.settings == tuple(setting)


NO_TABLES: dict[str, bytes] = {
    "empty": b"",
    "blank": b"\n \n",
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
    "a web page": b"<!DOCTYPE html><html><body>Sign in</body></html>",
    "a PDF": b"%PDF-1.7\n%\xe2\xe3",
    "a JSON array": b'[{"a": 1}]',
    "zeros": bytes(1000),
    "a ZIP archive": b"PK\x03\x04" + bytes(100),
}


@pytest.mark.parametrize("data", NO_TABLES.values(), ids=NO_TABLES)
def test_what_is_no_table_is_one_error(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(InputError):
        read(write(tmp_path / "x", data))


def test_an_encoding_that_shows_late(tmp_path: Path) -> None:
    plain = "".join(f"S{number},Mug and lid number {number}\n" for number in range(60_000))
    data = ("sku,title\n" + plain).encode() + "X,Größe für Käse\n".encode("cp1252") * 3
    assert len(data) > 1 << 20
    _, rows = read(write(tmp_path / "x.csv", data))
    assert [row.cells["title"] for row in rows[-3:]] == ["Größe für Käse"] * 3
    assert len(rows) == 60_003


def test_json_lines_from_a_pipe_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as source, os.fdopen(writer, "wb", buffering=0) as sink:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(source))
        sink.write(b'{"a": 1}\n')
        with open_table("-") as table:
            rows = table.rows()
            assert next(rows).cells == {"a": 1}
            sink.write(b'{"a": 2}\n')
            assert next(rows).cells == {"a": 2}
            sink.close()
            assert list(rows) == []


@pytest.mark.parametrize("size", [1, 7, 1 << 16])
def test_a_pipe_that_brings_little_at_a_time(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    class Slow(io.BytesIO):
        def read1(self, count: int | None = -1, /) -> bytes:
            return super().read(min(size, count or -1))

    class Pipe:
        buffer = Slow(gzip.compress("a;b\n1;é\n2;x\n".encode()))

    monkeypatch.setattr("sys.stdin", Pipe())
    with open_table("-") as table:
        assert [dict(row.cells) for row in table.rows()] == [{"a": "1", "b": "é"}, {"a": "2", "b": "x"}]


def test_zstd(tmp_path: Path) -> None:
    library = importlib.import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    data = b"a,b\n" + b"".join(b"%d,%d\n" % (number, number * 7919 % 1000) for number in range(5000))
    packed: bytes = library.compress(data[:9]) + library.compress(data[9:])
    assert len(cells(read(write(tmp_path / "x.csv.zst", packed))[1])) == 5000
    _, rows = read(write(tmp_path / "y.csv.zst", packed[:-20]))
    assert rows[-1].error is not None


def test_csv_needs_none_of_the_libraries(tmp_path: Path) -> None:
    """They take a second to import, and are not installed everywhere."""
    path = write(tmp_path / "x.csv", "review\nI like it\n")
    code = f"""
import sys
from ecellm_lite.tables.columns import ColumnMap
from ecellm_lite.tables.opening import open_table
from ecellm_lite.tables.writers import ResultWriter
from ecellm_lite.tasks.registry import TASKS
table = open_table({str(path)!r})
columns = ColumnMap(TASKS["sentiment_analysis"], table.columns)
assert [row.row for row in columns.rows(table)] == [{{"review": "I like it"}}]
print([name for name in ("pyarrow", "lxml", "python_calamine", "charset_normalizer") if name in sys.modules])
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_missing_library_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "charset_normalizer", None)
    with pytest.raises(UsageError) as error:
        read(write(tmp_path / "x.csv", "a,b\nGröße,für\n", "cp1252"))
    assert error.value.step is not None
    assert "ecellm-lite[tables]" in error.value.step


def test_a_folder_and_a_missing_file_are_errors(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.csv"):
        with pytest.raises(InputError):
            read(path)


def test_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "x.csv", "a;b\n1;2\n")
    with path.open() as file:
        monkeypatch.setattr("sys.stdin", file)
        with open_table("-") as table:
            assert [dict(row.cells) for row in table.rows()] == [{"a": "1", "b": "2"}]
            assert table.share is None


def test_columns_without_distinct_names_get_some(tmp_path: Path) -> None:
    table, _ = read(write(tmp_path / "x.csv", "Price,,Price,Price (2),\n1,2,3,4,5\n6,7,8,9,0\n"))
    assert table.columns is not None
    assert len(set(table.columns)) == 5
    assert table.columns[0] == "Price"
    assert table.columns[3] == "Price (2)"


def test_cells_at_the_limit(tmp_path: Path) -> None:
    most = "x" * CELL_CHARACTERS
    _, rows = read(write(tmp_path / "x.csv", f'a,b\n1,"{most}"\n2,"{most}y"\n3,z\n'))
    assert [row.error is None for row in rows] == [True, False, True]
    assert rows[0].cells["b"] == most
