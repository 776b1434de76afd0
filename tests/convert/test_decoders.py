"""Checkpoints of today's decoders give the same tensors and metadata, byte for byte, as llama.cpp's own converter."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecellm_lite.convert.architectures import architecture_of
from ecellm_lite.convert.blueprint import Blueprint
from ecellm_lite.convert.checkpoint import Checkpoint
from tests.support.decoder_checkpoints import CONFIGS, write_checkpoint
from tests.support.golden_conversions import MEANT, golden, metadata_of, tensors_of

# The tensors whose bytes change with the number of tokens.
VOCABULARY = {"token_embd.weight", "output.weight"}
TOKENS = 8

# Where the metadata differs, beside MEANT.
OTHER = {
    "qwen2": {"ecellm.tokenizer.normal_form"},
    "qwen3": {"ecellm.tokenizer.normal_form"},
    # llama.cpp's name for SmolLM3's tokenizer does not take whole words as tokens (byte_pair_vocabulary.py).
    "smollm3": {"tokenizer.ggml.pre"},
    # Without effect on a byte-level vocabulary.
    "granite": {"tokenizer.ggml.add_space_prefix"},
}


def blueprint(folder: Path) -> Blueprint:
    with Checkpoint(folder) as checkpoint:
        drawn: Blueprint = architecture_of(checkpoint.config).blueprint(checkpoint)
        return drawn


@pytest.mark.parametrize("kind", CONFIGS)
def test_tensors_of_the_layers_are_those_of_llama_cpp(kind: str, tmp_path: Path) -> None:
    tensors, expected = tensors_of(write_checkpoint(tmp_path, kind, tokens=TOKENS)), golden(kind)["tensors"]
    assert tensors.keys() == expected.keys()
    assert {name for name in expected if tensors[name] != expected[name]} == VOCABULARY & expected.keys()


@pytest.mark.slow
@pytest.mark.parametrize("kind", CONFIGS)
def test_all_tensors_are_those_of_llama_cpp(kind: str, tmp_path: Path) -> None:
    assert tensors_of(write_checkpoint(tmp_path, kind)) == golden(kind)["tensors"]


@pytest.mark.parametrize("kind", CONFIGS)
def test_metadata_is_that_of_llama_cpp(kind: str, tmp_path: Path) -> None:
    values, expected = metadata_of(write_checkpoint(tmp_path / kind, kind)), golden(kind)["metadata"]
    other = {key for key in values.keys() | expected.keys() if values.get(key) != expected.get(key)}
    assert other == set(MEANT) | OTHER.get(kind, set[str]())
    assert values["general.name"] == ["STRING", kind]
