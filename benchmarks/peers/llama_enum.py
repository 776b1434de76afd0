"""llama-cpp-python's `Llama` class with llguidance: it writes one of many labels, which are the enum of a JSON schema.

This is what a Python user of llama.cpp writes today: a logits processor that applies llguidance's token mask. Rows are
answered one after the other. The class keeps the last prompt in memory. If the next prompt begins with the same
tokens, only the rest of that prompt is read. The grammar is compiled once for all rows. Writing ends as soon as a label
is complete.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import llama_cpp
import numpy as np
from llama_cpp import LogitsProcessorList
from llguidance import LLMatcher
from llguidance.llamacpp import lltokenizer_from_vocab
from llguidance.numpy import allocate_token_bitmask, apply_token_bitmask_inplace, fill_next_token_bitmask
from numpy.typing import NDArray

from benchmarks.peers.llama_class import new_llama
from benchmarks.peers.plain_decode import STOCK
from ecellm_lite.kernels.prompt import use


@dataclass(frozen=True, slots=True)
class WrittenLabel:
    """A label that the model wrote, and its number of tokens."""

    text: str
    tokens: int


class LlamaEnum:
    """A `Llama` that answers with one of the labels that `grammar` allows.

    llguidance made the grammar from a JSON schema.
    """

    def __init__(self, model: Path, grammar: str, threads: int) -> None:
        self._llama = new_llama(model, threads)
        vocabulary = llama_cpp.llama_model_get_vocab(self._llama.model)
        self._matcher = LLMatcher(lltokenizer_from_vocab(vocabulary), grammar)
        self._mask = allocate_token_bitmask(1, self._llama.n_vocab())

    def answer(self, prompt: Sequence[int]) -> WrittenLabel:
        """Return the label that the model writes after the tokens of a prompt."""
        use(STOCK)
        self._matcher.reset()
        tokens: list[int] = []
        processors = LogitsProcessorList([self._masked])
        for token in self._llama.generate(prompt, temp=0.0, logits_processor=processors):
            tokens.append(token)
            self._matcher.consume_token(token)
            if self._matcher.is_stopped():
                break
        if self._matcher.is_error():
            raise RuntimeError(self._matcher.get_error())
        return WrittenLabel(json.loads(self._llama.detokenize(tokens)), len(tokens))

    def close(self) -> None:
        """Free the model."""
        self._llama.close()

    def _masked(self, _: NDArray[np.intc], logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits, with minus infinity for every token that cannot come next in any label."""
        fill_next_token_bitmask(self._matcher, self._mask)
        masked: NDArray[np.float32] = logits.copy()
        apply_token_bitmask_inplace(masked, self._mask)
        return masked
