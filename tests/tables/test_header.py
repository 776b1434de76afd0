"""Tests that a table's header is found, and that no row is mistaken for the header or dropped with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import xlsxwriter

from tests.tables.reading import cells, read, write

EAN = ["4006381333931;;;", "4006381333948;Love it;5;red", "4006381333955;It broke;1;blue", "4006381333962;Fine;3;red"]


def test_a_sparse_first_row_without_a_header_is_kept(tmp_path: Path) -> None:
    _, rows = read(write(tmp_path / "x.csv", "\n".join(EAN)))
    assert [row["column 1"] for row in cells(rows)] == [line.partition(";")[0] for line in EAN]


def test_a_sparse_first_row_of_a_spreadsheet_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "x.xlsx"
    with xlsxwriter.Workbook(path) as book:
        sheet = book.add_worksheet()
        for place, line in enumerate(EAN):
            sheet.write_row(place, 0, [int(cell) if cell.isdigit() else cell for cell in line.split(";")])
    assert [row["column 1"] for row in cells(read(path)[1])] == [int(line.partition(";")[0]) for line in EAN]


def test_a_title_above_rows_without_a_header_is_left_out_and_named(tmp_path: Path) -> None:
    table, rows = read(write(tmp_path / "x.csv", "\n".join(["Stock", *EAN])))
    assert [row.line for row in rows] == [2, 3, 4, 5]
    assert "line 2" in table.description


DATA = {
    "an item number and one word": [
        "SKU,Review",
        "MUG_02,It broke in a week",
        "MUG_03,Works but it is loud",
        "MUG_04,Perfect",
        "MUG_05,Fine I guess",
        "MUG_06,Not what I ordered",
    ],
    "an item number and one word in lower case": ["sku,review", "mug_2,it broke", "mug_3,perfect", "mug_4,it is loud"],
    "the last of few rows": ["SKU,Review", "mug_2,it broke", "mug_3,perfect"],
    "several numbers": [
        "Order,SKU,User,Review,Language",
        "o_1,mug_1,u_1,I like it,en",
        "o_2,mug_2,u_2,perfect,en",
        "o_3,mug_3,u_3,It broke,en",
        "o_4,mug_4,u_4,It is loud,en",
    ],
    "a flag": ["sku,review,sale", "M1,Love it,sale", "M2,It broke,", "M3,Fine,sale"],
    "a name that is also a cell": ["sku,review,color", "M1,Love it,color", "M2,It broke,red", "M3,Fine,blue"],
}


@pytest.mark.parametrize("lines", DATA.values(), ids=DATA)
def test_a_row_like_a_header_is_a_row(tmp_path: Path, lines: list[str]) -> None:
    table, rows = read(write(tmp_path / "x.csv", "\n".join(lines)))
    assert table.columns == tuple(lines[0].split(","))
    assert [list(row.values()) for row in cells(rows)] == [line.split(",") for line in lines[1:]]


def test_a_header_of_names_with_item_numbers_below_is_found(tmp_path: Path) -> None:
    lines = ["Template,1,,", "Seller SKU,Product Name,Brand Name,Color", "item_sku,item_name,brand_name,color"]
    lines += [f"mug_{place},Mug {place},Northpoint,red" for place in range(6)]
    table, rows = read(write(tmp_path / "x.csv", "\n".join(lines)))
    assert table.columns == tuple(lines[2].split(","))
    assert len(cells(rows)) == 6
