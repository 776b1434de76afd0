"""Tests that the server reads tables that the web page sends, and that a hostile table does no harm."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.serve.serving import Server, serving

BINARY = {"Content-Type": "application/octet-stream"}
ROWS: list[dict[str, Any]] = [
    {"Nr": 1, "Review": 'Works;\n"well"'},
    {"Nr": 2.5, "Review": "Ünïcode"},
    {"Nr": None, "Review": "last"},
]


def send(server: Server, data: bytes, name: str = "rows.xlsx") -> Any:
    return server.ask("POST", f"/v1/tables?name={name}", data, BINARY)


def xlsx(rows: list[dict[str, Any]]) -> bytes:
    xlsxwriter = pytest.importorskip("xlsxwriter", reason="tables need the extra 'tables'")
    file = io.BytesIO()
    with xlsxwriter.Workbook(file) as workbook:
        sheet = workbook.add_worksheet()
        sheet.write_row(0, 0, list(rows[0]))
        for number, row in enumerate(rows, start=1):
            sheet.write_row(number, 0, list(row.values()))
    return file.getvalue()


def test_spreadsheets_and_other_tables_are_read(server: Server, tmp_path: Path) -> None:
    expected = [["1", ROWS[0]["Review"]], ["2.5", "Ünïcode"], ["", "last"]]
    table = send(server, xlsx(ROWS)).json
    assert (table["columns"], table["rows"]) == (["Nr", "Review"], expected)
    parquet = pytest.importorskip("pyarrow.parquet", reason="tables need the extra 'tables'")
    arrow = pytest.importorskip("pyarrow")
    parquet.write_table(arrow.Table.from_pylist(ROWS), tmp_path / "rows.parquet")
    table = send(server, (tmp_path / "rows.parquet").read_bytes(), "rows.parquet").json
    assert (table["columns"], table["rows"]) == (["Nr", "Review"], expected)
    lines = b'{"a": 1}\n{"b": ["x", "y"]}\n'
    assert send(server, lines, "rows.jsonl").json["rows"] == [["1", ""], ["", '["x", "y"]']]
    assert not list(server.service.folder.glob("table-*"))


def test_rows_that_cannot_be_read_are_named(server: Server) -> None:
    table = send(server, "\ufeffsku;review\nA1;gut\nA2;gut;mehr\nA3;gut\n".encode(), "rows.csv").json
    assert (table["delimiter"], table["bom"]) == (";", True)
    assert not table["utf16"]
    assert [row[0] for row in table["rows"]] == ["A1", "A2", "A3"]
    assert [fault["row"] for fault in table["errors"]] == [1]


@pytest.mark.parametrize(
    ("data", "delimiter", "bom", "utf16", "decimal_comma"),
    [
        ("sku;review\nA1;schön\n".encode("cp1252"), ";", True, False, True),
        ("sku\treview\nA1\tschön\n".encode("utf-16"), "\t", True, True, False),
        ("sku\treview\nA1\tschön\n".encode(), ",", False, False, False),
    ],
)
def test_a_reply_says_how_the_answers_are_written(
    server: Server, data: bytes, delimiter: str, bom: bool, utf16: bool, decimal_comma: bool
) -> None:
    table = send(server, data, "rows.csv").json
    assert (table["delimiter"], table["bom"], table["utf16"]) == (delimiter, bom, utf16)
    assert table["decimal_comma"] == decimal_comma


def test_a_long_name_keeps_its_ending(server: Server) -> None:
    table = send(server, xlsx(ROWS), "%F0%A0%AE%B7" * 80 + ".xlsx").json
    assert table["columns"] == ["Nr", "Review"]


def test_a_table_with_many_empty_cells_is_refused(server: Server) -> None:
    lines = b"".join(b'{"k%d": 1}\n' % number for number in range(3000))
    assert send(server, lines, "rows.jsonl").status == 422


def test_files_that_are_not_tables_are_refused(server: Server) -> None:
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "x")
        archive.writestr("xl/worksheets/sheet1.xml", b'<row r="1"><c r="A1"/><c r="XFD1048576"/></row>')
    for data in (b"", b"%PDF-1.7", b"PK\x03\x04 nonsense xl/", b"PAR1" + b"\0" * 100, bomb.getvalue()):
        reply = send(server, data, "..%2F..%2Fetc%2Fpasswd")
        assert (reply.status, reply.error["param"]) == (422, "file"), data[:20]
        assert str(server.service.folder) not in reply.body.decode()
    assert server.ask("POST", "/v1/tables", b"a,b\n1,2\n", {"Content-Type": "text/csv"}).status == 415
    assert not list(server.service.folder.glob("table-*"))


def test_a_table_that_is_too_large_is_refused() -> None:
    from ecellm_lite.serve.limits import Limits

    with serving(limits=Limits(body_bytes=1000)) as server:
        assert send(server, b"a\n" * 600).status == 413
    with serving() as server:
        reply = send(server, b"review\n" + b"x\n" * 20_001, "rows.csv")
        assert (reply.status, reply.error["param"]) == (422, "file")
