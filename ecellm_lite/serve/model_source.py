"""A model that can be loaded by its name: what it is, how much memory it takes, and how its engines are started."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, fields, replace
from typing import Any

from ecellm_lite.answerer import Answerer
from ecellm_lite.answers.answer import AdapterName, ModelName
from ecellm_lite.cascade import Cascade, cascade_name
from ecellm_lite.engine.footprint import footprint
from ecellm_lite.engine.settings import Settings, available_cores
from ecellm_lite.engine.tuned import tuned_settings
from ecellm_lite.envelopes import Envelope, get_envelope
from ecellm_lite.errors import UsageError
from ecellm_lite.loading import find_model
from ecellm_lite.models.adapters import find_adapters
from ecellm_lite.models.gguf_header import read_header
from ecellm_lite.models.store import Store
from ecellm_lite.pipe.child_runtime import ChildRuntime
from ecellm_lite.serve.workers import Workers

_ENGINE = {setting.name for setting in fields(Settings)}


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model that can be loaded.

    `model`: the model's name and SHA-256, and the adapter that a request chose (None: no adapter).
    `bytes`: the memory that the loaded model takes.
    `start`: loads the model and returns an Answerer. This may take minutes. Raises an EcellmError if it fails.
    `adapters`: the adapters that are loaded with the model, as {name: SHA-256 of the adapter's file}.
    """

    model: ModelName
    envelope: Envelope
    bytes: int
    start: Callable[[], Answerer]
    adapters: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The model's name, without an adapter."""
        return self.model.name

    @property
    def title(self) -> str:
        """The model's name, followed by the chosen adapter if there is one: `demo`, or `demo+shop-a`."""
        return self.model.title

    @property
    def titles(self) -> list[str]:
        """The names that requests may use: `demo` for a model, and `demo+shop-a` for the model with an adapter."""
        return [self.name, *(f"{self.name}+{adapter}" for adapter in self.adapters)]

    def adapted(self, adapter: str) -> ModelSource:
        """Return a copy in which one of the model's adapters is chosen."""
        return replace(self, model=replace(self.model, adapter=AdapterName(adapter, self.adapters[adapter])))


class StoreModels:
    """The models of the user's store. Each call reads the store again."""

    def __init__(self, settings: dict[str, Any], workers: int = 1) -> None:
        self._settings = settings
        self._workers = workers

    def names(self) -> list[str]:
        """Return the names of the stored models."""
        return Store().names()

    def find(self, name: str) -> ModelSource | None:
        """Return the stored model with this name, or None if no model has it.

        Raises ModelError if the model's file is damaged.
        """
        return source_of(name, self._workers, **self._settings) if Store().has(name) else None


def source_of(name: str | None, workers: int = 1, **settings: Any) -> ModelSource:
    """Return the model with this name or path, or the default model if `name` is None.

    `workers`: how many engine processes will load the model.
    `settings`: the settings of each engine process (see ChildRuntime in pipe/child_runtime.py).

    Raises the errors of `find_model`. Raises UsageError if there are more workers than cores.
    """
    cores = shared_cores(workers)
    store, stored = find_model(name, settings.get("envelope"))
    engine = {key: value for key, value in settings.items() if key in _ENGINE}
    size = footprint(read_header(stored.path), tuned_settings(store, stored, **engine)).of(workers)
    adapters = find_adapters(settings.get("adapters"), store, stored)
    size += workers * sum(adapter.identity.size for adapter in adapters)  # each engine has its own copy of them
    identity = stored.manifest
    named = name or (identity.name if store.owns(stored) else None)

    def start() -> Answerer:
        if workers == 1:
            return ChildRuntime(named, **settings)
        with ExitStack() as stack:
            children = [stack.enter_context(ChildRuntime(named, cores=each, **settings)) for each in cores]
            stack.pop_all()
        return Workers(children)

    return ModelSource(
        ModelName(identity.name, identity.sha256),
        get_envelope(identity.envelope),
        size,
        start,
        {adapter.name: adapter.sha256 for adapter in adapters},
    )


def cascade_source(sources: Sequence[ModelSource], escalate_below: float) -> ModelSource:
    """Combine several models into a cascade, which can be loaded like a single model.

    `sources`: the models, the cheapest first.
    `escalate_below`: a row goes to the next model if its answer's probability is lower than this.
    """

    def start() -> Answerer:
        with ExitStack() as stack:
            answerers: list[Answerer] = []
            for source in reversed(sources):  # the last one, which is the largest, gets its memory first
                answerers.insert(0, source.start())
                stack.callback(answerers[0].close)
            cascade = Cascade(answerers, escalate_below=escalate_below)
            stack.pop_all()
        return cascade

    name = cascade_name([source.model for source in sources], escalate_below)
    return ModelSource(name, sources[0].envelope, sum(source.bytes for source in sources), start)


def free_memory() -> int:
    """Return how much memory of this machine is free, in bytes."""
    import psutil

    return int(psutil.virtual_memory().available)


def shared_cores(workers: int) -> Sequence[list[int] | None]:
    """Divide the cores among several engines.

    Return a list of core numbers for each engine. For a single engine, return [None]: it may use all cores. Raises
    UsageError if there are more engines than cores, or if this system does not let a process choose its cores.
    """
    if workers == 1:
        return [None]
    import psutil

    process, count = psutil.Process(), available_cores()
    if not hasattr(process, "cpu_affinity"):
        raise UsageError(
            "Each worker needs its own cores, but this system cannot assign cores to processes",
            step="use one worker",
            settings=("workers",),
        )
    if workers > count:
        message = f"{workers} workers do not fit {count} core{'s' * (count > 1)}, because each needs one"
        raise UsageError(message, step=f"use at most {count}", settings=("workers",))
    cores = sorted(process.cpu_affinity())
    return [cores[place * count // workers : (place + 1) * count // workers] for place in range(workers)]
