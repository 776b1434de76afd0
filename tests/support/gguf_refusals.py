"""Checks that a GGUF file is refused with little use of memory, by a ModelError that names the path and a next step."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from ecellm_lite.errors import ModelError
from ecellm_lite.models.gguf_header import Header, read_header
from ecellm_lite.models.model_check import check_model


def refused(path: Path, *values: object) -> None:
    """Check that reading a file needs little memory, and raises a ModelError that names the path and these values."""
    tracemalloc.start()
    with pytest.raises(ModelError) as caught:
        read_header(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20
    check_error(caught.value, path, *values)


def unfit(header: Header, *values: object) -> None:
    """Check that a model with this header is refused, with a ModelError that names the path and these values."""
    with pytest.raises(ModelError) as caught:
        check_model(header)
    check_error(caught.value, header.path, *values)


def check_error(error: ModelError, *values: object) -> None:
    """Check that an error names these values, has a next step, and contains no control characters."""
    assert [value for value in values if str(value) not in error.message] == [], error
    assert error.step
    assert str(error).isprintable()


def written(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    return path


def check_outcome(path: Path) -> None:
    """Check that reading a file raises ModelError, or returns tensors that all lie inside the file."""
    try:
        header = read_header(path)
    except ModelError:
        return
    for t in header.tensors:
        assert 0 < t.size <= header.file_size - t.offset
    try:
        check_model(header)
    except ModelError:
        return
