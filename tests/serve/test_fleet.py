"""Tests one server with several models. They are loaded and unloaded, and a fault of one does not affect the others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ecellm_lite import ModelError, Runtime, UsageError
from ecellm_lite.answers.answer import ModelName
from ecellm_lite.engine.fake import FakeBackend, scattered
from ecellm_lite.envelopes import get_envelope
from ecellm_lite.errors import CrashError
from ecellm_lite.serve.errors import RefusedError
from ecellm_lite.serve.fleet import Fleet
from ecellm_lite.serve.model_source import ModelSource, cascade_source, shared_cores
from ecellm_lite.serve.workers import Workers
from tests.serve.serving import PATIENCE, serving, until
from tests.support.gated import Gated

REVIEW = {"review": "Works, but it is loud."}


class Noted:
    def __init__(self, runtime: Runtime, closed: list[str]) -> None:
        self.model, self.submit = runtime.model, runtime.submit
        self._runtime, self._closed = runtime, closed

    def close(self) -> None:
        self._closed.append(self.model.name)
        self._runtime.close()


class Maker:
    """Starts models, and records which models were started and which were closed."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.closed: list[str] = []

    def source(self, name: str, size: int = 1, backend: Callable[[], Any] = FakeBackend) -> ModelSource:
        identity = ModelName(name, name * 64)

        def start() -> Any:
            self.started.append(name)
            return Noted(Runtime.over(backend(), name=identity), self.closed)

        return ModelSource(identity, get_envelope("alpaca"), size, start)


def broken(name: str, error: Exception) -> ModelSource:
    def start() -> Any:
        raise error

    return ModelSource(ModelName(name, ""), get_envelope("alpaca"), 1, start)


def loaded(fleet: Fleet) -> set[str]:
    return {name for name, resident in fleet.residents.items() if resident.answerer}


def test_models_are_loaded_on_demand_and_the_least_recently_used_makes_room() -> None:
    maker = Maker()
    fleet = Fleet([maker.source(name, 4) for name in "abc"], memory=8)
    fleet.load()

    async def ask(name: str) -> str:
        source = await fleet.find(name)
        assert source
        async with fleet.use(source) as answerer:
            return answerer.model.name

    async def asks() -> None:
        for name in "abacab":
            assert await ask(name) == name
            assert len(loaded(fleet)) <= 2

    with fleet:
        asyncio.run(asks())
        assert maker.started == ["a", "b", "c", "b"]
        assert maker.closed == ["b", "c"]
        assert loaded(fleet) == {"a", "b"}
    assert sorted(maker.closed) == ["a", "b", "b", "c"]


def test_a_model_with_requests_is_not_unloaded() -> None:
    maker = Maker()
    fleet = Fleet([maker.source("a", 4), maker.source("b", 4)], memory=4, room_seconds=0.05)
    fleet.load()

    async def asks() -> None:
        one, other = [resident.source for resident in fleet.residents.values()]
        async with fleet.use(one):
            with pytest.raises(RefusedError) as refused:
                async with fleet.use(other):
                    raise AssertionError
            assert (refused.value.status, refused.value.reason) == (503, "no_room")
            assert "Retry-After" in refused.value.headers
            assert loaded(fleet) == {"a"}
        async with fleet.use(other):
            assert loaded(fleet) == {"b"}

    with fleet:
        asyncio.run(asks())


def test_a_request_waits_until_its_model_fits() -> None:
    maker = Maker()
    fleet = Fleet([maker.source("a", 4), maker.source("b", 4)], memory=4)
    fleet.load()

    async def asks() -> None:
        one, other = [resident.source for resident in fleet.residents.values()]

        async def ask() -> str:
            async with fleet.use(other) as answerer:
                return answerer.model.name

        async with fleet.use(one):
            waiting = [asyncio.create_task(ask()) for _ in range(3)]
            await asyncio.sleep(0.05)
            assert fleet.residents["b"].state == "loading"
            assert maker.closed == []
        assert await asyncio.gather(*waiting) == ["b"] * 3
        assert maker.started == ["a", "b"]

    with fleet:
        asyncio.run(asks())


def test_a_cascade_is_one_model_of_the_fleet() -> None:
    maker = Maker()
    source = cascade_source([maker.source("a", 3), maker.source("b", 4)], 1.0)
    with pytest.raises(UsageError):
        Fleet([source], memory=6)
    fleet = Fleet([source, maker.source("c", 4)], memory=8)
    fleet.load()

    async def asks() -> list[str]:
        answering = []
        for name in ("a,b", "c"):
            model = await fleet.find(name)
            assert model
            async with fleet.use(model) as answerer:
                answering.append(answerer.submit("sentiment_analysis", REVIEW).result(PATIENCE).model.name)
        return answering

    with fleet:
        assert asyncio.run(asks()) == ["b", "c"]
        assert maker.started == ["b", "a", "c"]  # the larger model gets its memory first
        assert maker.closed == ["a", "b"]


def test_a_cascade_that_does_not_load_whole_leaves_nothing_behind() -> None:
    maker = Maker()
    source = cascade_source([broken("a", ModelError("It is damaged.")), maker.source("b")], 0.9)
    with pytest.raises(ModelError):
        source.start()
    assert maker.closed == ["b"]


def test_a_model_that_cannot_fit_is_refused() -> None:
    maker = Maker()
    with pytest.raises(UsageError) as refused:
        Fleet([maker.source("a", 9)], memory=8)
    assert "memory" in refused.value.settings
    with pytest.raises(UsageError):
        Fleet([maker.source("a"), maker.source("a")])


class Others:
    """A store with three models: one is too large, one is damaged, and one can be loaded."""

    def __init__(self, maker: Maker) -> None:
        self.sources = {"large": maker.source("large", 100), "good": maker.source("good")}

    def names(self) -> list[str]:
        return ["damaged", *self.sources]

    def find(self, name: str) -> ModelSource | None:
        if name == "damaged":
            raise ModelError("/home/shop/models/damaged/model.gguf is damaged")
        return self.sources.get(name)


def test_a_crashing_model_does_not_affect_others() -> None:
    maker = Maker()
    sources = [maker.source("a"), broken("crashing", CrashError("The engine's process died in /home/shop"))]
    with serving(fleet=Fleet(sources, memory=50, others=Others(maker))) as server:

        def ask(model: str | None) -> Any:
            return server.post("/v1/tasks/SA", {"row": REVIEW, **({"model": model} if model else {})})

        assert [one["id"] for one in server.get("/v1/models").json["data"]] == [
            "a",
            "crashing",
            "damaged",
            "large",
            "good",
        ]
        assert ask(None).json["model"]["name"] == "a"
        assert ask("good").json["model"]["name"] == "good"
        for name, status, code in (
            ("crashing", 503, "model_failed"),
            ("damaged", 503, "model_failed"),
            ("large", 507, "model_too_large"),
            ("nonsense", 404, "model_not_found"),
        ):
            reply = ask(name)
            assert (reply.status, reply.error["code"], reply.error["param"]) == (status, code, "model")
            assert b"/home" not in reply.body
            assert ask("a").status == 200
        assert ask("large").headers["X-Should-Retry"] == "false"
        assert server.get("/ready").json["models"] == {
            "a": "ready",
            "crashing": "failed",
            "good": "ready",
            "large": "unloaded",
        }
        assert server.get("/ready?model=a").status == 200
        assert server.get("/ready?model=crashing").status == 503
        assert server.get("/ready?model=nonsense").status == 404
        body = {"model": "good", "input": "Late.", "questions": [{"type": "predicate", "instructions": "Is it late?"}]}
        assert server.post("/v1/decisions", body).json["model"] == "good"
        text = server.get("/metrics").body.decode()
        assert 'ecellm_rows_total{model="good",outcome="answered",task="question"} 1.0' in text
        assert 'ecellm_model_ready{model="crashing"} 0.0' in text
        assert 'ecellm_model_loads{model="good"} 1.0' in text


def test_rows_go_to_the_shortest_queue_and_questions_to_one_engine() -> None:
    backends = [Gated(), Gated()]
    workers = Workers([Runtime.over(backend) for backend in backends])
    with serving(workers) as server:
        threads = [
            threading.Thread(target=server.post, args=("/v1/tasks/SA", {"row": {"review": f"row {number}"}}))
            for number in range(6)
        ]
        for thread in threads:
            thread.start()
        until(lambda: [member.waiting for member in workers.members] == [3, 3])
        questions = [{"type": "predicate", "instructions": f"Is it {number}?"} for number in range(5)]
        body = {"model": "fake", "input": "It is 3.", "questions": questions}
        asking = threading.Thread(target=server.post, args=("/v1/decisions", body))
        asking.start()
        until(lambda: sorted(member.waiting for member in workers.members) == [3, 8])
        for backend in backends:
            backend.gate.set()
        for thread in (*threads, asking):
            thread.join(PATIENCE)
        assert [member.waiting for member in workers.members] == [0, 0]
        assert all(backend.calls for backend in backends)


def test_an_adapter_is_chosen_by_the_models_name() -> None:
    def flat(context: Any) -> Any:
        return np.zeros_like(scattered(context))

    backend = FakeBackend(scattered, sequences=64, cells=1 << 14, adapters={"shop-a": flat})
    with serving(Runtime.over(backend)) as server:
        assert [one["id"] for one in server.get("/v1/models").json["data"]] == ["fake", "fake+shop-a"]
        assert server.get("/v1/models/fake+shop-a").status == 200
        plain, adapted = (
            server.post("/v1/tasks/SA", {"model": name, "row": REVIEW}).json for name in ("fake", "fake+shop-a")
        )
        assert set(adapted["probabilities"].values()) == {0.2} != set(plain["probabilities"].values())
        assert (plain["model"]["adapter"], adapted["model"]["adapter"]["name"]) == (None, "shop-a")
        body = {"model": "fake+shop-a", "input": "Late?", "questions": [{"type": "predicate", "instructions": "Late?"}]}
        decision = server.post("/v1/decisions", body).json
        assert (decision["model"], decision["answers"][0]["probability"]) == ("fake+shop-a", 0.5)
        chat = {"model": "fake+shop-a", "messages": [{"role": "user", "content": "Late?"}], "max_tokens": 2}
        assert server.post("/v1/chat/completions", chat).json["model"] == "fake+shop-a"
        for unknown in ("fake+shop-b", "other+shop-a", "fake+", "+shop-a"):
            assert server.post("/v1/tasks/SA", {"model": unknown, "row": REVIEW}).status == 404
        text = server.get("/metrics").body.decode()
        assert 'ecellm_rows_total{model="fake+shop-a",outcome="answered",task="question"} 1.0' in text


def test_workers_answer_in_order_and_share_the_cores() -> None:
    reviews = [{"id": number, "review": f"row {number}"} for number in range(50)]
    workers = Workers([Runtime.over(FakeBackend()) for _ in range(2)])
    try:
        assert [answer.id for answer in workers.answers("sentiment_analysis", iter(reviews))] == list(range(50))
        assert workers.answer("sentiment_analysis", REVIEW).value
    finally:
        workers.close()
    assert shared_cores(1) == [None]
    with pytest.raises(UsageError) as refused:
        shared_cores(10_000)
    assert refused.value.settings == ("workers",)
