"""Tests of review tables: which answers a person must check, and how a person's corrections are used."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ecellm_lite import TASKS, Answer, InputError, Runtime, UsageError
from ecellm_lite.answers.answer import ModelName, RowError
from ecellm_lite.answers.extraction import Extraction
from ecellm_lite.answers.predicate import Predicate
from ecellm_lite.answers.ranking import Ranking
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.evaluate.labelled_files import gather, labelled_files
from ecellm_lite.jobs.job import JobOptions, open_job
from ecellm_lite.jobs.journal import journal_of
from ecellm_lite.jobs.review import CORRECTION, KEY, REASON, ReviewRule, review_of
from ecellm_lite.jobs.tally import Tally
from ecellm_lite.models.automatic import EVERY, Automatic
from ecellm_lite.models.calibration_scope import Scope, text_hash
from ecellm_lite.models.calibrations import Calibration, Calibrations, Measures
from ecellm_lite.tables.columns import MapOptions
from ecellm_lite.tables.opening import open_table
from ecellm_lite.training.rows import read_rows

TASK = TASKS["sentiment_analysis"]
MODEL = ModelName("shop", "5" * 64)
OPTIONS = TASK.question({"review": "x"}).options


def calibration(thresholds: dict[str, float | None], least_coverage: float = 0.0) -> Calibration:
    """Return a calibration of the fake model. It sets thresholds, but does not change probabilities."""
    scope = Scope(
        TASK.name, "choice", MODEL.sha256, "alpaca", text_hash(TASK.instruction), OPTIONS and text_hash(OPTIONS)
    )
    measures = Measures(-1.0, 0.1, 0.1)
    automatic = Automatic(0.95, thresholds, 100, 0.5, 0.96)
    return Calibration(
        scope, 1.0, 0.0, least_coverage, 100, 100, measures, measures, "rows", "a" * 64, {}, 2, automatic
    )


def runtime(calibration: Calibration | None = None, folder: Path | None = None) -> Runtime:
    calibrations = None
    if calibration and folder:
        calibration.write(folder / f"{TASK.name}.json")
        calibrations = Calibrations(MODEL.sha256, "alpaca", folder)
    return Runtime.over(FakeBackend(), name=MODEL, deterministic=True, calibrations=calibrations)


def write_table(path: Path, count: int) -> Path:
    """Write a table of reviews. The last row's review is empty."""
    reviews = [f"review number {number}" for number in range(count - 1)] + [""]
    if path.suffix == ".jsonl":
        lines = ({"id": number, "review": review} for number, review in enumerate(reviews))
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    else:
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([("id", "review"), *enumerate(reviews)])
    return path


def read(path: Path) -> list[dict[str, Any]]:
    with open_table(path) as table:
        return [dict(row.cells) for row in table.rows()]


def write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)


def run(rows: Path, output: Path, answerer: Runtime, **options: Any) -> Tally:
    with open_job(rows, output, TASK, JobOptions(**options)) as job, answerer:
        return job.run(answerer)


def correct(rows: Path, output: Path, file: Path, labelled: Path | None = None) -> Tally:
    with open_job(rows, output, TASK) as job:
        return job.correct(file, labelled=labelled)


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_corrections_are_read_from_a_review_table(form: str, tmp_path: Path) -> None:
    rows, output = write_table(tmp_path / f"rows.{form}", 12), tmp_path / f"answers.{form}"
    tally = run(rows, output, runtime(), review_below=1.0)
    review = review_of(output)
    assert (tally.rows, tally.failed, tally.to_review) == (12, 1, 12)
    lines = read(review)
    assert len(lines) == 12
    assert all(line[REASON] for line in lines)
    # The person sorts the table, drops a line, and writes answers in their own words.
    before = read(output)
    lines = lines[::-1][:-1]
    for line, text in zip(lines[2:], ("b", "very NEGATIVE", "C: neutral"), strict=False):
        line[CORRECTION] = text
    numbers = [10 - place for place in range(1, 4)]
    write(review, lines)
    labelled = tmp_path / "labels" / TASK.name / "train.jsonl"
    tally = correct(rows, output, review, labelled)
    assert (tally.rows, tally.corrected, tally.notes) == (12, 3, [])
    after = read(output)
    column = "answer" if form == "csv" else "text"
    corrections = dict(zip(numbers, ("B: positive", "E: very negative", "C: neutral"), strict=True))
    for number, (old, new) in enumerate(zip(before, after, strict=True)):
        assert new[column] == corrections.get(number, old[column])
        assert ("probability" in new and new["probability"] in (None, "")) or number not in corrections
        if number not in corrections:
            assert new == old
    # The labelled rows can be used to evaluate, calibrate and train.
    [file] = labelled_files(labelled, [TASK])
    gathered = gather([file], [TASK])
    assert not gathered.unreadable
    golds = {row.row["input"]["review"]: row.gold for row in gathered.rows[TASK.name]}
    assert golds == {f"review number {number}": text for number, text in corrections.items()}
    assert len(read_rows(tmp_path / "labels")[TASK.name]) == 3
    # Corrections survive another run of the job, which calls no model, and those rows are not reviewed again.
    with open_job(rows, output, TASK, JobOptions(review_below=1.0)) as job, runtime() as answerer:
        again = job.run(answerer)
    reused = 12 if form == "jsonl" else 11  # a row without any field is not answered at all
    assert (again.reused, again.corrected, again.to_review) == (reused, 3, 9)
    assert read(output) == after


def test_a_restart_keeps_corrections_if_the_task_has_changed(tmp_path: Path) -> None:
    rows, output = write_table(tmp_path / "rows.jsonl", 4), tmp_path / "answers.jsonl"
    run(rows, output, runtime(), review_below=1.0)
    lines = read(review_of(output))
    lines[0][CORRECTION] = "A"
    write(review_of(output), lines)
    correct(rows, output, review_of(output))
    assert run(rows, output, runtime(), restart=True).corrected == 1
    other = replace(TASK, instruction="Rate it.")
    with open_job(rows, output, other, JobOptions(restart=True)) as job, runtime() as answerer:
        assert job.run(answerer).corrected == 1


@pytest.mark.parametrize("form", ["csv", "jsonl", "xlsx", "parquet"])
def test_a_review_table_without_new_corrections_is_replaced(form: str, tmp_path: Path) -> None:
    rows, output = write_table(tmp_path / "rows.csv", 4), tmp_path / f"answers.{form}"
    for below in (1.0, 0.0, 0.0, 1.0):  # the last row, an error, is always reviewed
        run(rows, output, runtime(), review_below=below)
    rows.write_text("id,review\n1,fine\n")
    assert [run(rows, output, runtime(), review_below=0.0).to_review for _ in range(2)] == [0, 0]


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_run_does_not_replace_corrections_that_were_not_applied(form: str, tmp_path: Path) -> None:
    rows, output = write_table(tmp_path / "rows.csv", 4), tmp_path / f"answers.{form}"
    review = review_of(output)
    run(rows, output, runtime(), review_below=1.0)
    lines = read(review)
    for text in ("b", "B: positive"):  # the second changes a correction that was applied
        lines[0][CORRECTION] = text
        write(review, lines)
        before = review.read_bytes()
        for options in ({}, {"restart": True}):
            with pytest.raises(UsageError) as error:
                run(rows, output, runtime(), review_below=1.0, **options)
            assert error.value.settings == ("corrections",)
            assert review.read_bytes() == before
        correct(rows, output, review)
    assert run(rows, output, runtime(), review_below=1.0).corrected == 1
    assert [line[CORRECTION] or None for line in read(review)] == [None] * 3
    write(review, [{**lines[1], CORRECTION: "B", KEY: "r00"}])  # a row that is no longer in the table
    correct(rows, output, review)
    assert len(run(rows, output, runtime(), review_below=1.0).notes) == 1  # the journal keeps it


def test_a_run_does_not_replace_a_file_that_is_no_review_table(tmp_path: Path) -> None:
    rows, output = write_table(tmp_path / "rows.csv", 4), tmp_path / "answers.csv"
    review_of(output).write_text("name,score\nAnn,5\n")
    with pytest.raises(UsageError) as error:
        run(rows, output, runtime(), review_below=1.0)
    assert error.value.settings == ("output",)
    assert review_of(output).read_text() == "name,score\nAnn,5\n"


def test_a_table_of_another_job_changes_nothing(tmp_path: Path) -> None:
    rows, output = write_table(tmp_path / "rows.csv", 4), tmp_path / "answers.csv"
    run(rows, output, runtime(), review_below=1.0)
    before = output.read_bytes()
    lines = read(review_of(output))
    for line in lines:
        line[CORRECTION] = "A"
        del line[KEY]
    write(review_of(output), lines)
    with pytest.raises(InputError):
        correct(rows, output, review_of(output))
    assert output.read_bytes() == before


def test_a_job_that_was_never_run_is_not_corrected(tmp_path: Path) -> None:
    rows, output = write_table(tmp_path / "rows.csv", 4), tmp_path / "answers.csv"
    write(tmp_path / "review.csv", [{KEY: "r00", CORRECTION: "A"}])
    with pytest.raises(UsageError) as error:
        correct(rows, output, tmp_path / "review.csv")
    assert error.value.settings == ("output",)


def test_corrections_without_a_row_are_counted(tmp_path: Path) -> None:
    rows, output = write_table(tmp_path / "rows.csv", 4), tmp_path / "answers.csv"
    run(rows, output, runtime())
    write(tmp_path / "review.csv", [{KEY: "r00", CORRECTION: "A"}])
    tally = correct(rows, output, tmp_path / "review.csv")
    assert (tally.corrected, len(tally.notes)) == (0, 1)


def test_the_calibrations_thresholds_choose_rows_for_review(tmp_path: Path) -> None:
    rows, output = write_table(tmp_path / "rows.csv", 12), tmp_path / "answers.csv"
    certain: dict[str, float | None] = dict.fromkeys("ABCDE", 0.0)
    (tmp_path / "model").mkdir()
    assert run(rows, output, runtime(calibration(certain), tmp_path / "model"), review_below="auto").to_review == 1
    assert [line["error"] != "" for line in read(review_of(output))] == [True]
    nothing: dict[str, float | None] = dict.fromkeys("ABCDE")
    with pytest.raises(UsageError) as error:  # with another calibration the probabilities may differ
        run(rows, output, runtime(calibration(nothing), tmp_path / "model"), review_below="auto")
    assert error.value.settings == ("calibration", "restart")
    unsure = runtime(calibration(nothing), tmp_path / "model")
    assert run(rows, output, unsure, review_below="auto", restart=True).to_review == 12
    with pytest.raises(UsageError) as error:
        run(rows, tmp_path / "other.csv", runtime(), review_below="auto")
    assert error.value.settings == ("review_below",)
    assert not journal_of(tmp_path / "other.csv").exists()  # the job has not begun


def test_a_calibration_fitted_between_two_runs_is_noticed(tmp_path: Path) -> None:
    rows, output = write_table(tmp_path / "rows.csv", 4), tmp_path / "answers.csv"
    (tmp_path / "model").mkdir()
    run(rows, output, runtime())
    with pytest.raises(UsageError) as error:
        run(rows, output, runtime(calibration({EVERY: 0.5}), tmp_path / "model"))
    assert error.value.settings == ("calibration", "restart")
    assert run(rows, output, runtime()).reused == 3


def answer(**changes: Any) -> Answer:
    plain = Answer(
        None, TASK.name, "choice", "A", "A: very positive", 0.8, {"A": 0.8, "B": 0.2}, 0.6, 0.9, False, None, None,
        MODEL, "alpaca", calibration({"A": 0.7}).name,
    )  # fmt: skip
    return replace(plain, **changes)


def test_a_review_rule_passes_sure_answers() -> None:
    assert ReviewRule(below=0.8).reason(answer()) is None
    assert ReviewRule(below=0.81).reason(answer())
    assert ReviewRule(below=0.0).reason(answer(error=RowError("input", "No.")))
    assert ReviewRule(below=0.0).reason(answer(abstained=True))
    assert ReviewRule(below=0.0).reason(answer(probability=None))
    rule = ReviewRule(calibration=calibration({"A": 0.7, "B": None}))
    assert rule.reason(answer(calibration=rule.calibration and rule.calibration.name)) is None
    assert rule.reason(answer(calibration=None))  # of a row with another instruction, say
    named = answer(calibration=rule.calibration and rule.calibration.name, probabilities={"A": 0.2, "B": 0.8})
    assert rule.reason(named)
    strange = ReviewRule(calibration=calibration({EVERY: 0.1}, least_coverage=0.95))
    assert strange.reason(answer(calibration=strange.calibration and strange.calibration.name))


def test_answers_written_by_people_are_normalized() -> None:
    assert [Predicate().normalized(text) for text in ("Yes", " no ", "TRUE", "false")] == ["yes", "no", "yes", "no"]
    for words, answer in {
        "WAHR VRAI Vero VERDADERO waar PRAWDA Verdadeiro ja oui Sì sí SÍ si tak sim": "yes",
        "FALSCH FAUX Falso ONWAAR FAŁSZ nein non nee nie não nao": "no",
    }.items():
        assert {Predicate().normalized(word) for word in words.split()} == {answer}
    for word in ("J", "1", "vielleicht", ""):
        with pytest.raises(InputError):
            Predicate().normalized(word)
    with pytest.raises(InputError):
        Predicate().parse("WAHR")  # the output of a labelled row, which is JSON
    ranking = Ranking(("A", "B", "C"))
    assert [ranking.normalized(text) for text in ("b, a, c", "B>A>C", "B,A,C")] == ["B,A,C"] * 3
    with pytest.raises(InputError):
        ranking.normalized("B, A")
    space = Extraction(("Color", "Size"), {"product title": "Mug, Red", "product description": "A red mug."})
    text = space.normalized('{"color": "Red"}')
    assert json.loads(text) == [
        {"attribute": "color", "value": "red", "source": "product title"},
        {"attribute": "size", "value": "None", "source": "None"},
    ]
    assert space.normalized(text) == text
    assert space.value_of(text) == [
        {"attribute": "Color", "value": "red", "source": "product title", "probability": None, "written": "Red"},
        {"attribute": "Size", "value": None, "source": None, "probability": None, "written": None},
    ]
    for wrong in ('{"color": "blue"}', '{"weight": "1 kg"}', "red"):
        with pytest.raises(InputError):
            space.normalized(wrong)


def test_a_corrected_value_is_also_shown_as_the_row_writes_it(tmp_path: Path) -> None:
    rows, output = tmp_path / "rows.csv", tmp_path / "answers.csv"
    rows.write_text("sku,title\nA1,LEGO Classic Bricks\nA2,Bosch Drill\n")
    task, options = TASKS["attribute_value_extraction"], MapOptions(constants={"attributes": "Brand,Color"})
    with open_job(rows, output, task, JobOptions(map=options, review_below=1.0)) as job, runtime() as answerer:
        job.run(answerer)
    lines = read(review_of(output))
    lines[0][CORRECTION] = '{"brand": "LEGO"}'
    write(tmp_path / "corrected.csv", lines)
    with open_job(rows, output, task, JobOptions(map=options)) as job:
        assert job.correct(tmp_path / "corrected.csv").corrected == 1
    [row, _] = read(output)
    assert [row[name] for name in ("Brand", "Brand.written", "Color", "Color.written")] == ["lego", "LEGO", "", ""]


def test_a_review_needs_an_output_file() -> None:
    with pytest.raises(UsageError) as error, open_job("-", None, TASK, JobOptions(review_below=0.5)):
        pass
    assert error.value.settings == ("output",)
