"""Tests the HTML page about a finished job: answers, probabilities, and the rows that failed or need review."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("jinja2", reason="the report needs the extra eval")

from ecellm_lite import TASKS, Runtime, UsageError, load_task
from ecellm_lite.answers.answer import Answer, ModelName, RowError
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.jobs.job import JobOptions, open_job
from ecellm_lite.jobs.report.page import JobReport, page
from ecellm_lite.jobs.statistics import BINS, DISTINCT, SLOWEST, TaskStatistics
from ecellm_lite.jobs.tally import Tally
from ecellm_lite.tables.mapped_row import MappedRow
from ecellm_lite.tables.row import TableRow
from tests.support.html_page import Page
from tests.support.sample_results import HOSTILE

SENTIMENT = TASKS["sentiment_analysis"]


def write_table(path: Path, count: int = 20) -> Path:
    with path.open("w", newline="") as file:
        lines = [(number, f"review {number}" if number % 10 else "") for number in range(count)]
        csv.writer(file).writerows([("id", "review"), *lines])
    return path


def answer(**fields: Any) -> Answer:
    defaults: dict[str, Any] = {
        "id": 1, "task": "t", "type": "choice", "value": "A", "text": "A: good", "probability": 0.8,
        "probabilities": {"A": 0.8, "B": 0.2}, "confidence": 0.6, "coverage": 1.0, "abstained": False, "usage": None,
        "seconds": 0.5, "model": ModelName("demo", "0"), "envelope": "alpaca",
    }  # fmt: skip
    return Answer(**{**defaults, **fields})


def counted(*answers: Answer) -> TaskStatistics:
    statistics = TaskStatistics("t")
    for line, one in enumerate(answers, 1):
        mapped = MappedRow(TableRow(line, line, {}), {"review": f"row {line}"})
        statistics.add(mapped, one, reason="error" if one.error else None, corrected=False)
    return statistics


def test_a_job_writes_its_report(tmp_path: Path) -> None:
    rows, output, report = write_table(tmp_path / "rows.csv"), tmp_path / "answers.csv", tmp_path / "page.html"
    options = JobOptions(review_below=0.9, report=report)
    with open_job(rows, output, SENTIMENT, options) as job, Runtime.over(FakeBackend()) as runtime:
        tally = job.run(runtime)
    parsed = Page(report.read_text("utf-8"))
    headings = [element.text for element in parsed.all("h3")]
    assert len(headings) == 5
    text = parsed.elements[0].text
    with output.open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert all(line["answer"] in text for line in table)
    assert next(line["error"] for line in table if line["error"]) in text
    assert f"{tally.to_review - tally.failed:,}: probability below 0.9" in text
    assert len(parsed.all("details")) == SLOWEST
    [bars] = [element for element in parsed.all("svg") if element.attributes.get("role") == "img"]
    assert bars.text
    # Nothing is loaded or run.
    assert not {"script", "link", "img"} & {element.tag for element in parsed.elements}
    assert "default-src 'none'" in (parsed.all("meta")[1].attributes["content"] or "")


def test_each_task_has_a_section(tmp_path: Path) -> None:
    own = tmp_path / "desk.toml"
    own.write_text(
        'name = "desk"\nsummary = "A test."\ninstruction = "Answer."\n[[fields]]\nname = "review"\n'
        '[answer]\ntype = "extraction"\nattributes = ["Color", "Size"]\n'
    )
    report = tmp_path / "page.html"
    tasks = [SENTIMENT, load_task(own)]
    with (
        open_job(write_table(tmp_path / "rows.csv"), tmp_path / "x.csv", tasks, JobOptions(report=report)) as job,
        Runtime.over(FakeBackend()) as runtime,
    ):
        job.run(runtime)
    parsed = Page(report.read_text("utf-8"))
    assert [element.text for element in parsed.all("h2")] == ["The job", "Sentiment analysis", "Desk"]
    names = {element.text for element in parsed.all("bdi")}
    assert {"Color: none", "Color: a value"} & names
    ids = [element.attributes["id"] for element in parsed.elements if "id" in element.attributes]
    assert len(ids) == len(set(ids))


def test_answers_of_each_type_are_counted() -> None:
    statistics = counted(
        answer(),
        answer(type="predicate", value=True, text="yes", probability=1.0),
        answer(type="ranking", value=["B", "A"], text="B,A"),
        answer(type="score", value=1.7, text="2", probabilities={"1": 0.3, "2": 0.7}),
        answer(type="text", value="words", text="words", probability=None, probabilities=None),
        answer(type=None, value=None, text=None, probability=None, error=RowError("input", "No.")),
        answer(value=None, text=None, abstained=True, probability=0.05),
    )
    assert statistics.answers == {"A: good": 1, "yes": 1, "B first": 1, "2": 1}
    assert (statistics.answered, statistics.failed, statistics.abstained) == (5, 1, 1)
    assert sum(statistics.bins) == 5
    assert (statistics.bins[0], statistics.bins[BINS - 1]) == (1, 1)
    assert (statistics.errors["input"].count, statistics.errors["input"].line) == (1, 6)


def test_each_of_several_labels_counts() -> None:
    statistics = counted(
        answer(type="labels", value=["a", "b"], text="a, b"),
        answer(type="labels", value=["b"], text="b"),
        answer(type="labels", value=[], text="none"),
        answer(type="labels", value=None, text=None, abstained=True),
    )
    assert statistics.answers == {"a": 1, "b": 2, "none": 1}


def test_counting_takes_bounded_memory() -> None:
    statistics = counted(
        *(answer(value=number, text=f"{number}", seconds=number / 1e4) for number in range(5 * DISTINCT))
    )
    assert len(statistics.answers) == DISTINCT
    assert statistics.others == 4 * DISTINCT
    assert [row.line for row in statistics.slowest] == list(range(5 * DISTINCT, 5 * DISTINCT - SLOWEST, -1))


@settings(max_examples=25, deadline=None)
@given(st.text(st.characters(codec=None, categories=None), max_size=60) | st.sampled_from(HOSTILE))
def test_any_text_is_shown_as_text(text: str) -> None:
    def tags(text: str) -> list[str]:
        error = RowError(text, text)
        statistics = counted(answer(text=text, id=text), answer(value=None, text=None, error=error, id=text))
        tally = Tally(rows=2, failed=1, seconds=1.0, notes=[text])
        source = page(JobReport(text, [text], Path("out") / "x.csv", tally, [statistics], reviewed=True))
        source.encode("utf-8")
        return [element.tag for element in Page(source).elements]

    assert tags(text or "x") == tags("plain")


def test_the_report_replaces_neither_rows_nor_answers(tmp_path: Path) -> None:
    rows, output = write_table(tmp_path / "rows.csv"), tmp_path / "answers.csv"
    for report in (rows, output, tmp_path / "answers.review.csv"):
        before = rows.read_bytes()
        with pytest.raises(UsageError) as error, open_job(rows, output, SENTIMENT, JobOptions(report=report)):
            pass
        assert error.value.settings == ("report",)
        assert rows.read_bytes() == before
