"""A vocabulary in a GGUF file cuts texts in llama.cpp as the model's own tokenizer does, id for id."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import gguf
import llama_cpp.llama_cpp as llama
import pytest
from ecellm_lite.convert.vocabulary import vocabulary_metadata

from ecellm_lite.engine.vocabulary import LlamaVocabulary
from tests.tiny_tokenizers import (
    write_mistral_model,
    write_mistral_tokenizer,
    write_phi_files,
    write_smollm_tokenizer,
)

STRINGS = 400

_WORDS = """
the Product réduction naïve Größe ẞ ñandú коврик Ελλάδα שלום مرحبا नमस्ते ไทย កាន់ 产品 日本語のテキスト 한국어 👍 👩\u200d👧 🇩🇪 ✅ ﷺ ½
№5 3.14 1,000 2024-05-06 's 'RE don't $9.99 100% (a) [INST] ### -- … “x” a_b C++ x=y <0x0A> \\n {[1]} http://a.b/c?d=e ▁ Ġ
"""
_SPACES = ["  ", "   ", "     ", "\n", "\n\n", "\t", "\r\n", "\u00a0", "\u200b", "\u3000", "\ufeff", "e\u0301", "\x7f"]
_PARTS = [*_WORDS.split(), *_SPACES]


def strings(count: int, seed: int) -> Iterator[str]:
    """Yield texts of many scripts, with white space of every kind, emoji, and any character at all."""
    generator = random.Random(seed)
    for _ in range(count):
        parts = []
        for _ in range(generator.randint(1, 12)):
            if generator.random() < 0.15:
                code = generator.choice([generator.randrange(0x20, 0x250), generator.randrange(0x250, 0xD800)])
                parts.append(chr(generator.choice([code, generator.randrange(0xE000, 0x110000)])))
            else:
                parts.append(generator.choice(_PARTS))
            if generator.random() < 0.5:
                parts.append(" ")
        yield "".join(parts)


@contextmanager
def loaded(folder: Path, size: int) -> Iterator[LlamaVocabulary]:
    """Give llama.cpp's view of a folder's vocabulary, written to a GGUF file that has nothing else."""
    path = folder / "vocabulary.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    for key, (kind, value) in vocabulary_metadata(folder, {"vocab_size": size}).items():
        writer.add_key_value(key, value, gguf.GGUFValueType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
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


@pytest.mark.parametrize(
    ("write", "size"),
    [
        (write_mistral_model, 32000),
        (write_mistral_tokenizer, 32000),
        (write_smollm_tokenizer, 49152),
        (write_phi_files, 51200),
    ],
)
def test_token_ids_are_the_tokenizers_own(write: Callable[[Path], None], size: int, tmp_path: Path) -> None:
    write(tmp_path)
    own = own_tokenizer(tmp_path)
    with loaded(tmp_path, size) as vocabulary:
        other = [text for text in strings(STRINGS, 1) if vocabulary.tokenize(text) != own(text)]
    assert other == []
