"""Tests the options of each task, its answers, and its prompts with and without options."""

from __future__ import annotations

import pytest

from ecellm_lite.answers.choice import Choice
from ecellm_lite.answers.options import Option
from ecellm_lite.answers.predicate import Predicate
from ecellm_lite.answers.ranking import Ranking
from ecellm_lite.answers.text import Text
from ecellm_lite.envelopes import ENVELOPES, get_envelope
from ecellm_lite.tasks.registry import get_task
from tests.support.questions import MPC_OPTIONS, NAMES, PRP_OPTIONS, SA_OPTIONS, ask

FIXED_OPTIONS = {
    "product_relation_prediction": PRP_OPTIONS,
    "sentiment_analysis": SA_OPTIONS,
    "multiclass_product_classification": MPC_OPTIONS,
}

WITH_OPTIONS = {*FIXED_OPTIONS, "sequential_recommendation"}


@pytest.mark.parametrize("name", [name for name, _, _ in NAMES])
@pytest.mark.parametrize("envelope", ENVELOPES)
def test_the_options_block_is_there_only_with_options(name: str, envelope: str) -> None:
    question = ask(name, get_task(name).example())
    prompt = get_envelope(envelope).prompt(question.instruction, question.text, question.options)
    assert ("Options:" in prompt) == (name in WITH_OPTIONS)
    assert (question.options is not None) == (name in WITH_OPTIONS)
    if name in FIXED_OPTIONS:
        assert question.options == FIXED_OPTIONS[name]


@pytest.mark.parametrize("envelope", ["alpaca", "mistral"])
@pytest.mark.parametrize("options", [None, ""])
def test_a_prompt_without_options_has_no_options_block(envelope: str, options: str | None) -> None:
    opening = (
        "Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request."
    )
    expected = {
        "alpaca": f"{opening}\n\n### Instruction:\nDo.\n\n### Input:\nThis.\n\n### Response:\n",
        "mistral": f"[INST] {opening}\n\n### Instruction:\nDo.\n\n### Input:\nThis.\n\n [/INST] ### Response:\n",
    }
    assert get_envelope(envelope).prompt("Do.", "This.", options) == expected[envelope]


def test_fixed_options_give_a_choice() -> None:
    letters = Choice((Option("A", "A"), Option("B", "B"), Option("C", "C")))
    assert ask("product_relation_prediction", {"product_1": "a", "product_2": "b"}).space == letters
    assert ask("sequential_recommendation", {"history": ["a"], "candidates": ["b", "c", "d"]}).space == letters
    assert ask("sentiment_analysis", {"review": "Good."}).space == Choice(
        (
            Option("A", "A: very positive"),
            Option("B", "B: positive"),
            Option("C", "C: neutral"),
            Option("D", "D: negative"),
            Option("E", "E: very negative"),
        )
    )
    assert ask("multiclass_product_classification", {"query": "a", "title": "b"}).space == Choice(
        (
            Option("A", "A: The product is relevant to the query, and satisfies all the query specifications."),
            Option(
                "B",
                "B: The product is somewhat relevant. It fails to fulfill some aspects of the query but the product "
                "can be used as a functional substitute.",
            ),
            Option(
                "C",
                "C: The product does not fulfill the query, but could be used in combination with a product exactly "
                "matching the query.",
            ),
            Option("D", "D: The product is irrelevant to the query."),
        )
    )


def test_the_other_tasks_have_their_answer_spaces() -> None:
    for name in ("product_matching", "product_substitute_identification", "answerability_prediction"):
        assert ask(name, get_task(name).example()).space == Predicate()
    ranking = ask("query_product_ranking", {"query": "a", "products": ["b", "c", "d", "e"]})
    assert ranking.space == Ranking(("A", "B", "C", "D"))
    assert ask("answer_generation", {"question": "a?", "documents": ["b"]}).space == Text(max_tokens=100)


@pytest.mark.parametrize("name", [name for name, _, _ in NAMES])
def test_another_instruction_changes_only_the_instruction(name: str) -> None:
    example = get_task(name).example()
    seed = ask(name, example)
    other = ask(name, example, instruction="Décide: {input}?")
    assert other.instruction == "Décide: {input}?" != seed.instruction
    assert (other.text, other.options, other.space) == (seed.text, seed.options, seed.space)
    prompt = get_envelope("mistral").prompt(other.instruction, other.text, other.options)
    assert f"### Instruction:\nDécide: {{input}}?\n\n### Input:\n{seed.text}\n\n" in prompt
