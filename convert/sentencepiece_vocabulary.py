"""A SentencePiece vocabulary for llama.cpp, read from tokenizer.model or, if this is missing, from tokenizer.json.

To split a text, llama.cpp merges pairs of tokens, as SentencePiece does. It begins with the pair that becomes the token
with the highest score. tokenizer.json has no scores, so they are computed from the order of its merges. In this case,
llama.cpp's own converter gives every token the same score. With such scores, llama.cpp splits texts in another way than
the original tokenizer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from ecellm_lite.convert.reading import damaged
from ecellm_lite.convert.sentencepiece_model import read_sentencepiece
from ecellm_lite.convert.token_list import (
    BYTE,
    NORMAL,
    USER_DEFINED,
    AddedToken,
    TokenList,
    not_reproducible,
    vocabulary,
)
from ecellm_lite.errors import ModelError

MAX_PIECE_LETTERS = 256

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


def from_model(path: Path, size: int, added: Iterable[AddedToken]) -> tuple[TokenList, bool]:
    """Return the tokens of a tokenizer.model, and whether SentencePiece puts a space before a text.

    `size` is the number of tokens that the model has. Raises ModelError if the file is damaged or has more than `size`
    tokens, or if llama.cpp cannot reproduce its tokens.
    """
    model = read_sentencepiece(path)
    if len(model.pieces) > size:
        raise ModelError(
            f"{path} has {len(model.pieces):,} pieces, but the model has {size:,} tokens",
            step="copy the model's own tokenizer there",
            file=str(path),
        )
    tokens = TokenList(size)
    for token, piece in enumerate(model.pieces):
        # SentencePiece joins the letter ▁ in a text to spaces beside it, as llama.cpp does for a piece that is merged.
        kind = piece.kind if piece.text.strip("▁") else NORMAL
        tokens.set(token, piece.text, kind, piece.score)
    tokens.add(added)
    return tokens, model.space_first


def from_tokenizer(
    path: Path, tokenizer: Mapping[str, Any], size: int, added: Sequence[AddedToken]
) -> tuple[TokenList, bool]:
    """Return the tokens in a tokenizer.json, and whether the tokenizer puts a space before a text.

    `size` is the number of tokens that the model has. Raises ModelError if the file is damaged or llama.cpp cannot
    reproduce its tokens.
    """
    model = tokenizer["model"]
    for name in ("dropout", "ignore_merges", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            raise not_reproducible(path, f"has {name} = {str(model[name])[:40]!r}")
    ids = vocabulary(model.get("vocab"), path, size)
    # A tokenizer finds its added tokens before it merges, so merges make none of them; runs of spaces are an exception.
    placed = {token.text for token in added if token.text.strip("▁")}
    runs = {token.text for token in added} - placed
    merged = {text for text in ids if text not in placed and not _BYTE.fullmatch(text)}
    ranks = _ranks(model.get("merges"), merged, {text for text in placed if "▁" not in text}, path)
    tokens = TokenList(size)
    for text, token in ids.items():
        if _BYTE.fullmatch(text):
            tokens.set(token, text, BYTE)
        else:
            # The scores of single letters decide nothing; SentencePiece puts them after all others.
            tokens.set(token, text, USER_DEFINED if text in runs else NORMAL, -float(ranks.get(text, len(ranks))))
    tokens.add(added)
    return tokens, _space_first(tokenizer, path)


def pairs(merges: object, path: Path) -> list[tuple[str, str]]:
    """Return the merges of a tokenizer.json as pairs of texts. Raises ModelError if they are damaged.

    In the file, a merge is a text "a b" or a list [a, b].
    """
    if not isinstance(merges, list):
        raise damaged(path, "has no list of merges")
    result = []
    for merge in merges:
        parts = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(part, str) and part for part in parts):
            raise damaged(path, f"has the merge {str(merge)[:60]!r}, which is not a pair of texts")
        result.append((parts[0], parts[1]))
    return result


def _ranks(merges: object, tokens: Set[str], placed: Set[str], path: Path) -> dict[str, int]:
    """Return the rank of each token that a merge produces. Tokens of earlier merges have lower ranks.

    `placed`: the added tokens that contain no space. Merges that produce such a token (as in Gemma's files) are
    ignored. Raises ModelError if the merges are damaged, or if llama.cpp would merge other pairs of tokens.
    """
    ranks: dict[str, int] = {}
    merged = set()
    for left, right in pairs(merges, path):
        if left + right in placed:
            continue
        if left + right not in tokens:
            raise damaged(path, f"merges {left[:40]!r} and {right[:40]!r} to an unknown token")
        ranks.setdefault(left + right, len(ranks))
        merged.add((left, right))
    # llama.cpp has no list of merges: it merges any two neighbors that together are a token.
    for text in tokens:
        if len(text) > MAX_PIECE_LETTERS:
            raise damaged(path, f"has the token {text[:40]!r}… of {len(text):,} letters")
        for cut in range(1, len(text)):
            left, right = text[:cut], text[cut:]
            if left in tokens and right in tokens and (left, right) not in merged:
                raise not_reproducible(path, f"does not merge the tokens {left!r} and {right!r}, although it has both")
    return ranks


def _space_first(tokenizer: Mapping[str, Any], path: Path) -> bool:
    """Return whether the tokenizer puts a space before a text.

    In a tokenizer.json, the normalizer Prepend or the pre-tokenizer Metaspace adds this space. Metaspace adds no space
    to a text that already begins with one. Gemma's pre-tokenizer splits texts at spaces. This has no effect, because
    Gemma's normalizer has already replaced all spaces.

    Raises ModelError if the tokenizer changes or splits texts in a way that SentencePiece does not.
    """
    first, replaced = False, False
    for step in _steps(tokenizer.get("normalizer"), "normalizers", path):
        kind, content, pattern = step.get("type"), step.get("content"), step.get("pattern")
        if kind == "Prepend" and step.get("prepend") == "▁":
            first = True
        elif kind == "Replace" and (pattern, content) == ({"String": " "}, "▁"):
            replaced = True
        elif kind != "Replace" or (pattern, content) != ({"Regex": "\\A▁"}, "▁▁"):
            raise not_reproducible(path, f"changes or splits texts with {str(step)[:100]}")
    for step in _steps(tokenizer.get("pre_tokenizer"), "pretokenizers", path):
        if replaced and step.get("type") == "Split" and step.get("pattern") == {"String": " "}:
            continue
        scheme = step.get("prepend_scheme")
        metaspace = step.get("type") == "Metaspace" and step.get("replacement") == "▁" and step.get("split") is False
        if not metaspace or scheme not in ("always", "first", "never"):
            raise not_reproducible(path, f"changes or splits texts with {str(step)[:100]}")
        first |= scheme != "never"
    return first


def _steps(value: object, name: str, path: Path) -> list[dict[str, Any]]:
    if value is None:
        return []
    steps = value.get(name) if isinstance(value, dict) and value.get("type") == "Sequence" else [value]
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise damaged(path, f"describes its {name} as {str(value)[:60]}")
    return steps
