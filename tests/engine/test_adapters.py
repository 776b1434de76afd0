"""Tests three adapters on one base model in llama.cpp.

Each row's answer is compared with the answer of a merged model, which has the row's adapter in its weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecellm_lite import Answer, ModelError, Runtime, UsageError
from ecellm_lite.convert.verify import LIMITS
from ecellm_lite.models.store import Store
from ecellm_lite.pipe.child_runtime import ChildRuntime
from tests.support.refusals import refusal
from tests.support.shop_adapters import SHOPS, merged, write_base, write_shops

SETTINGS: Mapping[str, Any] = {"envelope": "alpaca", "gpu_layers": 0, "prompt_kernels": "off"}
TASKS = ("sentiment_analysis", "query_product_ranking")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a base model, three adapters, and a merged model for each adapter."""
    folder = tmp_path_factory.mktemp("shops")
    base = write_base(folder / "base.gguf")
    for name in write_shops(folder, base):
        merged(base, folder / name, folder / f"{name}-merged.gguf")
    return folder


def files(folder: Path) -> dict[str, Path]:
    return {name: folder / f"{name}.gguf" for name in SHOPS}


def row(number: int) -> tuple[str, dict[str, Any]]:
    """Return a task and a row. Each number gives a different row."""
    if number % 5:
        return "sentiment_analysis", {"review": f"Order {number}: it {'works' if number % 2 else 'broke'} at once."}
    return "query_product_ranking", {"query": f"cable {number}", "products": ["a red cable", f"lamp {number}", "tea"]}


def asked(runtime: Runtime | ChildRuntime, count: int) -> Iterator[tuple[str | None, int, Future[Answer]]]:
    """Submit rows, some to the base model and most to its adapters.

    Yield each row's adapter (None for the base model), its number and the future of its answer.
    """
    for number in range(count):
        adapter = (None, *SHOPS)[number % 4] if number % 7 == 0 else SHOPS[number % 3]
        task, fields = row(number)
        yield adapter, number, runtime.submit(task, fields, adapter=adapter)


def likeness(one: Answer, other: Answer) -> float:
    """Return the KL divergence between the probabilities of two answers, in nats. It is 0 for equal probabilities."""
    assert one.probabilities
    assert other.probabilities
    shares = np.array([one.probabilities[name] for name in other.probabilities])
    expected = np.array(list(other.probabilities.values()))
    return float((expected * np.log(expected / shares)).sum())


@pytest.mark.slow  # 600 rows, some seconds
def test_300_mixed_rows_get_the_answers_of_the_merged_models(folder: Path) -> None:
    with Runtime(folder / "base.gguf", deterministic=True, adapters=files(folder), **SETTINGS) as runtime:
        answers = [(adapter, number, future.result()) for adapter, number, future in list(asked(runtime, 300))]
    models: dict[str | None, Path] = {
        None: folder / "base.gguf",
        **{name: folder / f"{name}-merged.gguf" for name in SHOPS},
    }
    divergences, same, others = [], [], set()
    for adapter, path in models.items():
        with Runtime(path, deterministic=True, **SETTINGS) as runtime:
            for number, answer in [(number, answer) for name, number, answer in answers if name == adapter]:
                task, fields = row(number)
                expected = runtime.answer(task, fields)
                assert answer.error is None
                assert (answer.model.adapter.name if answer.model.adapter else None) == adapter
                divergences.append(likeness(answer, expected))
                same.append(answer.value == expected.value)
                others.add((adapter, answer.probability))
    most, least = LIMITS["F32"]
    assert len(same) == 300
    assert np.mean(divergences) <= most
    assert np.mean(same) >= least
    assert len(others) > 250, "the adapters answer alike: the test shows nothing"


def test_deterministic_answers_do_not_depend_on_other_adapters(folder: Path) -> None:
    with Runtime(folder / "base.gguf", deterministic=True, adapters=files(folder), **SETTINGS) as runtime:
        mixed = [(adapter, number, future.result()) for adapter, number, future in list(asked(runtime, 40))]
    for name in SHOPS:
        alone = {name: files(folder)[name]}
        with Runtime(folder / "base.gguf", deterministic=True, adapters=alone, **SETTINGS) as runtime:
            for number, answer in [(number, answer) for adapter, number, answer in mixed if adapter == name]:
                task, fields = row(number)
                assert runtime.answer(task, fields, adapter=name) == answer


def test_fast_answers_are_close_to_deterministic_ones(folder: Path) -> None:
    with Runtime(folder / "base.gguf", adapters=files(folder), **SETTINGS) as fast:
        answers = [future.result() for _, _, future in list(asked(fast, 60))]
    with Runtime(folder / "base.gguf", deterministic=True, adapters=files(folder), **SETTINGS) as slow:
        expected = [future.result() for _, _, future in list(asked(slow, 60))]
    assert np.mean([likeness(*pair) for pair in zip(answers, expected, strict=True)]) <= LIMITS["F16"][0]


def test_prefixes_on_disk_belong_to_one_adapter(folder: Path) -> None:
    own = "Say how content the buyer is, in the words of this test alone."

    def cached(adapter: str | None) -> int | None:
        with Runtime(folder / "base.gguf", adapters=files(folder), **SETTINGS) as runtime:
            answer = runtime.answer("sentiment_analysis", {"review": "It works."}, instruction=own, adapter=adapter)
        assert answer.usage
        return answer.usage.cached_tokens

    first, again, other = cached("shop-a"), cached("shop-a"), cached("shop-b")
    assert (first, other) == (0, 0)
    assert again


def test_an_unknown_adapter_is_refused_with_the_known_names(folder: Path) -> None:
    with Runtime(folder / "base.gguf", adapters=files(folder), **SETTINGS) as runtime:
        with refusal(UsageError, "'shop-x'", "shop-a, shop-b, shop-c", field="adapter"):
            runtime.answer("sentiment_analysis", {"review": "x"}, adapter="shop-x")
        with pytest.raises(UsageError):
            next(iter(runtime.answers("sentiment_analysis", [{"review": "x"}], adapter="")))
    with Runtime(folder / "base.gguf", **SETTINGS) as runtime, pytest.raises(UsageError):
        runtime.submit("sentiment_analysis", {"review": "x"}, adapter="shop-a")


def test_an_adapter_that_changes_while_it_is_loaded_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ecellm_lite.engine import llama

    class Changing(llama.LlamaBackend):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            (folder / "changed.gguf").touch()

    (folder / "changed.gguf").write_bytes((folder / "shop-a.gguf").read_bytes())
    monkeypatch.setattr(llama, "LlamaBackend", Changing)
    with refusal(ModelError, "changed.gguf"):
        Runtime(folder / "base.gguf", adapters={"shop": folder / "changed.gguf"}, **SETTINGS)


@pytest.mark.parametrize("lazy", [False, True])
def test_a_child_process_answers_with_each_adapter(folder: Path, lazy: bool) -> None:
    with ChildRuntime(folder / "base.gguf", deterministic=True, adapters=files(folder), lazy=lazy, **SETTINGS) as child:
        digests = {name: Store().identify(path).sha256 for name, path in files(folder).items()}
        assert child.adapters == digests
        answers = [future.result(timeout=60) for _, _, future in list(asked(child, 20))]
        with pytest.raises(UsageError):
            child.submit("sentiment_analysis", {"review": "x"}, adapter="shop-x")
        failed = child.submit("sentiment_analysis", {}, adapter="shop-a").result(timeout=60)
    assert failed.error
    assert failed.model.adapter
    with Runtime(folder / "base.gguf", deterministic=True, adapters=files(folder), **SETTINGS) as runtime:
        assert answers == [future.result() for _, _, future in list(asked(runtime, 20))]


def test_an_adapter_fits_a_base_of_another_quantization_type(folder: Path, tmp_path: Path) -> None:
    import gguf

    quantized = write_base(tmp_path / "base-q8.gguf", quantization=gguf.GGMLQuantizationType.Q8_0)
    with Runtime(quantized, adapters=files(folder), **SETTINGS) as runtime:
        assert runtime.answer("sentiment_analysis", {"review": "x"}, adapter="shop-a").error is None
    other = write_base(tmp_path / "wide.gguf", embedding=64)
    with refusal(ModelError, "shop-a.gguf", "shapes"):
        Runtime(other, adapters={"shop-a": folder / "shop-a.gguf"}, **SETTINGS)
