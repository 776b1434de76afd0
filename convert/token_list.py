"""A vocabulary as a GGUF file holds it: each id's text, kind and score; and the tokens that were added to it later."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ecellm_lite.convert.blueprint import Value
from ecellm_lite.convert.checkpoint import inside, read_json
from ecellm_lite.errors import ModelError

MAX_TOKENS = 1 << 22
MAX_TOKEN_LETTERS = 1 << 12

# Kinds of tokens: gguf-py's TokenType, which are SentencePiece's own numbers.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6

# The score of a token that no merge makes; what llama.cpp's converter writes.
ADDED_SCORE, PADDING_SCORE = -1000.0, -10000.0


@dataclass(frozen=True, slots=True)
class AddedToken:
    """A token that a tokenizer looks for before it cuts a text; a special one stands for no text."""

    id: int
    text: str
    special: bool


@dataclass(slots=True)
class TokenList:
    """The tokens of a model of `size` ids; an id that is never set is padding, which no text becomes."""

    size: int
    texts: list[str] = field(init=False)
    kinds: list[int] = field(init=False)
    scores: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self.texts = [f"[PAD{token}]" for token in range(self.size)]
        self.kinds = [UNUSED] * self.size
        self.scores = [PADDING_SCORE] * self.size

    def set(self, token: int, text: str, kind: int, score: float = 0.0) -> None:
        """Put a token at its id."""
        self.texts[token], self.kinds[token], self.scores[token] = text, kind, score

    def add(self, tokens: Iterable[AddedToken]) -> None:
        """Put added tokens over what is there; one past the end has no row in the model, and is left out."""
        for token in tokens:
            if token.id >= self.size:
                continue
            if token.special or _looks_special(token.text):
                self.set(token.id, token.text, CONTROL, ADDED_SCORE)
            else:
                self.set(token.id, token.text.replace("▁", " "), USER_DEFINED, ADDED_SCORE)

    def metadata(self, model: str, pre: str, scores: bool) -> dict[str, Value]:
        """Return the tokenizer.ggml keys, or raise ModelError for a text that twice names a token."""
        first: dict[str, int] = {}
        for token, text in enumerate(self.texts):
            if first.setdefault(text, token) != token:
                raise ModelError(
                    f"The vocabulary has the token {text[:60]!r} at {first[text]} and at {token}: get it again."
                )
        found: dict[str, Value] = {
            "tokenizer.ggml.model": ("STRING", model),
            "tokenizer.ggml.pre": ("STRING", pre),
            "tokenizer.ggml.tokens": ("ARRAY", self.texts),
        }
        if scores:
            found["tokenizer.ggml.scores"] = ("ARRAY", self.scores)
        found["tokenizer.ggml.token_type"] = ("ARRAY", self.kinds)
        return found


def _looks_special(text: str) -> bool:
    """Tell whether an added token is a mark though its tokenizer does not say so, as llama.cpp's converter does."""
    if text in {"<pad>", "<mask>"}:
        return True
    return (text.startswith("<|") and text.endswith("|>")) or (text.startswith("<\uff5c") and text.endswith("\uff5c>"))


def token_id(value: object, path: Path) -> int:
    """Return an id as it stands in a file, or raise ModelError."""
    if type(value) is not int or not 0 <= value < MAX_TOKENS:
        raise ModelError(f"{path} has the token id {str(value)[:40]!r}: get it again.")
    return value


def token_text(value: object, path: Path) -> str:
    """Return a token's text as it stands in a file, or raise ModelError for what GGUF cannot hold."""
    if not isinstance(value, str) or not value or len(value) > MAX_TOKEN_LETTERS:
        raise ModelError(f"{path} has the token {str(value)[:40]!r}, which is no text or an empty one: get it again.")
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise ModelError(f"{path} has the token {value[:40]!r}, which is no UTF-8: get it again.")
    return value


def vocabulary(value: object, path: Path, size: int) -> dict[str, int]:
    """Return a table from texts to ids below `size`, each once, as vocab.json and tokenizer.json hold it."""
    if not isinstance(value, dict) or not value:
        raise ModelError(f"{path} has no vocabulary: get it again.")
    ids: dict[str, int] = {}
    taken: set[int] = set()
    for text, number in value.items():
        token = token_id(number, path)
        if token >= size or token in taken:
            why = "which another token has" if token in taken else f"and the model has {size:,} tokens"
            raise ModelError(f"{path} has the token {text[:40]!r} with the id {token}, {why}: get it again.")
        ids[token_text(text, path)] = token
        taken.add(token)
    return ids


def added_tokens(folder: Path, tokenizer: Mapping[str, Any] | None) -> list[AddedToken]:
    """Return the tokens that were added, by id, with what each file of the folder says; the later one decides.

    These are added_tokens.json, tokenizer_config.json and `tokenizer`, the content of tokenizer.json.
    """
    found: dict[int, AddedToken] = {}
    path = folder / "added_tokens.json"
    if path.exists():
        for text, number in read_json(inside(folder, path.name)).items():
            token = token_id(number, path)
            found[token] = AddedToken(token, token_text(text, path), special=False)
    path = folder / "tokenizer_config.json"
    if path.exists():
        decoder = read_json(inside(folder, path.name)).get("added_tokens_decoder") or {}
        if not isinstance(decoder, dict):
            raise ModelError(f"{path} has no tokens by id in added_tokens_decoder: get it again.")
        for number, said in decoder.items():
            token = token_id(int(number) if number.isascii() and number.isdigit() and len(number) < 9 else number, path)
            found[token] = _added(token, said, path)
    path = folder / "tokenizer.json"
    listed = (tokenizer or {}).get("added_tokens") or []
    if not isinstance(listed, list):
        raise ModelError(f"{path} has no list of added tokens: get it again.")
    for said in listed:
        token = token_id(said.get("id") if isinstance(said, dict) else said, path)
        found[token] = _added(token, said, path)
    return [found[token] for token in sorted(found)]


def _added(token: int, said: object, path: Path) -> AddedToken:
    if not isinstance(said, dict) or not isinstance(said.get("special", False), bool):
        raise ModelError(f"{path} says of the added token {token}: {str(said)[:60]}. Get it again.")
    return AddedToken(token, token_text(said.get("content"), path), said.get("special", False))
