"""Finds the texts that have the most words in common with a given text. Uses BM25 (extra `bm25`).

A rare word counts more than a frequent one. Upper and lower case count as equal, and a plural "s" is ignored. Scripts
without spaces between words, such as Chinese and Thai, are compared by pairs of characters.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from ecellm_lite.errors import UsageError

LEAST_PLURAL = 4  # letters; a shorter word keeps its s, as in "gas"

# Thai and Lao, Myanmar, Khmer, and from CJK radicals on: Chinese characters and kana.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")


def check_installed() -> None:
    """Raise UsageError if bm25s is not installed."""
    if find_spec("bm25s") is None:
        raise UsageError("Finding the nearest texts needs bm25s", step="run `pip install 'ecellm-lite[bm25]'`")


class Nearest:
    """A search index of texts. It is built at the first search. Thread-safe."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts
        self._lock = threading.Lock()
        self._index: Any = None
        self._is_built = False

    def find(self, text: str, count: int) -> list[int]:
        """Return the indexes of the `count` most similar texts, the most similar first.

        Texts that have no word in common with `text` are left out. Of equally similar texts, the earlier comes first.
        Raises UsageError if bm25s is not installed.
        """
        index = self._built()
        tokens = index.get_tokens_ids(list(words(text))) if index is not None else None
        if not tokens:
            return []
        scores = index.get_scores_from_ids(tokens)
        order = np.argsort(-scores, kind="stable")[:count]
        return [int(place) for place in order if scores[place] > 0]

    def _built(self) -> Any:
        """Return the search index, or None if no text contains a word."""
        with self._lock:
            if not self._is_built:
                check_installed()
                import bm25s

                tokens = [list(words(text)) for text in self._texts]
                if any(tokens):
                    self._index = bm25s.BM25(backend="numpy")
                    self._index.index(tokens, show_progress=False)
                self._is_built = True
            return self._index


def words(text: str) -> Iterator[str]:
    """Yield the words of a text in the form in which they are compared: in lower case and without a plural "s".

    Text without spaces between words, such as Chinese or Thai, is yielded as overlapping pairs of characters.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    letters = "".join(one if unicodedata.category(one)[0] in "LMN" else " " for one in folded)
    for word in letters.split():
        if _UNSPACED.search(word) and len(word) > 1:
            yield from (word[place : place + 2] for place in range(len(word) - 1))
        elif len(word) >= LEAST_PLURAL and word.isascii():
            yield word.removesuffix("s")
        else:
            yield word
