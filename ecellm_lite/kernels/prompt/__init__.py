"""The Python interface of kernels/prompt: matrix products and attention that are faster than llama.cpp's for prompts.

    start("auto")     State(variant="avx2", reason="") or State(variant="", reason="this install has none")
    use(state)        sets whether this thread's next calls of llama.cpp use the kernels

The kernels are registered with ggml as a back end. llama.cpp then uses them for flash attention and for the products
with quantized weights. Before the first model is loaded, the processor, the version of the kernels' library and the
layout of ggml's tensors are checked. Then a child process computes test products with the kernels and with ggml, and
compares the results. The verdict is kept in the store until the library, ggml or the processor changes. If a check
fails, llama.cpp uses its own kernels, and `doctor` says why.

`ECELLM_PROMPT_KERNELS` sets what `auto` means: off, or a variant.
"""

from __future__ import annotations

from ecellm_lite.kernels.prompt.choice import (
    CHOICES,
    OFF,
    Mode,
    State,
    automatic,
    declined,
    is_set,
    runnable,
    start,
    use,
)

__all__ = ["CHOICES", "OFF", "Mode", "State", "automatic", "declined", "is_set", "runnable", "start", "use"]
