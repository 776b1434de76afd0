"""Computes how much memory a model takes, from the header of its file and the number of processes that load it."""

from __future__ import annotations

from dataclasses import dataclass

from ecellm_lite.engine.memory import compute_bytes, kv_bytes_per_cell, weight_bytes
from ecellm_lite.engine.settings import DEFAULT_CONTEXT, Settings
from ecellm_lite.models.gguf_header import Header

# What Python, numpy and llama.cpp take themselves: 68 MiB of a process with the demo and its smallest context.
PROGRAM = 64 << 20


@dataclass(frozen=True, slots=True)
class Footprint:
    """The memory that a model takes, in bytes.

    `weights`: the bytes that all processes share, because they map the same file.
    `own`: the further bytes that each process needs.
    """

    weights: int
    own: int

    def of(self, processes: int) -> int:
        """Return how many bytes of memory `processes` processes need in all."""
        return self.weights + processes * self.own


def footprint(header: Header, settings: Settings) -> Footprint:
    """Return the memory that a model takes with these settings, after its KV memory has grown to its full size.

    A layer on a GPU counts as if it were on the CPU. Raises ModelError for a header without the model's dimensions.
    """
    training = header.metadata.get(f"{header.metadata.get('general.architecture')}.context_length")
    cells = settings.context or min(DEFAULT_CONTEXT, training if isinstance(training, int) else DEFAULT_CONTEXT)
    compute = compute_bytes(
        header, cells=cells, tokens=settings.micro_batch, flash_attention=settings.flash == "on"
    )  # `auto` may turn it off
    return Footprint(weight_bytes(header), PROGRAM + cells * kv_bytes_per_cell(header, settings.kv_type) + compute)
