"""Tokenizers like Gemma's: SentencePiece with byte fallback, no leading space, and tokens for runs of spaces."""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ecellm_lite.convert.sentencepiece_model import Piece, read_sentencepiece
from ecellm_lite.models.gguf_header import read_header
from tests.support.multiscript import strings

GEMMA_TRAINED = 3000  # pieces

_MARKS = ("<pad>", "<eos>", "<bos>", "<unk>")
_CONTROL = ("<start_of_turn>", "<end_of_turn>")
# As in Gemma's vocabulary: marks that no text has, then runs of newlines and of spaces, tags, and runs of tabs.
_DEFINED = (
    "<mask>", "<2mass>", "[@BOS@]", *(f"<unused{number}>" for number in range(6)), *_CONTROL,
    *("\n" * count for count in range(1, 9)), *("▁" * count for count in range(2, 9)),
    "<table>", "</table>", "<h1>", "</h1>", "<b>", "</b>", *("\t" * count for count in range(1, 5)),
)  # fmt: skip


def write_gemma_model(folder: Path) -> None:
    """Write a small vocabulary in the format of Gemma's checkpoints: tokenizer.model and its settings."""
    (folder / "tokenizer.model").write_bytes(_trained())
    _write(folder / "tokenizer_config.json", _settings(_pieces()))


def write_gemma_tokenizer(folder: Path) -> None:
    """Write the vocabulary of write_gemma_model in the format of transformers: tokenizer.json and its settings."""
    _write(folder / "tokenizer.json", gemma_tokenizer(_pieces()))
    _write(folder / "tokenizer_config.json", _settings(_pieces()))


@functools.cache
def _trained() -> bytes:
    from sentencepiece import SentencePieceTrainer

    trained = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=strings(2000, 7), model_writer=trained, model_type="bpe", vocab_size=GEMMA_TRAINED,
        byte_fallback=True, split_digits=True, allow_whitespace_only_pieces=True, character_coverage=0.98,
        normalization_rule_name="identity", remove_extra_whitespaces=False, add_dummy_prefix=False,
        pad_id=0, eos_id=1, bos_id=2, unk_id=3, bos_piece="<bos>", eos_piece="<eos>",
        user_defined_symbols=list(_DEFINED), num_threads=1, minloglevel=2,
    )  # fmt: skip
    return trained.getvalue()


@functools.cache
def _pieces() -> tuple[Piece, ...]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.model"
        path.write_bytes(_trained())
        return read_sentencepiece(path).pieces


def write_gemma_vocabulary(folder: Path, source: Path) -> int:
    """Write Gemma's real vocabulary as tokenizer.json, and return its number of tokens.

    `source`: the file with the vocabulary of Gemma 4 in llama.cpp's sources (models/).
    """
    pieces = gemma_pieces(source)
    _write(folder / "tokenizer.json", gemma_tokenizer(pieces))
    _write(folder / "tokenizer_config.json", _settings(pieces))
    return len(pieces)


def gemma_pieces(path: Path) -> list[Piece]:
    """Return Gemma's real pieces (tokens), from the vocabulary of Gemma 4 in llama.cpp's sources (models/).

    Gemma 3 has the same pieces, except for its control tokens.
    """
    metadata: Any = read_header(path).metadata
    texts, kinds = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    ranks: dict[str, int] = {}
    for merge in metadata["tokenizer.ggml.merges"]:
        left, _, right = merge.partition(" ") if not merge.startswith(" ") else ("", "", "")
        ranks.setdefault(left + right, len(ranks))
    defined = {*_DEFINED, *("\n" * count for count in range(1, 32)), *("▁" * count for count in range(2, 32))}
    defined |= {"\t" * count for count in range(1, 32)} | {text for text in texts[:238] if text.startswith("<")}
    pieces = []
    for text, kind in zip(texts, kinds, strict=True):
        if text in defined and kind != 3:
            pieces.append(Piece(text, 0.0, 4))
        else:
            score = 0.0 if kind != 1 else -float(ranks.get(text, len(ranks)))
            pieces.append(Piece(text, score, int(kind)))
    return pieces


def gemma_tokenizer(pieces: Sequence[Piece]) -> dict[str, Any]:
    """Return the content of the tokenizer.json that transformers makes from a tokenizer.model with these pieces."""
    ids = {piece.text: token for token, piece in enumerate(pieces)}
    cuts = [
        (piece.score, piece.text[:cut], piece.text[cut:])
        for piece in pieces
        for cut in range(1, len(piece.text))
        if piece.text[:cut] in ids and piece.text[cut:] in ids
    ]
    cuts.sort(key=lambda merge: (merge[0], len(merge[1]), len(merge[2])), reverse=True)
    bos = {"SpecialToken": {"id": "<bos>", "type_id": 0}}
    return {
        "version": "1.0",
        "added_tokens": [{"id": token, **added} for token, added in _added(pieces).items()],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": {
            "type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False,
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [bos, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [bos, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<bos>": {"id": "<bos>", "ids": [2], "tokens": ["<bos>"]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": {
            "type": "BPE", "dropout": None, "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True,
            "ignore_merges": False, "vocab": ids, "merges": [[left, right] for _, left, right in cuts],
        },
    }  # fmt: skip


def _added(pieces: Sequence[Piece]) -> dict[int, dict[str, Any]]:
    sides = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {
        token: {"content": piece.text, **sides, "special": piece.text in _CONTROL or piece.kind != 4}
        for token, piece in enumerate(pieces)
        if piece.kind in (2, 3, 4)
    }


def _settings(pieces: Sequence[Piece]) -> dict[str, Any]:
    return {
        "add_bos_token": True, "add_eos_token": False, "bos_token": "<bos>", "eos_token": "<eos>",
        "unk_token": "<unk>", "pad_token": "<pad>", "tokenizer_class": "GemmaTokenizer",
        "added_tokens_decoder": {str(token): added for token, added in _added(pieces).items()},
        "chat_template": "{{ bos_token }}{% for message in messages %}{{ message['content'] }}{% endfor %}",
    }  # fmt: skip


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), "utf-8")
