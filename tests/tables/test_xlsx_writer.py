"""Tests how XLSX files are formatted: column widths, dates, a filter, the sheet's name, lists to choose from."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from ecellm_lite.tables import xlsx_writer
from ecellm_lite.tables.kinds import Kind
from ecellm_lite.tables.opening import open_table
from ecellm_lite.tables.results import OwnColumn
from ecellm_lite.tables.writers import WriteOptions
from ecellm_lite.tables.xlsx_writer import XlsxWriter
from tests.tables.reading import cells, read

NAMES = {"": "http://schemas.openxmlformats.org/spreadsheetml/2006/main"}
PROBABILITY = OwnColumn("probability", Kind.ESTIMATE)


def written(
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    own: Sequence[OwnColumn] = (PROBABILITY,),
    values: Sequence[Any] = (0.815,),
    sheet_name: str | None = None,
) -> Path:
    with path.open("wb") as file:
        writer = XlsxWriter(file, list(rows[0]), own, sheet_name)
        for row in rows:
            writer.write(list(row.values()), values)
        writer.close()
    return path


def part(path: Path, name: str) -> ET.Element:
    with zipfile.ZipFile(path) as archive:
        return ET.fromstring(archive.read(f"xl/{name}.xml"))


def sheet(path: Path, number: int = 1) -> ET.Element:
    return part(path, f"worksheets/sheet{number}")


def widths(path: Path) -> list[float]:
    return [
        float(column.attrib["width"])
        for column in sheet(path).iterfind("cols/col", NAMES)
        for _ in range(int(column.attrib["min"]), int(column.attrib["max"]) + 1)
    ]


def number_format(path: Path, cell: str) -> int:
    [style] = [int(one.get("s", 0)) for one in sheet(path).iter(f"{{{NAMES['']}}}c") if one.get("r") == cell]
    return int(part(path, "styles").findall("cellXfs/xf", NAMES)[style].attrib["numFmtId"])


def test_columns_are_as_wide_as_their_contents(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"n": 1, "a longer name": 2, "day": date(2026, 12, 31), "text": "x" * 20, "ean": 4006381333931},
        {"n": 2, "a longer name": 3, "day": None, "text": "y" * 500, "ean": None},
    ]
    n, name, day, text, ean, _ = widths(written(tmp_path / "x.xlsx", rows))
    assert 8 <= n < 10
    assert 15 < name < 20
    assert day >= 11  # ten characters, such as 31.12.2026
    assert 60 <= text < 65
    assert ean >= 14


@pytest.mark.parametrize(
    ("value", "number"),
    [(datetime(2026, 3, 5, 14, 30, 9), 22), (date(2026, 3, 5), 14), (time(14, 30, 9), 21), (4006381333931, 1)],
)
def test_dates_and_long_numbers_have_excels_own_formats(tmp_path: Path, value: Any, number: int) -> None:
    path = written(tmp_path / "x.xlsx", [{"value": value, "count": 12}])
    assert (number_format(path, "A2"), number_format(path, "B2")) == (number, 0)
    assert cells(read(path)[1])[0]["value"] == value


@pytest.mark.parametrize("value", [0.815, 0.8149999999, 19.99, 0.1, Decimal("0.815"), 1e-05])
def test_a_number_is_written_with_its_shortest_digits(tmp_path: Path, value: Any) -> None:
    path = written(tmp_path / "x.xlsx", [{"price": value}], values=[float(value)])
    [_, row] = sheet(path).iterfind("sheetData/row", NAMES)
    own, added = [one.findtext("v", namespaces=NAMES) for one in row]
    assert Decimal(own or "") == Decimal(str(value))
    assert Decimal(added or "") == Decimal(str(round(float(value), 4)))


@pytest.mark.parametrize("value", [Decimal("NaN"), float("nan"), Decimal("Infinity"), 10**400])
def test_what_excel_has_no_number_for_is_text(tmp_path: Path, value: Any) -> None:
    path = written(tmp_path / "x.xlsx", [{"price": value}])
    assert isinstance(cells(read(path)[1])[0]["price"], str)


def test_the_header_stays_in_view_and_has_a_filter(tmp_path: Path) -> None:
    root = sheet(written(tmp_path / "x.xlsx", [{"sku": "A1"}, {"sku": "A2"}]))
    [area] = root.findall("autoFilter", NAMES)
    [pane] = root.findall("sheetViews/sheetView/pane", NAMES)
    assert area.attrib["ref"] == "A1:B3"
    assert (pane.attrib["state"], pane.attrib["topLeftCell"]) == ("frozen", "A2")


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("Bewertungen Mai", "Bewertungen Mai"),
        (None, "Sheet1"),
        ("'a/b:c' [1]'", "a_b_c' _1_"),
        ("x" * 40, "x" * 31),
        ("\U0001f600" * 20, "\U0001f600" * 15),
        ("''", "Sheet1"),
        ("Sheet2", "Sheet2"),
    ],
)
def test_a_sheet_keeps_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str | None, first: str) -> None:
    monkeypatch.setattr(xlsx_writer, "ROWS", 2)
    path = written(tmp_path / "x.xlsx", [{"sku": "A1"}, {"sku": "A2"}], sheet_name=name)
    names = [one.attrib["name"] for one in part(path, "workbook").iterfind("sheets/sheet", NAMES)]
    assert names[0] == first
    assert len(set(names)) == 2
    with open_table(path) as table:
        assert WriteOptions().of(table).sheet_name == first


@pytest.mark.parametrize(
    ("options", "source"),
    [
        (("A: very positive", "B: positive", "ok"), '"A: very positive,B: positive,ok"'),
        ((), None),
        (("red, green", "blue"), None),
        (('12"', "ok"), None),
        (("x" * 127, "y" * 127), f'"{"x" * 127},{"y" * 127}"'),
        (("x" * 128, "y" * 127), None),
    ],
)
def test_a_column_offers_a_short_list_of_options(tmp_path: Path, options: tuple[str, ...], source: str | None) -> None:
    own = [PROBABILITY, OwnColumn("correction", Kind.TEXT, options)]
    root = sheet(written(tmp_path / "x.xlsx", [{"sku": "A1"}, {"sku": "A2"}], own, [0.5, None]))
    validations = root.findall("dataValidations/dataValidation", NAMES)
    assert [one.findtext("formula1", namespaces=NAMES) for one in validations] == ([source] if source else [])
    for one in validations:
        assert (one.attrib["sqref"], one.attrib["type"]) == ("C2:C3", "list")
        assert "showErrorMessage" not in one.attrib  # another text, such as `B` or `ja`, may be written
