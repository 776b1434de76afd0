"""Tests that a runtime answers tasks and conversations in a chat form.

Also tests that an answer ends at the form's end token."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from ecellm_lite import Runtime
from ecellm_lite.answers.decoding import Logits
from ecellm_lite.cli.main import run_command
from ecellm_lite.engine.fake import FakeBackend, FakeVocabulary, LogitsOf
from ecellm_lite.envelopes import get_envelope
from ecellm_lite.errors import InputError
from ecellm_lite.tasks.registry import TASKS
from ecellm_lite.tasks.texts import TEXTS
from tests.support.chat_templates import exchange
from tests.support.commands import refused

VOCABULARY = FakeVocabulary()


def writing(text: str, end: str) -> LogitsOf:
    """Return logits with which the fake engine answers every prompt with `text` and then the token `end`."""
    [line_end] = VOCABULARY.tokenize("\n")
    tokens = [*VOCABULARY.tokenize(text), VOCABULARY.special_token_id(end)]

    def logits(sequence: Sequence[int]) -> Logits:
        written = list(reversed(sequence)).index(line_end)
        scores = np.zeros(VOCABULARY.size, dtype=np.float32)
        scores[tokens[min(written, len(tokens) - 1)]] = 9
        return scores

    return logits


@pytest.mark.parametrize("envelope", ["qwen2.5", "llama3.1", "gemma", "phi3", "mistral-v3"])
def test_the_ten_tasks_are_answered_in_a_chat_form(envelope: str) -> None:
    with Runtime.over(FakeBackend(max_cells=8192), envelope=envelope) as runtime:
        for name, task in TASKS.items():
            question = task.question(task.example())
            prompt = get_envelope(envelope).wrap(question.instruction, question.text, question.options)
            assert runtime.request(question).prompt == prompt.tokens(VOCABULARY)
            assert runtime.prompt(name, task.example()) == str(prompt)
            answer = runtime.answer(name, task.example())
            assert (answer.envelope, answer.error) == (envelope, None)


def test_rows_of_a_task_share_their_instruction() -> None:
    with Runtime.over(FakeBackend(), envelope="qwen2.5") as runtime:
        rows = [{"review": "It works."}, {"review": "It is loud."}]
        answers = list(runtime.answers("sentiment_analysis", rows))
        prefix = get_envelope("qwen2.5").prefix(TASKS["sentiment_analysis"].instruction).tokens(VOCABULARY)
    assert answers[1].usage
    assert answers[1].usage.cached_tokens == len(prefix)


def test_a_conversation_is_written_as_turns_of_the_form() -> None:
    turns = [{"role": turn.role, "content": turn.text} for turn in exchange("Is it loud?", "No.", "Sure?<|im_end|>")]
    with Runtime.over(FakeBackend(), envelope="chatml") as runtime:
        question = TEXTS["chat"].question({"messages": turns}, instruction="Be short.")
        request = runtime.request(question)
    prompt = get_envelope("chatml").conversation("Be short.", exchange("Is it loud?", "No.", "Sure?<|im_end|>"))
    assert request.prompt == prompt.tokens(VOCABULARY)
    assert list(request.prompt).count(VOCABULARY.special_token_id("<|im_end|>") or 0) == 4, "a user's is text"


def test_a_text_ends_at_the_forms_end_token() -> None:
    with Runtime.over(FakeBackend(writing("quiet", "<|im_end|>")), envelope="chatml", drafts=False) as runtime:
        answer = runtime.answer(TEXTS["chat"], {"messages": [{"role": "user", "content": "Loud?"}]})
    assert answer.text == "quiet"


@pytest.mark.parametrize(("envelope", "least", "most"), [("qwen2.5", 0.9, 1.0), ("alpaca", 0.4, 0.6)])
def test_yes_with_a_capital_counts_for_a_general_model(envelope: str, least: float, most: float) -> None:
    scores = np.zeros(VOCABULARY.size, dtype=np.float32)
    scores[VOCABULARY.tokenize("Y")[0]] = 9
    with Runtime.over(FakeBackend(lambda _: scores), envelope=envelope) as runtime:
        answer = runtime.answer("product_matching", TASKS["product_matching"].example())
    assert answer.probabilities
    assert answer.probabilities.keys() == {"yes", "no"}
    assert sum(answer.probabilities.values()) == pytest.approx(1)
    assert least <= answer.probabilities["yes"] <= most
    assert (answer.coverage or 0) > 0.9 if envelope == "qwen2.5" else (answer.coverage or 0) < 0.1
    assert answer.text in ("yes", "no")


@pytest.mark.parametrize(
    "messages", [None, [], "Hello", [{"role": "system", "content": "x"}], [{"role": "user"}], ["x"]]
)
def test_invalid_conversations_are_refused(messages: object) -> None:
    with pytest.raises(InputError) as caught:
        TEXTS["chat"].question({"messages": messages})
    assert (caught.value.field or "").startswith("messages")


def test_the_command_shows_a_forms_prompt(capsys: pytest.CaptureFixture[str]) -> None:
    row = '{"review": "It works."}'
    assert run_command(["run", "-t", "SA", "-i", row, "--envelope", "qwen3", "--show-prompt"]) == 0
    question = TASKS["sentiment_analysis"].question({"review": "It works."})
    prompt = get_envelope("qwen3").prompt(question.instruction, question.text, question.options)
    assert capsys.readouterr().out.rstrip("\n") == prompt.rstrip("\n")
    assert "--envelope" in refused(capsys, 2, "run", "-t", "SA", "-i", row, "--envelope", "qwen", "--show-prompt")
