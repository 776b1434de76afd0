"""The models of a server.

A model is loaded at the first request that names it. If memory is short, the least recently used models are unloaded
first. A model with requests in flight is never unloaded. If a model cannot be loaded, the other models still answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from typing_extensions import Self

from ecellm_lite.answerer import Answerer
from ecellm_lite.errors import EcellmError, UsageError
from ecellm_lite.serve.errors import RefusedError, retry_after
from ecellm_lite.serve.log import log
from ecellm_lite.serve.model_source import ModelSource

ROOM_SECONDS = 30.0  # how long a request waits until other models can be unloaded
FAILED_SECONDS = 30.0  # how long a model that did not load is not tried again


class OtherModels(Protocol):
    """Finds the models that requests may name in addition to those that the server was started with."""

    def names(self) -> list[str]:
        """Return the models' names."""

    def find(self, name: str) -> ModelSource | None:
        """Return a model by its name, or None if there is none. Raises ModelError if the model's file is damaged."""


@dataclass(slots=True, eq=False)
class Resident:
    """A model's state in the server.

    `answerer`: answers rows with the model. None while the model is not loaded.
    `requests`: how many requests use the model or wait for it.
    `used`: when a request last stopped using the model, in seconds of the monotonic clock.
    `loads`: how often the model was loaded.
    `past_restarts`: how often its engine processes were restarted before the model was last unloaded.
    """

    source: ModelSource
    answerer: Answerer | None = None
    loading: asyncio.Task[Answerer] | None = None
    requests: int = 0
    used: float = 0.0
    loads: int = 0
    failed: float | None = None  # when it last failed to load
    past_restarts: int = 0
    reserved_bytes: int = 0  # from the moment that its room is made

    @property
    def state(self) -> str:
        """The model's state: ready, restarting, loading, unloaded or failed."""
        if self.answerer:
            return "ready" if getattr(self.answerer, "ready", True) else "restarting"
        if self.loading:
            return "loading"
        return "unloaded" if self.failed is None else "failed"

    @property
    def restarts(self) -> int:
        """How often the model's engine processes were restarted."""
        return self.past_restarts + int(getattr(self.answerer, "restarts", 0))


class Fleet:
    """The models that a server can load, by name. The first of `sources` is the default.

    `memory`: how many bytes all loaded models together may take (None: no limit).
    `others`: finds models that a request may name besides those in `sources`.
    `room_seconds`: how long a request waits until there is enough memory for its model.

    Use a fleet only in the event loop's thread, except for `load` and `close`. Raises UsageError if two models have the
    same name, or if a single model takes more than `memory`.
    """

    def __init__(
        self,
        sources: Sequence[ModelSource],
        *,
        memory: int | None = None,
        others: OtherModels | None = None,
        room_seconds: float = ROOM_SECONDS,
    ) -> None:
        self.residents: dict[str, Resident] = {}
        self.memory = memory
        self._others = others
        self._room_seconds = room_seconds
        self._turn = asyncio.Lock()  # one model makes room at a time
        self._freed = asyncio.Event()
        self._closed = False
        for source in sources:
            if source.name in self.residents:
                message = f"Two models have the name {source.name}"
                raise UsageError(message, step="add one to the store under another name", settings=("model",))
            if self._too_large(source):
                raise UsageError(
                    f"{source.name} needs {_size(source.bytes)}; all models together may use {_size(memory or 0)}",
                    step="give more memory, a smaller context, or fewer workers",
                    settings=("memory", "context", "workers"),
                )
            self.residents[source.name] = Resident(source)
        self.default = sources[0].name

    @classmethod
    def of(cls, answerer: Answerer) -> Self:
        """Return a fleet with a single model that is already loaded."""
        fleet = cls([ModelSource(answerer.model, answerer.envelope, 0, lambda: answerer, answerer.adapters)])
        fleet.load()
        return fleet

    @property
    def names(self) -> list[str]:
        """The names of all models that a request may name, the default model first."""
        own = [title for resident in self.residents.values() for title in resident.source.titles]
        return list(dict.fromkeys([*own, *(self._others.names() if self._others else [])]))

    @property
    def ready(self) -> bool:
        """Whether at least one model can answer: it is loaded, or the next request would load it."""
        return any(resident.state in ("ready", "unloaded") for resident in self.residents.values())

    def load(self) -> None:
        """Load the default model. Call this before the event loop runs. Raises an EcellmError if loading fails."""
        resident = self.residents[self.default]
        resident.reserved_bytes = resident.source.bytes
        resident.answerer = resident.source.start()
        resident.loads += 1

    def close(self) -> None:
        """Unload all models."""
        self._closed = True
        for resident in self.residents.values():
            if resident.answerer:
                resident.answerer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def find(self, name: str) -> ModelSource | None:
        """Return a model by its name, or None if there is none.

        Raises RefusedError (503) if the model's file is damaged.
        """
        base, _, adapter = name.rpartition("+")
        if base in self.residents and adapter in self.residents[base].source.adapters:
            return self.residents[base].source.adapted(adapter)
        resident = self.residents.get(name)
        if not self._others or (resident and resident.reserved_bytes):
            return resident.source if resident else None
        try:
            source = await asyncio.to_thread(self._others.find, name)
        except EcellmError as error:
            raise _failed(name, error, FAILED_SECONDS) from error
        resident = self.residents.setdefault(name, Resident(source)) if source else self.residents.get(name)
        if source and resident and not resident.reserved_bytes and not resident.loading:
            resident.source = source  # the store may have another file under this name now
        return resident.source if resident else None

    @asynccontextmanager
    async def use(self, source: ModelSource) -> AsyncIterator[Answerer]:
        """Yield the Answerer of a model, to which rows can be submitted.

        The model is loaded first if necessary, and stays loaded inside the `with` block.

        Raises RefusedError:

        - 507 if the model alone takes more memory than the limit for all models together;
        - 503 if there is no room for the model, because the loaded models still have requests;
        - 503 if the model did not load.
        """
        resident = self.residents[source.name]
        resident.requests += 1
        try:
            yield resident.answerer or await self._loaded(resident)
        finally:
            resident.requests -= 1
            resident.used = time.monotonic()
            self._freed.set()

    async def _loaded(self, resident: Resident) -> Answerer:
        name = resident.source.name
        if self._too_large(resident.source):
            message = f"{name} needs {_size(resident.source.bytes)}; all models may use {_size(self.memory or 0)} here"
            # OpenAI's clients would ask again.
            headers = {"X-Should-Retry": "false"}
            raise RefusedError(
                507, "model_too_large", message, step="ask for a smaller one", field="model", headers=headers
            )
        if resident.failed is not None and (left := resident.failed + FAILED_SECONDS - time.monotonic()) > 0:
            raise _failed(name, None, left)
        if resident.loading is None:
            resident.loading = asyncio.create_task(self._load(resident))
            resident.loading.add_done_callback(_seen)
        return await asyncio.shield(resident.loading)  # it goes on if this client goes away

    async def _load(self, resident: Resident) -> Answerer:
        name = resident.source.name
        try:
            try:
                await self._make_room(resident, time.monotonic() + self._room_seconds)
            except asyncio.TimeoutError:
                message = f"There is no memory for {name} now, because the loaded models have requests"
                headers = retry_after(self._room_seconds)
                raise RefusedError(503, "no_room", message, step="ask again later", headers=headers) from None
            resident.failed = None
            resident.answerer = await asyncio.to_thread(resident.source.start)
        except RefusedError:
            raise
        except EcellmError as error:
            resident.failed = time.monotonic()
            raise _failed(name, error, FAILED_SECONDS) from error
        finally:
            resident.loading = None
            if not resident.answerer:
                resident.reserved_bytes = 0
            self._freed.set()
        resident.loads += 1
        if self._closed:
            resident.answerer.close()
        return resident.answerer

    async def _make_room(self, resident: Resident, deadline: float) -> None:
        """Unload models until there is enough memory for another model, and reserve this memory.

        Raises TimeoutError if the loaded models still have requests at `deadline`.
        """
        async with self._turn:
            while self.memory is not None and self._held() + resident.source.bytes > self.memory:
                idle = [resident for resident in self.residents.values() if resident.answerer and not resident.requests]
                if idle:
                    await self._unload(min(idle, key=lambda resident: resident.used))
                else:
                    self._freed.clear()
                    await asyncio.wait_for(self._freed.wait(), max(0.0, deadline - time.monotonic()))
            resident.reserved_bytes = resident.source.bytes

    async def _unload(self, resident: Resident) -> None:
        answerer, resident.answerer = resident.answerer, None
        assert answerer
        resident.past_restarts += int(getattr(answerer, "restarts", 0))
        try:
            await asyncio.shield(asyncio.to_thread(answerer.close))
        finally:
            resident.reserved_bytes = 0

    def _held(self) -> int:
        return sum(resident.reserved_bytes for resident in self.residents.values())

    def _too_large(self, source: ModelSource) -> bool:
        return self.memory is not None and source.bytes > self.memory


def _failed(name: str, error: EcellmError | None, seconds: float) -> RefusedError:
    """Return the error for a client whose request named a model that did not load.

    The reason is only logged, because it may contain paths.
    """
    if error:
        log(f"{name} did not load: {error}")
    message = f"{name} did not load; the reason is in the server's log"
    return RefusedError(
        503, "model_failed", message, step="ask for another", field="model", headers=retry_after(seconds)
    )


def _seen(task: asyncio.Task[Answerer]) -> None:
    if not task.cancelled():
        task.exception()  # each request that waited got it: asyncio need not report it


def _size(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 1 << 30 else f"{size / 2**20:.0f} MiB"
