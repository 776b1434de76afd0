"""A GGUF file written again in another quantization type, by llama.cpp's own quantizer."""

from __future__ import annotations

from pathlib import Path

from ecellm_lite.errors import ModelError
from ecellm_lite.ggml import requantize as ggml_requantize
from ecellm_lite.models.files import replacing
from ecellm_lite.models.gguf_header import read_header
from ecellm_lite.models.model_check import check_model


def requantize(source: Path, target: Path, file_type: str, *, threads: int) -> None:
    """Write `source` to `target` with its tensors in `file_type` (say `Q4_0`); the target is complete or absent.

    A quantized source loses a little more: its blocks are widened and quantized again. Raises UsageError for an
    unknown type, ModelError for a damaged source or a disk without room.
    """
    check_model(read_header(source))
    try:
        with replacing(target) as temporary:
            ggml_requantize(source, temporary, file_type, threads=threads)
            check_model(read_header(temporary))
    except OSError as error:
        raise ModelError(f"{target} could not be written ({error}): make room or check the folder's rights.") from None
