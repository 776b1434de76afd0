"""Tests that Parquet values are read and written unchanged, even if Python has no type that can hold them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ecellm_lite.tables.opening import open_table
from ecellm_lite.tables.results import AnswerColumns
from ecellm_lite.tables.writers import ResultWriter, form_of
from tests.tables.reading import cells, read

VALUES = {
    "timestamp": (pa.timestamp("us"), 2**63 - 1),
    "timestamp with a zone": (pa.timestamp("us", "UTC"), 2**63 - 1),
    "the year 10000": (pa.timestamp("s"), 253_402_300_800),
    "date": (pa.date32(), 2**31 - 1),
    "milliseconds": (pa.date64(), 86_400_000 * 10**8),
    "duration": (pa.duration("s"), 2**62),
    "nanosecond": (pa.timestamp("ns"), 1),
    "duration of a nanosecond": (pa.duration("ns"), 1),
}


def copy(source: Path, target: Path) -> Path:
    """Copy a table to `target`, with empty columns for a job's answers. Return `target`."""
    with open_table(source) as table, target.open("wb") as file:
        columns = table.all_columns()
        writer = ResultWriter(file, form_of(target.name), columns, AnswerColumns(columns), schema=table.schema)
        for row in table.rows():
            assert row.error is None
            writer.write(row, None)
        writer.close()
    return target


@pytest.mark.parametrize(("kind", "value"), VALUES.values(), ids=VALUES)
def test_values_that_python_lacks_stay_as_they_are(tmp_path: Path, kind: Any, value: int) -> None:
    table = pa.table({"id": [1, 2, 3], "at": pa.array([value, None, 0], kind)})
    pq.write_table(table, tmp_path / "x.parquet")
    written = pq.read_table(copy(tmp_path / "x.parquet", tmp_path / "y.parquet"))
    assert written.select(["id", "at"]).equals(pq.read_table(tmp_path / "x.parquet"))
    for ending in ("csv", "xlsx"):
        rows = cells(read(copy(tmp_path / "x.parquet", tmp_path / f"y.{ending}"))[1])
        assert [row["at"] in {None, ""} for row in rows] == [False, True, False]


def test_nanoseconds_need_no_pandas(tmp_path: Path) -> None:
    kinds = {"at": pa.timestamp("ns"), "time": pa.time64("ns"), "during": pa.duration("ns")}
    pq.write_table(
        pa.table({name: pa.array([1, None, 5_000], kind) for name, kind in kinds.items()}), tmp_path / "x.parquet"
    )
    code = f"""
import sys
from pathlib import Path
class NoPandas:
    def find_spec(self, name, *more):
        if name == "pandas":
            raise ImportError
sys.meta_path.insert(0, NoPandas())
from tests.tables.test_arrow_values import copy
copy(Path({str(tmp_path / "x.parquet")!r}), Path({str(tmp_path / "y.parquet")!r}))
assert "pandas" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert pq.read_table(tmp_path / "y.parquet").select(list(kinds)).equals(pq.read_table(tmp_path / "x.parquet"))
