"""Writes a GGUF file while its checkpoint is downloaded. Each shard is downloaded, converted and then deleted.

A shard is one of the checkpoint's weight files. If the disk has room, the next shard is downloaded while the current
one is converted. The GGUF file and the downloaded shards never need more disk space than the complete GGUF file plus
1.2 times the largest shard.

After each shard, the written part of the GGUF file is flushed to the disk and recorded in the journal. Then the shard
is deleted. After an interruption, the next run downloads and converts only the missing shards.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from threading import Event

from ecellm_lite.convert.arriving_checkpoint import ArrivingCheckpoint, ArrivingShard
from ecellm_lite.convert.blocks import NotFiniteError
from ecellm_lite.convert.pipeline import ConversionProgress, WrittenFile, discarding, write_blocks
from ecellm_lite.convert.plan import Plan
from ecellm_lite.convert.planned_tensor import PlannedTensor
from ecellm_lite.convert.stream import FileStream
from ecellm_lite.convert.writer import UnfinishedFile
from ecellm_lite.errors import ModelError
from ecellm_lite.models.hub_file import StoppedError

_SHARDS = 1.2  # of the largest shard's size, besides the result


@dataclass(frozen=True, slots=True)
class _Part:
    """A shard of the checkpoint, and the tensors of the GGUF file that are made from it."""

    shard: ArrivingShard
    tensors: tuple[PlannedTensor, ...]

    @property
    def name(self) -> str:
        return self.shard.path.name

    @property
    def size(self) -> int:
        return self.shard.input.size

    @property
    def result(self) -> int:
        """The size of the shard's tensors in the GGUF file, in bytes."""
        return sum(tensor.size for tensor in self.tensors)


def staging_folder(target: Path) -> Path:
    """Return the folder that holds downloaded shards until they are converted to `target`."""
    return target.with_name(f".{target.name}.shards")


def write_arriving(
    plan: Plan,
    source: ArrivingCheckpoint,
    file: UnfinishedFile,
    *,
    threads: int = 1,
    progress: Callable[[ConversionProgress], None] | None = None,
    check: Callable[[Path], None] | None = None,
) -> WrittenFile:
    """Write a file as `write_file` does, but download the checkpoint's shards during the conversion.

    `progress` counts downloaded bytes. In addition to `write_file`'s errors, raises ModelError if a shard cannot be
    downloaded or has the wrong hash. A later run can then resume.
    """
    if file.whole is not None:
        return WrittenFile(file.whole, plan.size, file.done)
    file.write(plan.header, 0)
    if check:
        with discarding(file, ModelError):
            check(file.unfinished)
    parts = _parts(plan, source)
    done = [part for part in parts if part.name in file.parts]
    pending = [part for part in parts if part.name not in file.parts]
    source.stage(file.parts)
    try:
        # A resumed run would stop at the same weight.
        with discarding(file, NotFiniteError):
            _convert(plan, source, file, done, pending, threads, progress)
    except NotFiniteError:
        source.unstage()
        raise
    file.flush(plan.size)
    source.unstage()
    return WrittenFile(FileStream(file, plan.size).sha256, plan.size, sum(part.result for part in done))


def _parts(plan: Plan, source: ArrivingCheckpoint) -> list[_Part]:
    """Return each shard with the planned tensors that are made from it, in the order of the shards' names.

    A planned tensor is made from a single tensor of the checkpoint, and belongs to that tensor's shard. If a planned
    tensor is computed from the configuration alone, it belongs to the first shard.
    """
    tensors: dict[str, list[PlannedTensor]] = {shard.path.name: [] for shard in source.shards}
    for tensor in plan.tensors:
        shard = source.file_of(tensor.recipe.source) if tensor.recipe.source else source.shards[0]
        tensors[shard.path.name].append(tensor)
    return [_Part(shard, tuple(tensors[shard.path.name])) for shard in source.shards]


def _convert(
    plan: Plan,
    source: ArrivingCheckpoint,
    file: UnfinishedFile,
    done: Sequence[_Part],
    pending: Sequence[_Part],
    threads: int,
    progress: Callable[[ConversionProgress], None] | None,
) -> None:
    meter = _Meter(source, sum(part.size for part in done), progress)
    written = plan.data_offset + sum(part.result for part in done)
    coming: Future[None] | None = None
    with ThreadPoolExecutor(1) as fetcher, meter:
        for part, following in zip_longest(pending, pending[1:]):
            (coming or fetcher.submit(part.shard.fetch, meter.received)).result()
            written += part.result
            coming = None
            if following and _has_room(plan, source, file, written, part, following):
                coming = fetcher.submit(following.shard.fetch, meter.received)
            write_blocks(
                replace(plan, tensors=part.tensors),
                source,
                lambda block: file.write(memoryview(block[1].reshape(-1).data), block[0]),
                threads=threads,
            )
            part.shard.check_unchanged()
            file.note_part(part.name)
            part.shard.drop()


def _has_room(
    plan: Plan, source: ArrivingCheckpoint, file: UnfinishedFile, written: int, part: _Part, following: _Part
) -> bool:
    """Return whether the disk has room to download the next shard while `part` is converted.

    Also return False if the GGUF file and both shards together would need more disk space than the complete GGUF file
    plus 1.2 times the largest shard.

    `written`: the size in bytes that the GGUF file has after `part` is converted.
    `following`: the next shard.
    """
    missing = following.size - following.shard.staged_bytes()
    return (
        written + part.size + following.size <= plan.size + int(_SHARDS * source.largest)
        and missing + part.result <= shutil.disk_usage(file.unfinished.parent).free
    )


class _Meter:
    """Counts the downloaded bytes, and stops the download at the end of the meter's `with` block."""

    def __init__(
        self, source: ArrivingCheckpoint, done: int, progress: Callable[[ConversionProgress], None] | None
    ) -> None:
        self._total = sum(shard.input.size for shard in source.shards)
        self._done = self._began = done + source.staged_bytes()
        self._progress = progress
        self._started = time.perf_counter()
        self._stopped = Event()

    def __enter__(self) -> _Meter:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()

    def received(self, count: int) -> None:
        """Count downloaded bytes. Once this meter's `with` block has ended, raise StoppedError to stop the download."""
        if self._stopped.is_set():
            raise StoppedError
        self._done += count
        if self._progress:
            rate = (self._done - self._began) / max(1e-9, time.perf_counter() - self._started)
            self._progress(
                ConversionProgress(self._done, self._total, rate, (self._total - self._done) / max(rate, 1.0))
            )
