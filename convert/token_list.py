"""A vocabulary for a GGUF file: the text, kind and score of each token id, including added tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ecellm_lite.convert.blueprint import MetadataValue
from ecellm_lite.convert.reading import damaged, inside, read_json
from ecellm_lite.errors import ModelError

MAX_TOKENS = 1 << 22
MAX_TOKEN_LETTERS = 1 << 12

# Kinds of tokens: gguf-py's TokenType, with the same numbers as SentencePiece.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6

# The scores of tokens that no merge produces, as in llama.cpp's converter.
ADDED_SCORE, PADDING_SCORE = -1000.0, -10000.0


@dataclass(frozen=True, slots=True)
class AddedToken:
    """A token that a tokenizer looks for before it splits a text.

    A `special` token, such as the one that ends a text, controls the model and is not shown in texts.
    """

    id: int
    text: str
    special: bool


@dataclass(slots=True)
class TokenList:
    """The tokens of a model. Their ids are 0 to `size - 1`.

    If an id has no token in the checkpoint, its text is a placeholder such as `[PAD7]`, which the tokenizer never
    produces.
    """

    size: int
    texts: list[str] = field(init=False)
    kinds: list[int] = field(init=False)
    scores: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self.texts = [f"[PAD{token}]" for token in range(self.size)]
        self.kinds = [UNUSED] * self.size
        self.scores = [PADDING_SCORE] * self.size

    def set(self, token: int, text: str, kind: int, score: float = 0.0) -> None:
        """Set the text, kind and score of the token with the id `token`."""
        self.texts[token], self.kinds[token], self.scores[token] = text, kind, score

    def add(self, tokens: Iterable[AddedToken]) -> None:
        """Set the texts and kinds of added tokens.

        A token is left out if its id is `size` or more, because the model's embedding has no row for it.
        """
        for token in tokens:
            if token.id >= self.size:
                continue
            if not token.text.strip("▁") and self.texts[token.id] == token.text:
                continue  # Gemma's runs of spaces, which are made by merges
            if token.special or _looks_special(token.text):
                self.set(token.id, token.text, CONTROL, ADDED_SCORE)
            else:
                self.set(token.id, token.text.replace("▁", " "), USER_DEFINED, ADDED_SCORE)

    def metadata(self, model: str, pre: str, scores: bool) -> dict[str, MetadataValue]:
        """Return the tokenizer's metadata. All keys begin with `tokenizer.ggml.`.

        - `model`: llama.cpp's name for the kind of tokenizer, such as `llama` or `gpt2`.
        - `pre`: llama.cpp's name for the rule that splits texts into words.
        - `scores`: whether to include the tokens' scores.

        Raises ModelError if two tokens have the same text.
        """
        ids: dict[str, int] = {}
        for token, text in enumerate(self.texts):
            if ids.setdefault(text, token) != token:
                raise ModelError(
                    f"The vocabulary has the token {text[:60]!r} twice, as {ids[text]} and as {token}",
                    step="download the checkpoint again",
                )
        metadata: dict[str, MetadataValue] = {
            "tokenizer.ggml.model": ("STRING", model),
            "tokenizer.ggml.pre": ("STRING", pre),
            "tokenizer.ggml.tokens": ("ARRAY", self.texts),
        }
        if scores:
            metadata["tokenizer.ggml.scores"] = ("ARRAY", self.scores)
        metadata["tokenizer.ggml.token_type"] = ("ARRAY", self.kinds)
        return metadata


def not_reproducible(path: Path, problem: str) -> ModelError:
    """Return the error for a tokenizer that llama.cpp cannot reproduce: llama.cpp would split texts into other tokens.

    `problem` is the end of a sentence that begins with the file's path.
    """
    return ModelError(
        f"{path} {problem}, which llama.cpp cannot reproduce",
        step="give a checkpoint with another tokenizer",
        file=str(path),
    )


def token_id(value: object, path: Path) -> int:
    """Return a value from a file as a token id. Raises ModelError if it is not a valid token id."""
    if type(value) is not int or not 0 <= value < MAX_TOKENS:
        raise damaged(path, f"has the token id {str(value)[:40]!r}")
    return value


def token_text(value: object, path: Path) -> str:
    """Return a token's text, as read from a file.

    Raises ModelError if the value is not a text, or if the text is empty, too long or not UTF-8.
    """
    if not isinstance(value, str) or not value or len(value) > MAX_TOKEN_LETTERS:
        raise damaged(path, f"has the token {str(value)[:40]!r}, which is not a text, or is empty or too long")
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise damaged(path, f"has the token {value[:40]!r}, which is not UTF-8")
    return value


def vocabulary(value: object, path: Path, size: int) -> dict[str, int]:
    """Check the vocabulary in a vocab.json or tokenizer.json, and return it: a dict from token texts to ids.

    Raises ModelError if an id is `size` or more, or occurs twice.
    """
    if not isinstance(value, dict) or not value:
        raise damaged(path, "has no vocabulary")
    ids: dict[str, int] = {}
    used: set[int] = set()
    for text, number in value.items():
        token = token_id(number, path)
        if token >= size or token in used:
            reason = "which another token has too" if token in used else f"but the model has {size:,} tokens"
            raise damaged(path, f"has the token {text[:40]!r} with the id {token}, {reason}")
        ids[token_text(text, path)] = token
        used.add(token)
    return ids


def added_tokens(folder: Path, tokenizer: Mapping[str, Any] | None) -> list[AddedToken]:
    """Return a checkpoint's added tokens in the order of their ids.

    The tokens are read from three files: added_tokens.json, then tokenizer_config.json, then tokenizer.json, whose
    content is `tokenizer`. If several files describe the same id, the last one counts.
    """
    tokens: dict[int, AddedToken] = {}
    path = folder / "added_tokens.json"
    if path.exists():
        for text, number in read_json(inside(folder, path.name)).items():
            token = token_id(number, path)
            tokens[token] = AddedToken(token, token_text(text, path), special=False)
    path = folder / "tokenizer_config.json"
    if path.exists():
        decoder = read_json(inside(folder, path.name)).get("added_tokens_decoder") or {}
        if not isinstance(decoder, dict):
            raise damaged(path, "has no object of tokens in added_tokens_decoder")
        for number, entry in decoder.items():
            token = token_id(int(number) if number.isascii() and number.isdigit() and len(number) < 9 else number, path)
            tokens[token] = _added(token, entry, path)
    path = folder / "tokenizer.json"
    entries = (tokenizer or {}).get("added_tokens") or []
    if not isinstance(entries, list):
        raise damaged(path, "has no list of added tokens")
    for entry in entries:
        token = token_id(entry.get("id") if isinstance(entry, dict) else entry, path)
        tokens[token] = _added(token, entry, path)
    return [tokens[token] for token in sorted(tokens)]


def _looks_special(text: str) -> bool:
    """Return whether an added token's text has the form of a special token, such as `<|end|>`.

    The rule is from llama.cpp's converter.
    """
    if text in {"<pad>", "<mask>", "<2mass>", "[@BOS@]"} or (text.startswith("<unused") and text.endswith(">")):
        return True
    return (text.startswith("<|") and text.endswith("|>")) or (text.startswith("<\uff5c") and text.endswith("\uff5c>"))


def _added(token: int, entry: object, path: Path) -> AddedToken:
    if not isinstance(entry, dict) or not isinstance(entry.get("special", False), bool):
        raise damaged(path, f"describes the added token {token} as {str(entry)[:60]}")
    return AddedToken(token, token_text(entry.get("content"), path), entry.get("special", False))
