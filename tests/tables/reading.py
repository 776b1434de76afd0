"""Helpers that write a file and read it as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ecellm_lite.tables.opening import open_table
from ecellm_lite.tables.row import Table, TableOptions, TableRow


def write(path: Path, data: bytes | str, encoding: str = "utf-8") -> Path:
    path.write_bytes(data if isinstance(data, bytes) else data.encode(encoding))
    return path


def read(path: Path, **options: Any) -> tuple[Table, list[TableRow]]:
    with open_table(path, TableOptions(**options)) as table:
        return table, list(table.rows())


def cells(rows: list[TableRow]) -> list[dict[str, Any]]:
    """Check that no row has an error, and return the rows' cells."""
    assert [row.error for row in rows if row.error] == []
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))
    return [dict(row.cells) for row in rows]
