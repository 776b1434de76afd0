"""Reads one table in a separate process, so that a hostile file cannot harm the server. Prints the table as JSON.

Run as `python -m ecellm_lite.serve.table_child PATH ROWS CHARACTERS`. ROWS is the maximum number of rows. CHARACTERS is
the maximum number of characters in all cells together.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from ecellm_lite.answers.answer import RowError
from ecellm_lite.errors import EcellmError, InputError
from ecellm_lite.pipe.limits import limit_memory
from ecellm_lite.tables.cells import cell_text, is_empty
from ecellm_lite.tables.opening import open_table

MEMORY = 2 << 30  # bytes


class TooLargeError(InputError):
    """The table has too many rows or characters for the web page."""

    code = "table_too_large"


def read(path: Path, most_rows: int, most_characters: int) -> dict[str, Any]:
    """Return the table as the fields of the server's response (TableReply in serve/replies.py).

    Raises InputError if the file is not a table or is too large.
    """
    rows: list[dict[str, str]] = []
    characters = 0
    errors: list[dict[str, Any]] = []
    with open_table(path) as table:
        columns: dict[str, None] = dict.fromkeys(table.columns or ())
        for row in table.rows():
            if row.error:
                errors.append({"row": len(rows), "message": str(row.error)})
            columns |= dict.fromkeys(row.cells)
            cells = {name: "" if is_empty(cell) else cell_text(cell) for name, cell in row.cells.items()}
            characters += sum(map(len, cells.values()))
            rows.append(cells)
            # Every cell, even an empty one, takes about four characters of the response.
            if len(rows) > most_rows or characters + 4 * len(rows) * len(columns) > most_characters:
                limits = f"{most_rows:,} rows or {most_characters:,} characters"
                raise TooLargeError(f"The table has more than {limits}", step="answer it as a job instead")
        return {
            "columns": list(columns),
            "rows": [[row.get(name, "") for name in columns] for row in rows],
            "errors": errors,
            "description": table.description,
            "notes": table.notes,
            "delimiter": table.delimiter,
            "bom": table.bom,
            "utf16": table.utf16,
            "decimal_comma": table.decimal_comma,
        }


def main() -> None:
    """Read the file that the command line names, and print its table or the error."""
    if sys.platform != "win32":
        limit_memory(MEMORY)
    path, rows, characters = sys.argv[1:]
    try:
        result = read(Path(path), int(rows), int(characters))
    except EcellmError as error:
        row_error = RowError.of(error)
        result = {"error": {"code": row_error.code, "message": str(error)}}
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
