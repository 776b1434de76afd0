"""Tests that forged hyperparameters, such as a wrong number of heads, neither crash llama.cpp nor make it hang."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecellm_lite.convert.conversion import prepare_conversion
from ecellm_lite.convert.request import ConversionRequest
from ecellm_lite.models.gguf_header import read_header
from ecellm_lite.models.model_check import check_model
from tests.support import decoder_checkpoints
from tests.support.forged_headers import crashes, forgeries, keys_of
from tests.support.fuzz import times
from tests.support.gemma_tokenizers import GEMMA_TRAINED, write_gemma_model
from tests.support.gguf_refusals import unfit, written
from tests.support.tiny_checkpoints import write_checkpoint

# An architecture takes minutes. The others were tried before, and `make fuzz` tries them again.
TRIED = sorted(decoder_checkpoints.CONFIGS.keys() - {"nemo", "olmo2"}) if times(0, 1) else []


def model(folder: Path, kind: str) -> Path:
    """Write a small model of an architecture. No test uses its vocabulary."""
    if kind in decoder_checkpoints.CONFIGS:
        base = decoder_checkpoints.write_checkpoint(folder / kind, kind, tokens=GEMMA_TRAINED)
    else:
        base = write_checkpoint(folder / kind, kind, tokenizer=False, vocab_size=GEMMA_TRAINED)
    write_gemma_model(base)
    with prepare_conversion(
        ConversionRequest(str(base), folder / "model.gguf", "F32", (), envelope="alpaca")
    ) as conversion:
        conversion.run()
    return folder / "model.gguf"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gemma2", "gemma3", "phi4", "olmo2", *TRIED])
def test_no_forged_key_crashes_llama_cpp(kind: str, tmp_path: Path) -> None:
    path = model(tmp_path, kind)
    header = read_header(path)
    check_model(header)
    keys = keys_of(str(header.metadata["general.architecture"]))
    assert len(keys) > 100
    assert crashes(path, keys) == []


@pytest.mark.parametrize(
    ("key", "refused"),
    [
        ("gemma3.attention.sliding_window", [0, -1, "x"]),
        # With 1, llama.cpp aborts: no layer has a window.
        ("gemma3.attention.sliding_window_pattern", [0, 1, -1, [0, 1], [0.5, 1e30], [5] * 600, ["a", "b"]]),
        # With 0, llama.cpp rotates forever.
        ("gemma3.rope.dimension_count_swa", [0, 1, 2, 7, 100000]),
        ("gemma3.attention.key_length_swa", [0, 1, 7]),
        ("gemma3.attention.value_length_swa", [0, 1, 7]),
        # llama.cpp divides by them.
        ("gemma3.attn_logit_softcapping", [0.0, -1.0, "x"]),
        ("gemma3.final_logit_softcapping", [0.0, -1.0]),
    ],
)
def test_keys_that_crashed_llama_cpp_are_refused(key: str, refused: list[object], tmp_path: Path) -> None:
    header = read_header(model(tmp_path, "gemma3"))
    values = {repr(value[1]): content for _, value, content in forgeries(header, [key])}
    for value in refused:
        unfit(read_header(written(tmp_path, values[repr(value)])), key)
