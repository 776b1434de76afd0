"""llama.cpp as a backend.

Only this file runs models through llama_cpp, using its C functions and not its `Llama` class.
"""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from ecellm_lite.answers.decoding import Logits, Vocabulary
from ecellm_lite.binding import check_structures, llama
from ecellm_lite.devices import device_list, devices, gpus
from ecellm_lite.engine.adapters import Adapters
from ecellm_lite.engine.batch import Batch
from ecellm_lite.engine.interface import Chunk
from ecellm_lite.engine.memory import affordable_cells, padded
from ecellm_lite.engine.offload import Placement, on_cpu, place
from ecellm_lite.engine.settings import DEFAULT_CONTEXT, Settings, available_cores
from ecellm_lite.engine.threads import Threads
from ecellm_lite.engine.vocabulary import LlamaVocabulary
from ecellm_lite.errors import EcellmError, ModelError, UsageError
from ecellm_lite.ggml import check_interrupt, reason, start_library, system_info, version
from ecellm_lite.kernels import prompt
from ecellm_lite.models.gguf_header import read_header

_KV_TYPES = {"f16": llama.GGML_TYPE_F16, "q8_0": llama.GGML_TYPE_Q8_0, "f32": llama.GGML_TYPE_F32}
_FLASH_ATTENTION = {
    "auto": llama.LLAMA_FLASH_ATTN_TYPE_AUTO,
    "on": llama.LLAMA_FLASH_ATTN_TYPE_ENABLED,
    "off": llama.LLAMA_FLASH_ATTN_TYPE_DISABLED,
}

# What `auto` starts with; the context grows with the waiting rows, up to DEFAULT_CONTEXT.
_SMALLEST_CONTEXT = 256
_SEQUENCES = 64


class LlamaBackend:
    """A GGUF model in llama.cpp, with one KV memory in which sequences share the cells of their prefixes.

    `placement` says which layers are on which GPU. `adapters` are the checked GGUF files of LoRA adapters, by name.
    `stable` (see Backend) is true with deterministic settings, if the prompt kernels compute all that matters for it.
    """

    def __init__(self, path: Path, settings: Settings, adapters: Mapping[str, Path] | None = None) -> None:
        start_library()
        check_structures()
        self._settings = settings
        # Deterministic answers must not depend on what other programs do.
        self._most_threads = settings.threads or available_cores()
        self._threads = Threads(self._most_threads, fixed=settings.deterministic)
        # Before the model is loaded: it can use only the back ends that ggml has by then.
        self._kernels = prompt.start(settings.prompt_kernels)
        self._model: Any = None
        self._context: Any = None
        # Whether the memory is empty, was loaded since the last call, and has each sequence's tokens in order.
        self._empty, self._loaded, self._in_order = True, False, True
        self._adapters = dict(adapters or {})
        self.adapters: Sequence[str] = tuple(self._adapters)
        self._adapter: str | None = None  # of the next call
        self.placement = _placement(path, settings)
        try:
            self._open(path, settings)
        except ModelError as error:
            planned = self.placement.n_gpu_layers
            if settings.gpu_layers != "auto" or not planned:
                raise
            # The plan did not fit: another program has taken memory since, or this back end needs more than others.
            self._open_with_less(path, settings, planned, error.message)
        self._fill = Batch(self.batch)

    def _open(self, path: Path, settings: Settings) -> None:
        """Load the model as `placement` says, and make its context."""
        parameters = llama.llama_model_default_params()
        device_array = device_list(self.placement.devices)
        split = (ctypes.c_float * llama.llama_max_devices())(*self.placement.tensor_split)
        parameters.n_gpu_layers = self.placement.n_gpu_layers
        parameters.use_extra_bufts = self.repacks
        # An empty list, unlike NULL, keeps llama.cpp from using any GPU.
        parameters.devices = ctypes.cast(device_array, ctypes.c_void_p)
        parameters.tensor_split = split
        self._placing = device_array, split  # the model keeps a pointer to the list
        self._model = llama.llama_model_load_from_file(os.fsencode(path), parameters)
        check_interrupt()
        if not self._model:
            message, step = f"llama.cpp cannot load {path} ({reason()})", "convert or download the model again"
            if not self.placement.n_gpu_layers:
                raise ModelError(message, step=step)
            raise ModelError(message, step=f"put fewer layers on the GPU, or {step}", settings=("gpu_layers",))
        try:
            self.vocabulary: Vocabulary = LlamaVocabulary(self._model)
            self._loras = Adapters(self._model, self._adapters)
            training_context: int = llama.llama_model_n_ctx_train(self._model)
            self.max_cells = _cells(settings, training_context)
            # Not in deterministic mode, where a row's answer must not depend on what else fills the memory.
            if not (settings.context or settings.deterministic or self.placement.n_gpu_layers):
                available = psutil.virtual_memory().available
                self.max_cells = min(self.max_cells, affordable_cells(read_header(path), settings.kv_type, available))
            self.max_length = min(self.max_cells, training_context)
            self.batch = settings.micro_batch
            self.sequences = _SEQUENCES
            self._window: int = llama.llama_model_n_swa(self._model)
            self._set_unstable(self._why_unstable())
            self.cells = 0
            original = self._original_context()
            self._long_factors = original is not None and padded(self.max_cells) > original
            # A context that grew past the original one would change the factors on the way.
            smallest = padded(original + 1) if original is not None and self._long_factors else _SMALLEST_CONTEXT
            self.grow(settings.context or min(smallest, self.max_cells))
        except BaseException:
            self.close()
            raise

    def _open_with_less(self, path: Path, settings: Settings, planned: int, failure: str) -> None:
        """Load with half the planned layers on the GPUs, else with none, and record this in the placement."""
        for layers in dict.fromkeys((planned // 2, 0)):
            try:
                self.placement = _placement(path, replace(settings, gpu_layers=layers))
                self._open(path, settings)
            except (ModelError, UsageError):
                if not layers:
                    raise
            else:
                description = f"{self.placement.description}; with {planned} it did not load: {failure.rstrip('.')}"
                self.placement = replace(self.placement, description=description)
                return

    def _original_context(self) -> int | None:
        """Return the longest context, in tokens, in which llama.cpp uses the model's factors for short contexts.

        Models such as Phi-3 have two sets of factors for rotary embeddings. llama.cpp chooses a set by the context's
        size, for all rows. The result is None for a model without such factors.
        """
        architecture = _metadata(self._model, "general.architecture")
        if _metadata(self._model, f"{architecture}.rope.scaling.attn_factor") is None:
            return None
        length = _metadata(self._model, f"{architecture}.rope.scaling.original_context_length")
        return int(length) if length else None

    @property
    def prompt_kernels(self) -> prompt.State:
        """The state of the prompt kernels.

        The kernels are off if any layer is on a GPU, because llama.cpp then computes the matrix products of the other
        layers on the GPU as well.
        """
        if self.placement.n_gpu_layers:
            return prompt.State("", "layers are on a GPU")
        return self._kernels

    def _set_unstable(self, reason: str) -> None:
        self.unstable, self.stable = reason, not reason

    def _why_unstable(self) -> str:
        """Return why the model cannot be stable with these settings. It is empty if only a context can tell."""
        if not self._settings.deterministic:
            return "it was not asked for"
        if not self.prompt_kernels.variant:
            return f"the prompt kernels are not used: {self.prompt_kernels.reason}"
        if self._settings.flash_attention == "off":
            return "flash attention is off"
        if self._settings.kv_type != "f16":
            return f"the KV memory is {self._settings.kv_type}"
        if self._window:
            return "layers attend to a window"
        return "llama.cpp computes the adapters" if self._adapters else ""

    @property
    def repacks(self) -> bool:
        """Whether llama.cpp may repack weights for speed. The prompt kernels cannot read repacked weights."""
        return not self.prompt_kernels.variant

    @property
    def circumstances(self) -> str:
        """What a saved state depends on, apart from the model.

        A state is loaded only if all of this is unchanged. The result of flash attention on `auto` is not listed,
        because the library, the model and the devices determine it.
        """
        settings = self._settings
        facts = {
            "library": version(),
            "build": system_info(),
            "devices": [f"{device.name} {device.description}" for device in devices()],
            "gpu_layers": self.placement.n_gpu_layers,
            "tensor_split": self.placement.tensor_split,
            "kv_type": settings.kv_type,
            "kv_unified": True,
            "flash_attention": self._flash,
            "micro_batch": settings.micro_batch,
            "threads": self._most_threads,
            "deterministic": settings.deterministic,
            "prompt_kernels": self.prompt_kernels.variant,
            "stable": self.stable,
            **({"long_factors": True} if self._long_factors else {}),
        }
        return json.dumps(facts)

    def adapt(self, adapter: str | None) -> None:
        """From now on, compute with this adapter; see Backend."""
        self._adapter = adapter

    def decode(self, chunks: Sequence[Chunk]) -> list[Logits]:
        """Append the chunks to the memory and return the logits of each chunk that asks for logits; see Backend."""
        prompt.use(self.prompt_kernels, self._mode)
        threads = self._threads.count
        llama.llama_set_n_threads(self._context, threads, threads)
        self._loras.apply(self._context, self._adapter)
        status = llama.llama_decode(self._context, self._fill.filled(chunks))
        prompt.use(prompt.OFF)
        self._empty = self._loaded = False
        if self._window and not status:
            for chunk in chunks:
                self._shadow(chunk.sequence, chunk.position)
        self._threads.update()
        check_interrupt()
        if status:
            message = f"llama.cpp failed to compute a batch ({status}: {reason()})"
            raise EcellmError(message, step="try a smaller context", settings=("context",))
        logits: list[Logits] = []
        end = 0
        for chunk in chunks:
            end += len(chunk.tokens)
            if chunk.ask == 1:
                logits.append(self._logits(end - 1))
            elif chunk.ask:
                logits.append(np.stack([self._logits(place) for place in range(end - chunk.ask, end)]))
        return logits

    def _logits(self, place: int) -> Logits:
        pointer = llama.llama_get_logits_ith(self._context, place)
        return np.ctypeslib.as_array(pointer, (self.vocabulary.size,))

    def fork(self, source: int, target: int, length: int) -> None:
        """Share a prefix; nothing is copied, because in a unified memory a cell can belong to several sequences."""
        llama.llama_memory_seq_cp(self._memory, source, target, 0, length)
        if self._window:
            self._shadow(target, 0)

    def _shadow(self, sequence: int, start: int) -> None:
        """Let a second sequence share a sequence's cells from `start` on, so that llama.cpp does not reuse them.

        With sliding-window attention, llama.cpp reuses a cell outside the window if only one sequence has it. But if
        this sequence is shortened or forked later, it needs the cell again.
        """
        llama.llama_memory_seq_cp(self._memory, sequence, self.sequences + sequence, start, -1)

    def truncate(self, sequence: int, length: int) -> None:
        """Forget all but the first `length` tokens of a sequence."""
        llama.llama_memory_seq_rm(self._memory, sequence, length, -1)
        self._in_order = False  # llama.cpp uses the free cells again, for tokens of other sequences
        if self._window:
            llama.llama_memory_seq_rm(self._memory, self.sequences + sequence, length, -1)

    def clear(self) -> None:
        """Forget every sequence."""
        if self._context:
            llama.llama_memory_clear(self._memory, False)
            self._empty, self._loaded, self._in_order = True, False, True

    def grow(self, cells: int) -> None:
        """Replace the context by an empty one of `cells` tokens or, if that fails, of the old size."""
        before = self.cells
        if self._make_context(cells):
            return
        failure = reason()
        if self._context:
            # There may not be room for both, and the memory's contents are no longer needed.
            self._free_context()
            if self._make_context(cells):
                return
            self._make_context(before)
        message = f"llama.cpp cannot make a context of {cells:,} tokens ({failure})"
        raise ModelError(message, step="give a smaller context", settings=("context",))

    def _make_context(self, cells: int) -> bool:
        """Replace the context by a new one; False if llama.cpp cannot make it."""
        context = self._new_context(cells)
        if context and self.stable and (operation := prompt.declined()):
            self._set_unstable(f"the prompt kernels do not compute {operation} as this model has it")
            llama.llama_free(context)
            context = self._new_context(cells)
        if not context:
            return False
        self._free_context()
        self._context, self.cells = context, cells
        self._loras.forget()
        self._memory = llama.llama_get_memory(context)
        self._empty, self._loaded, self._in_order = True, False, True
        return True

    def _new_context(self, cells: int) -> Any:
        """Return a context, or None if llama.cpp cannot make it."""
        prompt.use(self.prompt_kernels, self._mode)
        context = llama.llama_init_from_model(self._model, self._parameters(cells))
        prompt.use(prompt.OFF)
        check_interrupt()
        return context

    def _free_context(self) -> None:
        context, self._context, self.cells = self._context, None, 0
        if context:
            llama.llama_free(context)

    def save(self, sequence: int) -> bytes:
        """Return llama.cpp's state of a sequence, or no bytes if llama.cpp cannot give the whole state.

        With sliding-window attention, llama.cpp leaves out the tokens outside the window. A state has its tokens in the
        order of the memory's cells. A stable backend saves only states whose tokens are in their own order.
        """
        if self.stable and not self._in_order:
            return b""
        if self._window and llama.llama_memory_seq_pos_max(self._memory, sequence) >= self._window:
            return b""
        size = llama.llama_state_seq_get_size_ext(self._context, sequence, 0)
        buffer = (ctypes.c_uint8 * size)()
        length = llama.llama_state_seq_get_data_ext(self._context, buffer, size, sequence, 0)
        return ctypes.string_at(buffer, length)

    def load(self, sequence: int, state: bytes) -> bool:
        """Restore a state from `save`, which must be undamaged and of this model: llama.cpp does not check it.

        A stable backend loads only into an empty memory: there llama.cpp uses the cells in order.
        """
        if self.stable and not self._empty:
            return False
        buffer = (ctypes.c_uint8 * len(state)).from_buffer_copy(state)
        read = llama.llama_state_seq_set_data_ext(self._context, buffer, len(state), sequence, 0)
        self._empty = False
        if state and read == len(state):
            self._loaded = True
            if self._window:
                self._shadow(sequence, 0)
            return True
        self.truncate(sequence, 0)
        return False

    def close(self) -> None:
        """Free the context and the model; a second call does nothing."""
        self._free_context()
        model, self._model = self._model, None
        if model:
            llama.llama_model_free(model)

    def _parameters(self, cells: int) -> Any:
        settings = self._settings
        parameters = llama.llama_context_default_params()
        parameters.n_ctx = cells
        parameters.n_batch = parameters.n_ubatch = self.batch
        parameters.n_seq_max = self.sequences * (2 if self._window else 1)
        parameters.n_threads = parameters.n_threads_batch = self._most_threads
        parameters.type_k = parameters.type_v = _KV_TYPES[settings.kv_type]
        # Without it llama_memory_seq_cp copies buffers, and aborts the process on part of a sequence.
        parameters.kv_unified = True
        flash = self._flash
        if flash == "auto" and self.prompt_kernels.variant:
            # llama.cpp would turn it off, because the kernels' device is not the one of the layers, a CPU. Without the
            # kernels, a CPU always turns it on.
            flash = "on"
        parameters.flash_attn_type = _FLASH_ATTENTION[flash]
        return parameters

    @property
    def _flash(self) -> str:
        return "on" if self.stable else self._settings.flash

    @property
    def _mode(self) -> prompt.Mode:
        if not self.stable:
            return prompt.Mode.FAST
        return prompt.Mode.STABLE_LOADED if self._loaded else prompt.Mode.STABLE


def _metadata(model: Any, key: str) -> str | None:
    """Return a short value of a model's metadata as text; None if the file does not have the key."""
    buffer = ctypes.create_string_buffer(64)
    length = llama.llama_model_meta_val_str(model, key.encode(), buffer, len(buffer))
    return buffer.value.decode("utf-8", "replace") if length >= 0 else None


def _cells(settings: Settings, training_context: int) -> int:
    return settings.context or min(DEFAULT_CONTEXT, training_context)


def _placement(path: Path, settings: Settings) -> Placement:
    """Return which layers go to which GPU. Without a GPU, the file's header is not even read."""
    usable = gpus(devices())
    if not usable:
        return on_cpu(settings.gpu_layers)
    header = read_header(path)
    training_context = header.metadata.get(f"{header.metadata.get('general.architecture')}.context_length")
    return place(
        header,
        usable,
        settings.gpu_layers,
        cells=_cells(settings, training_context if isinstance(training_context, int) else DEFAULT_CONTEXT),
        kv_type=settings.kv_type,
        micro_batch=settings.micro_batch,
        # Every GPU back end today turns flash attention on for `auto`.
        flash_attention=settings.flash != "off",
    )
