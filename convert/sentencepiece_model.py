"""Reads a SentencePiece model file as untrusted input, without the sentencepiece library.

The file lists the pieces (tokens), and says how a text is changed before it is split into pieces. It is a protobuf
message (https://protobuf.dev/programming-guides/encoding/). Its fields are defined in src/sentencepiece_model.proto of
https://github.com/google/sentencepiece.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ecellm_lite.convert.reading import damaged, read_bytes
from ecellm_lite.convert.token_list import BYTE, MAX_TOKENS, NORMAL, not_reproducible, token_text

MAX_MODEL_BYTES = 64 << 20

_BPE = 2  # TrainerSpec.ModelType
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True, slots=True)
class Piece:
    """A token: its text, its score, and its kind, such as NORMAL or BYTE (the constants in token_list).

    Tokens with higher scores are merged first.
    """

    text: str
    score: float
    kind: int


@dataclass(frozen=True, slots=True)
class SentencePieceModel:
    """A SentencePiece model.

    `pieces`: in the order of their ids.
    `space_first`: whether the tokenizer puts a space before a text.
    """

    pieces: tuple[Piece, ...]
    space_first: bool


def read_sentencepiece(path: Path) -> SentencePieceModel:
    """Return the content of a tokenizer.model. Raises ModelError if it is damaged or llama.cpp cannot reproduce it."""
    data = read_bytes(path, MAX_MODEL_BYTES)
    pieces: list[Piece] = []
    # The defaults of the format.
    model_type, space_first, trims, normalizes = 1, True, True, False
    falls_back, spaces_behind, escapes = False, False, True
    try:
        for number, value in _fields(data):
            if number == 1 and isinstance(value, bytes):
                pieces.append(_piece(value, path))
                if len(pieces) > MAX_TOKENS:
                    raise ValueError("it has too many pieces")
            elif number == 2 and isinstance(value, bytes):  # TrainerSpec
                for field, setting in _fields(value):
                    model_type = setting if field == 3 and isinstance(setting, int) else model_type
                    spaces_behind = bool(setting) if field == 24 else spaces_behind
                    falls_back = bool(setting) if field == 35 else falls_back
            elif number == 3 and isinstance(value, bytes):  # NormalizerSpec
                for field, setting in _fields(value):
                    normalizes |= field == 2 and setting != b""
                    space_first = bool(setting) if field == 3 else space_first
                    trims = bool(setting) if field == 4 else trims
                    escapes = bool(setting) if field == 5 else escapes
    except ValueError as error:
        raise damaged(path, f"is not a valid SentencePiece model: {error}") from None
    if not pieces:
        raise damaged(path, "is not a SentencePiece model: it has no pieces")
    differences = {
        f"is a SentencePiece model of the type {model_type} rather than {_BPE} (BPE)": model_type != _BPE,
        "normalizes letters": normalizes,
        "removes spaces": trims,
        "puts spaces after words": spaces_behind,
        "does not replace spaces": not escapes,
        "has no byte tokens for unknown characters": not falls_back,
    }
    if difference := next((text for text, applies in differences.items() if applies), None):
        raise not_reproducible(path, difference)
    return SentencePieceModel(tuple(pieces), space_first)


def _piece(data: bytes, path: Path) -> Piece:
    text, score, kind = b"", 0.0, NORMAL
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            text = value
        elif number == 2 and isinstance(value, float):
            score = value
        elif number == 3 and isinstance(value, int):
            kind = value
    if not NORMAL <= kind <= BYTE:
        raise ValueError(f"a piece has the type {kind}")
    if not math.isfinite(score):
        raise ValueError(f"a piece has the score {score}")
    return Piece(token_text(text.decode("utf-8"), path), score, kind)


def _fields(data: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """Yield the number and the value of each field in a protobuf message.

    A value is an integer, bytes (a text or an inner message), or a float. Every 32-bit value in this format is a float.
    """
    position, end = 0, len(data)
    while position < end:
        tag, position = _varint(data, position)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, position = _varint(data, position)
            yield number, value
        elif wire == _BYTES:
            length, position = _varint(data, position)
            if length > end - position:
                raise ValueError(f"a field of {length:,} bytes goes past its end")
            yield number, data[position : position + length]
            position += length
        elif wire in {_FIXED32, _FIXED64}:
            length = 4 if wire == _FIXED32 else 8
            if length > end - position:
                raise ValueError("a number goes past its end")
            if wire == _FIXED32:
                yield number, struct.unpack_from("<f", data, position)[0]
            position += length
        else:
            raise ValueError(f"a field has the wire type {wire}")


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Return the integer that is encoded at a position, and the position after it."""
    value = 0
    for place in range(10):
        if position + place >= len(data):
            raise ValueError("a number goes past its end")
        byte = data[position + place]
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, position + place + 1
    raise ValueError("a number has more than ten bytes")
