"""A model's weights in llama.cpp: which devices hold them, and the context lengths in the model's file."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

from ecellm_lite.binding import llama
from ecellm_lite.devices import device_list, devices, gpus
from ecellm_lite.engine.offload import Placement, on_cpu, place
from ecellm_lite.engine.settings import DEFAULT_CONTEXT, Settings
from ecellm_lite.errors import ModelError
from ecellm_lite.ggml import check_interrupt, reason
from ecellm_lite.models.gguf_header import read_header


class Weights:
    """The weights of a GGUF file, loaded onto the devices that a placement names.

    `repacks`: whether llama.cpp may change the weights' layout for speed.
    `training_context`: the longest context, in tokens, that the model was trained with.
    `window`: the width of the window in sliding-window attention, in tokens. It is 0 if no layer has a window.

    Raises ModelError if llama.cpp cannot load the file.
    """

    def __init__(self, path: Path, placement: Placement, *, repacks: bool) -> None:
        parameters = llama.llama_model_default_params()
        targets = device_list(placement.devices)
        split = (ctypes.c_float * llama.llama_max_devices())(*placement.tensor_split)
        parameters.n_gpu_layers = placement.n_gpu_layers
        parameters.use_extra_bufts = repacks
        # An empty list, unlike NULL, keeps llama.cpp from using any GPU.
        parameters.devices = ctypes.cast(targets, ctypes.c_void_p)
        parameters.tensor_split = split
        self._placing = targets, split  # the model keeps a pointer to the list
        self.pointer: Any = llama.llama_model_load_from_file(os.fsencode(path), parameters)
        check_interrupt()
        if not self.pointer:
            message, step = f"llama.cpp cannot load {path} ({reason()})", "convert or download the model again"
            if not placement.n_gpu_layers:
                raise ModelError(message, step=step)
            raise ModelError(message, step=f"put fewer layers on the GPU, or {step}", settings=("gpu_layers",))
        self.training_context: int = llama.llama_model_n_ctx_train(self.pointer)
        self.window: int = llama.llama_model_n_swa(self.pointer)

    @property
    def original_context(self) -> int | None:
        """The longest context, in tokens, that counts as short for the model's rotary embeddings. None for most models.

        Phi-3, for example, has two sets of factors for rotary embeddings: one for short contexts, and one for long
        contexts. llama.cpp uses the same set for all rows, depending on the size of the context.
        """
        architecture = metadata(self.pointer, "general.architecture")
        if metadata(self.pointer, f"{architecture}.rope.scaling.attn_factor") is None:
            return None
        length = metadata(self.pointer, f"{architecture}.rope.scaling.original_context_length")
        return int(length) if length else None

    def free(self) -> None:
        """Free the model. A second call does nothing."""
        model, self.pointer = self.pointer, None
        if model:
            llama.llama_model_free(model)


def metadata(model: Any, key: str) -> str | None:
    """Return a value from a model's metadata as text, cut to 63 bytes. None if the file does not have the key."""
    buffer = ctypes.create_string_buffer(64)
    length = llama.llama_model_meta_val_str(model, key.encode(), buffer, len(buffer))
    return buffer.value.decode("utf-8", "replace") if length >= 0 else None


def placement_of(path: Path, settings: Settings) -> Placement:
    """Return which layers go to which GPU. Without a GPU, the model's file is not read."""
    usable = gpus(devices())
    if not usable:
        return on_cpu(settings.gpu_layers)
    header = read_header(path)
    training_context = header.metadata.get(f"{header.metadata.get('general.architecture')}.context_length")
    return place(
        header,
        usable,
        settings.gpu_layers,
        cells=settings.most_cells(training_context if isinstance(training_context, int) else DEFAULT_CONTEXT),
        kv_type=settings.kv_type,
        micro_batch=settings.micro_batch,
        # Every GPU back end today turns flash attention on for `auto`.
        flash_attention=settings.flash != "off",
    )
