"""A whole conversion in one call: from a checkpoint and its adapters to a GGUF file and its manifest.

For example:

    with prepare_conversion(ConversionRequest(base="eCeLLM-M", target=Path("out.gguf"))) as conversion:
        print(conversion.plan.size)
        conversion.run(threads=8)
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ecellm_lite.convert.adapter import PeftAdapter, read_adapter
from ecellm_lite.convert.architectures.hyperparameters import Hyperparameters
from ecellm_lite.convert.arrivals import staging_folder, write_arriving
from ecellm_lite.convert.arriving_checkpoint import ArrivingCheckpoint
from ecellm_lite.convert.blueprint import Blueprint, MetadataValue
from ecellm_lite.convert.checkpoint import Checkpoint
from ecellm_lite.convert.gguf_adapter import read_gguf_adapter, with_checkpoint_names
from ecellm_lite.convert.gguf_base import GgufBase
from ecellm_lite.convert.imatrix import Imatrix, read_imatrix
from ecellm_lite.convert.merging import WeightedAdapter, attach_adapters
from ecellm_lite.convert.old_names import with_current_names
from ecellm_lite.convert.pipeline import (
    ConversionProgress,
    WrittenFile,
    estimated_seconds,
    unfinished_file,
    write_file,
)
from ecellm_lite.convert.plan import Plan, draw_plan
from ecellm_lite.convert.record import record
from ecellm_lite.convert.request import ENVELOPE_KEY, ConversionRequest, checkpoint_folder
from ecellm_lite.convert.source import TensorSource
from ecellm_lite.convert.writer import UnfinishedFile, only_named, unfinished_paths
from ecellm_lite.errors import ModelError
from ecellm_lite.models.catalogue import catalogue_entry
from ecellm_lite.models.gguf_header import read_header
from ecellm_lite.models.manifest import Manifest
from ecellm_lite.models.model_check import check_model
from ecellm_lite.models.resolve import TASKS_KEY


@dataclass(frozen=True, slots=True)
class Conversion:
    """A conversion that is ready to run: its inputs are open, and its plan is made."""

    request: ConversionRequest
    plan: Plan
    envelope: str
    source: TensorSource
    adapters: tuple[WeightedAdapter, ...]
    imatrix: Imatrix | None

    def check_room(self) -> None:
        """Raise ModelError if there is too little free disk space or memory.

        If an earlier run was interrupted, its files on the disk are used again, so less free space is needed.
        """
        unfinished, _ = unfinished_paths(self.request.target)
        written = unfinished.stat().st_blocks * 512 if unfinished.is_file() else 0
        arriving = self.source if isinstance(self.source, ArrivingCheckpoint) else None
        self.plan.check_room(
            self.request.target,
            written + (arriving.staged_bytes() if arriving else 0),
            beside=arriving.largest if arriving else 0,
        )

    def seconds(self, threads: int) -> float:
        """Return an estimate of how many seconds the conversion will take.

        One block of each type is converted to measure the speed.
        """
        return estimated_seconds(self.plan, self.source, threads)

    def run(
        self,
        *,
        threads: int = 1,
        resume: bool = False,
        hash_inputs: bool = False,
        progress: Callable[[ConversionProgress], None] | None = None,
        accept: Callable[[], None] = lambda: None,
    ) -> Manifest:
        """Write the GGUF file and then its manifest.

        First the file gets its final name, then the manifest is written, then `accept` is called. If the process is
        killed between these steps, a later run with `resume` only writes the manifest and calls `accept`.

        Raises UsageError if the target is one of the inputs. Raises ModelError in these cases:

        - There is too little disk space or memory.
        - Another conversion is writing the target, or the unfinished file belongs to another conversion.
        - An input changes, or a weight is not finite.
        - A download or a write fails.
        """
        if not (resume and only_named(self.request.target)):
            self.check_room()
        started = time.perf_counter()
        target, path = self.request.target, self.request.manifest_path
        with unfinished_file(self.plan, self.source, target, resume=resume, other_inputs=self._other_inputs()) as file:
            output = self._write(file, threads, progress)
            manifest = self._manifest(output, hash_inputs, time.perf_counter() - started)
            with _reported(path, "removed", "check its folder's rights, then resume"):
                path.unlink(missing_ok=True)  # the manifest of an older file of this name
            file.finish(output.sha256)
            with _reported(path, "written", "the model's file is complete; resume to write the manifest"):
                manifest.write(path)
            accept()
            file.forget()
        return manifest

    def _write(
        self, file: UnfinishedFile, threads: int, progress: Callable[[ConversionProgress], None] | None
    ) -> WrittenFile:
        if isinstance(self.source, ArrivingCheckpoint):
            return write_arriving(self.plan, self.source, file, threads=threads, progress=progress, check=_check_header)
        shutil.rmtree(staging_folder(self.request.target), ignore_errors=True)  # of a run that was to fetch the weights
        return write_file(self.plan, self.source, file, threads=threads, progress=progress, check=_check_header)

    def _other_inputs(self) -> list[Path]:
        files = [file for weighted in self.adapters for file in weighted.adapter.inputs] + list(
            self.source.configuration()
        )
        paths = [file.path for file in files]
        return [*paths, self.imatrix.path] if self.imatrix else paths

    def _manifest(self, output: WrittenFile, hash_inputs: bool, seconds: float) -> Manifest:
        request = self.request
        base = request.base_name or request.name_of_base()
        entry = catalogue_entry(base)
        options: dict[str, Any] = {"tensor_types": [f"{pattern}={kind}" for pattern, kind in request.overrides]}
        if self.imatrix:
            options["imatrix"] = {"name": self.imatrix.path.name, "sha256": self.imatrix.sha256}
        manifest = record(
            self.plan,
            output,
            request.target,
            name=request.name or request.target.stem,
            envelope=self.envelope,
            base=base,
            licence=request.licence or (entry.licence if entry else ""),
            inputs=self.source.inputs(),
            configuration=self.source.configuration(),
            adapters=self.adapters,
            options=options,
            seconds=seconds,
            hash_inputs=hash_inputs,
        )
        details = {**manifest.details, **request.details}
        return replace(manifest, source=request.source or manifest.source, details=details)


@contextmanager
def prepare_conversion(
    request: ConversionRequest, draw: Callable[[Checkpoint], Blueprint] | None = None
) -> Iterator[Conversion]:
    """Open the inputs of a conversion and make its plan. The inputs stay open inside the `with` block.

    `draw` is a function that makes the blueprint of a checkpoint; the default is `blueprint_of`. Raises ModelError if
    the inputs are damaged or do not fit together. Raises UsageError if the request cannot be fulfilled.
    """
    request.check_paths()
    adapters = tuple(WeightedAdapter(read_any_adapter(path), weight) for path, weight in request.adapters)
    imatrix = read_imatrix(request.imatrix) if request.imatrix else None
    with _open_inputs(request, draw or blueprint_of) as (source, blueprint):
        envelope = request.choose_envelope(blueprint.metadata)
        blueprint = replace(blueprint, metadata=_with_request(blueprint.metadata, envelope, request))
        adapters = tuple(
            replace(weighted, adapter=with_current_module_names(weighted.adapter, blueprint)) for weighted in adapters
        )
        plan = draw_plan(
            attach_adapters(blueprint, source, adapters),
            source,
            request.file_type,
            overrides=request.overrides,
            importance=imatrix.importance if imatrix else None,
            max_memory=request.max_memory,
        )
        # The plan has what it needs from the adapters; dropping the rest, such as the base's tensors, frees memory.
        adapters = tuple(replace(weighted, adapter=weighted.adapter.without_tensors()) for weighted in adapters)
        yield Conversion(request, plan, envelope, source, adapters, imatrix)


def blueprint_of(checkpoint: Checkpoint) -> Blueprint:
    """Return the checkpoint's blueprint (metadata and tensors of the GGUF file to write), including the vocabulary."""
    from ecellm_lite.convert.vocabulary import vocabulary_metadata

    blueprint = blueprint_without_vocabulary(checkpoint)
    # A config.json may leave the number of tokens to its architecture's default, and name special tokens in a part.
    size = next(recipe.shape[0] for recipe in blueprint.recipes if recipe.name == "token_embd.weight")
    part = Hyperparameters(checkpoint.config).part("text_config").values
    vocabulary = vocabulary_metadata(checkpoint.folder, {**part, **checkpoint.config, "vocab_size": size})
    return replace(blueprint, metadata={**blueprint.metadata, **vocabulary})


def blueprint_without_vocabulary(checkpoint: Checkpoint) -> Blueprint:
    """Return the checkpoint's blueprint (metadata and tensors of the GGUF file to write), without the vocabulary."""
    from ecellm_lite.convert.architectures import architecture_of

    return architecture_of(checkpoint.config).blueprint(checkpoint)


@contextmanager
def open_base(
    base: str, draw: Callable[[Checkpoint], Blueprint] = blueprint_without_vocabulary
) -> Iterator[tuple[TensorSource, Blueprint]]:
    """Open a base model, and yield its weights and its blueprint (the metadata and tensors of the GGUF file to write).

    `draw` makes the blueprint if the base is a checkpoint.
    """
    if Path(base).is_file():
        with GgufBase(Path(base)) as file:
            yield file, file.blueprint()
    else:
        with Checkpoint(checkpoint_folder(base)) as checkpoint:
            yield checkpoint, draw(checkpoint)


@contextmanager
def _open_inputs(
    request: ConversionRequest, draw: Callable[[Checkpoint], Blueprint]
) -> Iterator[tuple[TensorSource, Blueprint]]:
    if request.weights:
        with ArrivingCheckpoint(Path(request.base), request.weights, staging_folder(request.target)) as checkpoint:
            yield checkpoint, draw(checkpoint)
    else:
        with open_base(request.base, draw) as opened:
            yield opened


def read_any_adapter(path: Path) -> PeftAdapter:
    """Return the adapter in a PEFT folder or a GGUF file. A GGUF adapter keeps its GGUF tensor names."""
    return read_gguf_adapter(path) if path.is_file() else read_adapter(path)


def with_current_module_names(adapter: PeftAdapter, blueprint: Blueprint) -> PeftAdapter:
    """Return the adapter with the module names that `blueprint` uses.

    An adapter from a GGUF file has GGUF names, and a PEFT adapter may have outdated names.
    """
    if adapter.path.is_file():
        return with_checkpoint_names(adapter, blueprint)
    return with_current_names(adapter, blueprint.architecture)


def _with_request(
    metadata: Mapping[str, MetadataValue], envelope: str, request: ConversionRequest
) -> dict[str, MetadataValue]:
    tasks = request.choose_tasks(metadata)
    keys = {**metadata, ENVELOPE_KEY: ("STRING", envelope)}
    keys.pop(TASKS_KEY, None)
    return {**keys, TASKS_KEY: tasks} if tasks else keys


def _check_header(unfinished: Path) -> None:
    check_model(read_header(unfinished))


@contextmanager
def _reported(path: Path, action: str, step: str) -> Iterator[None]:
    """Turn an OSError in the `with` block into a ModelError that names the path and the failed action."""
    try:
        yield
    except OSError as error:
        raise ModelError(
            f"{path} cannot be {action} ({error.strerror})", step=step, settings=("resume",), file=str(path)
        ) from None
