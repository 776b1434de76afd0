"""Tests of results files: what they contain, and how they are read."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ecellm_lite.answers.answer import RowError
from ecellm_lite.errors import InputError
from ecellm_lite.evaluate import results as results_module
from ecellm_lite.evaluate.comparison import compare
from ecellm_lite.evaluate.evaluation import EXAMPLES, evaluate
from ecellm_lite.evaluate.labelled import Labelled
from ecellm_lite.evaluate.paper import IN_DOMAIN, METRICS, OUT_OF_DOMAIN, paper_figures
from ecellm_lite.evaluate.results import (
    Results,
    Uncalibrated,
    read_results,
)
from ecellm_lite.tasks.registry import TASKS
from tests.support.evaluations import answer_of, result_of, rows_of, whole, written
from tests.support.refusals import refusal


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


def test_results_survive_a_round_trip(fake: Results, tmp_path: Path) -> None:
    assert read_results(written(tmp_path / "a.json", fake)) == fake


def test_an_older_file_without_the_least_probability_is_read(fake: Results, tmp_path: Path) -> None:
    data = fake.as_dict()
    assert data["settings"].pop("min_probability", "missing") is None
    path = tmp_path / "a.json"
    path.write_text(json.dumps(data))
    assert read_results(path) == fake
    data["settings"]["min_probability"] = 0.8
    path.write_text(json.dumps(data))
    older = read_results(path)
    assert older.settings.min_probability == 0.8
    assert len(compare(fake, older).warnings) == 1


def test_an_older_file_without_calibration_names_is_read(fake: Results, tmp_path: Path) -> None:
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


def test_results_name_the_calibrations_of_their_answers() -> None:
    rows = rows_of("PM", 4)
    failed = answer_of(rows[3], None, None, error=RowError("context_exceeded", "Too long."))
    plain, named = answer_of(rows[0], "yes", 0.9), answer_of(rows[2], "yes", 0.8, calibration="product_matching T=2")
    lines = []

    def refusal(one: Labelled) -> str | None:
        lines.append(one.line)
        return "The row asks otherwise." if one.line < 3 else None

    answers = [plain, replace(plain, id="r1"), named, failed]
    task = evaluate(rows[0].task, rows, answers, seconds=1, prompt=str, refusal=refusal)
    assert (task.calibration, task.uncalibrated) == (named.calibration, Uncalibrated(2, 1, "The row asks otherwise."))
    assert task.without_calibration
    assert re.search(r"\b2 of 4\b.*\bline 1\b.*The row asks otherwise", task.without_calibration)
    assert lines == [1, 2]
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
def test_a_device_file_is_refused() -> None:
    with pytest.raises(InputError):
        read_results(Path("/dev/zero"))


def damaged(fake: Results) -> list[tuple[str, Any]]:
    """Return pairs of a word and damaged data. When the data is read, the error must contain the word."""

    def changed(*path: str | int, value: Any) -> Any:
        data = json.loads(json.dumps(fake.as_dict()))
        part = data
        for key in path[:-1]:
            part = part[key]
        part[path[-1]] = value
        return data

    task = ("tasks", "sentiment_analysis")
    return [
        ("'2'", changed("format", value=2)),
        ("format", []),
        ("format", {}),
        ("created", {key: value for key, value in fake.as_dict().items() if key != "created"}),
        ("'extra'", changed("extra", value=1)),
        ("it.model", changed("model", value="demo")),
        ("it.calibrated", changed("calibrated", value=1)),
        ("12", changed(*task, "records", value=[])),
        ("'brilliance'", changed(*task, "primary", value="brilliance")),
        ("sentiment_analysis", changed(*task, "rows", value=True)),
        ("records[0].score", changed(*task, "records", 0, "score", value="1")),
        ("sentiment_analysis", changed(*task, "records", 0, "score", value=[1, 1, 1])),
        (
            "attribute_value_extraction",
            changed("tasks", "attribute_value_extraction", "records", 0, "score", value=[1]),
        ),
        *(
            (str(score[0]), changed("tasks", "attribute_value_extraction", "records", 0, "score", value=score))
            for score in ([1, -1, 0], [2, 1, 2], [-1, 0, 0], [1, 1 << 31, 1])
        ),
        ("it.seconds", changed("seconds", value=10**400)),
        ("it.tasks", changed("tasks", value=[])),
    ]


def test_a_damaged_file_is_refused(fake: Results, tmp_path: Path) -> None:
    for expected, data in damaged(fake):
        path = tmp_path / "a.json"
        path.write_text(json.dumps(data))
        with refusal(InputError, expected, file=str(path)):
            read_results(path)
    for text in ("{", "[" * 100_000, '{"format": NaN}'):
        path.write_text(text)
        with pytest.raises(InputError):
            read_results(path)
    with refusal(InputError, file=str(tmp_path / "absent.json")):
        read_results(tmp_path / "absent.json")


def test_the_papers_figures_are_complete() -> None:
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
