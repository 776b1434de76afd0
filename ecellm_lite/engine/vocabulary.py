"""A llama.cpp model's tokenizer: text to ids and back.

User text is never read as a special token.
"""

from __future__ import annotations

import ctypes
import unicodedata
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ecellm_lite.binding import llama
from ecellm_lite.engine.weights import metadata
from ecellm_lite.errors import ModelError
from ecellm_lite.models.normal_form import NORMAL_FORM_KEY, normal_form

if TYPE_CHECKING:
    from ecellm_lite.engine.byte_pairs import BytePairs

# llama.cpp's patterns for words that are not the tokenizers' own for all texts.
_INEXACT_WORDS = frozenset({"gpt-4o", "tekken"})
_NORMAL, _USER_DEFINED = llama.LLAMA_TOKEN_ATTR_NORMAL, llama.LLAMA_TOKEN_ATTR_USER_DEFINED
_ADDED = llama.LLAMA_TOKEN_ATTR_CONTROL | _USER_DEFINED


class LlamaVocabulary:
    """The vocabulary of a loaded model. It has a pointer into the model, so do not use it after the model is freed.

    `identity`: the sha256 of the model's file, or empty if it was not set.
    """

    identity = ""

    def __init__(self, model: Any) -> None:
        self._pointer = llama.llama_model_get_vocab(model)
        self.size: int = llama.llama_vocab_n_tokens(self._pointer)
        ids = range(self.size)
        self.ends = frozenset(token for token in ids if llama.llama_vocab_is_eog(self._pointer, token))
        eos = llama.llama_vocab_eos(self._pointer)
        if not 0 <= eos < self.size:
            raise ModelError("The model's vocabulary has no end-of-sequence token", step="convert the model again")
        self.end: int = eos
        bos = llama.llama_vocab_bos(self._pointer)
        self._begin = [bos] if llama.llama_vocab_get_add_bos(self._pointer) and 0 <= bos < self.size else []
        self.ends |= {eos}
        self.control = np.array([t for t in ids if llama.llama_vocab_is_control(self._pointer, t)], dtype=np.int32)
        self._pieces: dict[int, bytes] = {}
        self._marks: dict[str, int | None] = {}
        self._rule = (
            metadata(model, "tokenizer.ggml.pre") if metadata(model, "tokenizer.ggml.model") == "gpt2" else None
        )
        form = normal_form(metadata(model, NORMAL_FORM_KEY), self._rule)
        self._normal_form: Literal["NFC"] | None = "NFC" if form == "NFC" else None
        self._grammar_tokenizer: Any = None

    def tokenize(self, text: str, *, begin: bool = False) -> list[int]:
        """Return the token ids of `text`. With `begin`, a BOS token comes first if the model was trained with one."""
        if self._normal_form:
            text = unicodedata.normalize(self._normal_form, text)
        ids = self._ids(text) if text.isascii() or self._rule not in _INEXACT_WORDS else self._byte_pairs.tokenize(text)
        return [*self._begin, *ids] if begin else ids

    def _ids(self, text: str) -> list[int]:
        data = text.encode("utf-8", "replace")
        room = len(data) + 1  # at most a token for each byte and SentencePiece's space
        tokens = (llama.llama_token * room)()
        # llama.cpp's own adding of special tokens would put an EOS after the prompt if the file asks for one.
        count = llama.llama_tokenize(self._pointer, data, len(data), tokens, room, False, False)
        if count < 0:
            message = f"The model's tokenizer failed on {text[:40]!r} ({count})"
            raise ModelError(message, step="convert the model again")
        ids: list[int] = tokens[:count]
        return ids

    @cached_property
    def _byte_pairs(self) -> BytePairs:
        from ecellm_lite.engine.byte_pairs import WORDS, BytePairs  # 30 ms, which few models need

        kinds = [llama.llama_vocab_get_attr(self._pointer, token) for token in range(self.size)]
        normal = {self._piece(token): token for token, kind in enumerate(kinds) if kind & _NORMAL}
        added = {self._piece(t).decode("utf-8", "replace"): t for t, kind in enumerate(kinds) if kind & _USER_DEFINED}
        return BytePairs(WORDS[str(self._rule)], normal, added)

    def special_token_id(self, text: str) -> int | None:
        """Return the id of the control or added token with this spelling, or None."""
        if text not in self._marks:
            data, tokens = text.encode("utf-8"), (llama.llama_token * 2)()
            count = llama.llama_tokenize(self._pointer, data, len(data), tokens, len(tokens), False, True)
            added = count == 1 and llama.llama_vocab_get_attr(self._pointer, tokens[0]) & _ADDED
            self._marks[text] = int(tokens[0]) if added else None
        return self._marks[text]

    def detokenize(self, tokens: Sequence[int]) -> bytes:
        """Return the text of the tokens as bytes. Control tokens add nothing to the text."""
        return b"".join(self._piece(token) for token in tokens)

    def grammar_tokenizer(self) -> Any:
        """Return this vocabulary in the form that llguidance needs. It is built once, which takes 0.2 to 1 s."""
        if self._grammar_tokenizer is None:
            from llguidance.llamacpp import lltokenizer_from_vocab

            self._grammar_tokenizer = lltokenizer_from_vocab(self._pointer, eos_token=sorted(self.ends))
        return self._grammar_tokenizer

    def _piece(self, token: int) -> bytes:
        if token not in self._pieces:
            size = 64
            buffer = ctypes.create_string_buffer(size)
            count = llama.llama_token_to_piece(self._pointer, token, buffer, size, 0, False)
            if count < 0:
                buffer = ctypes.create_string_buffer(-count)
                count = llama.llama_token_to_piece(self._pointer, token, buffer, -count, 0, False)
            self._pieces[token] = buffer.raw[:count]
        return self._pieces[token]
