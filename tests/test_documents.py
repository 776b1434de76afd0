"""Tests that a JSON document is read only from a regular, complete and small file with strictly valid JSON."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ecellm_lite.documents import read_document
from ecellm_lite.strict import DEEPEST

LARGEST = 1000
DEEP = '{"name": "a", "format": 1, "details": {"x": %s%s}}'


@dataclass(frozen=True, slots=True)
class Note:
    name: str
    format: int
    share: float = 0.0
    parts: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)


def read(path: Path, text: str | bytes) -> Note:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_document(Note, path, largest=LARGEST, formats=(1, 2))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "note.json"


def test_a_document_becomes_its_dataclass(path: Path) -> None:
    note = read(path, '{"name": "ü", "format": 2, "share": 1, "parts": ["a", "b"], "details": {"x": [1, null]}}')
    assert note == Note("ü", 2, 1.0, ("a", "b"), {"x": [1, None]})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", ""),
        ('{"name": "a", "format": 1', ""),
        ('{"name": "a", "format": 1} x', ""),
        (b'{"name": "\xff", "format": 1}', "utf-8"),
        ('\ufeff{"name": "a", "format": 1}', "BOM"),
        ('{"name": "a", "name": "b", "format": 1}', "'name'"),
        ('{"name": "a", "format": 1, "details": {"x": 1, "x": 2}}', "'x'"),
        ('{"name": "a", "format": 1, "share": NaN}', "NaN"),
        ('{"name": "a", "format": 1, "details": {"x": -Infinity}}', "-Infinity"),
        ('{"name": "a", "format": 1, "details": {"x": 1e400}}', "1e400"),
        ('{"name": "a", "format": 3}', "'3'"),
        ('{"name": "a", "format": true}', "'True'"),
        ('{"name": "a", "format": "1"}', "'1'"),
        ('{"name": "a"}', "'None'"),
        ("[]", "'None'"),
        ('{"name": 1, "format": 1}', "it.name"),
        ('{"name": "a", "format": 1, "more": 1}', "'more'"),
        ('{"name": "a", "format": 1, "parts": ["a", 1]}', "it.parts[1]"),
        (
            '{"name": "a", "format": 1, "details": {"x": ' + "[" * (DEEPEST + 1) + "]" * (DEEPEST + 1) + "}}",
            str(DEEPEST),
        ),
        ("[" * LARGEST, ""),
        (" " * (LARGEST + 1), "1,000"),
    ],
)
def test_invalid_documents_are_refused(text: str | bytes, value: str, path: Path) -> None:
    with pytest.raises(ValueError, match=re.escape(value) or None):
        read(path, text)


def test_a_document_nested_up_to_the_limit_is_read(path: Path) -> None:
    assert read(path, DEEP % ("[" * DEEPEST, "]" * DEEPEST)).details == {"x": json.loads("[" * DEEPEST + "]" * DEEPEST)}


def test_nesting_beyond_the_parsers_own_limit_is_refused(path: Path) -> None:
    path.write_text("[" * 200_000)
    with pytest.raises(ValueError, match=r"."):
        read_document(Note, path, largest=1 << 20)


def test_only_regular_files_are_read(path: Path, tmp_path: Path) -> None:
    os.mkfifo(path)  # nobody writes to it, so reading must not wait
    with pytest.raises(ValueError, match=r"regular"):
        read_document(Note, path, largest=LARGEST)
    with pytest.raises(IsADirectoryError):
        read_document(Note, tmp_path, largest=LARGEST)
    with pytest.raises(FileNotFoundError):
        read_document(Note, tmp_path / "none", largest=LARGEST)


def test_without_a_list_of_formats_any_format_is_read(path: Path) -> None:
    path.write_text('{"name": "a", "format": 9}')
    assert read_document(Note, path, largest=LARGEST) == Note("a", 9)
