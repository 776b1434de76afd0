"""Tests that rows from JSON Lines keep their line numbers, also after blank and broken lines."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecellm_lite import InputError
from ecellm_lite.tables import json_lines as rows_module
from ecellm_lite.tables.json_lines import read_rows


@given(st.binary(max_size=400))
def test_any_bytes_are_rows_or_errors(data: bytes) -> None:
    rows = list(read_rows(io.BytesIO(data)))
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    assert len(rows) == sum(1 for line in lines if line.strip())
    assert all(isinstance(row, dict | InputError) for row in rows)


def test_lines_are_numbered_as_in_an_editor() -> None:
    rows = list(read_rows(io.BytesIO(b'\n{"a": 1}\n\n{"a": \n')))
    assert rows[0] == {"a": 1}
    assert isinstance(rows[1], InputError)
    assert rows[1].line == 4


def test_an_endless_line_is_not_held_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "LONGEST_LINE", 100)
    rows = list(read_rows(io.BytesIO(b'{"a": "' + b"x" * 1000 + b'"}\n{"b": 2}\n')))
    assert isinstance(rows[0], InputError)
    assert rows[0].line == 1
    assert "100" in rows[0].message
    assert rows[1] == {"b": 2}


def test_nested_json_is_refused() -> None:
    [row] = read_rows(io.BytesIO(b'{"a": ' + b"[" * 200_000))
    assert isinstance(row, InputError)
