"""Tests that tables are read from files, pipes and compressed files, and that other files are refused."""

from __future__ import annotations

import gzip
import importlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ecellm_lite.errors import InputError, UsageError
from ecellm_lite.tables import source as source_module
from ecellm_lite.tables.opening import open_table
from tests.tables.reading import cells, read, write


def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "UNPACKED_ALWAYS", 1 << 16)
    path = write(tmp_path / "x.csv.gz", gzip.compress(b"a,b\n" + b"1,2\n" * 500_000))
    with pytest.raises(InputError):
        read(path)


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
def test_a_file_that_is_not_a_table_is_one_error(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(InputError):
        read(write(tmp_path / "x", data))


def test_json_lines_from_a_pipe_are_read_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_a_pipe_with_short_writes_is_read(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    class Slow(io.BytesIO):
        def read1(self, count: int | None = -1, /) -> bytes:
            return super().read(min(size, count or -1))

    class Pipe:
        buffer = Slow(gzip.compress("a;b\n1;é\n2;x\n".encode()))

    monkeypatch.setattr("sys.stdin", Pipe())
    with open_table("-") as table:
        assert [dict(row.cells) for row in table.rows()] == [{"a": "1", "b": "é"}, {"a": "2", "b": "x"}]


def test_zstd_is_unpacked(tmp_path: Path) -> None:
    library = importlib.import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    data = b"a,b\n" + b"".join(b"%d,%d\n" % (number, number * 7919 % 1000) for number in range(5000))
    packed: bytes = library.compress(data[:9]) + library.compress(data[9:])
    assert len(cells(read(write(tmp_path / "x.csv.zst", packed))[1])) == 5000
    _, rows = read(write(tmp_path / "y.csv.zst", packed[:-20]))
    assert rows[-1].error is not None


def test_csv_needs_no_optional_library(tmp_path: Path) -> None:
    """Reading a CSV file imports no optional library. Such a library may be missing, and takes a second to import."""
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
        read(write(tmp_path / "x.csv", "a,b\nКружка,синяя\n", "cp1251"))  # noqa: RUF001
    assert error.value.step is not None
    assert "ecellm-lite[tables]" in error.value.step


def test_a_folder_and_a_missing_file_are_errors(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.csv"):
        with pytest.raises(InputError):
            read(path)


def test_standard_input_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "x.csv", "a;b\n1;2\n")
    with path.open() as file:
        monkeypatch.setattr("sys.stdin", file)
        with open_table("-") as table:
            assert [dict(row.cells) for row in table.rows()] == [{"a": "1", "b": "2"}]
            assert table.share is None
