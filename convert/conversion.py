"""From a checkpoint and its adapters to a file with its manifest: the one call for whoever wants a model converted.

with prepared(Request(base=Path("eCeLLM-M"), target=Path("out.gguf"))) as conversion:
    conversion.plan                  what will be written
    conversion.run(threads=8)        the file and its manifest, or nothing
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ecellm_lite.convert.adapter import PeftAdapter, read_adapter
from ecellm_lite.convert.blueprint import Blueprint, Value
from ecellm_lite.convert.checkpoint import Checkpoint
from ecellm_lite.convert.gguf_adapter import in_checkpoints_terms, read_gguf_adapter
from ecellm_lite.convert.gguf_base import GgufBase
from ecellm_lite.convert.imatrix import Imatrix, read_imatrix
from ecellm_lite.convert.merging import Weighted, hang
from ecellm_lite.convert.old_names import with_todays_names
from ecellm_lite.convert.pipeline import Progress, Written, carry_out, estimated_seconds
from ecellm_lite.convert.plan import Plan, check_room, draw_plan
from ecellm_lite.convert.record import manifest_path, record
from ecellm_lite.convert.source import Input, Source
from ecellm_lite.convert.writer import unfinished_paths
from ecellm_lite.envelopes import ENVELOPES, get_envelope
from ecellm_lite.errors import ModelError, UsageError
from ecellm_lite.models.catalogue import catalogue_entry
from ecellm_lite.models.gguf_header import read_header
from ecellm_lite.models.hub import cached, is_repository
from ecellm_lite.models.manifest import Manifest
from ecellm_lite.models.model_check import check_model
from ecellm_lite.models.resolve import TASKS_KEY
from ecellm_lite.tasks.registry import TASKS, get_task


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be converted, and into what.

    `base`: a checkpoint's folder, a hub id whose files are in the cache, or a GGUF file. `adapters`: folders, or GGUF
    files, with their weights. `envelope`: its name, if the base's does not say. `overrides`: pairs of a pattern of
    tensors' names and a type. `max_memory`: bytes. `name` and `manifest`: the model's name, and its manifest's path, if
    not beside the file. `source`, `licence` and `details`: what the manifest says, where the inputs do not, and
    `base_name`: what it calls the base. `tasks`: names of the tasks that the model is for; by default what a GGUF base
    says, or the ten where the base is a published model, and none once an adapter has made another model of it.
    """

    base: str
    target: Path
    file_type: str = "Q4_K_M"
    adapters: tuple[tuple[Path, float], ...] = ()
    envelope: str | None = None
    overrides: tuple[tuple[str, str], ...] = ()
    imatrix: Path | None = None
    max_memory: int | None = None
    name: str = ""
    manifest: Path | None = None
    source: str = ""
    licence: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    base_name: str = ""
    tasks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Conversion:
    """A conversion whose inputs are open and whose plan is drawn."""

    request: Request
    plan: Plan
    envelope: str
    source: Source
    adapters: tuple[Weighted, ...]
    imatrix: Imatrix | None

    def check_room(self) -> None:
        """Raise ModelError if the disk or the memory has too little room, counting what a run before has written."""
        unfinished = unfinished_paths(self.request.target)[0]
        there = unfinished.stat().st_blocks * 512 if unfinished.is_file() else 0
        check_room(self.plan, self.request.target, there)

    def seconds(self, threads: int) -> float:
        """Return about how long it will take, by converting one block of each type."""
        seconds: float = estimated_seconds(self.plan, self.source, threads)
        return seconds

    def run(
        self,
        *,
        threads: int = 1,
        resume: bool = False,
        hash_inputs: bool = False,
        progress: Callable[[Progress], None] | None = None,
    ) -> Manifest:
        """Write the file, and then its manifest; see pipeline.carry_out for what goes wrong and how."""
        self.check_room()
        made: list[Manifest] = []
        started = time.perf_counter()
        place = self.request.manifest or manifest_path(self.request.target)

        def ready(written: Written) -> None:
            made.append(self._record(written, hash_inputs, time.perf_counter() - started))
            # The manifest of a file that was there before would be a wrong one from now on.
            with _said_of(place, "removed", "check its folder's rights, and go on with --resume"):
                place.unlink(missing_ok=True)

        def finished(_: Written) -> None:
            with _said_of(place, "written", "the file itself is whole; go on with --resume"):
                made[0].write(place)

        carry_out(
            self.plan,
            self.source,
            self.request.target,
            threads=threads,
            resume=resume,
            progress=progress,
            also_read=self._also_read(),
            check=lambda unfinished: check_model(read_header(unfinished)),
            ready=ready,
            finished=finished,
        )
        return made[0]

    def _also_read(self) -> list[Path]:
        """Return the files that are read beside the source's."""
        paths = [file.path for one in self.adapters for file in one.adapter.inputs]
        paths += [one.path for one in self._described()]
        return [*paths, self.imatrix.path] if self.imatrix else paths

    def _described(self) -> list[Input]:
        return self.source.described() if isinstance(self.source, Checkpoint) else []

    def _record(self, written: Written, hash_inputs: bool, seconds: float) -> Manifest:
        request = self.request
        base = request.base_name or _base_name(request.base)
        entry = catalogue_entry(base)
        options: dict[str, Any] = {"tensor_types": [f"{pattern}={kind}" for pattern, kind in request.overrides]}
        if self.imatrix:
            options["imatrix"] = {"name": self.imatrix.path.name, "sha256": self.imatrix.sha256}
        manifest: Manifest = record(
            self.plan,
            written,
            request.target,
            name=request.name or request.target.stem,
            envelope=self.envelope,
            base=base,
            licence=request.licence or (entry.licence if entry else ""),
            inputs=self.source.inputs(),
            described=self._described(),
            adapters=self.adapters,
            options=options,
            seconds=seconds,
            hashed=hash_inputs,
        )
        details = {**manifest.details, **request.details}
        return replace(manifest, source=request.source or manifest.source, details=details)


@contextmanager
def _said_of(path: Path, what: str, step: str) -> Iterator[None]:
    """Make a sentence of what the disk refuses."""
    try:
        yield
    except OSError as error:
        raise ModelError(f"{path} could not be {what} ({error.strerror}): {step}.") from None


def _check_reachable(request: Request) -> None:
    """Raise ModelError for a path of which the system cannot even say whether there is a file."""
    target = request.target
    paths = [
        Path(request.base),
        *(path for path, _ in request.adapters),
        *([request.imatrix] if request.imatrix else []),
    ]
    if not target.name:
        raise UsageError(f"{target} is no file's name: give an --output such as model.gguf.")
    for path in (*paths, target, *unfinished_paths(target), request.manifest or manifest_path(target)):
        try:
            path.stat()
        except ValueError:
            raise UsageError(f"{str(path)[:80]!r} is no path, as it holds a zero byte: give another.") from None
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.ENOTDIR}:
                raise ModelError(
                    f"{path} cannot be reached ({error.strerror}): give a shorter path, or check its folders' rights."
                ) from None


@contextmanager
def prepared(request: Request, draw: Callable[[Checkpoint], Blueprint] | None = None) -> Iterator[Conversion]:
    """Open the inputs and draw the plan; the inputs stay open inside of the block.

    `draw` makes the blueprint, by default by the checkpoint's architecture and vocabulary. Raises ModelError for
    inputs that are damaged or do not fit each other, UsageError for a request that cannot be.
    """
    _check_reachable(request)
    adapters = tuple(Weighted(_adapter(path), weight) for path, weight in request.adapters)
    imatrix = read_imatrix(request.imatrix) if request.imatrix else None
    with ExitStack() as files:
        source: Source
        if Path(request.base).is_file():
            source = base = files.enter_context(GgufBase(Path(request.base)))
            blueprint = base.blueprint()
        else:
            source = checkpoint = files.enter_context(Checkpoint(checkpoint_folder(request.base)))
            blueprint = (draw or drawn)(checkpoint)
        envelope = _envelope(request, blueprint.metadata)
        keys = {**blueprint.metadata, "ecellm.envelope": ("STRING", envelope)}
        blueprint = replace(blueprint, metadata=_with_tasks(keys, request))
        adapters = tuple(replace(one, adapter=_known_names(one.adapter, blueprint)) for one in adapters)
        parts = hang(blueprint, source, adapters)
        # What was not hung into a part, such as tensors of the base that came along, need not stay in memory.
        adapters = tuple(
            replace(one, adapter=replace(one.adapter, factors={}, saved={}, base_layers={})) for one in adapters
        )
        plan = draw_plan(
            blueprint,
            parts,
            source,
            request.file_type,
            overrides=request.overrides,
            importance=imatrix.importance if imatrix else None,
            max_memory=request.max_memory,
        )
        yield Conversion(request, plan, envelope, source, adapters, imatrix)


def _adapter(path: Path) -> PeftAdapter:
    return read_gguf_adapter(path) if path.is_file() else read_adapter(path)


def _known_names(adapter: PeftAdapter, blueprint: Blueprint) -> PeftAdapter:
    if adapter.path.is_file():
        return in_checkpoints_terms(adapter, blueprint)
    return with_todays_names(adapter, blueprint.architecture)


def drawn(checkpoint: Checkpoint) -> Blueprint:
    """Return the blueprint of a checkpoint by its architecture, with its vocabulary in the metadata."""
    from ecellm_lite.convert.architectures import architecture_of
    from ecellm_lite.convert.vocabulary import vocabulary_metadata

    blueprint: Blueprint = architecture_of(checkpoint.config).blueprint(checkpoint)
    vocabulary = vocabulary_metadata(checkpoint.folder, checkpoint.config)
    return replace(blueprint, metadata={**blueprint.metadata, **vocabulary})


def checkpoint_folder(base: str) -> Path:
    """Return a checkpoint's folder: the path itself, or where the hub's cache has the model; nothing is downloaded."""
    folder = Path(base)
    return folder if folder.exists() or not is_repository(base) else cached(base)


def _base_name(base: str) -> str:
    folder = Path(base)
    return folder.resolve().name if folder.exists() else base


def _with_tasks(metadata: Mapping[str, Value], request: Request) -> dict[str, Value]:
    """Return the metadata with the names of the tasks that the model is for, or without any."""
    found = {key: value for key, value in metadata.items() if key != TASKS_KEY}
    said: Value | None = None
    if request.tasks:
        said = ("ARRAY", list(dict.fromkeys(get_task(name).name for name in request.tasks)))
    elif not request.adapters:
        title = str(metadata.get("general.name", ("STRING", ""))[1])
        published = any(map(catalogue_entry, (request.base, _base_name(request.base), title)))
        said = metadata.get(TASKS_KEY) or (("ARRAY", list(TASKS)) if published else None)
    return {**found, TASKS_KEY: said} if said else found


def _envelope(request: Request, metadata: Mapping[str, Any]) -> str:
    """Return the envelope's name; none is guessed: behind the wrong one eCeLLM's weights score at zero."""
    if request.envelope:
        return get_envelope(request.envelope).name
    known = str(metadata.get("ecellm.envelope", ("STRING", ""))[1])
    if known in ENVELOPES:
        return known
    said = metadata.get("general.name", ("STRING", ""))[1]
    if written := metadata.get("ecellm.envelope"):
        return get_envelope(str(written[1])).name
    for name in (request.base, _base_name(request.base), str(said), request.name, request.target.name):
        if entry := catalogue_entry(name):
            return entry.envelope
    raise UsageError(
        f"Nothing in {_base_name(request.base)} says which envelope its weights were trained with: "
        "give --envelope alpaca or --envelope mistral."
    )
