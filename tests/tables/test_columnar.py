"""Tests that Parquet, Arrow and JSON Lines files are read as tables."""

from __future__ import annotations

import json
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from ecellm_lite.errors import InputError
from ecellm_lite.tables.opening import open_table
from ecellm_lite.tables.row import CELL_CHARACTERS
from tests.tables.reading import cells, read, write

ROWS: list[dict[str, Any]] = [
    {"id": 1, "title": "Mug", "price": Decimal("5.50"), "tags": ["a", "b"], "since": date(2024, 5, 1), "note": None},
    {"id": 2, "title": None, "price": None, "tags": [], "since": None, "note": None},
    {"id": 3, "title": "Lamp é 日本", "price": Decimal("8.00"), "tags": None, "since": date(1, 1, 1), "note": None},
]


def table() -> Any:
    schema = pa.schema(
        [
            ("id", pa.int64()),
            ("title", pa.string()),
            ("price", pa.decimal128(8, 2)),
            ("tags", pa.list_(pa.string())),
            ("since", pa.date32()),
            ("note", pa.string()),
        ]
    )
    return pa.Table.from_pylist(ROWS, schema)


def test_parquet_is_read(tmp_path: Path) -> None:
    pq.write_table(table(), tmp_path / "x.parquet", row_group_size=2)
    opened, rows = read(tmp_path / "x.parquet")
    assert cells(rows) == ROWS
    assert opened.schema == table().schema


@pytest.mark.parametrize("form", ["stream", "file", "feather"])
def test_arrow_is_read(tmp_path: Path, form: str) -> None:
    path = tmp_path / "x"
    if form == "feather":
        feather.write_feather(table(), str(path))
    else:
        new = pa.ipc.new_stream if form == "stream" else pa.ipc.new_file
        with new(path, table().schema) as sink:
            sink.write_table(table(), max_chunksize=2)
    assert cells(read(path)[1]) == ROWS


def test_types_that_python_lacks_are_read(tmp_path: Path) -> None:
    nanoseconds = pa.array([1, None], pa.timestamp("ns"))
    far = pa.array([1 << 55, 0], pa.timestamp("ms"))
    pq.write_table(pa.table({"ns": nanoseconds, "far": far, "title": ["a", "b"]}), tmp_path / "x.parquet")
    rows = cells(read(tmp_path / "x.parquet")[1])
    assert [row["title"] for row in rows] == ["a", "b"]
    assert str(rows[0]["ns"]).startswith("1970-01-01 00:00:00.000000001")
    assert rows[1]["ns"] is None


def test_an_invalid_or_huge_text_fails_only_its_row(tmp_path: Path) -> None:
    raw = pa.array([b"good", b"caf\xe9", b"fine", b"x" * (CELL_CHARACTERS + 1)]).view(pa.string())
    pq.write_table(pa.table({"title": raw, "n": [1, 2, 3, 4]}), tmp_path / "x.parquet")
    _, rows = read(tmp_path / "x.parquet")
    assert [row.error is None for row in rows] == [True, False, True, False]
    assert rows[1].error is not None
    assert (rows[1].error.line, rows[1].error.field) == (2, "title")


@pytest.mark.parametrize("cut", [10, 400, -4])
def test_a_damaged_parquet_file_is_an_error(tmp_path: Path, cut: int) -> None:
    pq.write_table(table(), tmp_path / "x.parquet")
    data = (tmp_path / "x.parquet").read_bytes()
    with pytest.raises(InputError):
        read(write(tmp_path / "y.parquet", data[:cut]))


def test_columns_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    both = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], ["x", "x"])
    with pa.ipc.new_stream(tmp_path / "x.arrow", both.schema) as sink:
        sink.write_table(both)
    assert cells(read(tmp_path / "x.arrow")[1]) == [{"x": "a", "x (2)": "b"}]


def test_a_million_short_rows_are_read(tmp_path: Path) -> None:
    count = 25_000
    pq.write_table(pa.table({"n": range(count)}), tmp_path / "x.parquet")
    with open_table(tmp_path / "x.parquet") as opened:
        numbers = [row.number - row.cells["n"] for row in opened.rows()]
        assert opened.share == 1
    assert numbers == [1] * count


def test_json_lines_are_read(tmp_path: Path) -> None:
    data = [{"title": "Mug"}, {"title": "Lamp", "price": 5.5, "more": {"a": [1]}}]
    text = "\ufeff" + json.dumps(data[0]) + "\n\n" + json.dumps(data[1]) + "\n{broken\n[1]\n"
    table, rows = read(write(tmp_path / "x.jsonl", text))
    assert table.columns is None
    assert [dict(row.cells) for row in rows] == [*data, {}, {}]
    assert [row.line for row in rows] == [1, 3, 4, 5]
    assert [row.error and row.error.line for row in rows] == [None, None, 4, 5]
    with open_table(tmp_path / "x.jsonl") as again:
        assert again.all_columns() == ("title", "price", "more")
        assert sum(1 for _ in again.rows()) == 4


def test_entities_in_a_feed_are_never_expanded(tmp_path: Path) -> None:
    secret = write(tmp_path / "secret", "PASSWORD")
    bomb = '<!ENTITY a "ha">' + "".join(
        f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    for declared, used in ((f'<!ENTITY x SYSTEM "{secret.as_uri()}">', "&x;"), (bomb, "&i;")):
        feed = f"<?xml version='1.0'?><!DOCTYPE r [{declared}]><rss><item><title>Mug {used}</title></item></rss>"
        try:
            _, rows = read(write(tmp_path / "feed.xml", feed))
        except InputError:
            continue
        text = "".join(str(row.cells) for row in rows)
        assert "PASSWORD" not in text
        assert len(text) < 1000


def test_a_cut_feed_gives_the_items_before_the_cut(tmp_path: Path) -> None:
    feed = "<rss><channel>" + "".join(f"<item><title>Mug {number}</title></item>" for number in range(50))
    _, rows = read(write(tmp_path / "feed.xml", feed + "<item><title>Mu"))
    assert [row.cells["title"] for row in rows[:50]] == [f"Mug {number}" for number in range(50)]


def test_times_with_a_zone_are_read(tmp_path: Path) -> None:
    moment = datetime(2024, 5, 1, 12, tzinfo=timezone.utc)
    pq.write_table(pa.table({"at": pa.array([moment], pa.timestamp("us", "UTC"))}), tmp_path / "x.parquet")
    assert cells(read(tmp_path / "x.parquet")[1]) == [{"at": moment}]
