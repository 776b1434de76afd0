"""A SentencePiece vocabulary for llama.cpp: from tokenizer.model, or from tokenizer.json where there is nothing else.

llama.cpp merges the pair whose result has the highest score, SentencePiece's own rule. tokenizer.json has no scores but
the merges in their order, from which the scores follow; llama.cpp's converter gives every token the same one, and such
a file cuts texts into other tokens than the model was trained with.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ecellm_lite.convert.sentencepiece_model import read_sentencepiece
from ecellm_lite.convert.token_list import BYTE, NORMAL, AddedToken, TokenList, vocabulary
from ecellm_lite.errors import ModelError

MAX_PIECE_LETTERS = 256

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


def from_model(path: Path, size: int, added: Iterable[AddedToken]) -> tuple[TokenList, bool]:
    """Return the tokens of a tokenizer.model, and whether a space is put before a text; or raise ModelError."""
    model = read_sentencepiece(path)
    if len(model.pieces) > size:
        raise ModelError(f"{path} has {len(model.pieces):,} pieces, and the model {size:,} tokens: they do not belong.")
    tokens = TokenList(size)
    for token, piece in enumerate(model.pieces):
        tokens.set(token, piece.text, piece.kind, piece.score)
    tokens.add(added)
    return tokens, model.space_first


def from_tokenizer(
    path: Path, tokenizer: Mapping[str, Any], size: int, added: Sequence[AddedToken]
) -> tuple[TokenList, bool]:
    """Return the tokens of a tokenizer.json of SentencePiece's kind, and whether a space is put before a text.

    Raises ModelError if it cuts texts in a way that llama.cpp does not.
    """
    model = tokenizer["model"]
    for name in ("dropout", "ignore_merges", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            raise ModelError(f"{path} has {name} = {str(model[name])[:40]!r}, which llama.cpp does not know.")
    ids = vocabulary(model.get("vocab"), path, size)
    placed = {token.id for token in added}
    merged = {text: token for text, token in ids.items() if token not in placed and not _BYTE.fullmatch(text)}
    ranks = _ranks(model.get("merges"), merged, path)
    tokens = TokenList(size)
    for text, token in ids.items():
        if _BYTE.fullmatch(text):
            tokens.set(token, text, BYTE)
        else:
            # A letter that no merge makes is never chosen by its score; they come after all others in SentencePiece.
            tokens.set(token, text, NORMAL, -float(ranks.get(text, len(ranks))))
    tokens.add(added)
    return tokens, _space_first(tokenizer, path)


def pairs(merges: object, path: Path) -> list[tuple[str, str]]:
    """Return the merges of a tokenizer.json, "a b" or [a, b] each, or raise ModelError."""
    if not isinstance(merges, list):
        raise ModelError(f"{path} has no list of merges: get it again.")
    found = []
    for merge in merges:
        parts = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(part, str) and part for part in parts):
            raise ModelError(f"{path} has the merge {str(merge)[:60]!r}, which is no pair of texts: get it again.")
        found.append((parts[0], parts[1]))
    return found


def _ranks(merges: object, ids: Mapping[str, int], path: Path) -> dict[str, int]:
    """Return how soon each token is made, by the first of the merges that make it."""
    ranks: dict[str, int] = {}
    known = set()
    for left, right in pairs(merges, path):
        if left + right not in ids:
            raise ModelError(f"{path} merges {left[:40]!r} and {right[:40]!r} to no token: get it again.")
        ranks.setdefault(left + right, len(ranks))
        known.add((left, right))
    # llama.cpp merges any two neighbours that make a token together, and has no list of merges.
    for text in ids:
        if len(text) > MAX_PIECE_LETTERS:
            raise ModelError(f"{path} has the token {text[:40]!r}… of {len(text):,} letters, which no text needs.")
        for cut in range(1, len(text)):
            left, right = text[:cut], text[cut:]
            if left in ids and right in ids and (left, right) not in known:
                raise ModelError(
                    f"{path} does not merge {left!r} and {right!r}, though both are tokens and so are they together, "
                    "and llama.cpp would merge them: this is no vocabulary of SentencePiece."
                )
    return ranks


def _space_first(tokenizer: Mapping[str, Any], path: Path) -> bool:
    """Tell whether a space is put before a text, or raise ModelError for another treatment than SentencePiece's.

    Both spellings of it put a space first: the normalizer Prepend, and the pre-tokenizer Metaspace (which leaves a
    text alone that begins with one).
    """
    first = False
    for step in _steps(tokenizer.get("normalizer"), "normalizers", path):
        kind, content, pattern = step.get("type"), step.get("content"), step.get("pattern")
        if kind == "Prepend" and step.get("prepend") == "▁":
            first = True
        elif kind != "Replace" or (pattern, content) not in (({"String": " "}, "▁"), ({"Regex": "\\A▁"}, "▁▁")):
            raise _foreign(step, path)
    for step in _steps(tokenizer.get("pre_tokenizer"), "pretokenizers", path):
        scheme = step.get("prepend_scheme")
        known = step.get("type") == "Metaspace" and step.get("replacement") == "▁" and step.get("split") is False
        if not known or scheme not in ("always", "first", "never"):
            raise _foreign(step, path)
        first |= scheme != "never"
    return first


def _steps(said: object, name: str, path: Path) -> list[dict[str, Any]]:
    if said is None:
        return []
    steps = said.get(name) if isinstance(said, dict) and said.get("type") == "Sequence" else [said]
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise ModelError(f"{path} says of its {name}: {str(said)[:60]}. Get it again.")
    return steps


def _foreign(step: object, path: Path) -> ModelError:
    return ModelError(f"{path} treats texts by {str(step)[:100]}, which llama.cpp does not do for SentencePiece.")
