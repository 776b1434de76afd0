"""Tests the metrics of extractions and of free text against simple code and against figures computed by hand."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecellm_lite.errors import UsageError
from ecellm_lite.evaluate.metrics import texts
from ecellm_lite.evaluate.metrics.kinds import check_measurable, measure
from ecellm_lite.evaluate.metrics.measured import Pair
from ecellm_lite.tasks.registry import get_task
from tests.support.metric_pairs import TRIPLES, both, entries

pytest.importorskip("rouge_score", reason="free text is measured by rouge-score (extra 'eval')")


NAVY = ("color", "navy", "product title")
BLUE = ("color", "blue", "product description")
NONE = ("size", "None", "None")


@pytest.mark.parametrize(
    ("gold", "text", "score"),
    [
        (entries(NAVY, NONE), entries(NAVY, NONE), [2, 2, 2]),
        (entries(NAVY, BLUE, NONE), entries(NAVY, NONE), [2, 2, 3]),  # one of two entries of an attribute
        (entries(NAVY, BLUE), entries(BLUE, NAVY), [2, 2, 2]),  # the gold is a set
        (entries(NAVY), entries(NAVY, NAVY), [1, 1, 1]),
        (entries(NAVY), entries(("color", "navy", "product feature")), [0, 1, 1]),  # the wrong source
        (entries(NAVY), entries(("color", "navy blue", "product title")), [0, 1, 1]),
        (entries(NAVY), entries(("Color", "navy", "product title")), [0, 1, 1]),
        (entries(NAVY), entries(("color", "None", "None")), [0, 1, 1]),  # not found, though it is there
        (entries(NONE), entries(("size", "m", "product title")), [0, 1, 1]),  # found, though it is not there
        (entries(NONE), '[{"attribute": "size", "value": null, "source": null}]', [1, 1, 1]),
        (entries(NAVY), "[]", [0, 0, 1]),
        (entries(), entries(NAVY), [0, 1, 0]),
        (entries(NAVY), '[{"attribute": "color"}]', [0, 1, 1]),
        (entries(NAVY), '[{"value": "navy"}]', [0, 0, 1]),
        (entries(NAVY), entries(NAVY)[:-1], [0, 0, 1]),  # cut by a limit of tokens
        (entries(NAVY), None, [0, 0, 1]),
    ],
)
def test_triples_are_as_computed_by_hand(gold: str, text: str | None, score: list[int]) -> None:
    assert list(measure(get_task("AVE"), [Pair(gold, text)]).scores) == [score]


def test_f1_star_is_as_computed_by_hand() -> None:
    pairs = [Pair(entries(NAVY, BLUE, NONE), entries(NAVY, NONE)), Pair(entries(NAVY), None), Pair("[]", entries(NAVY))]
    paper, every = both("AVE", pairs)
    assert every["precision"] == 2 / 3
    assert every["recall"] == 2 / 4
    assert every["f1"] == pytest.approx(2 * 2 / (3 + 4))
    assert paper == every


def test_contained_values_are_counted_as_computed_by_hand() -> None:
    near = entries(("color", "navy blue", "product"), ("size", "m", "product title"))
    gold = entries(("color", "navy", "product title"), ("size", "None", "None"))
    values = both("AVE", [Pair(gold, near)])[1]
    assert (values["f1"], values["contained_precision"], values["contained_recall"]) == (0, 0.5, 0.5)
    assert both("AVE", [Pair(gold, entries(("color", "", "")))])[1]["contained_recall"] == 0
    # Two answers may lie in one gold value, and cannot count as two of it.
    values = both("AVE", [Pair(entries(("c", "navy blue", "t")), entries(("c", "navy", "t"), ("c", "blue", "t")))])[1]
    assert (values["contained_precision"], values["contained_recall"]) == (1, 1)


Parts = list[tuple[str, str, str]]


@given(st.lists(st.tuples(TRIPLES, TRIPLES | st.none()), min_size=1, max_size=8))
def test_triples_agree_with_naive_sets(rows: list[tuple[Parts, Parts | None]]) -> None:
    values = both("AVE", [Pair(entries(*gold), None if text is None else entries(*text)) for gold, text in rows])[1]
    hits = sum(len(set(gold) & set(text or ())) for gold, text in rows)
    answered = sum(len(set(text or ())) for _, text in rows)
    total = sum(len(set(gold)) for gold, _ in rows)
    assert values["precision"] == pytest.approx(hits / answered if answered else 0)
    assert values["recall"] == pytest.approx(hits / total if total else 0)
    assert values["f1"] == pytest.approx(2 * hits / (answered + total) if hits else 0)
    assert values["contained_f1"] >= values["f1"]


def longest_common(one: Sequence[str], other: Sequence[str]) -> int:
    if not one or not other:
        return 0
    if one[-1] == other[-1]:
        return 1 + longest_common(one[:-1], other[:-1])
    return max(longest_common(one[:-1], other), longest_common(one, other[:-1]))


@given(st.lists(st.sampled_from("abcd"), max_size=6), st.lists(st.sampled_from("abcd"), max_size=6))
def test_rouge_l_agrees_with_naive_code(gold: list[str], text: list[str]) -> None:
    [score] = texts.rouge_l([Pair(" ".join(gold), " ".join(text).upper())])
    common = longest_common(gold, text)
    assert score == pytest.approx(2 * common / (len(gold) + len(text)) if common else 0)


def test_texts_without_answer_count_as_wrong() -> None:
    measured = measure(get_task("AG"), [Pair("it is loud", "it is loud"), Pair("it is loud", None), Pair("a", "")])
    assert measured.values() == ({"rouge_l": 1 / 2}, {"rouge_l": 1 / 3})
    assert measured.primary == "rouge_l"
    assert "BERTScore" in measured.notes[0]


def test_bertscore_is_primary_if_its_weights_are_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def score(candidates: list[str], references: list[str], *, model_type: str, num_layers: int) -> Any:
        assert (candidates, references, model_type, num_layers) == (["a", "a b"], ["a b", "c"], str(tmp_path), 17)
        return None, None, np.array([0.9, 0.6])

    monkeypatch.setattr(texts, "_bert_weights", lambda: tmp_path)
    monkeypatch.setitem(sys.modules, "bert_score", SimpleNamespace(score=score))
    measured = measure(get_task("AG"), [Pair("a b", "a"), Pair("a", None), Pair("c", "a b")])
    assert measured.primary == "bertscore_f1"
    assert measured.values()[0] == pytest.approx({"bertscore_f1": 0.75, "rouge_l": 1 / 3})
    assert measured.values()[1]["bertscore_f1"] == pytest.approx(0.5)
    assert list(measured.scores) == [0.9, 0.0, 0.6]
    assert not measured.notes


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rouge_score.rouge_scorer", None)
    with pytest.raises(UsageError, match=r"ecellm-lite\[eval\]"):
        check_measurable(get_task("AG"))
    check_measurable(get_task("AVE"))
