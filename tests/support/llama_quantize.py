"""Runs llama.cpp's own quantizer, for comparison with the converter's output."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as llama

from ecellm_lite import ggml
from ecellm_lite.tensor_types import FILE_TYPES


def requantize(
    source: Path, target: Path, file_type: str, *, threads: int = 2, importance: Mapping[str, Any] | None = None
) -> None:
    """Quantize the GGUF file `source` to `file_type`.

    `importance` has each tensor's imatrix (importance matrix): float32 of shape (columns,).
    """
    ggml.start_library()
    parameters = llama.llama_model_quantize_default_params()
    parameters.ftype, parameters.nthread = FILE_TYPES[file_type], threads
    parameters.allow_requantize = True
    if importance is not None:
        entries = (llama.llama_model_imatrix_data * (len(importance) + 1))()  # ends with an empty one
        for entry, (name, values) in zip(entries, importance.items(), strict=False):
            entry.name, entry.size = name.encode(), values.size
            entry.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        parameters.imatrix = entries
    status = llama.llama_model_quantize(os.fsencode(source), os.fsencode(target), ctypes.byref(parameters))
    assert status == 0, f"{source} as {file_type}: {ggml.reason()}"
