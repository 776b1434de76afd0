"""Tests of the engine that need the real llama.cpp and the demo model, because the fake engine runs no model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from ecellm_lite import ContextError, ModelError, Runtime, ggml, schema
from ecellm_lite.answers.decoding import Scene
from ecellm_lite.answers.text import Text
from ecellm_lite.binding import llama
from ecellm_lite.engine.interface import Chunk
from ecellm_lite.engine.llama import LlamaBackend
from ecellm_lite.engine.scheduler import Scheduler
from ecellm_lite.engine.settings import Settings
from ecellm_lite.engine.threads import Threads
from ecellm_lite.engine.vocabulary import LlamaVocabulary
from ecellm_lite.models.store import StoredModel
from ecellm_lite.tasks.registry import TASKS
from tests.support.answer_checks import EXAMPLES, HOSTILE, check
from tests.support.refusals import refusal


@pytest.fixture(scope="module")
def backend(demo_model: StoredModel) -> LlamaBackend:
    return LlamaBackend(demo_model.path, Settings())


@pytest.mark.parametrize("name", TASKS)
def test_every_example_gets_an_answer_from_its_answer_set(name: str, demo: Runtime) -> None:
    answer = demo.answer(name, EXAMPLES[name])
    check(answer, EXAMPLES[name], TASKS[name].question(EXAMPLES[name]).space)
    assert answer.model.sha256 == demo.model.sha256
    assert len(answer.model.sha256) == 64
    assert answer.envelope == "alpaca"


def tail_of(backend: LlamaBackend, runtime: Runtime, name: str, row: Mapping[str, Any]) -> tuple[list[int], list[int]]:
    """Answer a row, and return two lists of tokens, which should be equal.

    The first list has the tokens that the model read and wrote. The second list has the tokens that the tokenizer
    returns for the prompt and the answer as one text.
    """
    request = runtime.request(TASKS[name].question(row))
    scheduler = Scheduler(backend)
    scheduler.submit(request)
    while not request.done:
        scheduler.step()
    assert request.outcome is not None
    text = runtime.prompt(name, row) + request.outcome.text
    return [*request.prompt, *request.outcome.tokens], backend.vocabulary.tokenize(text, begin=True)


@pytest.mark.parametrize("name", [name for name in TASKS if name != "answer_generation"])
def test_the_answer_is_tokenized_as_the_tokenizer_would(name: str, backend: LlamaBackend, demo: Runtime) -> None:
    led, whole = tail_of(backend, demo, name, EXAMPLES[name])
    assert led == whole


def test_several_values_and_values_of_lists_are_tokenized_so_too(backend: LlamaBackend, demo: Runtime) -> None:
    row = {
        "title": "Navy Blue and Red Mug, Ökö Steel",
        "feature": ["Red handle", "20-lb."],
        "attributes": [
            {"name": "Color", "at_most": 3},
            {"name": "Material", "values": ["Steel", 'Wood "™"', "Stone"], "at_most": 2},
            {"name": "Weight", "at_most": 2},
        ],
    }
    led, whole = tail_of(backend, demo, "attribute_value_extraction", row)
    assert led == whole


@pytest.mark.slow
@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text)[:20])
def test_hostile_text_stays_text(text: str, backend: LlamaBackend, demo: Runtime) -> None:
    rows: dict[str, dict[str, Any]] = {
        "sentiment_analysis": {"review": text},
        "attribute_value_extraction": {"title": text, "attributes": [text or "x"]},
        "product_matching": {"product_1": {"title": text}, "product_2": {"title": text}},
    }
    for name, row in rows.items():
        check(demo.answer(name, row), row, TASKS[name].question(row).space)
        led, whole = tail_of(backend, demo, name, row)
        assert led == whole
        # No special tokens, although the text spells some: a user's text never becomes one.
        assert not set(whole) & set(backend.vocabulary.control.tolist())


def test_the_text_of_a_special_token_is_not_that_token(backend: LlamaBackend) -> None:
    vocabulary = backend.vocabulary
    ids = vocabulary.tokenize("<|im_end|>")
    assert len(ids) > 1
    assert vocabulary.end not in ids
    assert vocabulary.detokenize(ids) == b"<|im_end|>"
    assert vocabulary.detokenize([vocabulary.end]) == b""


@pytest.mark.parametrize("letter", ["a", "漢", *(pytest.param(letter, marks=pytest.mark.slow) for letter in "1 \n'\0")])
def test_a_megabyte_is_refused_or_tokenized_but_never_crashes(
    letter: str, backend: LlamaBackend, demo: Runtime
) -> None:
    text = letter * (1_000_000 // len(letter.encode()))
    with pytest.raises(ContextError):
        demo.answer("sentiment_analysis", {"review": f"{text}."})
    vocabulary = backend.vocabulary
    assert vocabulary.detokenize(vocabulary.tokenize(text)) == text.encode()


def test_long_texts_survive_tokenizing(backend: LlamaBackend) -> None:
    text = "Größe 12½ — “wasser­dicht” 🧥 \t\r\n" * 200
    assert backend.vocabulary.detokenize(backend.vocabulary.tokenize(text)) == text.encode()


def test_labels_are_one_token_each_and_distinct(backend: LlamaBackend) -> None:
    scene = Scene(backend.vocabulary, 100)
    labels = ["yes", "no", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    rows = [scene.continuation(label) for label in labels]
    assert all(len(row) == 1 for row in rows)
    assert len({row[0] for row in rows}) == len(labels)


ROWS = [{"id": n, "review": f"It is {word} and the {part} broke after {n} days."} for n, (word, part) in enumerate(
    [("good", "lid"), ("awful", "zip"), ("fine", "strap"), ("loud", "fan"), ("lovely", "handle"), ("dull", "blade")]
)]  # fmt: skip


def as_bytes(answers: list[Any]) -> list[str]:
    return [json.dumps(answer.as_dict()) for answer in answers]


@pytest.mark.slow
def test_deterministic_answers_are_bit_identical(demo_model: StoredModel) -> None:
    """The bytes of an answer do not depend on other rows, on their order, or on what is in memory or on disk."""
    with Runtime(demo_model.path, envelope="alpaca", deterministic=True) as runtime:
        cold = as_bytes([runtime.answer("sentiment_analysis", ROWS[0])])
        batch = as_bytes(list(runtime.answers("sentiment_analysis", ROWS)))
        backwards = as_bytes(list(runtime.answers("sentiment_analysis", ROWS[::-1])))[::-1]
        mixed = []
        for row in ROWS:
            runtime.answer("product_matching", EXAMPLES["product_matching"])
            mixed.append(runtime.answer("sentiment_analysis", row))
        extraction = as_bytes([runtime.answer("attribute_value_extraction", EXAMPLES["attribute_value_extraction"])])
        generation = as_bytes([runtime.answer("answer_generation", EXAMPLES["answer_generation"])])
    with Runtime(demo_model.path, envelope="alpaca", deterministic=True) as fresh:
        again = as_bytes([fresh.answer("answer_generation", EXAMPLES["answer_generation"])])
        again_extraction = as_bytes(
            [fresh.answer("attribute_value_extraction", EXAMPLES["attribute_value_extraction"])]
        )
        again_batch = as_bytes([fresh.answer("sentiment_analysis", row) for row in reversed(ROWS)])[::-1]
    assert cold[0] == batch[0]
    assert batch == backwards == as_bytes(mixed) == again_batch
    assert extraction == again_extraction
    assert generation == again


def test_a_changing_number_of_threads_changes_no_deterministic_answer(
    backend: LlamaBackend, demo_model: StoredModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = Threads(3, fixed=True)
    monkeypatch.setattr(backend, "_threads", busy)
    backend.clear()
    backend.decode([Chunk(0, 0, [1, 2, 3], ask=1)])
    assert llama.llama_n_threads(backend._opened.pointer) == 3
    rows = [EXAMPLES["sentiment_analysis"], {"review": "Broke within a week. " * 8}]
    answers = []
    for threads in (1, 3):
        settings: Any = {"deterministic": True, "threads": threads, "prefix_files": False}
        with Runtime(demo_model.path, envelope="alpaca", **settings) as one:
            answers.append([one.answer("sentiment_analysis", row).probabilities for row in rows])
    assert answers[0] == answers[1]


def test_fast_mode_is_close_to_deterministic_mode(demo: Runtime, demo_model: StoredModel) -> None:
    fast = list(demo.answers("sentiment_analysis", ROWS, calibration=False))
    with Runtime(demo_model.path, envelope="alpaca", deterministic=True) as runtime:
        alone = [runtime.answer("sentiment_analysis", row, calibration=False) for row in ROWS]
    for one, other in zip(fast, alone, strict=True):
        assert one.probabilities is not None
        assert other.probabilities is not None
        # Batching is not bit-stable; with quantized weights probabilities change by a few hundredths.
        assert all(abs(one.probabilities[key] - other.probabilities[key]) < 0.1 for key in one.probabilities)


def test_the_instruction_is_read_once(demo: Runtime) -> None:
    rows = [{"review": f"Number {n}"} for n in range(3)]
    first, *rest = [demo.answer("sentiment_analysis", row, instruction="Rate this review, please.") for row in rows]
    assert first.usage is not None
    for answer in rest:
        assert answer.usage is not None
        # For the first, at most the opening that all tasks share can have been in memory.
        assert (answer.usage.cached_tokens or 0) > (first.usage.cached_tokens or 0) + 8


def test_a_real_model_obeys_a_schema(demo: Runtime) -> None:
    definition = {
        "type": "object",
        "properties": {"days": {"type": "integer", "minimum": 0, "maximum": 365}, "sure": {"type": "boolean"}},
        "required": ["days", "sure"],
    }
    answer = demo.answer("answer_generation", EXAMPLES["answer_generation"], space=schema(definition))
    assert set(answer.value) == {"days", "sure"}
    assert 0 <= answer.value["days"] <= 365
    assert answer.usage is not None
    assert answer.usage.forced_tokens > 0


def test_a_prompt_longer_than_the_context_is_refused(demo_model: StoredModel) -> None:
    with (
        Runtime(demo_model.path, envelope="alpaca", context=256) as runtime,
        pytest.raises(ContextError),
    ):
        runtime.answer("sentiment_analysis", {"review": "word " * 400})


@pytest.mark.slow
def test_long_rows_are_shortened_on_a_real_model(demo_model: StoredModel) -> None:
    review = "It works well, but the lid is loose and the fan is louder than I thought. " * 200
    rows: dict[str, dict[str, Any]] = {
        "sentiment_analysis": {"review": review},
        "answer_generation": {"question": "Is it loud?", "documents": [review[:300], review, review]},
        "attribute_value_extraction": {"title": "fan", "description": review, "attributes": ["color", "noise"]},
    }
    with Runtime(demo_model.path, envelope="alpaca", context=512, threads=1) as runtime:
        for name, row in rows.items():
            text = Text(8) if name == "answer_generation" else None
            answer = runtime.answer(name, row, space=text, shorten=True)
            assert answer.error is None
            assert answer.usage is not None
            # Only room for the answer is left: one word of this text is at most three tokens.
            space = text or TASKS[name].question(row).space
            room = space.longest(Scene(runtime._backend.vocabulary, 512))
            assert 512 - room - 3 <= answer.usage.prompt_tokens <= 512 - room
            assert answer.shortened is not None
            field, _, words = answer.shortened.partition(": the first ")
            assert field in row
            assert int(words.split(" ")[0]) < 400


def test_a_real_models_json_is_closed_before_its_limit(demo: Runtime) -> None:
    definition = {"type": "object", "properties": {"why": {"type": "string"}}, "required": ["why"]}
    row = EXAMPLES["answer_generation"]
    answer = demo.answer("answer_generation", row, space=schema(definition, max_tokens=7))
    assert answer.shortened == "answer: closed at 7 tokens"
    assert list(answer.value) == ["why"]
    assert answer.usage is not None
    assert answer.usage.decoded_tokens + answer.usage.forced_tokens <= 7


def test_the_old_kv_memory_is_freed_first_if_both_do_not_fit(
    demo_model: StoredModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    init, free = llama.llama_init_from_model, llama.llama_free
    contexts: list[Any] = []

    def one_at_a_time(model: Any, parameters: Any) -> Any:
        if contexts or parameters.n_ctx > 512:
            return None
        contexts.append(init(model, parameters))
        return contexts[-1]

    def freed(context: Any) -> None:
        contexts.remove(context)
        free(context)

    monkeypatch.setattr(llama, "llama_init_from_model", one_at_a_time)
    monkeypatch.setattr(llama, "llama_free", freed)
    backend = LlamaBackend(demo_model.path, Settings(gpu_layers=0, threads=1))
    try:
        assert backend.cells == 256
        backend.grow(512)
        assert backend.cells == 512
        with refusal(ModelError, "1,024", settings=("context",)):
            backend.grow(1024)
        assert backend.cells == 512
        [logits] = backend.decode([Chunk(0, 0, backend.vocabulary.tokenize("It works.", begin=True), 1)])
        assert np.isfinite(logits).all()
    finally:
        backend.close()
    assert not contexts


def test_an_interrupt_while_llama_cpp_logs_is_raised_by_the_next_call(
    backend: LlamaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ggml, "_interrupted", True)
    with pytest.raises(KeyboardInterrupt):
        backend.decode([Chunk(0, 0, [1], 1)])
    backend.clear()
    backend.decode([Chunk(0, 0, [1], 1)])
    backend.clear()


def test_an_empty_state_is_not_loaded(backend: LlamaBackend) -> None:
    assert not backend.load(5, b"")


def test_a_runtime_that_fails_to_start_frees_its_model(
    demo_model: StoredModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    freed: list[LlamaBackend] = []
    close = LlamaBackend.close

    def noted(backend: LlamaBackend) -> None:
        freed.append(backend)
        close(backend)

    monkeypatch.setattr(LlamaBackend, "close", noted)
    monkeypatch.setattr(LlamaBackend, "circumstances", property(lambda _: 1 / 0))
    with pytest.raises(ZeroDivisionError):
        Runtime(demo_model.path, envelope="alpaca", gpu_layers=0)
    assert len(freed) == 1


def test_a_binding_with_other_defaults_is_refused(monkeypatch: pytest.MonkeyPatch, demo_model: StoredModel) -> None:
    from ecellm_lite import EcellmError, binding

    monkeypatch.setitem(binding._CONTEXT_DEFAULTS, "n_ctx", 513)
    binding.check_structures.cache_clear()
    try:
        with refusal(EcellmError, "n_ctx"):
            LlamaBackend(demo_model.path, Settings())
    finally:
        binding.check_structures.cache_clear()


def test_a_vocabulary_has_its_end_tokens(backend: LlamaBackend) -> None:
    assert isinstance(backend.vocabulary, LlamaVocabulary)
    assert backend.vocabulary.end in backend.vocabulary.ends
    assert backend.vocabulary.size == 49152
