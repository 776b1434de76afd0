"""Tests of corrections: how a person takes a correction back or confirms an answer, and how the output shows it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import xlsxwriter

from ecellm_lite import InputError, Runtime, UsageError, load_task
from ecellm_lite.answers.answer import Answer, AnswerWarning, ModelName
from ecellm_lite.answers.attribute_forms import AttributeForm
from ecellm_lite.answers.extraction import Extraction
from ecellm_lite.answers.options import OneOf
from ecellm_lite.answers.predicate import Predicate
from ecellm_lite.answers.space import Space
from ecellm_lite.answers.text import Text
from ecellm_lite.answers.typed_values import NumberReader
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.jobs.corrections import SAME, Corrections, corrected
from ecellm_lite.jobs.job import JobOptions, open_job
from ecellm_lite.jobs.review import CORRECTION, review_of, shown_key
from ecellm_lite.jobs.review_entries import Correction
from tests.jobs.test_review import TASK, correct, read, run, runtime, write, write_table
from tests.support.refusals import refusal

FORMS = ["csv", "jsonl", "xlsx"]


def edit(path: Path, texts: Mapping[int, str | None]) -> None:
    """Write corrections into a review table. The keys of `texts` are the numbers of its rows."""
    lines = read(path)
    for number, text in texts.items():
        lines[number][CORRECTION] = text
    write_form(path, lines)


def write_form(path: Path, lines: list[dict[str, Any]]) -> None:
    if path.suffix != ".xlsx":
        write(path, lines)
        return
    with xlsxwriter.Workbook(path) as book:
        sheet = book.add_worksheet()
        for place, cells in enumerate([list(lines[0]), *(list(line.values()) for line in lines)]):
            sheet.write_row(place, 0, ["" if cell is None else cell for cell in cells])


@pytest.mark.parametrize("form", FORMS)
def test_a_person_takes_a_correction_back(form: str, tmp_path: Path) -> None:
    rows, output = write_table(tmp_path / "rows.csv", 6), tmp_path / f"answers.{form}"
    run(rows, output, runtime(), review_below=1.0)
    review, before = review_of(output), read(output)
    edit(review, {0: "E", 1: "C", 2: "D"})
    assert correct(rows, output, review).corrected == 3
    edit(review, {0: None, 1: "B"})
    write_form(review, [line for number, line in enumerate(read(review)) if number != 2])
    tally = correct(rows, output, review)
    assert (tally.corrected, len(tally.notes)) == (2, 1)  # the row that is missing now stays corrected
    after = read(output)
    assert after[0] == before[0]
    assert after[1] != before[1]
    assert after[2] != before[2]
    assert correct(rows, output, review).notes == []
    assert run(rows, output, runtime()).corrected == 2


@pytest.mark.parametrize("form", ["csv", "xlsx"])
def test_a_table_may_have_columns_that_are_named_like_those_of_a_review_table(form: str, tmp_path: Path) -> None:
    rows, output = tmp_path / "rows.csv", tmp_path / f"answers.{form}"
    rows.write_text("review,correction,review_key\ngood,E,r1\nbad,D,r2\n")
    for _ in range(2):  # the second run replaces the review table, which has no corrections
        run(rows, output, runtime(), review_below=1.0)
    lines = read(review_of(output))
    lines[0][f"{CORRECTION} (2)"] = "C"
    write_form(review_of(output), lines)
    assert correct(rows, output, review_of(output)).corrected == 1
    first, second = read(output)
    assert (first["answer"], first[CORRECTION], second["review_key"]) == ("C: neutral", "E", "r2")


def test_an_empty_cell_of_another_table_takes_nothing_back(tmp_path: Path) -> None:
    rows, output = write_table(tmp_path / "rows.csv", 6), tmp_path / "answers.csv"
    run(rows, output, runtime(), review_below=1.0)
    review, other = review_of(output), tmp_path / "second.csv"
    shutil.copy(review, other)
    edit(review, {0: "E"})
    edit(other, {1: "D"})
    correct(rows, output, review)
    tally = correct(rows, output, other)  # a colleague's half of the table
    assert tally.corrected == 2
    assert [f" {review.name} " in note for note in tally.notes] == [True]


def test_a_correction_is_taken_back_after_the_folder_was_moved(tmp_path: Path) -> None:
    folder, moved = tmp_path / "old", tmp_path / "new"
    folder.mkdir()
    rows, output = write_table(folder / "rows.csv", 4), folder / "answers.csv"
    run(rows, output, runtime(), review_below=1.0)
    edit(review_of(output), {0: "E"})
    assert correct(rows, output, review_of(output)).corrected == 1
    folder.rename(moved)
    edit(moved / review_of(output).name, {0: None})
    assert correct(moved / rows.name, moved / output.name, moved / review_of(output).name).corrected == 0


def test_a_correction_of_equal_rows_needs_one_line(tmp_path: Path) -> None:
    rows, output = tmp_path / "rows.csv", tmp_path / "answers.csv"
    rows.write_text("id,review\n1,fine\n2,fine\n")
    run(rows, output, runtime(), review_below=1.0)
    edit(review_of(output), {0: "E"})
    assert [correct(rows, output, review_of(output)).corrected for _ in range(2)] == [2, 2]


def test_a_run_does_not_replace_a_table_whose_correction_was_taken_back(tmp_path: Path) -> None:
    rows, output = write_table(tmp_path / "rows.csv", 4), tmp_path / "answers.csv"
    run(rows, output, runtime(), review_below=1.0)
    edit(review_of(output), {0: "E"})
    correct(rows, output, review_of(output))
    edit(review_of(output), {0: None})
    with pytest.raises(UsageError) as error:
        run(rows, output, runtime(), review_below=1.0)
    assert error.value.settings == ("corrections",)
    correct(rows, output, review_of(output))
    assert run(rows, output, runtime(), review_below=1.0).to_review == 4


@pytest.mark.parametrize("form", FORMS)
def test_a_person_confirms_an_answer(form: str, tmp_path: Path) -> None:
    rows, output = write_table(tmp_path / "rows.csv", 6), tmp_path / f"answers.{form}"
    run(rows, output, runtime(), review_below=1.0)
    column = "text" if form == "jsonl" else "answer"
    answers = [line[column] for line in read(output)]
    edit(review_of(output), {0: "OK", 1: answers[1]})
    labelled = tmp_path / "labelled.jsonl"
    assert correct(rows, output, review_of(output), labelled).corrected == 2
    assert [line["output"] for line in read(labelled)] == answers[:2]
    lines = read(output)
    assert [line[column] for line in lines] == answers
    assert lines[0]["warnings"] == lines[1]["warnings"]
    assert [line["probability"] or None for line in lines[:2]] == [None, None]
    assert run(rows, output, runtime(), review_below=1.0).to_review == 4


def test_an_error_cannot_be_confirmed(tmp_path: Path) -> None:
    rows, output = tmp_path / "rows.csv", tmp_path / "answers.csv"
    rows.write_text("id,review\n1," + "too long " * 5000 + "\n")
    run(rows, output, runtime(), review_below=1.0)
    edit(review_of(output), {0: SAME})
    tally = correct(rows, output, review_of(output))
    assert (tally.corrected, [(each.line, each.text) for each in tally.refusals]) == (0, [(2, SAME)])


def answer(space: Space, text: str, *warnings: AnswerWarning) -> Answer:
    return Answer(
        None, "task", space.type, space.value_of(text), text, 0.5, None, 0.1, 0.9, False, None, None,
        ModelName("shop", "5" * 64), "alpaca", warnings=warnings,
    )  # fmt: skip


KEY = b"k" * 32


def applied(space: Space, before: Answer, text: str, **journal: Any) -> str | None:
    corrections = Corrections(TASK, **{"stored": {}, **journal}, space=space)
    corrections.entries = {shown_key(KEY) or "": Correction(text, 2)}
    after = corrections.apply({"review": "x"}, KEY, before)
    return after.text if after else None


def test_a_confirmed_answer_stays_when_another_model_answers() -> None:
    space = Predicate()
    journal = {"stored": {KEY: "yes"}, "written": {shown_key(KEY): SAME}}
    assert applied(space, answer(space, "no"), SAME) == "no"
    assert applied(space, answer(space, "no"), SAME, **journal) == "yes"


def test_an_answer_of_the_task_is_no_mark(tmp_path: Path) -> None:
    (tmp_path / "state.toml").write_text(
        'name = "state"\nsummary = "s"\ninstruction = "i"\n[[fields]]\nname = "review"\n'
        '[answer]\ntype = "choice"\nchoices = [{ value = "defect" }, { value = "OK" }]\n'
    )
    space = load_task(tmp_path / "state.toml").question({"review": "x"}).space
    assert isinstance(space, OneOf)
    first, second = (option.text for option in space.offered)
    assert applied(space, answer(space, first), SAME) == second
    assert applied(Text(), answer(Text(), "It fits."), SAME) == "It fits."


def test_a_corrected_extraction_drops_the_warnings_about_old_values() -> None:
    source = "Pan, 49,90 or 59,90, lid 7,50"
    form = AttributeForm(reader=NumberReader())
    space = Extraction(("Price", "Lid"), {"title": source}, forms={0: form, 1: form})
    before_text = space.normalized('{"Price": "pan", "Lid": "lid"}')
    low = AnswerWarning("low_coverage", "Only 1%.")
    unsure = AnswerWarning("not_escalated", "The model is not sure of this answer.")
    row = AnswerWarning("html_removed", "HTML was read as text.")
    before = answer(space, before_text, row, low, unsure, *space.warnings_of(before_text))
    assert [warning.code for warning in before.warnings or ()].count("value_not_read") == 2
    after = corrected(before, space, space.normalized('{"Price": "7", "Lid": "lid"}'))
    codes = [warning.code for warning in after.warnings or ()]
    assert codes == ["html_removed", "value_not_read", "corrected"]
    unread, note = (after.warnings or ())[1:]
    assert "Lid" in unread.message
    assert "Price: pan" in note.message
    assert "Lid" not in note.message
    assert "{" not in note.message
    confirmed = corrected(before, space, before_text)
    assert [warning.code for warning in confirmed.warnings or ()].count("confirmed") == 1


@pytest.mark.parametrize("wrong", ["navy blue", '"navy blue"', '{"color": "navy'])
def test_the_advice_for_an_extraction_has_the_form_of_a_correction(wrong: str) -> None:
    space = Extraction(("Color",), {"title": "A navy blue mug"})
    with refusal(InputError, repr(wrong), '{"color": "navy blue"}'):
        space.normalized(wrong)


def test_the_note_of_a_correction_has_the_value_that_the_column_showed(tmp_path: Path) -> None:
    (tmp_path / "desk.toml").write_text(
        'name = "desk"\nsummary = "s"\ninstruction = "i"\n[[fields]]\nname = "review"\n'
        '[answer]\ntype = "choice"\nchoices = [{ value = "billing" }, { value = "delivery" }]\n'
    )
    task = load_task(tmp_path / "desk.toml")
    rows, output = write_table(tmp_path / "rows.csv", 3), tmp_path / "answers.csv"
    with (
        open_job(rows, output, task, JobOptions(review_below=1.0)) as job,
        Runtime.over(FakeBackend(), deterministic=True) as answerer,
    ):
        job.run(answerer)
    shown = read(output)[0]["answer"]
    edit(review_of(output), {0: "delivery" if shown == "billing" else "billing"})
    with open_job(rows, output, task) as job:
        job.correct(review_of(output))
    assert repr(shown) in read(output)[0]["warnings"]


def test_corrections_without_a_row_are_named_by_line(tmp_path: Path) -> None:
    rows, output = write_table(tmp_path / "rows.csv", 4), tmp_path / "answers.csv"
    run(rows, output, runtime(), review_below=1.0)
    lines = read(review_of(output))
    strangers = [{**lines[0], CORRECTION: "A", "review_key": f"r{number:024x}"} for number in range(8)]
    notes = []
    for count in (1, 2, 8):
        write(tmp_path / "review.csv", [*lines, *strangers[:count]])
        notes += correct(rows, output, tmp_path / "review.csv").notes
    assert [note.startswith(start) for note, start in zip(notes, ("1 ", "2 ", "8 "), strict=True)] == [True] * 3
    first = 2 + len(lines)
    assert f"line {first} " in notes[0]
    assert f"lines {first}, {first + 1} " in notes[1]
    assert f"{first + 4}, …" in notes[2]


def test_a_corrected_row_of_a_data_set_names_the_task_that_was_asked(tmp_path: Path) -> None:
    rows, output, labelled = tmp_path / "rows.jsonl", tmp_path / "answers.jsonl", tmp_path / "labelled.jsonl"
    write(rows, [{"task": "Product_Matching", "split": "test", "input": {"review": "good"}, "output": "yes"}])
    run(rows, output, runtime(), review_below=1.0)
    edit(review_of(output), {0: "E"})
    correct(rows, output, review_of(output), labelled=labelled)
    assert [(row["task"], row["output"]) for row in read(labelled)] == [(TASK.name, "E: very negative")]
