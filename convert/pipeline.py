"""Writes the GGUF file that a plan describes.

One thread reads blocks of rows ahead, several threads convert them, and one thread writes.

Blocks are written in order. Only a few blocks and the adapters are in memory. The file's bytes do not depend on
interruptions, on the number of threads, or on the size of a block.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.convert.background import ReadAhead, WriteBehind
from ecellm_lite.convert.blocks import NotFiniteError, converted, read_block, read_blocks
from ecellm_lite.convert.plan import Plan
from ecellm_lite.convert.planned_tensor import PlannedTensor
from ecellm_lite.convert.source import TensorSource
from ecellm_lite.convert.stream import FileStream
from ecellm_lite.convert.writer import UnfinishedFile
from ecellm_lite.errors import ModelError, UsageError
from ecellm_lite.kernels import Block

_AHEAD = _BEHIND = 2  # blocks


@dataclass(frozen=True, slots=True)
class ConversionProgress:
    """A conversion's progress: bytes read so far, bytes to read in total, bytes per second, and seconds left."""

    done: int
    total: int
    rate: float
    seconds_left: float


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A complete file: its sha256 in hex, its size, and the number of bytes that an earlier run had written."""

    sha256: str
    size: int
    resumed: int


def unfinished_file(
    plan: Plan, source: TensorSource, target: Path, *, resume: bool = False, other_inputs: Sequence[Path] = ()
) -> UnfinishedFile:
    """Open the unfinished file that will become `target`. With `resume`, keep the bytes that an earlier run wrote.

    `other_inputs` are input files in addition to the source's. Raises:

    - UsageError if the target is one of the inputs;
    - ModelError if another conversion is writing the target;
    - ModelError if the earlier run had another plan or source.
    """
    inputs = source.inputs()
    if any(_are_same(target, path) for path in (*(file.path for file in inputs), *other_inputs)):
        raise UsageError(
            f"{target} is one of the inputs", step="give another output file", settings=("target",), file=str(target)
        )
    states = [[file.path.name, file.size, file.sha256 or file.changed] for file in inputs]
    facts = {"plan": plan.identity, "inputs": states}
    return UnfinishedFile(target, plan.size, facts, resume=resume)


def write_file(
    plan: Plan,
    source: TensorSource,
    file: UnfinishedFile,
    *,
    threads: int = 1,
    progress: Callable[[ConversionProgress], None] | None = None,
    check: Callable[[Path], None] | None = None,
) -> WrittenFile:
    """Write the rest of an unfinished file. The caller must then call `UnfinishedFile.finish` to rename the file.

    `check` is called with the file's path once the header is written. It may raise ModelError to stop the conversion.
    Raises ModelError if an input changes during the conversion, if a weight is not finite, or if a write fails. After
    an interruption, the conversion can be resumed.
    """
    resumed = file.done
    if file.whole is not None:
        return WrittenFile(file.whole, plan.size, resumed)
    stream = FileStream(file, plan.size)
    stream.append(plan.header[resumed:])
    if check:
        with discarding(file, ModelError):
            check(file.unfinished)
    clock = _Clock(plan, resumed)
    # A resumed run would stop at the same weight.
    with discarding(file, NotFiniteError):
        try:
            write_blocks(
                plan,
                source,
                stream.put,
                done=resumed,
                threads=threads,
                each=lambda tensor, block: progress(clock.after(tensor, block)) if progress else None,
            )
        except BaseException:
            with suppress(ModelError):
                stream.flush()
            raise
    stream.end()
    # The bytes may mix both states of an input that changed.
    with discarding(file, ModelError):
        source.check_unchanged()
    return WrittenFile(stream.sha256, plan.size, resumed)


def estimated_seconds(plan: Plan, source: TensorSource, threads: int) -> float:
    """Convert one block of each type, and return an estimate of the seconds that the conversion will take."""
    largest: dict[str, PlannedTensor] = {}
    for tensor in sorted(plan.tensors, key=lambda each: each.size):
        largest[tensor.type.name] = tensor
    seconds = 0.0
    for kind, tensor in largest.items():
        count = min(tensor.rows, max(1, plan.block_weights // tensor.columns))
        started = time.perf_counter()
        converted(tensor, 0, read_block(tensor, source, 0, count), threads)
        each = (time.perf_counter() - started) / count / tensor.columns
        seconds += each * sum(tensor.rows * tensor.columns for tensor in plan.tensors if tensor.type.name == kind)
    return seconds


def write_blocks(
    plan: Plan,
    source: TensorSource,
    put: Callable[[tuple[int, NDArray[np.uint8]]], None],
    *,
    done: int = 0,
    threads: int = 1,
    each: Callable[[PlannedTensor, Block], None] = lambda *_: None,
) -> None:
    """Convert the tensors in the order of the plan. Call `put` with the offset and the bytes of each block.

    `done`: the number of bytes that are already written, from the file's beginning. Their blocks are skipped.
    `each`: called after each block with the tensor and the block.
    """
    with ReadAhead(read_blocks(plan, source, done), _AHEAD) as blocks, WriteBehind(put, _BEHIND) as writer:
        for tensor, first, block in blocks:
            offset = plan.data_offset + tensor.offset + first * tensor.row_bytes
            writer.put((offset, converted(tensor, first, block, threads)))
            each(tensor, block)


@contextmanager
def discarding(file: UnfinishedFile, kind: type[ModelError]) -> Iterator[None]:
    """If the `with` block raises an error of this kind, delete the unfinished file, so that it cannot be resumed."""
    try:
        yield
    except kind:
        file.forget()
        raise


def _are_same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except (OSError, ValueError):
        return False


class _Clock:
    """Measures a conversion's progress by the bytes that it reads from the source."""

    def __init__(self, plan: Plan, resumed: int) -> None:
        self._total = plan.read_bytes
        self._done = 0
        for tensor in plan.tensors:
            share = (resumed - plan.data_offset - tensor.offset) / max(1, tensor.size)
            self._done += int(tensor.read_bytes * min(1.0, max(0.0, share)))
        self._began = self._done
        self._started = time.perf_counter()

    def after(self, tensor: PlannedTensor, block: Block) -> ConversionProgress:
        self._done += block.source.nbytes if tensor.recipe.saved is None else 0
        rate = (self._done - self._began) / max(1e-9, time.perf_counter() - self._started)
        done = min(self._done, self._total)
        return ConversionProgress(done, self._total, rate, (self._total - done) / max(rate, 1.0))
