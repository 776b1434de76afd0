"""Tests of deterministic mode with the prompt kernels.

A row's logits must be the same, bit for bit, whether the row is computed alone or together with other rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ecellm_lite import Answer, Runtime, ggml
from ecellm_lite.engine.interface import Chunk
from ecellm_lite.engine.llama import LlamaBackend
from ecellm_lite.engine.settings import Settings
from ecellm_lite.models.store import StoredModel
from tests.engine.test_prompt_backend import KERNELS, counts, state
from tests.support.answer_checks import EXAMPLES

PREFIX, ROW, OTHER = list(range(1000, 1040)), list(range(5000, 5050)), list(range(9000, 9070))

Bits = NDArray[np.uint32]


@pytest.fixture(scope="module")
def kernels() -> dict[str, Any]:
    """Return the setting that turns the prompt kernels on. If this processor cannot run them, skip the test."""
    if not (variant := state().variant):
        pytest.skip("the prompt kernels are not installed, or not for this machine")
    return {"prompt_kernels": variant}


def settings(**changes: Any) -> Settings:
    usual: dict[str, Any] = {"deterministic": True, "gpu_layers": 0, "threads": 2, "context": 512}
    return Settings(**{**usual, **changes})


@pytest.fixture(scope="module")
def backend(demo_model: StoredModel, kernels: dict[str, Any]) -> Iterator[LlamaBackend]:
    backend = LlamaBackend(demo_model.path, settings(**kernels))
    yield backend
    backend.close()


def read(backend: LlamaBackend, *chunks: Chunk) -> Bits:
    """Return the last chunk's logits as integers with the same bits."""
    bits: Bits = backend.decode(chunks)[-1].copy().view(np.uint32)
    return bits


@pytest.fixture(scope="module")
def alone(backend: LlamaBackend) -> Bits:
    """Return the logits' bits after one call with PREFIX and ROW, in an empty cache."""
    assert backend.stable
    backend.clear()
    return read(backend, Chunk(0, 0, PREFIX + ROW, ask=1))


@pytest.mark.parametrize("lengths", [[*[1] * 10, 75, *[1] * 5], [7] * 13, [64, 26], [89, 1]], ids=str)
def test_the_length_of_calls_changes_no_bit(backend: LlamaBackend, alone: Bits, lengths: list[int]) -> None:
    backend.clear()
    tokens, start = PREFIX + ROW, 0
    for length in lengths:
        bits = read(backend, Chunk(0, start, tokens[start : start + length], ask=1))
        start += length
    assert start >= len(tokens)
    assert np.array_equal(bits, alone)


def test_other_rows_and_the_place_in_memory_change_no_bit(backend: LlamaBackend, alone: Bits) -> None:
    """A row's logits stay the same, wherever its tokens are in memory and whatever else is computed with them.

    The row's first tokens are a prefix that another sequence shares. Earlier rows have freed cells here and there in
    memory, and the row's later tokens are put into these cells.
    """
    backend.clear()
    backend.decode([Chunk(3, 0, OTHER[:20], ask=0)])
    backend.decode([Chunk(1, 0, PREFIX, ask=0), Chunk(4, 0, OTHER, ask=0)])
    backend.fork(1, 2, len(PREFIX))
    backend.decode([Chunk(2, len(PREFIX), ROW[:12], ask=0), Chunk(5, 0, OTHER[:9], ask=0)])
    backend.truncate(3, 0)  # ahead of the prefix
    backend.decode([Chunk(5, 9, OTHER[9:14], ask=0), Chunk(2, len(PREFIX) + 12, ROW[12:30], ask=0)])
    backend.truncate(4, 33)
    others = [Chunk(6, 0, OTHER[:31], ask=1), Chunk(4, 33, [17], ask=1)]
    bits = read(backend, *others, Chunk(2, len(PREFIX) + 30, ROW[30:], ask=1))
    assert np.array_equal(bits, alone)


@pytest.mark.parametrize("changes", [{"threads": 1}, {"context": 2048, "micro_batch": 64}])
def test_threads_and_sizes_change_no_bit(
    demo_model: StoredModel, kernels: dict[str, Any], alone: Bits, changes: dict[str, Any]
) -> None:
    other = LlamaBackend(demo_model.path, settings(**kernels, **changes))
    other.decode([Chunk(0, 0, PREFIX, ask=0)])
    bits = read(other, Chunk(0, len(PREFIX), ROW, ask=1))
    other.close()
    assert np.array_equal(bits, alone)


def test_a_saved_prefix_changes_no_bit(backend: LlamaBackend, alone: Bits) -> None:
    backend.clear()
    backend.decode([Chunk(1, 0, OTHER, ask=0), Chunk(2, 0, PREFIX, ask=0)])
    saved = backend.save(2)
    assert not backend.load(3, saved), "the memory is not empty"
    backend.truncate(1, 0)
    assert not backend.save(2), "other tokens of the sequence could be in earlier cells"
    backend.clear()
    assert backend.load(3, saved)
    backend.fork(3, 4, len(PREFIX))
    assert np.array_equal(read(backend, Chunk(5, 0, OTHER, ask=0), Chunk(4, len(PREFIX), ROW, ask=1)), alone)


def test_the_kernels_compute_all_products_and_attentions(backend: LlamaBackend) -> None:
    backend.clear()
    before = counts()
    backend.decode([Chunk(0, 0, [1234], ask=1)])
    assert [now - old for now, old in zip(counts(), before, strict=True)] == [7 * 30 + 1, 30]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"prompt_kernels": "off"}, "switched off"),
        ({"flash_attention": "off"}, "flash attention"),
        ({"kv_type": "f32"}, "f32"),
        ({"deterministic": False}, "deterministic mode is off"),
    ],
)
def test_what_is_not_stable(
    demo_model: StoredModel, kernels: dict[str, Any], changes: dict[str, Any], reason: str
) -> None:
    other = LlamaBackend(demo_model.path, settings(**{**kernels, **changes}))
    other.close()
    assert not other.stable
    assert reason in other.unstable


def test_an_operation_that_the_kernels_do_not_compute(
    demo_model: StoredModel, kernels: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LlamaBackend, "_why_unstable", lambda _: "")
    other = LlamaBackend(demo_model.path, settings(**kernels, kv_type="f32"))
    other.decode([Chunk(0, 0, PREFIX, ask=1)])
    other.close()
    assert not other.stable
    assert "SET_ROWS" in other.unstable


def test_the_operations_by_row_have_ggmls_numbers() -> None:
    text = (KERNELS / "ggml_interface.h").read_text("utf-8")
    match = re.search(r"ggml_ops_by_row\[\] = \{(.*)\}", text)
    assert match
    names = [ggml.operation(int(number)) for number in match[1].split(",")]
    assert " ".join(names) == "ADD SUB MUL DIV NORM RMS_NORM SCALE CPY CONT GET_ROWS ROPE UNARY GLU"
    assert ggml.operation(42) == "SET_ROWS"


def plain(answers: Iterator[Answer]) -> dict[Any, dict[str, Any]]:
    return {answer.id: answer.as_dict() for answer in answers}


def rows(count: int) -> list[dict[str, Any]]:
    words = ("good", "awful", "fine", "loud", "lovely", "dull", "sturdy", "flimsy")
    return [
        {"id": n, "review": f"It is {words[n % 8]} and " + "the lid broke, " * (n % 5) + f"after {n} days."}
        for n in range(count)
    ]


@pytest.mark.slow
def test_answers_are_the_same_bytes_in_every_batch(demo_model: StoredModel, kernels: dict[str, Any]) -> None:
    few = rows(10)
    seen = []
    for size, threads, order in ((256, 2, few), (64, 1, few[::-1])):
        options: dict[str, Any] = {"micro_batch": size, "threads": threads, **kernels}
        with Runtime(demo_model.path, envelope="alpaca", deterministic=True, prefix_files=False, **options) as runtime:
            seen.append(plain(runtime.answers("sentiment_analysis", order)))
            seen.append(plain(iter([runtime.answer("sentiment_analysis", few[3])])))
    assert seen[0] == seen[2]
    assert seen[1] == seen[3] == {3: seen[0][3]}


@pytest.mark.slow
def test_every_task_has_the_same_bytes_in_every_batch(demo_model: StoredModel, kernels: dict[str, Any]) -> None:
    """The rows are answered four times, with different batch sizes, orders and numbers of threads.

    In one of the four runs, the engine shares only the rows' instruction, and no other equal text of their prompts.
    """
    jobs = [(task, [{**EXAMPLES[task], "id": n} for n in range(2)]) for task in EXAMPLES]
    jobs.append(("sentiment_analysis", rows(20)[2:]))  # whose ids are not those of the examples
    seen = []
    for size, threads, turn, grouped in ((256, 2, 1, True), (512, 1, -1, True), (100, 2, -1, False), (64, 1, 1, True)):
        options: dict[str, Any] = {"micro_batch": size, "threads": threads, **kernels}
        with Runtime(
            demo_model.path, envelope="alpaca", deterministic=True, prefix_files=False, grouped=grouped, **options
        ) as runtime:
            futures = {
                (task, row["id"]): runtime.submit(task, row) for task, some in jobs[::turn] for row in some[::turn]
            }
            seen.append({name: future.result().as_dict() for name, future in futures.items()})
    assert all(seen[0] == other for other in seen[1:])
