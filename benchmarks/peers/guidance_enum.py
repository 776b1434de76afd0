"""The package `guidance` with llama-cpp-python. It answers with one of many labels, given as the enum of a JSON schema.

    pip install --no-deps guidance==0.3.1

The package pins older versions of llama-cpp-python and llguidance, so pip must not install its dependencies. `guidance`
keeps the last prompt's tokens in memory. If the next prompt begins with the same tokens, `guidance` reads only the
rest of that prompt. Tokens that the schema forces are read together, in one call.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers.llama_class import CONTEXT
from benchmarks.peers.plain_decode import STOCK
from ecellm_lite.kernels.prompt import use


class GuidanceEnum:
    """A model that the package `guidance` runs. It answers each prompt with one of the labels."""

    def __init__(self, model: Path, labels: Sequence[str], threads: int) -> None:
        import guidance

        self._model = guidance.models.LlamaCpp(
            str(model),
            echo=False,
            enable_monitoring=False,
            n_ctx=CONTEXT,
            n_batch=512,
            n_threads=threads,
            n_threads_batch=threads,
            n_gpu_layers=-1,
        )
        self._label = guidance.json(name="label", schema={"enum": list(labels)})

    def answer(self, prompt: str) -> str:
        """Return the label that the model writes after a prompt."""
        use(STOCK)
        label: str = json.loads((self._model + prompt + self._label)["label"])
        return label
