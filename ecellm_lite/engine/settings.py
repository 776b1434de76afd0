"""The settings of llama.cpp that a user may choose when a model is loaded, with their limits."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ecellm_lite.errors import UsageError

DEFAULT_CONTEXT = 4096
KV_TYPES = ("f16", "q8_0", "f32")
FLASH_ATTENTION = ("auto", "on", "off")


@dataclass(frozen=True, slots=True)
class Settings:
    """How a model is loaded.

    `context`: the size of the KV memory in tokens, for all sequences together. By default, it grows with the rows'
      needs, up to 4096 tokens. The model's training context and the free memory may limit it further.
    `threads`: the maximum number of threads in a call (see engine/threads.py). By default, one per core.
    `gpu_layers`: `auto` (as many as fit), `all` or a number. With 0, no GPU is used.
    `micro_batch`: how many tokens one call of the model may have. On a CPU with llama.cpp's own attention, calls with
      more tokens than the default were slower.
    `flash_attention`: `auto`, `on` or `off`. With `deterministic`, llama.cpp's own flash attention is always off.
    `prompt_kernels`: `auto`, `off` or a variant (see ecellm_lite.kernels.prompt). A tuning (the
      fastest settings measured on this machine) may replace `auto`.
    """

    context: int | None = None
    threads: int | None = None
    gpu_layers: str | int = "auto"
    kv_type: str = "f16"
    micro_batch: int = 256
    flash_attention: str = "auto"
    deterministic: bool = False
    prompt_kernels: str = "auto"

    def __post_init__(self) -> None:
        """Raise UsageError for invalid settings."""
        if self.kv_type not in KV_TYPES:
            raise UsageError(f"kv_type is {self.kv_type!r}", step=f"use one of {', '.join(KV_TYPES)}")
        if self.flash_attention not in FLASH_ATTENTION:
            names = ", ".join(FLASH_ATTENTION)
            raise UsageError(f"flash_attention is {self.flash_attention!r}", step=f"use one of {names}")
        if self.kv_type == "q8_0" and (self.deterministic or self.flash_attention == "off"):
            raise UsageError(
                "kv_type q8_0 needs flash attention, which is off here (deterministic mode turns it off)",
                step="use f16 or f32",
            )
        for name, value, least, most in (
            ("context", self.context, 64, 1 << 20),
            ("threads", self.threads, 1, 1024),
            ("micro_batch", self.micro_batch, 64, 4096),
        ):
            if value is not None and not least <= value <= most:
                raise UsageError(f"{name} is {value}", step=f"use {least} to {most:,}", settings=(name,))
        layers = self.gpu_layers
        counted = isinstance(layers, int) and not isinstance(layers, bool) and layers >= 0
        if not counted and layers not in ("auto", "all"):
            step = "use auto, all or a number of layers, at least 0"
            raise UsageError(f"gpu_layers is {layers!r}", step=step, settings=("gpu_layers",))

    def most_cells(self, training_context: int) -> int:
        """Return the maximum size of the KV memory, in tokens, for a model with this training context."""
        return self.context or min(DEFAULT_CONTEXT, training_context)

    @property
    def flash(self) -> str:
        """The flash attention setting passed to llama.cpp: one of FLASH_ATTENTION."""
        return "off" if self.deterministic else self.flash_attention


def available_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    import psutil

    process = psutil.Process()
    return len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else os.cpu_count() or 1
