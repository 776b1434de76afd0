"""The Python face of kernels/prompt: matrix products that read prompts faster than llama.cpp's own, or its own.

    start("auto")     State(variant="avx2", reason="") or State(variant="", reason="this install has none")
    use(state)        whether llama.cpp's next calls by this thread may use them

They are an accelerator of ggml's, like its BLAS back end, that llama.cpp gives its products with quantized weights to.
Before the first model is loaded, the library's version, the processor and ggml's tensors are checked, and a child
process has computed products whose result is known; its verdict is kept in the store for these versions. Whatever does
not fit, llama.cpp computes by itself, and `doctor` says why.

`ECELLM_PROMPT_KERNELS` is what `auto` means: off, or a variant.
"""

from __future__ import annotations

from ecellm_lite.kernels.prompt.choice import CHOICES, State, start, use

__all__ = ["CHOICES", "State", "start", "use"]
