"""The tokenizers of GPT-4o, Mistral Nemo and related models, for texts that llama.cpp would split into wrong words.

In these tokenizers, a word consists of upper-case letters followed by lower-case letters. A combining mark is a part of
the word. llama.cpp's patterns (`gpt-4o` and `tekken` in `tokenizer.ggml.pre`) end a word before a combining mark. They
distinguish upper and lower case for ASCII letters only. So llama.cpp computes wrong tokens for Hindi, for Thai and for
"éÀ". For ASCII texts, llama.cpp computes the right tokens.

The patterns here are those of the models' tokenizer.json. Tokens are merged as in tiktoken: of all pairs of
neighbouring tokens, the pair whose merged token has the lowest id is merged first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from heapq import heapify, heappop, heappush

import regex

_FIRST = r"[^\r\n\p{L}\p{N}]?"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_O200K = (
    f"{_FIRST}{_UPPER}*{_LOWER}+{_CONTRACTION}",
    f"{_FIRST}{_UPPER}+{_LOWER}*{_CONTRACTION}",
    r"\p{N}{1,3}",
    _REST,
)
_TEKKEN = (f"{_FIRST}{_UPPER}*{_LOWER}+", f"{_FIRST}{_UPPER}+{_LOWER}*", r"\p{N}", _REST)
# By llama.cpp's name of the pattern.
WORDS = {"gpt-4o": regex.compile("|".join(_O200K)), "tekken": regex.compile("|".join(_TEKKEN))}


class BytePairs:
    """Splits texts into words and words into tokens.

    `words`: one of the patterns in WORDS.
    `ids`: the token id for each token's bytes. Control tokens are not included.
    `added`: the token id for each added token's text. An added token is never split, wherever it is in a text.
    """

    def __init__(self, words: regex.Pattern[str], ids: Mapping[bytes, int], added: Mapping[str, int]) -> None:
        self._words = words
        self._ids = ids
        self._added = added
        longest_first = sorted(added, key=len, reverse=True)
        self._separator = regex.compile(f"({'|'.join(map(regex.escape, longest_first))})") if added else None

    def tokenize(self, text: str) -> list[int]:
        """Return the token ids of a text. A byte for which there is no token is left out, as in llama.cpp."""
        parts = self._separator.split(text) if self._separator else [text]
        return [token for part in parts for token in self._part(part)]

    def _part(self, text: str) -> Iterator[int]:
        if (token := self._added.get(text)) is not None:
            yield token
            return
        for word in self._words.findall(text):
            yield from self._merged(word.encode("utf-8", "replace"))

    def _merged(self, word: bytes) -> Iterator[int]:
        """Yield the token ids of a word. This takes O(n log n) steps for n bytes."""
        if (whole := self._ids.get(word)) is not None:
            yield whole
            return
        size = len(word)
        # A part begins at each place whose end is not 0. `before` is where the part on the left begins.
        end, before = list(range(1, size + 1)), list(range(-1, size))
        pairs = [
            (pair, start, start + 2) for start in range(size - 1) if (pair := self._pair(word, start, start + 2)) >= 0
        ]
        heapify(pairs)
        while pairs:
            _, start, stop = heappop(pairs)
            middle = end[start]
            if not middle or middle == size or end[middle] != stop:
                continue  # one of the two was merged with another part
            end[start], end[middle], before[stop] = stop, 0, start
            for left, right in ((before[start], stop), (start, end[stop] if stop < size else -1)):
                if left >= 0 and right >= 0 and (pair := self._pair(word, left, right)) >= 0:
                    heappush(pairs, (pair, left, right))
        for start in range(size):
            if end[start] and (token := self._ids.get(word[start : end[start]])) is not None:
                yield token

    def _pair(self, word: bytes, start: int, stop: int) -> int:
        return self._ids.get(word[start:stop], -1)
