"""Tests that data frames (pandas, polars, pyarrow) keep their columns, and get columns with the answers."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

pytest.importorskip("narwhals", reason="data frames need the extra tables")

from ecellm_lite import TASKS, InputError, Runtime, UsageError
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.frames import answers_frame
from ecellm_lite.jobs.job import JobOptions, open_job
from ecellm_lite.tables.columns import MapOptions

COLUMNS: dict[str, list[Any]] = {
    "sku": ["A1", "A2", "A3", "A4"],
    "Body": ["It is fine.", None, "loud, but\nworks", "<p>It&nbsp;leaks.</p>"],
    "price": [1.5, None, 3.0, 4.0],
}
OWN = ["answer", "probability", "confidence", "abstained", "warnings", "error"]


def _pandas(columns: dict[str, list[Any]]) -> Any:
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame(columns, index=[10, 20, 10, 30])


def _polars(columns: dict[str, list[Any]]) -> Any:
    return pytest.importorskip("polars").DataFrame(columns)


FRAMES = {"pandas": _pandas, "polars": _polars, "pyarrow": pa.table}


@pytest.fixture
def runtime() -> Any:
    with Runtime.over(FakeBackend(), deterministic=True) as runtime:
        yield runtime


def columns_of(frame: Any) -> dict[str, list[Any]]:
    """Return a frame's columns as lists, with None for missing values."""
    names = frame.column_names if isinstance(frame, pa.Table) else list(frame.columns)
    listed = {name: frame[name].to_pylist() if isinstance(frame, pa.Table) else list(frame[name]) for name in names}
    return {name: [None if value != value else value for value in values] for name, values in listed.items()}


@pytest.mark.parametrize("kind", FRAMES)
def test_a_frame_is_returned_with_its_answers(kind: str, runtime: Runtime, tmp_path: Path) -> None:
    frame = FRAMES[kind](COLUMNS)
    answered = runtime.answers_frame("sentiment_analysis", frame, map={"review": "Body", "id": "sku"})
    assert type(answered) is type(frame)
    columns = columns_of(answered)
    assert list(columns) == [*COLUMNS, *OWN]
    assert {name: columns[name] for name in COLUMNS} == COLUMNS
    if kind == "pandas":
        assert list(answered.index) == [10, 20, 10, 30]
        assert (answered.dtypes[: len(COLUMNS)] == frame.dtypes).all()
    assert [value is None for value in columns["answer"]] == [False, True, False, False]
    assert [value is None for value in columns["error"]] == [True, False, True, True]
    assert columns["warnings"][3]
    # The same as of a file.
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *zip(*COLUMNS.values(), strict=True)])
    options = JobOptions(map=MapOptions(map=["review=Body", "id=sku"]))
    with open_job(tmp_path / "rows.csv", tmp_path / "out.csv", TASKS["sentiment_analysis"], options) as job:
        job.run(runtime)
    with (tmp_path / "out.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["answer"] or None for row in table] == columns["answer"]
    assert [row["probability"] for row in table] == [
        "" if value is None else repr(round(float(value), 4)) for value in columns["probability"]
    ]


def test_attributes_get_columns_of_distinct_names(runtime: Runtime) -> None:
    frame = pa.table({"title": ["navy mug", "red pot"], "error": ["x", "y"]})
    answered = answers_frame(
        runtime,
        "attribute_value_extraction",
        frame,
        constants={"attributes": ["Color", "Size"]},
    )
    assert answered.column_names[:2] == ["title", "error"]
    assert answered.column_names[2:6] == ["Color", "Color.written", "Size", "Size.written"]
    assert answered.column_names[-1] == "error (2)"
    assert answered.schema.field("probability").type == pa.float64()


def test_a_field_takes_several_columns(runtime: Runtime) -> None:
    frame = pa.table({"one": ["good"], "two": ["mug"]})
    both = runtime.answers_frame("SA", frame, map={"review": ["one", "two"]})
    alone = runtime.answers_frame("SA", pa.table({"review": ["good mug"]}))
    assert both["probability"].to_pylist() == alone["probability"].to_pylist()


def test_an_unknown_option_is_refused(runtime: Runtime) -> None:
    unknown: Any = {"constant": {"review": "good"}}
    with pytest.raises(TypeError, match="'constant'"):
        runtime.answers_frame("SA", pa.table({"review": ["good"]}), **unknown)


@pytest.mark.parametrize("frame", [[1, 2], {"a": [1]}, "rows.csv", None])
def test_an_object_that_is_not_a_frame_is_refused(frame: Any, runtime: Runtime) -> None:
    with pytest.raises(InputError):
        runtime.answers_frame("SA", frame)


def test_unusable_columns_are_an_error(runtime: Runtime) -> None:
    with pytest.raises(UsageError) as error:
        runtime.answers_frame("SA", pa.table({"Body": ["x"]}))
    assert error.value.field == "review"
    with pytest.raises(InputError):
        runtime.answers_frame("SA", pa.table([["x"], ["y"]], names=["review", "review"]))


@pytest.mark.parametrize("make", [lambda: pa.table({"review": pa.array([], pa.string())})])
def test_an_empty_frame_gets_the_answer_columns(make: Callable[[], Any], runtime: Runtime) -> None:
    assert runtime.answers_frame("SA", make()).column_names == ["review", *OWN]


def test_no_frame_library_is_imported_without_a_frame() -> None:
    code = (
        "import sys; from ecellm_lite import Runtime; from ecellm_lite.engine.fake import FakeBackend\n"
        "Runtime.over(FakeBackend()).close()\n"
        "assert not {'narwhals', 'pandas', 'polars', 'pyarrow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
