"""Tests BytePairs, our own tokenizer for models whose texts llama.cpp would split into wrong words.

tests/convert/test_token_ids.py compares token ids with those of the models' own tokenizers.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecellm_lite.engine.byte_pairs import WORDS, BytePairs

BYTES = {bytes([byte]): byte for byte in range(256)}
TOKENS = BYTES | {
    token: 256 + place for place, token in enumerate((b"ab", b"bc", b"abc", b"aa", b"aaaa", b" a", b"\n\n"))
}


@pytest.mark.parametrize("rule", WORDS)
@given(text=st.text(st.sampled_from("aB1é́\n\r /'s\u3000中Ц") | st.characters(exclude_categories=["Cs"])))
def test_the_words_are_the_whole_text(rule: str, text: str) -> None:
    assert "".join(WORDS[rule].findall(text)) == text


@pytest.mark.parametrize("rule", WORDS)
@given(text=st.text(st.sampled_from("abc \né")))
def test_the_tokens_are_the_whole_text(rule: str, text: str) -> None:
    pieces = {token: piece for piece, token in TOKENS.items()}
    assert b"".join(pieces[token] for token in BytePairs(WORDS[rule], TOKENS, {}).tokenize(text)) == text.encode()


@given(word=st.binary(max_size=40).map(lambda data: bytes(97 + byte % 3 for byte in data)).filter(bool))
def test_the_pair_with_the_lowest_id_is_merged_first(word: bytes) -> None:
    parts = [word[place : place + 1] for place in range(len(word))]
    while word not in TOKENS:
        pairs = [(TOKENS.get(parts[i] + parts[i + 1], 10_000), i) for i in range(len(parts) - 1)]
        token, place = min(pairs, default=(10_000, 0))
        if token == 10_000:
            break
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    expected = [TOKENS[word]] if word in TOKENS else [TOKENS[part] for part in parts]
    assert BytePairs(WORDS["gpt-4o"], TOKENS, {}).tokenize(word.decode()) == expected


def test_added_tokens_are_found_and_unknown_bytes_are_left_out() -> None:
    pairs = BytePairs(WORDS["tekken"], {b"a": 0}, {"<|tool|>": 7, "<|tool": 8})
    assert pairs.tokenize("é<|tool|>a<|tool") == [7, 0, 8]


def test_the_time_for_a_long_word_is_not_quadratic() -> None:
    assert len(BytePairs(WORDS["gpt-4o"], TOKENS, {}).tokenize("aab" * 100_000)) == 200_000
