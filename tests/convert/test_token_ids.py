"""Checks that llama.cpp, with a converted file's vocabulary, and the model's own tokenizer give the same token ids."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import gguf
import pytest
import regex

from ecellm_lite.binding import llama
from ecellm_lite.cli.main import run_command
from ecellm_lite.convert.sentencepiece_model import read_sentencepiece
from ecellm_lite.convert.vocabulary import vocabulary_metadata
from ecellm_lite.engine.vocabulary import LlamaVocabulary
from ecellm_lite.errors import ModelError
from tests.support.cut_vocabularies import TOKENIZERS
from tests.support.fuzz import times
from tests.support.gemma_tokenizers import (
    GEMMA_TRAINED,
    write_gemma_model,
    write_gemma_tokenizer,
    write_gemma_vocabulary,
)
from tests.support.multiscript import strings
from tests.support.refusals import refusal
from tests.support.tiny_checkpoints import write_checkpoint
from tests.support.tiny_tokenizers import (
    TRAINED,
    mistral_model,
    mistral_settings,
    packaged,
    pieces_of,
    sentencepiece_file,
    tokenizer_of,
    write_mistral_model,
    write_mistral_tokenizer,
    write_phi3_model,
    write_phi3_tokenizer,
    write_phi_files,
    write_smollm_tokenizer,
    write_trained_model,
)

STRINGS = times(400, 10_000)
MIXED_CASE = [
    "ЦЕНАтовара",
    "нашаЦена",
    "éÀ",
    "ÀÉ",
    "ǅabc",
    "aʰB",
    "don'T",
    "ÉTÉ'S",
    "e\u0301E\u0301e",
    "\u0301\n/",
    "1\u0301234",
]


# The folder with llama.cpp's own test cases for Llama-2's vocabulary, and the vocabulary itself.
LLAMA_2 = "ECELLM_LLAMA_2_VOCABULARY"


@contextmanager
def loaded(folder: Path, size: int) -> Iterator[LlamaVocabulary]:
    """Load a folder's vocabulary into llama.cpp, by way of a GGUF file without weights."""
    path = folder / "vocabulary.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    for key, (kind, value) in vocabulary_metadata(folder, {"vocab_size": size}).items():
        writer.add_key_value(key, value, gguf.GGUFValueType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with opened(path) as vocabulary:
        yield vocabulary


@contextmanager
def opened(path: Path) -> Iterator[LlamaVocabulary]:
    settings = llama.llama_model_default_params()
    settings.vocab_only = True
    model = llama.llama_model_load_from_file(str(path).encode(), settings)
    assert model
    try:
        yield LlamaVocabulary(model)
    finally:
        llama.llama_model_free(model)


def own_tokenizer(folder: Path) -> Callable[[str], list[int]]:
    from sentencepiece import SentencePieceProcessor
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    if (folder / "tokenizer.model").exists():
        pieces = SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
        return lambda text: pieces.encode(text)
    if (folder / "tokenizer.json").exists():
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    else:
        tokenizer = Tokenizer(models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        for text in json.loads((folder / "added_tokens.json").read_text("utf-8")):
            tokenizer.add_tokens([AddedToken(text, normalized=True)])
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def write_mistral_3_model(folder: Path) -> None:
    """Write the vocabulary of Mistral 7B v0.3, whose control tokens have the lowest ids."""
    shutil.copy(
        packaged("mistral_common", "data", "mistral_instruct_tokenizer_240323.model.v3"), folder / "tokenizer.model"
    )
    (folder / "tokenizer_config.json").write_text(
        json.dumps(mistral_settings() | {"added_tokens_decoder": {}}), "utf-8"
    )


@pytest.mark.parametrize(
    ("write", "size"),
    [
        (write_mistral_model, 32000),
        (write_trained_model, TRAINED),
        (partial(write_trained_model, space_first=False), TRAINED),
        (write_smollm_tokenizer, 49152),
        (write_gemma_model, GEMMA_TRAINED),
        (write_gemma_tokenizer, GEMMA_TRAINED),
        pytest.param(write_mistral_tokenizer, 32000, marks=pytest.mark.slow),
        pytest.param(write_phi_files, 51200, marks=pytest.mark.slow),
        pytest.param(write_mistral_3_model, 32768, marks=pytest.mark.slow),
        pytest.param(write_phi3_model, 32064, marks=pytest.mark.slow),
        pytest.param(write_phi3_tokenizer, 32064, marks=pytest.mark.slow),
    ],
)
def test_token_ids_are_the_tokenizers_own(write: Callable[[Path], None], size: int, tmp_path: Path) -> None:
    write(tmp_path)
    assert differing(tmp_path, size) == []


# The quick tests try three ways of cutting words; all others take longer.
_QUICK = ("qwen2", "llama3", "phi4")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in _QUICK else pytest.mark.slow) for name in TOKENIZERS]
)
def test_token_ids_of_current_decoders_are_the_tokenizers_own(name: str, tmp_path: Path) -> None:
    TOKENIZERS[name].write(tmp_path)
    other = differing(tmp_path, TOKENIZERS[name].size)
    # To the engine, the text of a special token is text like any other.
    other = [text for text in other if not any(mark in text for mark in TOKENIZERS[name].special.values())]
    assert other == []


def differing(folder: Path, size: int) -> list[str]:
    """Return the texts for which llama.cpp and the folder's own tokenizer give different tokens.

    A text is tried only if `known_to_both` is true for all its characters.
    """
    own = own_tokenizer(folder)
    with loaded(folder, size) as vocabulary:
        texts = [*MIXED_CASE, *strings(STRINGS, 1)]
        other = [text for text in texts if vocabulary.tokenize(text) != own(text)]
    return [text for text in other if all(map(known_to_both, text))]


def known_to_both(character: str) -> bool:
    """Return whether the libraries regex and tokenizers put a character into the same Unicode categories.

    Each library has its own version of Unicode.
    """
    from tokenizers import Regex, pre_tokenizers

    for category in (r"\p{L}", r"\p{N}", r"\p{M}", r"\p{Lu}", r"\p{Ll}"):
        split = pre_tokenizers.Split(Regex(category), behavior="isolated")
        if (len(split.pre_tokenize_str(f"\t{character}\t")) == 3) != bool(regex.fullmatch(category, character)):
            return False
    return True


@pytest.mark.parametrize("form", ["tokenizer.model", "tokenizer.json"])
def test_token_ids_of_llama_2_are_as_expected(form: str, tmp_path: Path) -> None:
    """The vocabulary and the expected ids are from llama.cpp's sources: no package has Llama 2's tokenizer.model."""
    source = llama_cpp_vocabulary("ggml-vocab-llama-spm.gguf")
    pieces = pieces_of(source)
    base = write_checkpoint(tmp_path / "base", "llama", tokenizer=False)
    (tmp_path / "tokenizer.model").write_bytes(sentencepiece_file(pieces))
    if form == "tokenizer.model":
        shutil.copy(tmp_path / "tokenizer.model", base)
    else:
        (base / "tokenizer.json").write_text(json.dumps(tokenizer_of(pieces)), "utf-8")
    arguments = ["convert", str(base), "--quant", "Q8_0", "-o", str(tmp_path / "out.gguf"), "--envelope", "alpaca"]
    assert run_command([*arguments, "--quiet"]) == 0
    texts = cases(source, ".inp").split("\n__ggml_vocab_test__\n")[:-1]
    ids = [[int(token) for token in line.split()] for line in cases(source, ".out").splitlines()]
    pieces_own, own = own_tokenizer(tmp_path), own_tokenizer(base)
    with opened(tmp_path / "out.gguf") as vocabulary:
        assert [vocabulary.tokenize(text) for text in texts] == ids
        for text in (*texts, *strings(STRINGS, 2)):
            tokens = vocabulary.tokenize(text)
            assert tokens == own(text), text
            assert tokens == pieces_own(text), text


def test_token_ids_of_gemma_are_as_expected(tmp_path: Path) -> None:
    """The vocabulary is that of Gemma 4 in llama.cpp's sources, because no package contains Gemma's tokenizer."""
    source = llama_cpp_vocabulary("ggml-vocab-gemma-4.gguf")
    size = write_gemma_vocabulary(tmp_path, source)
    own = own_tokenizer(tmp_path)
    with loaded(tmp_path, size) as vocabulary:
        assert [text for text in strings(STRINGS, 1) if vocabulary.tokenize(text) != own(text)] == []


def llama_cpp_vocabulary(name: str) -> Path:
    """Return the path of a vocabulary in llama.cpp's sources. If they are not on this machine, skip the test."""
    if LLAMA_2 not in os.environ:
        pytest.skip(f"{LLAMA_2} is not set to ggml-vocab-llama-spm.gguf of llama.cpp's sources (models/)")
    return Path(os.environ[LLAMA_2]).with_name(name)


def cases(source: Path, ending: str) -> str:
    return source.with_name(source.name + ending).read_bytes().decode("utf-8")


def test_our_sentencepiece_reader_agrees_with_the_package(tmp_path: Path) -> None:
    whole = read_sentencepiece(mistral_model())
    (tmp_path / "tokenizer.model").write_bytes(sentencepiece_file(whole.pieces))
    assert read_sentencepiece(tmp_path / "tokenizer.model") == whole
    own = own_tokenizer(tmp_path)
    from sentencepiece import SentencePieceProcessor

    theirs = SentencePieceProcessor(model_file=str(mistral_model()))
    assert all(own(text) == theirs.encode(text) for text in strings(20, 3))


@pytest.mark.parametrize(
    ("trainer", "normalizer", "value"),
    [
        ({3: 1}, {}, "type 1"),
        ({24: True}, {}, ""),
        ({35: False}, {}, ""),
        ({}, {2: b"a map"}, ""),
        ({}, {4: True}, ""),
        ({}, {5: False}, ""),
    ],
)
def test_sentencepiece_settings_that_llama_cpp_ignores_are_refused(
    trainer: dict[int, Any], normalizer: dict[int, Any], value: str, tmp_path: Path
) -> None:
    pieces = read_sentencepiece(mistral_model()).pieces[:300]
    path = tmp_path / "tokenizer.model"
    path.write_bytes(sentencepiece_file(pieces))
    assert read_sentencepiece(path).pieces == pieces
    path.write_bytes(sentencepiece_file(pieces, trainer, normalizer))
    with refusal(ModelError, value, file=str(path)):
        read_sentencepiece(path)
