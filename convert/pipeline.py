"""A plan carried out: blocks of rows are read ahead, converted on all threads, and written behind, in the file's order.

Memory is bounded by a few blocks and the adapters. The bytes are the same however often the work was interrupted and
gone on with, however many threads there are, and however large a block is.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecellm_lite import kernels
from ecellm_lite.convert.plan import Plan, PlannedTensor
from ecellm_lite.convert.relay import Ahead, Behind
from ecellm_lite.convert.source import Source
from ecellm_lite.convert.writer import UnfinishedFile
from ecellm_lite.errors import ModelError, UsageError
from ecellm_lite.kernels import Adapter, Conversion
from ecellm_lite.kernels.conversion import not_finite
from ecellm_lite.kernels.finite import first_not_finite

_AHEAD = _BEHIND = 2  # blocks
_FLUSH_BYTES = 64 << 20  # between two lines of the journal
_FLUSH_SECONDS = 5.0
_HASHED = 4 << 20  # bytes at a time


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a conversion is: bytes of the source, how many a second are read, and the seconds that are left."""

    done: int
    total: int
    rate: float
    seconds_left: float


@dataclass(frozen=True, slots=True)
class Written:
    """A file that was written: its sha256 in hex, its bytes, and how many of them were there already."""

    sha256: str
    size: int
    resumed: int


def carry_out(
    plan: Plan,
    source: Source,
    target: Path,
    *,
    threads: int = 1,
    resume: bool = False,
    progress: Callable[[Progress], None] | None = None,
    also_read: Sequence[Path] = (),
    check: Callable[[Path], None] | None = None,
    ready: Callable[[Written], None] | None = None,
    finished: Callable[[Written], None] | None = None,
) -> Written:
    """Write the plan's file; under `target` there is nothing, or what was there before, until it is whole.

    `check` is given the unfinished file when its header is there and nothing else, and raises if it should not be
    written. `also_read` are files that were read beside the source: none of them may be the target. `ready` is called
    before the file gets its name, for what may still go wrong; `finished` when it has it, and before what a resumed run
    needs is removed. Raises ModelError if an input changes meanwhile, a weight is not finite, the disk refuses, or
    another writes to the target; KeyboardInterrupt leaves what `resume` goes on from.
    """
    inputs = source.inputs()
    if any(_same(target, path) for path in (*(one.path for one in inputs), *also_read)):
        raise UsageError(f"{target} is what is read: give another --output.")
    facts = {"plan": plan.identity, "inputs": [[str(one.path.name), one.size, one.changed] for one in inputs]}
    with UnfinishedFile(target, plan.size, facts, resume=resume) as file:
        resumed = file.done
        stream: _Stream | None = None
        if file.whole is None:
            stream = _Stream(file, plan.size)
            stream.append(plan.header[file.done :])
            with _nothing_kept(file):
                if check:
                    check(file.unfinished)
            try:
                _write(plan, source, stream, threads, progress)
            except _NotFiniteError:
                # Going on would end at the same weight.
                file.forget()
                raise
            with _nothing_kept(file):
                # What was read may be of both states.
                source.check_unchanged()
        written = Written(stream.sha256 if stream else str(file.whole), plan.size, resumed)
        if ready:
            ready(written)
        if stream:
            file.finish(written.sha256)
        if finished:
            finished(written)
        file.forget()
    return written


class _NotFiniteError(ModelError):
    """A block holds what its type cannot hold."""


def _same(one: Path, other: Path) -> bool:
    """Whether two paths are of the same file; not, where one of them is of none."""
    try:
        return one.samefile(other)
    except (OSError, ValueError):
        return False


@contextmanager
def _nothing_kept(file: UnfinishedFile) -> Iterator[None]:
    """Remove what is unfinished if the block raises: nobody should go on from it."""
    try:
        yield
    except ModelError:
        file.forget()
        raise


def _write(
    plan: Plan, source: Source, stream: _Stream, threads: int, progress: Callable[[Progress], None] | None
) -> None:
    """Write what is not there yet."""
    clock = _Clock(plan, stream.resumed)
    with Ahead(_blocks(plan, source, stream.resumed), _AHEAD) as blocks:
        try:
            with Behind(stream.put, _BEHIND) as behind:
                for block in blocks:
                    behind.give((block.offset, block.converted(threads)))
                    if progress:
                        progress(clock.after(block))
        except BaseException:
            with suppress(ModelError):
                stream.keep()
            raise
    stream.end()


def estimated_seconds(plan: Plan, source: Source, threads: int) -> float:
    """Return about how long the plan takes to carry out, by converting one block of each of its types."""
    largest: dict[str, PlannedTensor] = {}
    for tensor in sorted(plan.tensors, key=lambda one: one.size):
        largest[tensor.type.name] = tensor
    seconds = 0.0
    for kind, tensor in largest.items():
        count = min(tensor.rows, max(1, plan.block_weights // tensor.columns))
        started = time.perf_counter()
        _read(tensor, source, 0, count).converted(threads)
        each = (time.perf_counter() - started) / count / tensor.columns
        seconds += each * sum(one.rows * one.columns for one in plan.tensors if one.type.name == kind)
    return seconds


@dataclass(frozen=True, slots=True)
class _Block:
    """Rows of a tensor as they were read: row i of the block is row order[i] of `rows`, and `places` of the source."""

    tensor: PlannedTensor
    first: int
    rows: NDArray[Any]
    places: slice | NDArray[np.integer[Any]]
    order: NDArray[np.integer[Any]] | None

    @property
    def offset(self) -> int:
        """Where its bytes begin in the file."""
        tensor: PlannedTensor = self.tensor
        return int(tensor.offset + self.first * tensor.row_bytes)

    def converted(self, threads: int) -> NDArray[np.uint8]:
        """Return the block's bytes in the file."""
        try:
            part, kind = self.tensor.part, self.tensor.type
            copied = kind.name == self.tensor.source_type and kind.block > 1 and not part.adapters
            return self._copied() if copied else self._computed(threads)
        except ModelError as error:
            raise _NotFiniteError(f"{self.tensor.name}, rows from {self.first:,}: {error}") from None

    def _copied(self) -> NDArray[np.uint8]:
        """Return blocks of the same type as they are, as llama-quantize does."""
        rows = np.ascontiguousarray(self.rows if self.order is None else self.rows[self.order])
        if place := first_not_finite(rows, self.tensor.type):
            raise not_finite(*place)
        return rows

    def _computed(self, threads: int) -> NDArray[np.uint8]:
        part = self.tensor.part
        conversion = Conversion(
            self.rows,
            self.tensor.source_type,
            self.tensor.type.name,
            tuple(Adapter(one.a, one.b[self.places], one.scale) for one in part.adapters),
            magnitudes=None if part.magnitudes is None else part.magnitudes[self.places],
            order=self.order,
            importance=self.tensor.importance,
        )
        return kernels.convert(conversion, threads=threads)


def _blocks(plan: Plan, source: Source, done: int) -> Iterator[_Block]:
    """Read the blocks of which not all bytes are there, in the file's order."""
    for tensor in plan.tensors:
        step = max(1, plan.block_weights // tensor.columns)
        # Whole rows that are there; `done` may be anywhere, as another run may have had other blocks.
        there = min(max(done - tensor.offset, 0) // tensor.row_bytes, tensor.rows)
        for first in range(there, tensor.rows, step):
            yield _read(tensor, source, first, min(step, tensor.rows - first))


def _read(tensor: PlannedTensor, source: Source, first: int, count: int) -> _Block:
    recipe = tensor.part.recipe
    if len(recipe.shape) == 1:
        vector = _rows(tensor, source, 0, 1)
        rows = vector if recipe.order is None else vector[:, recipe.order]
        return _Block(tensor, first, rows, slice(first, first + count), None)
    if recipe.order is None:
        return _Block(tensor, first, _rows(tensor, source, first, count), slice(first, first + count), None)
    wanted = recipe.order[first : first + count].astype(np.int64)
    places = np.sort(wanted)
    # Runs of neighbours are read at once: a permutation within heads has few.
    cuts = np.flatnonzero(np.diff(places) != 1) + 1
    runs = [_rows(tensor, source, int(run[0]), len(run)) for run in np.split(places, cuts)]
    rows = runs[0] if len(runs) == 1 else np.concatenate(runs)
    return _Block(tensor, first, rows, places, np.searchsorted(places, wanted))


def _rows(tensor: PlannedTensor, source: Source, first: int, count: int) -> NDArray[Any]:
    part = tensor.part
    if part.saved is not None:
        rows: NDArray[Any] = part.saved.reshape(tensor.rows, -1)[first : first + count]
    elif len(part.recipe.shape) == 1:
        rows = source.rows(part.recipe.source)
    else:
        rows = source.rows(part.recipe.source, first, count)
    return rows.reshape(count, -1)


class _Stream:
    """The file's bytes in their order: hashed, written, and flushed now and then."""

    def __init__(self, file: UnfinishedFile, size: int) -> None:
        self._file = file
        self._size = size
        self._digest = hashlib.sha256()
        self._end = 0
        self._flushed = time.monotonic()
        self.resumed = file.done
        while self._end < file.done:
            data = file.read(min(_HASHED, file.done - self._end), self._end)
            self._digest.update(data)
            self._end += len(data)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def append(self, data: bytes | memoryview) -> None:
        self._file.write(data, self._end)
        self._digest.update(data)
        self._end += len(data)

    def put(self, block: tuple[int, NDArray[np.uint8]]) -> None:
        """Append a block at its place, with zeros before it where the alignment asks for them."""
        offset, rows = block
        data = memoryview(rows.reshape(-1).data)
        # A resumed run begins with the row that was cut.
        data, offset = (data[self._end - offset :], self._end) if offset < self._end else (data, offset)
        self.append(bytes(offset - self._end))
        self.append(data)
        since = time.monotonic() - self._flushed
        if self._end - self._file.done >= _FLUSH_BYTES or since >= _FLUSH_SECONDS:
            self.keep()

    def keep(self) -> None:
        """Flush what was written, and note it."""
        if self._end > self._file.done:
            self._file.flush(self._end)
        self._flushed = time.monotonic()

    def end(self) -> None:
        """Append the zeros behind the last tensor, and flush."""
        self.append(bytes(self._size - self._end))
        self.keep()


class _Clock:
    """Measures a conversion by the bytes of the source."""

    def __init__(self, plan: Plan, done: int) -> None:
        self._total = plan.read_bytes
        shares: Mapping[str, float] = {
            tensor.name: min(1.0, max(0.0, (done - tensor.offset) / max(1, tensor.size))) for tensor in plan.tensors
        }
        self._done = self._began = sum(int(tensor.read_bytes * shares[tensor.name]) for tensor in plan.tensors)
        self._started = time.perf_counter()

    def after(self, block: _Block) -> Progress:
        self._done += block.rows.nbytes if block.tensor.part.saved is None else 0
        rate = (self._done - self._began) / max(1e-9, time.perf_counter() - self._started)
        done = min(self._done, self._total)
        return Progress(done, self._total, rate, (self._total - done) / max(rate, 1.0))
