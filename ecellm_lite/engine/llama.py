"""The backend that runs a model in llama.cpp: it loads the weights, and makes the context that computes with them.

Models run through llama.cpp's C functions, not through llama-cpp-python's `Llama` class.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from ecellm_lite.answers.decoding import Logits, Vocabulary
from ecellm_lite.binding import check_structures, llama
from ecellm_lite.devices import devices
from ecellm_lite.engine.adapters import Adapters
from ecellm_lite.engine.batch import Batch
from ecellm_lite.engine.context import Context, context_parameters
from ecellm_lite.engine.interface import Chunk
from ecellm_lite.engine.memory import affordable_cells, padded
from ecellm_lite.engine.settings import Settings, available_cores
from ecellm_lite.engine.threads import Threads
from ecellm_lite.engine.vocabulary import LlamaVocabulary
from ecellm_lite.engine.weights import Weights, placement_of
from ecellm_lite.errors import EcellmError, ModelError, UsageError
from ecellm_lite.ggml import check_interrupt, reason, start_library, system_info, version
from ecellm_lite.kernels import prompt
from ecellm_lite.models.gguf_header import read_header

# What `auto` starts with; the context grows with the waiting rows, up to DEFAULT_CONTEXT.
_SMALLEST_CONTEXT = 256
_SEQUENCES = 64


class LlamaBackend:
    """A GGUF model in llama.cpp. Sequences with the same prefix share its KV memory.

    `placement`: which layers are on which GPU.
    `adapters`: the checked GGUF files of LoRA adapters, by name.
    `stable`: whether the bits of a sequence's logits depend only on its tokens and its adapter. This needs
      deterministic settings and a model that the prompt kernels can compute.
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
        self._context: Context | None = None
        self._adapters = dict(adapters or {})
        self.adapters: Sequence[str] = tuple(self._adapters)
        self._adapter: str | None = None  # of the next call
        self.placement = placement_of(path, settings)
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
        """Load the model with the layers on the devices of `self.placement`, and make its context."""
        self._weights = weights = Weights(path, self.placement, repacks=self.repacks)
        try:
            self.vocabulary: Vocabulary = LlamaVocabulary(weights.pointer)
            self._loras = Adapters(weights.pointer, self._adapters)
            self.max_cells = settings.most_cells(weights.training_context)
            # Not in deterministic mode, where a row's answer must not depend on what else fills the memory.
            if not (settings.context or settings.deterministic or self.placement.n_gpu_layers):
                available = psutil.virtual_memory().available
                self.max_cells = min(self.max_cells, affordable_cells(read_header(path), settings.kv_type, available))
            self.max_length = min(self.max_cells, weights.training_context)
            self.batch = settings.micro_batch
            self.sequences = _SEQUENCES
            self._set_unstable(self._why_unstable())
            self.cells = 0
            original = weights.original_context
            self._long_factors = original is not None and padded(self.max_cells) > original
            # A context that grew past the original one would change the factors on the way.
            smallest = padded(original + 1) if original is not None and self._long_factors else _SMALLEST_CONTEXT
            self.grow(settings.context or min(smallest, self.max_cells))
        except BaseException:
            self.close()
            raise

    def _open_with_less(self, path: Path, settings: Settings, planned: int, failure: str) -> None:
        """Load the model with half of the `planned` layers on the GPUs or, if this fails too, with none.

        `failure`: why the model did not load with all planned layers. This text is added to `placement.description`.
        """
        for layers in dict.fromkeys((planned // 2, 0)):
            try:
                self.placement = placement_of(path, replace(settings, gpu_layers=layers))
                self._open(path, settings)
            except (ModelError, UsageError):
                if not layers:
                    raise
            else:
                description = f"{self.placement.description}; with {planned} it did not load: {failure.rstrip('.')}"
                self.placement = replace(self.placement, description=description)
                return

    @property
    def prompt_kernels(self) -> prompt.State:
        """Which prompt kernels are used, or why they are off.

        If any layer is on a GPU, the prompt kernels are off. The GPU then multiplies the matrices of all layers.
        """
        if self.placement.n_gpu_layers:
            return prompt.State("", "layers are on a GPU")
        return self._kernels

    def _set_unstable(self, reason: str) -> None:
        self.unstable, self.stable = reason, not reason

    def _why_unstable(self) -> str:
        """Return why a row's answer may depend on the other rows, or an empty text if it never does."""
        if not self._settings.deterministic:
            return "deterministic mode is off"
        if not self.prompt_kernels.variant:
            return f"the prompt kernels are not used: {self.prompt_kernels.reason}"
        if self._settings.flash_attention == "off":
            return "flash attention is off"
        if self._settings.kv_type != "f16":
            return f"the KV memory is {self._settings.kv_type}"
        if self._weights.window:
            return "the model has sliding-window attention"
        return "the prompt kernels do not compute adapters" if self._adapters else ""

    @property
    def repacks(self) -> bool:
        """Whether llama.cpp may repack weights for speed. The prompt kernels cannot read repacked weights."""
        return not self.prompt_kernels.variant

    @property
    def circumstances(self) -> str:
        """A JSON object of the settings, versions and devices that a saved state depends on, besides the model.

        A state is loaded only if the whole object is unchanged.

        If `flash_attention` is `auto`, llama.cpp's own choice is not listed: it depends only on the model and the other
        entries.
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
        """From now on, compute with `adapter`, or with the model alone if it is None."""
        self._adapter = adapter

    def decode(self, chunks: Sequence[Chunk]) -> list[Logits]:
        """Append the chunks' tokens to the memory.

        Return the logits of the chunks that ask for logits, in the chunks' order. The next call may overwrite them.
        """
        context = self._opened
        prompt.use(self.prompt_kernels, self._mode)
        threads = self._threads.count
        llama.llama_set_n_threads(context.pointer, threads, threads)
        self._loras.apply(context.pointer, self._adapter)
        status = context.decode(self._fill.filled(chunks), chunks)
        prompt.use(prompt.OFF)
        self._threads.update()
        check_interrupt()
        if status:
            message = f"llama.cpp failed to compute a batch ({status}: {reason()})"
            raise EcellmError(message, step="try a smaller context", settings=("context",))
        logits: list[Logits] = []
        size = self.vocabulary.size
        end = 0
        for chunk in chunks:
            end += len(chunk.tokens)
            if chunk.ask == 1:
                logits.append(context.logits(end - 1, size))
            elif chunk.ask:
                logits.append(np.stack([context.logits(place, size) for place in range(end - chunk.ask, end)]))
        return logits

    def fork(self, source: int, target: int, length: int) -> None:
        """Let the empty sequence `target` share the first `length` tokens of `source`, without copying."""
        self._opened.fork(source, target, length)

    def truncate(self, sequence: int, length: int) -> None:
        """Forget all but the first `length` tokens of a sequence."""
        self._opened.truncate(sequence, length)

    def clear(self) -> None:
        """Forget every sequence."""
        if self._context:
            self._context.clear()

    def save(self, sequence: int) -> bytes:
        """Return the state of a sequence, or empty bytes if `load` would not restore the state exactly."""
        return self._opened.save(sequence)

    def load(self, sequence: int, state: bytes) -> bool:
        """Restore a sequence's state that `save` returned, and return whether this succeeded.

        The state must be undamaged and from this model: llama.cpp does not check this.
        """
        return self._opened.load(sequence, state)

    def grow(self, cells: int) -> None:
        """Replace the context by an empty one with `cells` cells.

        If that fails, make an empty context of the old size, and raise ModelError.
        """
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
        """Replace the context by a new one. Return False if llama.cpp cannot make it."""
        context = self._new_context(cells)
        if context and self.stable and (operation := prompt.declined()):
            self._set_unstable(f"the prompt kernels cannot compute this model's {operation}")
            llama.llama_free(context)
            context = self._new_context(cells)
        if not context:
            return False
        self._free_context()
        window = self._weights.window
        self._context = Context(context, sequences=self.sequences, window=window, stable=self.stable)
        self.cells = cells
        self._loras.forget()
        return True

    def _new_context(self, cells: int) -> Any:
        """Return a new context of llama.cpp, or NULL if llama.cpp cannot make it."""
        flash = self._flash
        if flash == "auto" and self.prompt_kernels.variant:
            # llama.cpp would turn it off, because the kernels' device is not the one of the layers, a CPU. Without the
            # kernels, a CPU always turns it on.
            flash = "on"
        parameters = context_parameters(
            cells,
            batch=self.batch,
            sequences=self.sequences,
            window=self._weights.window,
            threads=self._most_threads,
            kv_type=self._settings.kv_type,
            flash=flash,
        )
        prompt.use(self.prompt_kernels, self._mode)
        context = llama.llama_init_from_model(self._weights.pointer, parameters)
        prompt.use(prompt.OFF)
        check_interrupt()
        return context

    def _free_context(self) -> None:
        if self._context:
            self._context.free()
        self._context, self.cells = None, 0

    @property
    def _opened(self) -> Context:
        """The context. It must have been made already."""
        assert self._context
        return self._context

    def close(self) -> None:
        """Free the context and the model. A second call does nothing."""
        self._free_context()
        self._weights.free()

    @property
    def _flash(self) -> str:
        return "on" if self.stable else self._settings.flash

    @property
    def _mode(self) -> prompt.Mode:
        if not self.stable:
            return prompt.Mode.FAST
        return prompt.Mode.STABLE_LOADED if self._context and self._context.is_loaded else prompt.Mode.STABLE
