"""LoRA adapters in llama.cpp.

Adapters are loaded once, together with the model. A context uses at most one adapter at a time.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ecellm_lite.binding import llama
from ecellm_lite.errors import ModelError
from ecellm_lite.ggml import check_interrupt, reason


class Adapters:
    """The adapters of one model. Raises ModelError if an adapter cannot be loaded.

    `paths` are the adapters' GGUF files by name. Each file must have passed models.adapter_check, because llama.cpp
    aborts the process on some files that fail this check. llama.cpp frees the adapters with the model. A new context
    computes without an adapter.
    """

    def __init__(self, model: Any, paths: Mapping[str, Path]) -> None:
        self._loaded: dict[str | None, Any] = {}
        self._applied: str | None = None
        for name, path in paths.items():
            self._loaded[name] = llama.llama_adapter_lora_init(model, os.fsencode(path))
            check_interrupt()
            if not self._loaded[name]:
                raise ModelError(
                    f"llama.cpp cannot load the adapter {name} from {path} ({reason()})",
                    step="convert it again, for this base",
                    settings=("adapters",),
                    file=str(path),
                )

    def apply(self, context: Any, adapter: str | None) -> None:
        """Set the adapter that a llama.cpp context uses. If `adapter` is None, the context uses no adapter.

        After a change, llama.cpp plans its computation again, which takes some milliseconds.
        """
        if adapter == self._applied:
            return
        if adapter is None:
            llama.llama_set_adapters_lora(context, None, 0, None)
        else:
            adapters = (llama.llama_adapter_lora_p_ctypes * 1)(self._loaded[adapter])
            llama.llama_set_adapters_lora(context, adapters, 1, (ctypes.c_float * 1)(1.0))
        self._applied = adapter

    def forget(self) -> None:
        """Forget which adapter was applied. Call this for a new context, which starts without an adapter."""
        self._applied = None
