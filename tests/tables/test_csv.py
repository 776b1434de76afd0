"""Tests that the encoding, delimiter, quotes and header of delimited text are detected."""

from __future__ import annotations

import csv
import io
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ecellm_lite.errors import InputError, UsageError
from ecellm_lite.tables.opening import open_table
from tests.tables.reading import cells, read, write

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
def test_a_written_table_survives_a_round_trip(
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
    options = {"encoding": encoding, "delimiter": delimiter, "quote": '"', "header_row": 1, "total_rows": True}
    _, read_rows = read(path, **options)
    columns, *data = rows
    data = [row for row in data if any(map(str.strip, row))]  # rows without any text are left out
    assert [list(row.values()) for row in cells(read_rows)] == data
    assert all(list(row.cells) == columns for row in read_rows)


WORD = st.text("abcdefgh éü日本,;|'", min_size=1, max_size=10).filter(str.strip)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(
    st.lists(st.tuples(WORD, WORD, st.decimals(0, 999, places=2)), min_size=4, max_size=12),
    st.sampled_from(",;\t|"),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_delimiter_encoding_and_quoting_are_found(
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
def test_a_table_without_a_header_is_read(tmp_path: Path, text: str) -> None:
    table, rows = read(write(tmp_path / "x.csv", text))
    assert len(rows) == text.count("\n")
    assert table.columns is not None
    assert table.columns[0] == "column 1"


def test_a_header_of_years_is_recognized(tmp_path: Path) -> None:
    assert read(write(tmp_path / "x.csv", "Product,2021,2022\nMug,1,2\nCup,3,4\n"))[0].columns == (
        "Product",
        "2021",
        "2022",
    )


def test_a_repeated_header_is_a_row(tmp_path: Path) -> None:
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


def test_carriage_returns_end_lines(tmp_path: Path) -> None:
    assert cells(read(write(tmp_path / "x.csv", "a,b\r1,2\r3,4\r"))[1]) == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]


@pytest.mark.parametrize(
    ("text", "review"),
    [
        ('id,review\r1,"so\nso"\r2,bad\r', "so\nso"),
        ('id,review\n1,"so\rso"\r\n2,bad\n', "so\rso"),
        ('"i\nd",review\r1,"so\nso"\r2,bad\r', "so\nso"),
    ],
)
def test_line_ends_in_cells_do_not_end_rows(tmp_path: Path, text: str, review: str) -> None:
    _, rows = read(write(tmp_path / "x.csv", text))
    assert [row.cells["review"] for row in rows] == [review, "bad"]


def test_the_sep_line_of_excel_is_followed(tmp_path: Path) -> None:
    _, rows = read(write(tmp_path / "x.csv", "sep=;\r\na;b\r\n1,5;2\r\n"))
    assert cells(rows) == [{"a": "1,5", "b": "2"}]
    assert rows[0].line == 3


@pytest.mark.parametrize("end", [";;", '"";"";""', " ; ;", ";;;;;"])
def test_rows_without_any_text_are_left_out_with_a_note(tmp_path: Path, end: str) -> None:
    lines = ["id;review;note", "1;Gut;x", ";;", "2;Schlecht;", end, end]
    table, rows = read(write(tmp_path / "x.csv", "\r\n".join(lines)))
    assert [row["id"] for row in cells(rows)] == ["1", "2"]
    assert [row.line for row in rows] == [2, 4]
    assert len(table.notes) == 1


@pytest.mark.parametrize("above", [[], ["Bestand"]])
@pytest.mark.parametrize("row", ["Tasse 0,{0} l;{0},99", "Tasse, 0,{0} l;{0},99", "Tasse;{0},99"])
def test_commas_in_all_rows_but_not_in_the_header_divide_nothing(tmp_path: Path, above: list[str], row: str) -> None:
    lines = [row.format(place) for place in range(1, 7)]
    _, rows = read(write(tmp_path / "x.csv", "\r\n".join([*above, "Titel;Preis", *lines])))
    assert [list(row.items()) for row in cells(rows)] == [
        list(zip(["Titel", "Preis"], line.split(";"), strict=True)) for line in lines
    ]


def test_a_single_column_with_commas_is_read(tmp_path: Path) -> None:
    texts = ["Good, but loud", "Arrived late", "Nice, warm, soft", "Broke", "It is fine, I think", "ok"]
    _, rows = read(write(tmp_path / "x.csv", "review\n" + "\n".join(texts)))
    assert cells(rows) == [{"review": text} for text in texts]


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
def test_an_impossible_setting_is_a_usage_error(tmp_path: Path, setting: dict[str, str | int]) -> None:
    with pytest.raises(UsageError) as error:
        read(write(tmp_path / "x.csv", "a,b\n1,2\n"), **setting)
    assert error.value.settings == tuple(setting)


def test_an_encoding_that_shows_only_late_in_the_file_is_found(tmp_path: Path) -> None:
    plain = "".join(f"S{number},Mug and lid number {number}\n" for number in range(60_000))
    data = ("sku,title\n" + plain).encode() + "X,Größe für Käse\n".encode("cp1252") * 3
    assert len(data) > 1 << 20
    _, rows = read(write(tmp_path / "x.csv", data))
    assert [row.cells["title"] for row in rows[-3:]] == ["Größe für Käse"] * 3
    assert len(rows) == 60_003


def test_columns_get_distinct_names(tmp_path: Path) -> None:
    table, _ = read(write(tmp_path / "x.csv", "Price,,Price,Price (2),\n1,2,3,4,5\n6,7,8,9,0\n"))
    assert table.columns is not None
    assert len(set(table.columns)) == 5
    assert table.columns[0] == "Price"
    assert table.columns[3] == "Price (2)"
