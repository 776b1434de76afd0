"""Tests that values in XLSX and ODS files are read correctly, and that damaged or hostile files are refused."""

from __future__ import annotations

import io
import zipfile
from datetime import date, datetime
from pathlib import Path

import pytest
import xlsxwriter

from ecellm_lite.errors import InputError, UsageError
from ecellm_lite.tables import sheet_bounds
from ecellm_lite.tables.cells import cell_text, exact_text
from ecellm_lite.tables.opening import open_table
from tests.tables.reading import cells, read

_NAMESPACES = " ".join(
    f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for name in ("office", "table", "text")
)
_MANIFEST = (
    '<manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"><manifest:file-entry '
    'manifest:full-path="/" manifest:media-type="application/vnd.oasis.opendocument.spreadsheet"/></manifest:manifest>'
)


def write_ods(path: Path, rows: str, doctype: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("META-INF/manifest.xml", _MANIFEST)
        archive.writestr(
            "content.xml",
            f'<?xml version="1.0"?>{doctype}<office:document-content {_NAMESPACES}><office:body><office:spreadsheet>'
            f'<table:table table:name="Sheet">{rows}</table:table></office:spreadsheet></office:body>'
            "</office:document-content>",
        )
    return path


def ods_row(*texts: str, repeated: int = 1) -> str:
    cells = "".join(
        f'<table:table-cell office:value-type="string"><text:p>{text}</text:p></table:table-cell>' for text in texts
    )
    return f'<table:table-row table:number-rows-repeated="{repeated}">{cells}</table:table-row>'


def write_xlsx(path: Path, sheets: dict[str, list[list[object]]]) -> Path:
    with xlsxwriter.Workbook(path, {"default_date_format": "yyyy-mm-dd hh:mm"}) as book:
        for name, rows in sheets.items():
            sheet = book.add_worksheet(name)
            for place, row in enumerate(rows):
                for column, cell in enumerate(row):
                    if isinstance(cell, str):
                        sheet.write_string(place, column, cell)
                    elif isinstance(cell, datetime):
                        sheet.write_datetime(place, column, cell)
                    elif cell is not None:
                        sheet.write(place, column, cell)
    return path


def test_values_keep_their_types(tmp_path: Path) -> None:
    columns: list[object] = ["sku", "title", "price", "stock", "new", "since"]
    rows: list[list[object]] = [
        ["0012", 'Mug\n"blue" =1+1', 12.5, 4006381333931, True, datetime(2024, 5, 1, 12, 30)],
        [None, "Lamp é 日本", None, 3, False, None],
    ]
    path = write_xlsx(tmp_path / "x.xlsx", {"empty": [], "products": [columns, *rows]})
    table, read_rows = read(path)
    assert cells(read_rows) == [dict(zip(columns, row, strict=True)) for row in rows]
    assert "products" in table.description


def test_whole_numbers_keep_all_their_digits(tmp_path: Path) -> None:
    numbers: list[object] = [1234567890123451, 1234567890123452, 9007199254740991, -9007199254740991, 12]
    _, rows = read(write_xlsx(tmp_path / "x.xlsx", {"a": [["order"], *([number] for number in numbers)]}))
    assert [row["order"] for row in cells(rows)] == numbers
    assert [cell_text(row.cells["order"]) for row in rows] == [str(number) for number in numbers]
    assert [exact_text(row.cells["order"]) for row in rows] == [str(number) for number in numbers]


def test_titles_before_the_header_and_totals_are_left_out(tmp_path: Path) -> None:
    rows: list[list[object]] = [
        ["Sales report"],
        [],
        ["Title", "Price", "Units"],
        ["Mug", 5.5, 3],
        ["Lamp", 8, 1],
        ["Total", 13.5, 4],
    ]
    table, read_rows = read(write_xlsx(tmp_path / "x.xlsx", {"a": rows}))
    assert [row.line for row in read_rows] == [4, 5]
    assert table.columns == ("Title", "Price", "Units")
    assert table.notes
    assert len(read(tmp_path / "x.xlsx", total_rows=True)[1]) == 3


def test_a_sheet_is_named_or_numbered(tmp_path: Path) -> None:
    path = write_xlsx(tmp_path / "x.xlsx", {"one": [["a"], ["x"], ["y"]], "two": [["b"], ["z"], ["w"]]})
    assert read(path)[0].columns == ("a",)
    assert read(path, sheet="two")[0].columns == ("b",)
    assert read(path, sheet="2")[0].columns == ("b",)
    with pytest.raises(UsageError) as error:
        read(path, sheet="three")
    assert error.value.settings == ("sheet",)


def test_repeated_cells_of_libreoffice_are_read(tmp_path: Path) -> None:
    cell = '<table:table-cell table:number-columns-repeated="16384"/>'
    empty = f'<table:table-row table:number-rows-repeated="1048570">{cell}</table:table-row>'
    rows = ods_row("title", "note") + ods_row("Mug &amp; lid", "a<text:s text:c='2'/>b", repeated=2) + empty
    _, read_rows = read(write_ods(tmp_path / "x.ods", rows))
    assert cells(read_rows) == [{"title": "Mug & lid", "note": "a  b"}] * 2


def test_a_spreadsheet_from_a_pipe_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_xlsx(tmp_path / "x.xlsx", {"a": [["title"], ["Mug"], ["Lamp"]]})

    class Pipe:
        buffer = io.BytesIO(path.read_bytes())

    monkeypatch.setattr("sys.stdin", Pipe())
    with open_table("-") as table:
        assert [row.cells["title"] for row in table.rows()] == ["Mug", "Lamp"]


def xlsx_parts(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewrite(path: Path, sheet: bytes, pack: bool = True) -> Path:
    parts = xlsx_parts(path)
    parts["xl/worksheets/sheet1.xml"] = sheet
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if pack else zipfile.ZIP_STORED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return path


_SHEET = b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>%s</sheetData></worksheet>'

FAR_CELLS = {
    "corners": b'<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>2</v></c></row>',
    "single quotes": b"<row r='1'><c r='A1'><v>1</v></c></row><row r='1048576'><c r='XFD1048576'><v>2</v></c></row>",
    "no places": b"<row>" + b"<c><v>1</v></c>" * 16_000 + b"</row>" + b"<row><c><v>1</v></c></row>" * 4000,
}


@pytest.mark.parametrize("rows", FAR_CELLS.values(), ids=FAR_CELLS)
def test_two_cells_far_from_each_other_take_no_memory(tmp_path: Path, rows: bytes) -> None:
    path = rewrite(write_xlsx(tmp_path / "x.xlsx", {"a": [["a"], ["b"]]}), _SHEET % rows)
    with pytest.raises(InputError):
        read(path)


def test_a_sheet_without_cell_references_is_read(tmp_path: Path) -> None:
    row = b'<row><c t="inlineStr"><is><t>%s</t></is></c><c t="inlineStr"><is><t>%s</t></is></c></row>'
    sheet = _SHEET % (row % (b"title", b"price") + row % (b"Mug", b"five"))
    path = rewrite(write_xlsx(tmp_path / "x.xlsx", {"a": [["a"], ["b"]]}), sheet)
    assert cells(read(path)[1]) == [{"title": "Mug", "price": "five"}]


def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheet_bounds, "UNPACKED_BYTES", 8 << 20)
    path = rewrite(write_xlsx(tmp_path / "x.xlsx", {"a": [["a"], ["b"]]}), _SHEET % (b" " * (16 << 20)))
    assert path.stat().st_size < 100_000
    with pytest.raises(InputError):
        read(path)


def test_too_many_repeated_cells_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        read(write_ods(tmp_path / "x.ods", ods_row("title", *"abcdefghijklmnopqrstuvwxyz" * 2, repeated=1_000_000)))


def test_entities_are_refused(tmp_path: Path) -> None:
    doctype = '<!DOCTYPE d [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>'
    with pytest.raises(InputError):
        read(write_ods(tmp_path / "x.ods", ods_row("title") + ods_row("&b;"), doctype))


@pytest.mark.parametrize("cut", [0.3, 0.9, 0.999])
def test_a_damaged_file_is_one_error(tmp_path: Path, cut: float) -> None:
    path = write_xlsx(tmp_path / "x.xlsx", {"a": [["a", "b"], ["c", "d"]]})
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * cut)])
    with pytest.raises(InputError):
        read(path)


def test_dates_without_a_time_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.xlsx"
    with xlsxwriter.Workbook(path) as book:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, ["day", "title"])
        sheet.write_datetime(1, 0, datetime(2024, 2, 29), book.add_format({"num_format": "yyyy-mm-dd"}))
        sheet.write_string(1, 1, "Mug")
    [row] = cells(read(path)[1])
    assert row["day"] in {date(2024, 2, 29), datetime(2024, 2, 29)}
