"""A SentencePiece model file, read as hostile input without the library: its pieces, and how it treats a text.

The format is protobuf's, https://protobuf.dev/programming-guides/encoding/, with the fields of
src/sentencepiece_model.proto of https://github.com/google/sentencepiece.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ecellm_lite.convert.checkpoint import read_bytes
from ecellm_lite.convert.token_list import BYTE, MAX_TOKENS, NORMAL, token_text
from ecellm_lite.errors import ModelError

MAX_MODEL_BYTES = 64 << 20

_BPE = 2  # TrainerSpec.ModelType
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True, slots=True)
class Piece:
    """A token: its text, how soon it is merged (the higher the sooner), its kind (token_list's numbers)."""

    text: str
    score: float
    kind: int


@dataclass(frozen=True, slots=True)
class SentencePieceModel:
    """The pieces by id; `space_first`: a space is put before a text."""

    pieces: tuple[Piece, ...]
    space_first: bool


def read_sentencepiece(path: Path) -> SentencePieceModel:
    """Return what a tokenizer.model holds, or raise ModelError if it is none, or not one that llama.cpp can follow."""
    data = read_bytes(path, MAX_MODEL_BYTES)
    pieces: list[Piece] = []
    kind, space_first, trims, normalized = 1, True, True, False
    falls_back, spaces_behind, escapes = False, False, True
    try:
        for field, value in _fields(data):
            if field == 1 and isinstance(value, bytes):
                pieces.append(_piece(value, path))
                if len(pieces) > MAX_TOKENS:
                    raise ValueError("it has too many pieces")
            elif field == 2 and isinstance(value, bytes):
                for name, said in _fields(value):
                    kind = said if name == 3 and isinstance(said, int) else kind
                    spaces_behind = bool(said) if name == 24 else spaces_behind
                    falls_back = bool(said) if name == 35 else falls_back
            elif field == 3 and isinstance(value, bytes):
                for name, said in _fields(value):
                    normalized |= name == 2 and said != b""
                    space_first = bool(said) if name == 3 else space_first
                    trims = bool(said) if name == 4 else trims
                    escapes = bool(said) if name == 5 else escapes
    except ValueError as error:
        raise ModelError(f"{path} is no SentencePiece model, or is damaged: {error}. Get it again.") from None
    if not pieces:
        raise ModelError(f"{path} is no SentencePiece model: it has no pieces. Get it again.")
    if kind != _BPE:
        raise ModelError(f"{path} is a SentencePiece model of type {kind}: llama.cpp follows type {_BPE}, BPE, here.")
    others = {
        "normalizes letters": normalized,
        "removes spaces": trims,
        "puts spaces behind words": spaces_behind,
        "takes spaces as they are": not escapes,
        "has no bytes for the letters that it lacks": not falls_back,
    }
    if what := next((what for what, so in others.items() if so), None):
        raise ModelError(
            f"{path} {what}, and llama.cpp does otherwise: texts would become other tokens than in training."
        )
    return SentencePieceModel(tuple(pieces), space_first)


def _piece(data: bytes, path: Path) -> Piece:
    text, score, kind = b"", 0.0, NORMAL
    for field, value in _fields(data):
        if field == 1 and isinstance(value, bytes):
            text = value
        elif field == 2 and isinstance(value, float):
            score = value
        elif field == 3 and isinstance(value, int):
            kind = value
    if not NORMAL <= kind <= BYTE:
        raise ValueError(f"a piece is of type {kind}")
    if not math.isfinite(score):
        raise ValueError(f"a piece has the score {score}")
    return Piece(token_text(text.decode("utf-8"), path), score, kind)


def _fields(data: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """Yield a message's fields with their values: a 32-bit one as the float it is here, messages as their bytes."""
    position, end = 0, len(data)
    while position < end:
        tag, position = _varint(data, position)
        field, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, position = _varint(data, position)
            yield field, value
        elif wire == _BYTES:
            length, position = _varint(data, position)
            if length > end - position:
                raise ValueError(f"a field of {length:,} bytes goes past its end")
            yield field, data[position : position + length]
            position += length
        elif wire in {_FIXED32, _FIXED64}:
            length = 4 if wire == _FIXED32 else 8
            if length > end - position:
                raise ValueError("a number goes past its end")
            if wire == _FIXED32:
                yield field, struct.unpack_from("<f", data, position)[0]
            position += length
        else:
            raise ValueError(f"a field is of the wire type {wire}")


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for place in range(10):
        if position + place >= len(data):
            raise ValueError("a number goes past its end")
        byte = data[position + place]
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, position + place + 1
    raise ValueError("a number has more than ten bytes")
