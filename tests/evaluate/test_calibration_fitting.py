"""Fitting a temperature: it mends a model that is too sure, and what might be chance is not kept."""

from __future__ import annotations

import builtins
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from ecellm_lite import InputError, Runtime, UsageError
from ecellm_lite.answers.answer import Answer, ModelName
from ecellm_lite.answers.calibration import tempered
from ecellm_lite.answers.claims import Claim
from ecellm_lite.answers.decoding import Logits, Outcome
from ecellm_lite.answers.extraction import Extraction
from ecellm_lite.answers.predicate import Predicate
from ecellm_lite.answers.ranking import Ranking
from ecellm_lite.answers.score import Score
from ecellm_lite.answers.space import Space
from ecellm_lite.answers.text import Text
from ecellm_lite.engine.fake import FakeBackend, scattered
from ecellm_lite.evaluate.calibrating import CalibrationResult, calibrate_task
from ecellm_lite.evaluate.cases import Case, case_of
from ecellm_lite.evaluate.fitting import LEAST_RATIO, _Claims, check_installed, fit
from ecellm_lite.evaluate.labelled import Labelled, labelled
from ecellm_lite.evaluate.reliability import reliability
from ecellm_lite.evaluate.results import DataFile
from ecellm_lite.models.calibrations import HIGHEST, LOWEST, Calibrations
from ecellm_lite.tasks.registry import TASKS
from tests.support.answer_checks import EXAMPLES

pytest.importorskip("scipy", reason="fitting a temperature needs the extra 'eval'")

MODEL = ModelName("shop", "5" * 64)
DATA = DataFile("reviews.jsonl", "a" * 64)
SA = TASKS["sentiment_analysis"]


def drawn(count: int, temperature: float, seed: int, *, options: int = 5) -> list[Case]:
    """Return cases of a model whose logits are `temperature` times too large."""
    generator = np.random.default_rng(seed)
    cases = []
    for _ in range(count):
        said = tempered(np.exp(generator.normal(size=options) * 2 * temperature), 1.0)
        said = np.sort(said)[::-1]
        right = int(generator.choice(options, p=tempered(said, temperature)))
        cases.append(Case((Claim(tuple(said.tolist()), right),), 1.0))
    return cases


def ece(cases: Sequence[Case], temperature: float) -> float:
    first = [claim for case in cases for claim in case.claims]
    shares = [float(tempered(claim.shares, temperature)[0]) for claim in first]
    found = reliability(shares, [claim.correct for claim in first])
    assert found is not None
    return found.ece


@pytest.mark.parametrize("temperature", [3.0, 2.0, 0.5])
def test_a_model_that_is_wrong_about_itself_is_mended(temperature: float) -> None:
    found = fit(drawn(300, temperature, seed=1))
    assert found.refusal is None
    assert found.temperature == pytest.approx(temperature, rel=0.2)
    assert found.after.log_likelihood > found.before.log_likelihood
    assert found.after.ece < found.before.ece
    assert found.after.brier < found.before.brier
    unseen = drawn(2000, temperature, seed=2)
    assert ece(unseen, found.temperature) < 0.05 < ece(unseen, 1.0)


def test_ten_rows_are_too_few_to_tell() -> None:
    """A model a little too sure: a temperature fits its ten rows better, and none of that is kept."""
    for seed in range(20):
        found = fit(drawn(10, 1.5, seed))
        assert found.rows == 10
        assert found.refusal is not None
    assert fit(drawn(300, 1.5, seed=0)).refusal is None


def test_ten_right_answers_do_not_make_a_model_certain() -> None:
    """All held-out rows become likelier, with hardly any spread: still one such file in ten is chance."""
    found = fit([Case((Claim((0.8, 0.2), 0),), 1.0)] * 10)
    assert found.temperature == pytest.approx(LOWEST, rel=0.01)
    assert found.gain == pytest.approx(-math.log(0.8), abs=1e-3)
    assert found.error == pytest.approx(0, abs=1e-9)
    assert found.log_ratio == pytest.approx(-5 * math.log(0.8), abs=1e-2)
    assert found.refusal is not None
    assert "3.1 times as likely" in found.refusal


def test_a_calibrated_model_is_left_as_it_is() -> None:
    kept = [fit(drawn(count, 1.0, seed)).refusal is None for count in (10, 30, 100) for seed in range(40)]
    assert sum(kept) <= len(kept) / LEAST_RATIO


def test_what_is_the_same_for_every_seed_is_the_temperature() -> None:
    cases = drawn(60, 2.0, seed=5)
    one, other = fit(cases, seed=0), fit(cases, seed=1)
    assert one.temperature == other.temperature
    assert one.before == other.before
    assert one.gain != other.gain
    assert fit(cases, seed=0) == one


def test_the_measures_by_hand() -> None:
    """Half the rows are right at 0.9: the best temperature makes that 0.5, as far as the bounds let it."""
    cases = [Case((Claim((0.9, 0.1), place % 2),), place / 100) for place in range(100)]
    found = fit(cases)
    assert found.before.log_likelihood == pytest.approx((math.log(0.9) + math.log(0.1)) / 2)
    assert found.before.ece == pytest.approx(0.4)
    assert found.before.brier == pytest.approx((0.01 + 0.81) / 2)
    assert found.temperature == pytest.approx(HIGHEST, rel=0.01)
    assert found.after.log_likelihood == pytest.approx(math.log(0.5), abs=0.01)
    assert found.least_coverage == pytest.approx(0.0099)
    assert found.gain == pytest.approx(found.after.log_likelihood - found.before.log_likelihood)


def test_impossible_answers_that_came_true_are_not_infinitely_bad() -> None:
    cases = [Case((Claim((1.0, 0.0), int(place % 4 == 0)),), 1.0) for place in range(200)]
    found = fit(cases)
    assert math.isfinite(found.before.log_likelihood)
    assert found.refusal is None
    assert float(tempered((1.0, 0.0), found.temperature)[0]) == pytest.approx(0.86, abs=0.01)  # at the bound


def test_rows_weigh_as_rows_and_not_as_choices() -> None:
    """A hundred entries of one row are one voice, whatever they say."""
    loud = Case(tuple(Claim((0.99, 0.01), 1) for _ in range(100)), 1.0)
    quiet = [Case((Claim((0.7, 0.3), int(place % 10 < 3)),), 1.0) for place in range(40)]
    found = fit([loud, *quiet])
    assert found.refusal is not None
    assert found.error > 0.5


def entries(count: int, seed: int) -> list[Case]:
    """Return extractions of three entries, which say 0.5 to 0.99 and are right with sigmoid(logit(p) / 2 - 2)."""
    generator = np.random.default_rng(seed)
    cases = []
    for _ in range(count):
        said = generator.uniform(0.5, 0.99, 3)
        right = generator.random(3) < 1 / (1 + np.exp(2.0 - np.log(said / (1 - said)) / 2))
        cases.append(Case(tuple(Claim((p, 1 - p), int(not hit)) for p, hit in zip(said, right, strict=True)), 1.0))
    return cases


def test_entries_that_are_mostly_wrong_have_a_bias() -> None:
    """No temperature brings 0.9 below one half; with a bias it says what it is worth."""
    plain, found = fit(entries(300, seed=1)), fit(entries(300, seed=1), biased=True)
    assert plain.bias == 0
    assert plain.temperature == pytest.approx(HIGHEST, rel=0.01)
    assert plain.after.ece > 0.2
    assert found.refusal is None
    assert found.bias == pytest.approx(-2, abs=0.6)
    assert found.temperature == pytest.approx(2, rel=0.4)
    assert found.after.ece < 0.05 < 0.3 < found.before.ece
    kept = [fit(drawn(10, 1.0, seed, options=2), biased=True).refusal is None for seed in range(40)]
    assert sum(kept) <= len(kept) / LEAST_RATIO


def test_too_few_rows_are_said() -> None:
    with pytest.raises(InputError, match="at least 10 rows, and there are 9"):
        fit(drawn(9, 3.0, seed=0))


def test_without_scipy_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def absent(name: str, *arguments: Any, **named: Any) -> Any:
        if name.startswith("scipy"):
            raise ImportError(name)
        return original(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(UsageError, match=r"pip install 'ecellm-lite\[eval\]'"):
        check_installed()


# From answers to cases.


def space_of(name: str) -> Space:
    return TASKS[name].question(EXAMPLES[name]).space


def answer_of(name: str) -> Answer:
    with Runtime.over(FakeBackend()) as runtime:
        return runtime.answer(name, EXAMPLES[name])


def test_a_choice_and_its_right_answer() -> None:
    space, answer = space_of("sentiment_analysis"), answer_of("sentiment_analysis")
    assert answer.probabilities is not None
    for text, share in zip(space.alternatives, answer.probabilities.values(), strict=True):
        [claim] = case_of(space, answer, text).claims
        assert claim.probability == answer.probability
        assert claim.shares[claim.right] == share
        assert claim.correct == (text == answer.text)
        assert sum(claim.shares) == pytest.approx(1)
    with pytest.raises(InputError):
        case_of(space, answer, "F")


def test_a_predicate_a_score_and_a_ranking() -> None:
    answer = answer_of("product_matching")
    for gold in ("yes", "no"):
        [claim] = case_of(Predicate(), answer, gold).claims
        assert claim.correct == (answer.text == gold)
    scored = Answer(
        "r", "own", "score", 1.8, "B", 0.8, {"bad": 0.2, "good": 0.8}, 0.6, 0.9, False, None, None, MODEL, ""
    )
    space = Score(("bad", "good"), ("A", "B"))
    assert case_of(space, scored, "A") == Case((Claim((0.8, 0.2), 1),), 0.9)
    assert case_of(space, scored, "B").correct


def test_a_ranking_is_one_choice_among_all_orders() -> None:
    space, ranked = space_of("query_product_ranking"), answer_of("query_product_ranking")
    order, probability = ranked.value, ranked.probability
    assert probability is not None
    others = math.factorial(len(order)) - 1
    assert case_of(space, ranked, ",".join(order)).claims == (Claim((probability, 1 - probability), 0, others),)
    # The right one first is not enough: the probability is of the whole.
    swapped = [order[0], *order[:0:-1]]
    for gold in (swapped, order[::-1]):
        assert case_of(space, ranked, ",".join(gold)).claims == (Claim((probability, 1 - probability), 1, others),)
    assert not case_of(space, ranked, ",".join(swapped)).correct
    single = Answer("r", "own", "ranking", ["A"], "A", 1.0, {"A": 1.0}, 1.0, 1.0, False, None, None, MODEL, "")
    assert case_of(Ranking(("A",)), single, "A").claims == (Claim((1.0,), 0),)


@pytest.mark.parametrize(
    ("labels", "right"),
    [("EIS", True), ("EEE", True), ("III", True), ("ESS", True), ("ESI", False), ("SEE", False), ("CIS", False)],
)
def test_labels_say_which_orders_none_is_better_than(labels: str, right: bool) -> None:
    """Of A,C,B: the labels of A, B and C, in this order."""
    answer = Answer(
        "r", "query_product_ranking", "ranking", ["A", "C", "B"], "A,C,B", 0.6,
        {"A": 0.7, "B": 0.1, "C": 0.2}, 0.5, 0.9, False, None, None, MODEL, "alpaca",
    )  # fmt: skip
    assert case_of(Ranking(("A", "B", "C")), answer, "A,B,C", tuple(labels)).correct is right


def test_a_ranking_is_fitted_as_it_is_calibrated() -> None:
    """What the fit makes of an order is what an answer says afterwards, among six orders or 26!."""
    generator = np.random.default_rng(3)
    for letters in (1, 2, 3, 26):
        keys = [chr(ord("A") + place) for place in range(letters)]
        space = Ranking(tuple(keys))
        outcomes = [
            Outcome(keys, ",".join(keys), (), float(p), dict.fromkeys(keys, 1 / letters))
            for p in generator.uniform(0.3, 0.99, 40)
        ]
        answers = [
            Answer("r", "own", "ranking", keys, one.text, one.probability if letters > 1 else 1.0,
                   one.probabilities, 0.0, 1.0, False, None, None, MODEL, "") for one in outcomes
        ]  # fmt: skip
        right = generator.random(40) < 0.5
        cases = [
            case_of(space, answer, ",".join(keys if hit or letters == 1 else keys[::-1]))
            for answer, hit in zip(answers, right, strict=True)
        ]
        claims = _Claims.of(cases)
        settings = np.tile([2.5, 0.0], (40, 1))
        said = np.exp(claims._tempered(settings)[:, 0])
        expected = [1.0 if letters == 1 else space.calibrated(outcome, 2.5).probability for outcome in outcomes]
        assert said == pytest.approx(expected)


def test_orders_that_are_too_sure_are_mended() -> None:
    """Six orders of logits that are three times too large."""
    cases = []
    for case in drawn(400, 3.0, seed=7, options=6):
        [claim] = case.claims
        first = claim.probability
        cases.append(Case((Claim((first, 1 - first), int(not claim.correct), 5),), 1.0))
    found = fit(cases)
    assert found.refusal is None
    assert found.temperature > 2
    assert found.after.ece < 0.1 < found.before.ece


def test_a_claim_by_hand() -> None:
    """Half of the orders given 0.8 are right: 0.8 among three is 8 to 1 and 1, and so a half is T = log 8 / log 2."""
    cases = [Case((Claim((0.8, 0.2), place % 2, 2),), 1.0) for place in range(200)]
    found = fit(cases)
    assert found.temperature == pytest.approx(math.log(8) / math.log(2), rel=1e-3)
    assert found.after.ece == pytest.approx(0, abs=0.1)
    assert found.before.log_likelihood == pytest.approx((math.log(0.8) + math.log(0.2)) / 2)


def test_an_extraction_by_its_entries() -> None:
    def entry(attribute: str, value: str | None, source: str | None, probability: float = 0.9) -> dict[str, Any]:
        return {"attribute": attribute, "value": value, "source": source, "probability": probability}

    gold = [
        entry("color", "blue", "product title"),
        entry("color", "navy", "product feature"),
        entry("size", None, None),
    ]
    answer = Answer(
        "r", "attribute_value_extraction", "extraction",
        [
            entry("Color", "navy", "product feature", 0.9),  # one of two, in another case
            entry("color", "blue", "product feature", 0.8),  # the right value from the wrong place
            entry("size", None, None, 0.7),
            entry("brand", None, None, 0.6),  # of which the answer says nothing: there is none
            entry("brand", "acme", "product title", 0.5),
        ],
        "[…]", 0.15, None, None, 0.4, False, None, None, MODEL, "alpaca",
    )  # fmt: skip
    space = Extraction(("color", "size", "brand"), {})
    case = case_of(space, answer, json.dumps(gold))
    assert [claim.right for claim in case.claims] == [0, 1, 0, 0, 1]
    assert [claim.shares for claim in case.claims] == [
        pytest.approx((share, 1 - share)) for share in (0.9, 0.8, 0.7, 0.6, 0.5)
    ]
    assert case.coverage == 0.4


def test_free_text_has_no_case() -> None:
    with pytest.raises(InputError):
        case_of(space_of("answer_generation"), answer_of("answer_generation"), "yes")
    with pytest.raises(InputError):
        Text().claims(answer_of("product_matching"), "yes")


# The whole way, over an engine whose letters are three times too sure.


def too_sure(tokens: Sequence[int]) -> Logits:
    return (scattered(tokens) * 6).astype(np.float32)


def reviews(count: int, seed: int, **more: Any) -> list[Labelled]:
    """Return rows whose right answers are drawn from what the engine would say if it were not too sure."""
    generator = np.random.default_rng(seed)
    rows = [{"review": f"row {seed} {number}", **more} for number in range(count)]
    with Runtime.over(FakeBackend(too_sure)) as runtime:
        shares = [list((answer.probabilities or {}).values()) for answer in runtime.answers(SA, rows)]
    options = json.loads(str(SA.question(rows[0]).options))
    return [
        labelled(SA, number, {**row, "output": options[generator.choice(5, p=tempered(share, 3.0))]})
        for number, (row, share) in enumerate(zip(rows, shares, strict=True), start=1)
    ]


def found_in(rows: Sequence[Labelled]) -> CalibrationResult:
    with Runtime.over(FakeBackend(too_sure), name=MODEL) as runtime:
        return calibrate_task(runtime, SA, rows, DATA)


def test_answers_of_other_rows_are_calibrated_by_it() -> None:
    calibration = found_in(reviews(150, seed=1)).calibration
    assert calibration is not None
    assert calibration.temperature == pytest.approx(3, rel=0.25)
    assert (calibration.scope.task, calibration.scope.model, calibration.data) == (SA.name, MODEL.sha256, DATA.name)

    calibrations = Calibrations(MODEL.sha256, "alpaca")
    calibrations.named = calibration
    unseen = reviews(300, seed=2)
    errors = []
    for used in (None, calibrations):
        with Runtime.over(FakeBackend(too_sure), name=MODEL, calibrations=used) as runtime:
            answers = list(runtime.answers(SA, [row.row for row in unseen]))
        assert {answer.calibration for answer in answers} == {calibration.name if used else None}
        right = [answer.text == row.gold for answer, row in zip(answers, unseen, strict=True)]
        found = reliability([answer.probability or 0.0 for answer in answers], right)
        assert found is not None
        errors.append(found.ece)
    before, after = errors
    assert after < 0.1 < 0.2 < before


def test_rows_that_ask_otherwise_or_fail_are_left_out_and_counted() -> None:
    rows = reviews(20, seed=3)
    wire = {"instruction": "Rate it.", "input": "Good.", "options": SA.question({"review": "x"}).options}
    other = labelled(SA, 21, {**wire, "output": "A: very positive"})
    failing = labelled(SA, 22, {"review": "long " * 5000, "output": "A: very positive"})
    found = found_in([*rows, other, failing])
    assert found.fit is not None
    assert (found.fit.rows, found.failed, found.others) == (20, 1, 1)
    with pytest.raises(InputError, match="No row has the instruction"):
        found_in([other])


def test_a_handful_is_refused_and_not_kept() -> None:
    found = found_in(reviews(6, seed=4))
    assert (found.fit, found.calibration) == (None, None)
    assert "at least 10 rows" in str(found.refusal)


def test_free_text_is_not_calibrated() -> None:
    task = TASKS["answer_generation"]
    row = labelled(task, 1, {**EXAMPLES["answer_generation"], "output": "yes"})
    with Runtime.over(FakeBackend()) as runtime, pytest.raises(InputError, match="without a probability"):
        calibrate_task(runtime, task, [row], DATA)


def test_options_that_every_row_has_of_its_own_are_no_part_of_the_scope() -> None:
    task = TASKS["sequential_recommendation"]
    rows = [
        labelled(task, place, {"history": ["a"], "candidates": ["b", f"c {place}"], "output": "A"})
        for place in range(12)
    ]
    with Runtime.over(FakeBackend(), name=MODEL) as runtime:
        assert calibrate_task(runtime, task, rows, DATA).scope.options is None
    assert found_in(reviews(6, seed=4)).scope.options is not None
