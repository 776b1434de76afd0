"""Rows from JSON Lines: every line has its place, whatever is in it."""

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
    found = list(read_rows(io.BytesIO(data)))
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    assert len(found) == sum(1 for line in lines if line.strip())
    assert all(isinstance(row, dict | InputError) for row in found)


def test_lines_are_numbered_as_an_editor_does() -> None:
    found = list(read_rows(io.BytesIO(b'\n{"a": 1}\n\n{"a": \n')))
    assert found[0] == {"a": 1}
    assert "Line 4 is not JSON" in str(found[1])


def test_a_line_without_end_is_not_read_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "LONGEST_LINE", 100)
    found = list(read_rows(io.BytesIO(b'{"a": "' + b"x" * 1000 + b'"}\n{"b": 2}\n')))
    assert "Line 1 has more than 100 bytes" in str(found[0])
    assert found[1] == {"b": 2}


def test_nested_json_is_refused() -> None:
    [row] = read_rows(io.BytesIO(b'{"a": ' + b"[" * 200_000))
    assert isinstance(row, InputError)
