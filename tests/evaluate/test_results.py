"""Results: what is in them, how they are read back, and what two of them say together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecellm_lite import Runtime
from ecellm_lite.answers.answer import Answer, ModelName, RowError
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.errors import InputError
from ecellm_lite.evaluate import results as results_module
from ecellm_lite.evaluate.comparison import compare
from ecellm_lite.evaluate.evaluation import EXAMPLES, evaluate, no_rows, results
from ecellm_lite.evaluate.labelled import Labelled, labelled
from ecellm_lite.evaluate.paper import IN_DOMAIN, METRICS, OUT_OF_DOMAIN, paper_figures
from ecellm_lite.evaluate.reliability import reliability, risk
from ecellm_lite.evaluate.results import (
    DataFile,
    EvaluationSettings,
    Results,
    TaskResult,
    Uncalibrated,
    Unreadable,
    read_results,
)
from ecellm_lite.tasks.registry import TASKS, get_task
from tests.support.labelled_rows import row

MODEL = ModelName("fake", "00")


def rows_of(task: str, count: int) -> list[Labelled]:
    return [labelled(get_task(task), line + 1, row(get_task(task).name, line)) for line in range(count)]


def answer_of(labelled_row: Labelled, text: str | None, probability: float | None = 0.5, **other: Any) -> Answer:
    value = {"yes": True, "no": False}.get(text or "")
    shares = None
    if value is not None and probability is not None:
        yes = probability if value else 1 - probability
        shares = {"yes": yes, "no": 1 - yes}
    made = Answer(
        id=labelled_row.id,
        task=labelled_row.task.name,
        type="predicate",
        value=value,
        text=text,
        probability=probability,
        probabilities=shares,
        confidence=None,
        coverage=1.0,
        abstained=False,
        usage=None,
        seconds=0.5,
        model=MODEL,
        envelope="alpaca",
    )
    return replace(made, **other)


def result_of(rows: Sequence[Labelled], answers: Sequence[Answer]) -> TaskResult:
    return evaluate(rows[0].task, rows, answers, seconds=2.0, prompt=lambda one: f"prompt of {one.line}")


def whole(tasks: dict[str, TaskResult], **other: Any) -> Results:
    made = results(
        MODEL,
        "alpaca",
        data=[DataFile("rows.jsonl", "ab")],
        settings=EvaluationSettings(None, "test", "IND_Diverse_Instruction", deterministic=False, instruction=None),
        seconds=2.0,
        unreadable=[],
        tasks=tasks,
    )
    return replace(made, **other)


def written(path: Path, found: Results) -> Path:
    path.write_text(json.dumps(found.as_dict()))
    return path


@pytest.fixture(scope="module")
def fake() -> Results:
    """All tasks, as the fake engine answers them."""
    pytest.importorskip("rouge_score", reason="free text is measured by rouge-score (extra 'eval')")
    tasks = {}
    with Runtime.over(FakeBackend()) as runtime:
        for name, task in TASKS.items():
            rows = rows_of(name, 12)
            answers = list(runtime.answers(task, (one.row for one in rows)))
            tasks[name] = result_of(rows, answers)
    return whole(tasks)


def test_all_tasks_are_evaluated(fake: Results) -> None:
    assert list(fake.tasks) == list(TASKS)
    for name, task in fake.tasks.items():
        assert (task.abbreviation, task.rows, task.answered) == (TASKS[name].abbreviation, 12, 12)
        assert set(task.metrics.paper) == set(task.metrics.all)
        assert task.interval.low <= task.metrics.all[task.primary] <= task.interval.high
        assert len(task.slowest) == EXAMPLES
        assert task.slowest[0].seconds == max(record.seconds or 0 for record in task.records)
        assert task.rows_per_second == 6
        assert [record.line for record in task.records] == list(range(1, 13))
        if name == "answer_generation":
            assert (task.reliability, task.risk, task.least_certain) == (None, None, [])
            continue
        assert task.reliability
        # An extraction is judged entry by entry: two attributes a row.
        assert task.reliability.count == (24 if name == "attribute_value_extraction" else 12)
        assert task.risk
        assert task.risk[-1].answered == 1
        assert task.least_certain[0].probability == min(record.probability or 1 for record in task.records)
        assert task.least_certain[0].prompt == f"prompt of {task.least_certain[0].line}"


def test_results_come_back_from_a_file(fake: Results, tmp_path: Path) -> None:
    assert read_results(written(tmp_path / "a.json", fake)) == fake


def test_a_file_from_before_the_least_probability_is_read(fake: Results, tmp_path: Path) -> None:
    data = fake.as_dict()
    assert data["settings"].pop("min_probability", "missing") is None
    path = tmp_path / "a.json"
    path.write_text(json.dumps(data))
    assert read_results(path) == fake
    data["settings"]["min_probability"] = 0.8
    path.write_text(json.dumps(data))
    found = read_results(path)
    assert found.settings.min_probability == 0.8
    assert "settings differ" in compare(fake, found).warnings[0]


def test_a_file_from_before_the_calibrations_were_named_is_read(fake: Results, tmp_path: Path) -> None:
    data = fake.as_dict()
    for task in data["tasks"].values():
        assert (task.pop("calibration"), task.pop("uncalibrated")) == (None, None)
    path = tmp_path / "a.json"
    path.write_text(json.dumps(data))
    assert read_results(path) == fake
    assert compare(read_results(path), fake).warnings == []
    task = replace(fake.tasks["sentiment_analysis"], calibration="T=2", uncalibrated=Uncalibrated(3, 4, "No."))
    named = replace(fake, tasks={**fake.tasks, "sentiment_analysis": task})
    assert read_results(written(path, named)) == named
    assert compare(fake, named).tasks["sentiment_analysis"].difference == 0


def test_what_calibrated_the_answers_is_kept() -> None:
    rows = rows_of("PM", 4)
    failed = answer_of(rows[3], None, None, error=RowError("context_exceeded", "Too long."))
    plain, named = answer_of(rows[0], "yes", 0.9), answer_of(rows[2], "yes", 0.8, calibration="product_matching T=2")
    asked = []

    def refusal(one: Labelled) -> str | None:
        asked.append(one.line)
        return "The row asks otherwise." if one.line < 3 else None

    answers = [plain, replace(plain, id="r1"), named, failed]
    task = evaluate(rows[0].task, rows, answers, seconds=1, prompt=str, refusal=refusal)
    assert (task.calibration, task.uncalibrated) == (named.calibration, Uncalibrated(2, 1, "The row asks otherwise."))
    assert task.without_calibration == (
        "2 of 4 rows are not calibrated (the first, in line 1: The row asks otherwise)."
    )
    assert asked == [1, 2]
    assert whole({"product_matching": task}).calibrated
    task = result_of(rows, [*answers[:2], plain, failed])
    assert (task.calibration, task.uncalibrated, task.without_calibration) == (None, None, None)
    assert not whole({"product_matching": task}).calibrated


def test_a_file_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results_module, "LARGEST_FILE", 1 << 16)
    path = tmp_path / "results.json"
    path.write_bytes(b" " * ((1 << 16) + 1))
    with pytest.raises(InputError, match="65,536"):
        read_results(path)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no such device")
def test_a_device_is_refused() -> None:
    with pytest.raises(InputError):
        read_results(Path("/dev/zero"))


def damaged(found: Results) -> list[tuple[str, Any]]:
    """Damages of a file of results: what must be named, and the data."""

    def changed(*path: str | int, value: Any) -> Any:
        data = json.loads(json.dumps(found.as_dict()))
        part = data
        for key in path[:-1]:
            part = part[key]
        part[path[-1]] = value
        return data

    task = ("tasks", "sentiment_analysis")
    return [
        ("its format is '2'", changed("format", value=2)),
        ("its format is", []),
        ("its format is", {}),
        ("has no created", {key: value for key, value in found.as_dict().items() if key != "created"}),
        ("unknown key 'extra'", changed("extra", value=1)),
        ("it.model is str", changed("model", value="demo")),
        ("it.calibrated is int", changed("calibrated", value=1)),
        ("12 rows and 0 records", changed(*task, "records", value=[])),
        ("no metric 'brilliance'", changed(*task, "primary", value="brilliance")),
        ("is bool", changed(*task, "rows", value=True)),
        ("records[0].score is str", changed(*task, "records", 0, "score", value="1")),
        ("scores of different kinds", changed(*task, "records", 0, "score", value=[1, 1, 1])),
        ("scores of different kinds", changed("tasks", "attribute_value_extraction", "records", 0, "score", value=[1])),
        *(
            ("a record that counts", changed("tasks", "attribute_value_extraction", "records", 0, "score", value=score))
            for score in ([1, -1, 0], [2, 1, 2], [-1, 0, 0], [1, 1 << 31, 1])
        ),
        ("not a finite number", changed("seconds", value=10**400)),
        ("is list", changed("tasks", value=[])),
    ]


def test_a_damaged_file_is_one_sentence(fake: Results, tmp_path: Path) -> None:
    for expected, data in damaged(fake):
        path = tmp_path / "a.json"
        path.write_text(json.dumps(data))
        with pytest.raises(InputError) as caught:
            read_results(path)
        assert expected in str(caught.value)
        assert str(caught.value).endswith(".")
    for text in ("{", "[" * 100_000, '{"format": NaN}'):
        path.write_text(text)
        with pytest.raises(InputError):
            read_results(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_results(tmp_path / "absent.json")


def test_rows_without_answer_are_counted() -> None:
    rows = rows_of("PM", 4)  # yes, no, yes, no
    failed = answer_of(rows[1], None, None, error=RowError("context_exceeded", "Too long."))
    abstained = answer_of(rows[2], None, 0.4, abstained=True)
    task = result_of(rows, [answer_of(rows[0], "yes", 0.9), failed, abstained, answer_of(rows[3], "no", 0.6)])
    assert (task.rows, task.answered, task.failed, task.abstained) == (4, 2, 1, 1)
    assert [task.metrics.paper["f1"], task.metrics.all["f1"]] == pytest.approx([1, 2 / 3])
    assert (task.metrics.paper["accuracy"], task.metrics.all["accuracy"]) == (1, 0.5)
    assert task.confusion
    assert (task.confusion.labels, task.confusion.counts) == (["yes", "no"], [[1, 0, 1], [0, 1, 1]])
    assert [record.score for record in task.records] == [1, 0, 0, 1]
    assert [(point.answered, point.accuracy) for point in task.risk or []] == [(0.25, 1), (0.5, 1)]
    found = whole({"product_matching": task, "sentiment_analysis": no_rows(get_task("SA"), [Unreadable(3, "No.")])})
    assert found.failures == 2


def test_settings_that_need_a_word_have_a_note() -> None:
    [one] = rows_of("PM", 1)
    shot = replace(one, row={**one.row, "setting": "IND_Diverse_Instruction_1-shot"})
    assert "worked examples" in result_of([shot], [answer_of(shot, "yes")]).notes[0]
    assert not result_of([one], [answer_of(one, "yes")]).notes
    [one] = rows_of("AVE", 1)
    outside = replace(one, row={**one.row, "setting": "OOD_Diverse_Instruction"})
    [note] = result_of([outside], [answer_of(outside, None)]).notes
    assert "contained_f1 here, which is 0.000; the paper reports 0.397 for GPT-4 Turbo, 0.335 for eCeLLM-L" in note
    assert not result_of([one], [answer_of(one, None)]).notes


def test_a_ranking_is_judged_by_what_its_probability_claims() -> None:
    """The probability is of the whole order: the right letter at its head is not enough."""
    rows = rows_of("QPR", 2)  # B,A,C and C,B,A
    shares = {"A": 0.1, "B": 0.9, "C": 0.0}
    given = {"type": "ranking", "probabilities": shares}
    answers = [
        answer_of(rows[0], "B,C,A", 0.7, value=["B", "C", "A"], **given),
        answer_of(rows[1], "C,B,A", 0.4, value=["C", "B", "A"], **given),
    ]

    def judged(found: TaskResult) -> list[tuple[float, float]]:
        assert found.reliability
        return [(one.probability, one.accuracy) for one in found.reliability.bins if one.count]

    task = result_of(rows, answers)
    assert judged(task) == [(0.4, 1), (0.7, 0)]
    assert [(point.min_probability, point.accuracy) for point in task.risk or []] == [(0.7, 0), (0.4, 0.5)]
    # Two products that are equally relevant may stand either way, and what is all the same has no wrong order.
    labels = [("S", "E", "S"), ("I", "I", "I")]
    alike = [replace(one, labels=given) for one, given in zip(rows, labels, strict=True)]
    assert judged(result_of(alike, answers)) == [(0.4, 1), (0.7, 1)]


def test_an_extraction_is_right_where_all_its_entries_are() -> None:
    """Each attribute is asked once: that the data knows a second value of it makes no entry wrong."""
    [one] = rows_of("AVE", 1)
    second = {"attribute": "color", "value": "blue", "source": "product title"}
    gold = json.dumps([*json.loads(one.gold), second])
    entry = {"attribute": "Color", "value": "navy", "source": "product title", "probability": 0.9}
    none = {"attribute": "Size", "value": None, "source": None, "probability": 0.8}
    for rest, right in ((none, 1), ({**none, "value": "m", "source": "product title"}, 0)):
        answer = answer_of(one, "[]", 0.72, type="extraction", value=[entry, rest])
        task = result_of([replace(one, gold=gold)], [answer])
        assert [(point.min_probability, point.accuracy) for point in task.risk or []] == [(0.72, right)]


def test_an_extractions_entries_are_judged_one_by_one() -> None:
    [one] = rows_of("AVE", 1)
    value = [
        {"attribute": "Color", "value": "navy", "source": "product title", "probability": 0.9},
        {"attribute": "Size", "value": "m", "source": "product title", "probability": 0.3},
    ]
    task = result_of([one], [answer_of(one, "[]", 0.27, type="extraction", value=value)])
    assert task.reliability
    filled = [one for one in task.reliability.bins if one.count]
    assert [(one.probability, one.accuracy) for one in filled] == [(0.3, 0), (0.9, 1)]
    assert task.reliability.brier == pytest.approx((0.3**2 + 0.1**2) / 2)
    assert task.reliability.ece == pytest.approx((0.3 + 0.1) / 2)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60))
def test_reliability_agrees_with_naive_code(drawn: list[tuple[float, bool]]) -> None:
    found = reliability([probability for probability, _ in drawn], [right for _, right in drawn])
    assert found
    gap = 0.0
    for place, one in enumerate(found.bins):
        inside = [(p, right) for p, right in drawn if min(int(p * 10), 9) == place]
        assert one.count == len(inside)
        if inside:
            assert one.probability == pytest.approx(sum(p for p, _ in inside) / len(inside))
            assert one.accuracy == pytest.approx(sum(right for _, right in inside) / len(inside))
            gap += abs(sum(p - right for p, right in inside))
    assert found.ece == pytest.approx(gap / len(drawn))
    assert found.brier == pytest.approx(sum((p - right) ** 2 for p, right in drawn) / len(drawn))


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.25, 0.5, 0.9, 1.0]) | st.floats(0, 1), st.booleans()), max_size=120))
def test_risk_is_what_a_threshold_gives(drawn: list[tuple[float, bool]]) -> None:
    points = risk([probability for probability, _ in drawn], [right for _, right in drawn], len(drawn) + 5)
    if not drawn:
        assert points is None
        return
    assert points
    assert len(points) <= 50
    assert [point.min_probability for point in points] == sorted({p.min_probability for p in points}, reverse=True)
    assert points[-1].min_probability == min(probability for probability, _ in drawn)
    for point in points:
        kept = [right for probability, right in drawn if probability >= point.min_probability]
        assert point.answered == len(kept) / (len(drawn) + 5)
        assert point.accuracy == pytest.approx(sum(kept) / len(kept))


# Comparison ----------------------------------------------------------------------------------------------------


def predicates(texts: str, **other: Any) -> Results:
    """Results of rows whose gold is yes and no in turn, answered y, n or - (not at all)."""
    rows = rows_of("PM", len(texts))
    words = {"y": "yes", "n": "no", "-": None}
    answers = [answer_of(one, words[letter]) for one, letter in zip(rows, texts, strict=True)]
    return whole({"product_matching": result_of(rows, answers)}, **other)


def test_what_changed_by_hand() -> None:
    found = compare(predicates("ynyn" * 10 + "nnnn"), predicates("ynyn" * 10 + "yny-"))
    task = found.tasks["product_matching"]
    assert (task.rows, task.left_out, task.metric) == (44, 0, "f1")
    assert [task.before, task.after] == pytest.approx([2 * 20 / (20 + 22), 1])
    assert task.difference == pytest.approx(1 - 40 / 42)
    assert task.interval.low <= task.difference <= task.interval.high
    assert (task.better.count, task.better.rows) == (2, ["r40", "r42"])
    assert (task.worse.count, task.worse.rows) == (1, ["r43"])
    assert found.warnings == []


def test_nothing_changed(fake: Results) -> None:
    found = compare(fake, fake)
    for name, task in found.tasks.items():
        assert task.before == pytest.approx(fake.tasks[name].metrics.all[fake.tasks[name].primary])
        assert (task.difference, task.interval.low, task.interval.high) == (0, 0, 0)
        assert (task.better.count, task.worse.count) == (0, 0)


def test_only_common_rows_are_compared() -> None:
    before, after = predicates("ynyn"), predicates("ynynyn", data=[DataFile("rows.jsonl", "cd")], envelope="mistral")
    records = after.tasks["product_matching"].records
    records[0] = replace(records[0], gold="no")  # not the same row
    found = compare(before, after)
    assert (found.tasks["product_matching"].rows, found.tasks["product_matching"].left_out) == (3, 4)
    assert "files of rows differ" in found.warnings[0]
    assert "alpaca, then mistral" in found.warnings[1]
    with pytest.raises(InputError, match="no row in common"):
        compare(before, whole({}))


def test_edited_results_are_one_sentence(fake: Results) -> None:
    for name, change in (
        ("sentiment_analysis", {"gold": "splendid"}),
        ("product_matching", {"gold": "maybe"}),
        ("query_product_ranking", {"score": [1, 1, 1]}),
    ):
        task = fake.tasks[name]
        edited = [replace(record, **change) for record in task.records]
        before = edited if "gold" in change else task.records
        sides = [replace(fake, tasks={name: replace(task, records=records)}) for records in (before, edited)]
        with pytest.raises(InputError, match="edited"):
            compare(*sides)


def test_another_metric_is_not_compared(fake: Results) -> None:
    other = replace(fake.tasks["answer_generation"], primary="bertscore_f1")
    found = compare(fake, replace(fake, tasks={**fake.tasks, "answer_generation": other}))
    assert "answer_generation" not in found.tasks
    assert "rouge_l, then bertscore_f1" in found.warnings[0]


# The paper -----------------------------------------------------------------------------------------------------


def test_the_papers_figures() -> None:
    assert {task.abbreviation for task in TASKS.values()} == set(METRICS)
    assert all(set(model) == set(METRICS) for model in IN_DOMAIN.values())
    models = [*IN_DOMAIN.values(), *OUT_OF_DOMAIN.values()]
    figures = [figure for model in models for figure in model.values()]
    assert len(figures) == 10 * 10 + 4 * 6
    assert all(0 <= figure <= 1 for figure in figures)
    assert paper_figures("AVE", "f1")["eCeLLM-M"] == 0.662
    # Out of domain the paper's F1* of extractions is another metric.
    assert paper_figures("AVE", "f1", "OOD_Diverse_Instruction") == {}
    assert paper_figures("AVE", "contained_f1", "OOD_Diverse_Instruction")["eCeLLM-M"] == 0.367
    assert paper_figures("AVE", "contained_f1") == {}
    assert paper_figures("SA", "macro_f1", "OOD_Diverse_Instruction")["eCeLLM-M"] == 0.640
    assert paper_figures("PM", "f1", "OOD_Diverse_Instruction") == {}
    assert paper_figures("AG", "rouge_l") == {}
