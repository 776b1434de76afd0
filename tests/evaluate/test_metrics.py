"""Tests the metrics against other libraries, simple code, and figures computed by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecellm_lite.errors import UsageError
from ecellm_lite.evaluate.bootstrap import interval, paired_interval
from ecellm_lite.evaluate.metrics.kinds import measure
from ecellm_lite.evaluate.metrics.measured import Measured, Pair
from ecellm_lite.tasks.registry import TASKS, get_task
from tests.support.metric_pairs import TRIPLES, both, entries
from tests.support.refusals import refusal

pytest.importorskip("rouge_score", reason="free text is measured by rouge-score (extra 'eval')")


sklearn = pytest.importorskip("sklearn.metrics", reason="the metrics are held against scikit-learn (extra 'eval')")
SA = ("A: very positive", "B: positive", "C: neutral", "D: negative", "E: very negative")
LETTERS = st.sampled_from(SA)
WORDS = st.sampled_from(("yes", "no"))


def pairs_of(answers: st.SearchStrategy[str], *, missing: bool = True) -> st.SearchStrategy[list[Pair]]:
    """Return a hypothesis strategy for pairs of a label and an answer. The answer may be missing or unreadable."""
    texts = answers | st.none() | st.just("no idea") if missing else answers
    return st.lists(st.builds(Pair, answers, texts), min_size=1, max_size=30)


@given(pairs_of(LETTERS))
def test_classes_agree_with_scikit_learn(pairs: list[Pair]) -> None:
    gold = [pair.gold[0] for pair in pairs]
    answers = [pair.text[0] if pair.text in SA else "none" for pair in pairs]
    paper, every = both("SA", pairs)
    labels = sorted({*gold, *answers} - {"none"})
    assert every["accuracy"] == pytest.approx(sklearn.accuracy_score(gold, answers))
    assert every["macro_f1"] == pytest.approx(
        sklearn.f1_score(gold, answers, labels=labels, average="macro", zero_division=0)
    )
    readable = [(one, other) for one, other in zip(gold, answers, strict=True) if other != "none"]
    if readable:
        gold, answers = map(list, zip(*readable, strict=True))
        assert paper["accuracy"] == pytest.approx(sklearn.accuracy_score(gold, answers))
        assert paper["macro_f1"] == pytest.approx(sklearn.f1_score(gold, answers, average="macro", zero_division=0))
    else:
        assert paper == {"accuracy": 0, "macro_f1": 0}


@given(pairs_of(WORDS))
def test_predicates_agree_with_scikit_learn(pairs: list[Pair]) -> None:
    paper, every = both("PM", pairs)
    everything = [(pair.gold, pair.text if pair.text in ("yes", "no") else "none") for pair in pairs]
    readable = [(gold, answer) for gold, answer in everything if answer != "none"]
    for values, rows in ((paper, readable), (every, everything)):
        if not rows:
            assert set(values.values()) == {0.0}
            continue
        gold, answers = zip(*rows, strict=True)
        precision, recall, f1, _ = sklearn.precision_recall_fscore_support(
            gold, answers, labels=["yes", "no"], zero_division=0
        )
        assert values == pytest.approx(
            {
                "f1": f1[0],
                "accuracy": sklearn.accuracy_score(gold, answers),
                "precision": precision[0],
                "recall": recall[0],
                "specificity": recall[1],
                "negative_predictive_value": precision[1],
            }
        )


@given(pairs_of(st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ")))
def test_hits_are_counted(pairs: list[Pair]) -> None:
    paper, every = both("SR", pairs)
    hits = sum(pair.text == pair.gold for pair in pairs)
    answered = sum(pair.text is not None and len(pair.text) == 1 for pair in pairs)
    assert every["hr_at_1"] == hits / len(pairs)
    assert paper["hr_at_1"] == (hits / answered if answered else 0)


def test_hits_are_as_computed_by_hand() -> None:
    pairs = [Pair("A", "A"), Pair("B", " B\n"), Pair("C", "A"), Pair("D", None), Pair("E", "E or F")]
    assert both("SR", pairs) == ({"hr_at_1": 2 / 3}, {"hr_at_1": 2 / 5})


def test_ndcg_with_labels_is_as_computed_by_hand() -> None:
    # A is irrelevant, B exact, C a substitute. The answer puts the substitute before the exact one.
    [pair] = [Pair("B,C,A", "C,B,A", ("I", "E", "S"))]
    substitute = 2**0.1 - 1
    ndcg = (substitute + 1 / math.log2(3)) / (1 + substitute / math.log2(3))
    assert [group["ndcg"] for group in both("QPR", [pair])] == pytest.approx([ndcg, ndcg])
    # Gold order does not count where there are labels: two products of one label may stand either way.
    assert both("QPR", [Pair("A,B", "B,A", ("S", "S"))])[1] == {"ndcg": 1.0}


def test_ndcg_without_labels_falls_with_the_gold_rank() -> None:
    measured = measure(get_task("QPR"), [Pair("B,A,C,D", "A,B,C,D")])
    gains = [2**0.1 - 1, 1, 2**0.01 - 1, 0]
    ideal = sorted(gains, reverse=True)
    ndcg = np.dot(gains, 1 / np.log2(range(2, 6))) / np.dot(ideal, 1 / np.log2(range(2, 6)))
    assert measured.values()[1]["ndcg"] == pytest.approx(ndcg)
    assert "1 of 1" in measured.notes[0]
    assert not measure(get_task("QPR"), [Pair("A,B", "A,B", ("E", "I"))]).notes


def test_the_papers_ideal_order_has_only_the_returned_products() -> None:
    # Only the complement is returned: ideal among the returned products, far from it among all.
    [paper], [every] = (list(group.values()) for group in both("QPR", [Pair("A,B", "B", ("E", "C"))]))
    assert paper == 1.0
    assert every == pytest.approx((2**0.01 - 1) / (1 + (2**0.01 - 1) / math.log2(3)))


def test_an_unanswered_ranking_counts_as_zero_in_both_metrics() -> None:
    pairs = [Pair("A,B", "A,B", ("E", "I")), Pair("A,B", None, ("E", "I")), Pair("A,B", "nothing", ("E", "I"))]
    measured = measure(get_task("QPR"), pairs)
    assert measured.values() == ({"ndcg": 1 / 3}, {"ndcg": 1 / 3})
    assert measured.answered == [True, False, False]
    assert len(measure(get_task("QPR"), [Pair("A,B", "A,B", ("I", "I"))]).notes) == 1


@given(st.permutations("ABCD"), st.permutations("ABCD"), st.lists(st.sampled_from("ESCI"), min_size=4, max_size=4))
def test_ndcg_agrees_with_scikit_learn(gold: list[str], order: list[str], labels: list[str]) -> None:
    gains = {"E": 1.0, "S": 0.1, "C": 0.01, "I": 0.0}
    worth = np.array([[2 ** gains[label] - 1 for label in labels]])
    ranks = np.array([[-order.index(letter) for letter in "ABCD"]])
    [ndcg] = both("QPR", [Pair(",".join(gold), ",".join(order), tuple(labels))])[1].values()
    assert ndcg == pytest.approx(sklearn.ndcg_score(worth, ranks))


ANSWERS = {
    "AVE": st.builds(lambda triples: entries(*triples), TRIPLES.filter(bool)),
    "PRP": st.sampled_from("ABC"),
    "PM": WORDS,
    "SA": LETTERS,
    "SR": st.sampled_from("ABCDEFGHIJ"),
    "MPC": st.sampled_from("ABCD"),
    "PSI": WORDS,
    "QPR": st.permutations("ABC").map(",".join),
    "AP": WORDS,
    "AG": st.sampled_from(("it is loud", "yes", "no, it is not")),
}  # fmt: skip


def test_every_task_has_a_metric() -> None:
    assert set(ANSWERS) == {task.abbreviation for task in TASKS.values()}


@pytest.mark.parametrize("task", ANSWERS)
def test_perfect_answers_have_the_best_score_and_empty_ones_zero(task: str) -> None:
    @settings(max_examples=30)
    @given(st.lists(ANSWERS[task], min_size=1, max_size=12))
    def holds(gold: list[str]) -> None:
        perfect = measure(get_task(task), [Pair(text, text) for text in gold])
        primary = perfect.primary
        # F1 of yes is of nothing where nothing is yes.
        best = 1.0 if primary != "f1" or task == "AVE" or "yes" in gold else 0.0
        assert [group[primary] for group in perfect.values()] == pytest.approx([best, best])
        empty = measure(get_task(task), [Pair(text, None) for text in gold])
        assert [group[primary] for group in empty.values()] == [0, 0]
        assert not any(empty.answered)
        assert all(perfect.answered)

    holds()


def test_metrics_of_constant_answers_are_as_computed_by_hand() -> None:
    gold = ["yes"] * 3 + ["no"] * 7
    assert both("PSI", [Pair(text, "yes") for text in gold])[1]["f1"] == pytest.approx(2 * 0.3 / 1.3)
    assert both("PSI", [Pair(text, "no") for text in gold])[1]["f1"] == 0
    assert both("PRP", [Pair(letter, "A") for letter in "AABC"])[1]["macro_f1"] == pytest.approx(2 * 2 / 6 / 3)


@pytest.mark.parametrize("task", ANSWERS)
def test_a_resample_by_counts_equals_repeated_rows(task: str) -> None:
    """A row that is counted three times gives the same metrics as three copies of the row."""

    pairs = st.builds(Pair, ANSWERS[task], ANSWERS[task] | st.none())

    @settings(max_examples=40)
    @given(st.lists(st.tuples(pairs, st.integers(0, 3)), min_size=1, max_size=10))
    def holds(drawn: list[tuple[Pair, int]]) -> None:
        if not any(count for _, count in drawn):
            return
        measured = measure(get_task(task), [pair for pair, _ in drawn])
        sums = np.array([count for _, count in drawn], dtype=np.float64) @ measured.columns
        again = measure(get_task(task), [pair for pair, count in drawn for _ in range(count)])
        for group, values in zip((measured.paper, measured.all), again.values(), strict=True):
            assert {name: float(metric(sums)) for name, metric in group.items()} == pytest.approx(values)

    holds()


def accuracy_of(shares: Sequence[float]) -> Measured:
    return measure(get_task("SR"), [Pair("A", "A" if share else "B") for share in shares])


def test_the_interval_of_accuracy_is_close_to_the_normal_one() -> None:
    measured = accuracy_of([1] * 300 + [0] * 100)
    bounds = interval(measured.columns, measured.all["hr_at_1"])
    width = 1.96 * math.sqrt(0.75 * 0.25 / 400)
    assert (bounds.low, bounds.high) == pytest.approx((0.75 - width, 0.75 + width), abs=0.01)
    assert bounds == interval(measured.columns, measured.all["hr_at_1"])


def test_the_paired_interval_ignores_rows_that_did_not_change() -> None:
    before = accuracy_of([1] * 100 + [0] * 100)
    after = accuracy_of([1] * 110 + [0] * 90)
    bounds = paired_interval(before.columns, after.columns, before.all["hr_at_1"])
    assert 0 < bounds.low < 0.05 < bounds.high < 0.1
    # Ten rows in two hundred changed, whatever the others are.
    assert bounds.high - bounds.low == pytest.approx(2 * 1.96 * math.sqrt(0.05 * 0.95 / 200), abs=0.01)
    alone = interval(after.columns, after.all["hr_at_1"])
    assert bounds.high - bounds.low < 0.6 * (alone.high - alone.low)
    same = paired_interval(before.columns, before.columns, before.all["hr_at_1"])
    assert (same.low, same.high) == (0, 0)


def test_a_custom_task_has_no_metric() -> None:
    own = replace(get_task("SA"), name="mine", abbreviation="")
    with refusal(UsageError, "mine"):
        measure(own, [Pair("A", "A")])
