"""Reads the weights to convert from a GGUF file. Adapters may be merged into them.

Adapters use the tensor names of a checkpoint, so the GGUF file's tensor names are translated. Quantized weights have
already lost precision, and lose a little more when they are converted again. The manifest says that the base was a GGUF
file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.convert.architectures.rotation import rotation_order
from ecellm_lite.convert.blueprint import Blueprint, MetadataValue, TensorRecipe
from ecellm_lite.convert.gguf_bytes import KINDS
from ecellm_lite.convert.gguf_modules import INSEPARABLE, INTERLEAVED, added_to, module_of
from ecellm_lite.convert.mixture import ModelShape
from ecellm_lite.convert.open_file import OpenFile
from ecellm_lite.convert.reading import changed_meanwhile, damaged, read_fully
from ecellm_lite.convert.source import InputFile, SourceTensor
from ecellm_lite.errors import ModelError
from ecellm_lite.kernels.floats import FLOATS
from ecellm_lite.models.gguf_header import read_header
from ecellm_lite.models.model_check import check_model


class GgufBase(OpenFile):
    """An open GGUF file as a source of weights. It is a context manager. Raises ModelError if the file is damaged."""

    def __init__(self, path: Path) -> None:
        self.header = read_header(path)
        check_model(self.header)
        self._architecture = str(self.header.metadata["general.architecture"])
        if experts := self.header.metadata.get(f"{self._architecture}.expert_count", 0):
            raise ModelError(
                f"{path} has {experts:,} experts, which cannot be converted here",
                step="use llama-quantize",
                file=str(path),
            )
        self._tensors = {
            tensor.name: SourceTensor(
                tensor.name, tensor.type.name, tuple(reversed(tensor.shape)), tensor.offset, tensor.size
            )
            for tensor in self.header.tensors
        }
        super().__init__(path)
        if self.input.size != self.header.file_size:
            self.close()
            raise changed_meanwhile(path)

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def tensor(self, name: str) -> SourceTensor:
        """Return a tensor's type, shape and position in the file."""
        if name not in self._tensors:
            raise damaged(self.path, f"has no tensor {name!r}, which its architecture needs")
        return self._tensors[name]

    def rows(self, name: str, first: int = 0, count: int | None = None) -> NDArray[Any]:
        """Return rows of a tensor.

        - F32 and F16: an array of shape (count, columns).
        - BF16: an array of shape (count, columns), with each value's bits as a uint16.
        - Quantized types: an array of shape (count, bytes).
        - A vector of floats: an array of `count` values, from the index `first` on.
        - A quantized vector: the whole vector as one row.
        """
        tensor = self.tensor(name)
        is_vector = len(tensor.shape) == 1
        if is_vector and (first, count) != (0, None):
            whole = self.rows(name)
            return whole[first : None if count is None else first + count] if tensor.type in FLOATS else whole
        total = math.prod(tensor.shape[:-1])
        row_bytes = tensor.size // max(1, total)
        buffer = np.empty((total - first if count is None else count, row_bytes), dtype=np.uint8)
        read_fully(self._descriptor, self.path, memoryview(buffer.reshape(-1).data), tensor.offset + first * row_bytes)
        if tensor.type not in FLOATS:
            return buffer
        values: NDArray[Any] = buffer.view(FLOATS[tensor.type])
        return values.reshape(-1) if is_vector else values

    def inputs(self) -> list[InputFile]:
        """Return the base file, with the size and modification time that it had when it was opened."""
        return [self.input]

    def configuration(self) -> list[InputFile]:
        """Return an empty list, because no file except the GGUF file describes the weights."""
        return []

    def blueprint(self) -> Blueprint:
        """Return a blueprint with the file's tensors and metadata. Metadata about an imatrix is left out."""
        heads, kv_heads = self._heads()
        rotated = {"self_attn.q_proj": heads, "self_attn.k_proj": kv_heads} if self._architecture in INTERLEAVED else {}
        recipes = []
        for tensor in self._tensors.values():
            module = module_of(self._architecture, tensor.name)
            rotated_heads = rotated.get(".".join(module.removesuffix(".bias").split(".")[-2:]), 0)
            # A head with an odd number of rows cannot have been rotated.
            halves = rotated_heads and tensor.shape[0] % (2 * rotated_heads) == 0
            order = rotation_order(rotated_heads, tensor.shape[0] // rotated_heads) if halves else None
            added = added_to(self._architecture, tensor.name)
            recipes.append(
                TensorRecipe(tensor.name, tensor.name, tensor.shape, module, adapter_order=order, adapter_added=added)
            )
        output = None
        if tied := "output.weight" not in self._tensors:
            embedding = self.tensor("token_embd.weight")
            output = TensorRecipe("output.weight", embedding.name, embedding.shape, "lm_head")
        shape = ModelShape(self._count("block_count"), heads, kv_heads)
        return Blueprint(
            self._architecture, shape, self._metadata(), tuple(recipes),
            tied=tied, output=output, inseparable=self._architecture in INSEPARABLE,
        )  # fmt: skip

    def _metadata(self) -> dict[str, MetadataValue]:
        metadata: dict[str, MetadataValue] = {}
        for key, value in self.header.metadata.items():
            # The new file does not use the base's imatrix. Empty lists have no element type, so they cannot be written.
            if not key.startswith("quantize.imatrix.") and not (isinstance(value, tuple) and not value):
                metadata[key] = (KINDS[self.header.kinds[key]], value)
        return metadata

    def _heads(self) -> tuple[int, int]:
        heads = self._count("attention.head_count")
        grouped = f"{self._architecture}.attention.head_count_kv" in self.header.metadata
        return heads, self._count("attention.head_count_kv") if grouped else heads

    def _count(self, key: str) -> int:
        name = f"{self._architecture}.{key}"
        value = self.header.metadata.get(name)
        if type(value) is not int or value < 1:
            raise damaged(self.path, f"has {name} = {str(value)[:40]}, which is not a single number above 0")
        return value
