"""Tests of a job that runs every night: first the corrections of the day are applied, then new rows are answered."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecellm_lite import JobError, UsageError
from ecellm_lite.jobs.journal import Journal, journal_of
from ecellm_lite.jobs.refusals import Refusal, refused
from ecellm_lite.jobs.review import CORRECTION, KEY, NOT_APPLIED, REASON, review_of
from ecellm_lite.jobs.tally import Tally
from tests.jobs.test_corrections import FORMS, edit, write_form
from tests.jobs.test_review import correct, read, run, runtime, write_table

WRONG = "splendid"


def night(rows: Path, output: Path) -> tuple[Tally, Tally]:
    """Apply the corrections of the review table, then run the job. Return both tallies."""
    corrected = correct(rows, output, review_of(output))
    return corrected, run(rows, output, runtime(), review_below=1.0)


def places(tally: Tally) -> list[tuple[int, str]]:
    return [(each.line, each.text) for each in tally.refusals]


def answers(output: Path) -> list[str | None]:
    return [line["answer" if "answer" in line else "text"] for line in read(output)]


@pytest.mark.parametrize("form", FORMS)
def test_corrections_are_applied_to_a_table_with_a_new_row(form: str, tmp_path: Path) -> None:
    rows, output = tmp_path / "rows.csv", tmp_path / f"answers.{form}"
    rows.write_text("review\nfine\nit leaks\n")
    run(rows, output, runtime(), review_below=1.0)
    edit(review_of(output), {0: "E"})
    rows.write_text("review\nnew\nfine\nit leaks\n")
    tally = correct(rows, output, review_of(output))
    assert (tally.rows, tally.corrected, tally.unanswered, tally.skipped, tally.refusals) == (2, 1, 1, 0, [])
    new, first, _ = read(output)
    assert not new.get("answer")
    assert first["answer" if "answer" in first else "text"] == "E: very negative"
    tally = run(rows, output, runtime(), review_below=1.0)
    assert (tally.rows, tally.corrected, tally.reused, tally.unanswered) == (3, 1, 2, 0)
    assert all(answers(output))


@pytest.mark.parametrize("form", FORMS)
def test_a_wrong_word_costs_no_other_correction(form: str, tmp_path: Path) -> None:
    rows, output = write_table(tmp_path / "rows.csv", 6), tmp_path / f"answers.{form}"
    run(rows, output, runtime(), review_below=1.0)
    before = answers(output)
    edit(review_of(output), {0: "E", 1: WRONG, 3: "nice", 5: "C"})  # the last row has no review
    first = 1 if form == "jsonl" else 2  # the line of the first row
    for lines in ([1, 3, 5], [0, 2, 4]):  # in the second night, the corrected row is no longer listed
        corrected, job = night(rows, output)
        assert (corrected.corrected, job.corrected) == (1, 1)
        assert places(corrected) == [
            (first + line, text) for line, text in zip(lines, [WRONG, "nice", "C"], strict=True)
        ]
        listed = [(line[REASON], line[CORRECTION]) for line in read(review_of(output)) if line[CORRECTION]]
        assert listed == [(NOT_APPLIED, WRONG), (NOT_APPLIED, "nice"), (NOT_APPLIED, "C")]
        assert answers(output)[1:] == before[1:]
    edit(review_of(output), {0: "D", 2: None})
    corrected, job = night(rows, output)
    assert (len(corrected.refusals), job.corrected) == (1, 2)
    assert [line[CORRECTION] for line in read(review_of(output)) if line[CORRECTION]] == ["C"]


def test_a_wrong_word_takes_the_place_of_an_earlier_correction(tmp_path: Path) -> None:
    rows, output = write_table(tmp_path / "rows.csv", 4), tmp_path / "answers.csv"
    run(rows, output, runtime(), review_below=1.0)
    before = answers(output)
    for text in ("E", WRONG):
        edit(review_of(output), {0: text})
        correct(rows, output, review_of(output))
    assert run(rows, output, runtime(), review_below=1.0).corrected == 0
    assert answers(output) == before
    assert read(review_of(output))[0][CORRECTION] == WRONG


def test_equal_rows_with_different_corrections_are_named_and_listed_again(tmp_path: Path) -> None:
    rows, output = tmp_path / "rows.csv", tmp_path / "answers.csv"
    rows.write_text("id,review\n1,fine\n2,it leaks\n3,fine\n")
    run(rows, output, runtime(), review_below=1.0)
    edit(review_of(output), {0: "A", 1: "D", 2: "B"})
    for lines in ([2, 4], [2, 3]):
        corrected, job = night(rows, output)
        assert places(corrected) == [(lines[0], "A"), (lines[1], "B")]
        assert (corrected.corrected, job.corrected, job.to_review) == (1, 1, 2)
    edit(review_of(output), {1: "A"})
    assert night(rows, output)[1].corrected == 3


def test_more_equal_rows_than_different_corrections_stop_no_job(tmp_path: Path) -> None:
    rows, output = tmp_path / "rows.csv", tmp_path / "answers.csv"
    rows.write_text("id,review\n1,fine\n2,fine\n3,fine\n")
    run(rows, output, runtime(), review_below=1.0)
    edit(review_of(output), {0: "A", 1: "B"})
    night(rows, output)
    assert run(rows, output, runtime(), review_below=1.0).to_review == 3
    edit(review_of(output), {0: "B", 2: "B"})
    with pytest.raises(UsageError):
        run(rows, output, runtime(), review_below=1.0)
    assert night(rows, output)[1].corrected == 3


@pytest.mark.parametrize("form", FORMS)
def test_a_correction_like_a_formula_is_listed_again_as_it_was_written(form: str, tmp_path: Path) -> None:
    rows, output = write_table(tmp_path / "rows.csv", 4), tmp_path / f"answers.{form}"
    run(rows, output, runtime(), review_below=1.0)
    edit(review_of(output), {0: "-good", 1: "@B"})
    first, _ = night(rows, output)
    run(rows, output, runtime(), review_below=1.0)
    second, _ = night(rows, output)
    assert [text for _, text in places(first)] == [text for _, text in places(second)] == ["-good", "@B"]


def test_characters_that_no_table_can_have_cost_no_correction(tmp_path: Path) -> None:
    rows, output = write_table(tmp_path / "rows.jsonl", 4), tmp_path / "answers.jsonl"
    run(rows, output, runtime(), review_below=1.0)
    edit(review_of(output), {0: "\ud800", 1: "A\0B", 2: "E"})
    for texts in (["\ufffd", "A B"], ["\ufffd", "A B"]):
        corrected, job = night(rows, output)
        assert ([text for _, text in places(corrected)], job.corrected) == (texts, 1)


def test_a_correction_without_a_key_is_named_and_not_replaced(tmp_path: Path) -> None:
    rows, output = write_table(tmp_path / "rows.csv", 4), tmp_path / "answers.csv"
    run(rows, output, runtime(), review_below=1.0)
    lines = read(review_of(output))
    write_form(review_of(output), [{**lines[0], CORRECTION: "B", KEY: ""}, {**lines[1], CORRECTION: "E"}])
    tally = correct(rows, output, review_of(output))
    assert (tally.corrected, places(tally)) == (1, [(2, "B")])
    before = review_of(output).read_bytes()
    with pytest.raises(UsageError) as error:
        run(rows, output, runtime(), review_below=1.0)
    assert error.value.settings == ("output",)
    assert review_of(output).read_bytes() == before


def test_a_correction_of_a_row_that_is_gone_is_kept_until_the_row_is_back(tmp_path: Path) -> None:
    rows, output = tmp_path / "rows.csv", tmp_path / "answers.csv"
    rows.write_text("review\nfine\nit leaks\n")
    run(rows, output, runtime(), review_below=1.0)
    edit(review_of(output), {0: "E"})
    rows.write_text("review\nit leaks\n")
    corrected, job = night(rows, output)
    assert (corrected.corrected, job.corrected, len(corrected.notes), len(job.notes)) == (0, 0, 1, 1)
    rows.write_text("review\nfine\nit leaks\n")
    assert run(rows, output, runtime(), review_below=1.0).corrected == 0
    assert read(review_of(output))[0][CORRECTION] == "E"
    assert night(rows, output)[1].corrected == 1


def test_a_correction_of_a_row_that_is_not_answered_yet_waits_for_the_job(tmp_path: Path) -> None:
    rows, output = write_table(tmp_path / "rows.csv", 4), tmp_path / "answers.csv"
    run(rows, output, runtime(), review_below=1.0)
    edit(review_of(output), {0: "E", 1: "ok"})
    with Journal(journal_of(output), None) as journal:  # a restarted job that was stopped
        journal._database.execute("DELETE FROM answers")
    before = output.read_bytes()
    corrected, job = night(rows, output)
    assert output.read_bytes() != before
    assert (corrected.corrected, len(corrected.notes), places(corrected), job.corrected) == (0, 1, [(3, "ok")], 1)
    assert read(review_of(output))[0][CORRECTION] == "ok"
    corrected, job = night(rows, output)  # it was said of an earlier answer
    assert (places(corrected), job.corrected) == ([(2, "ok")], 1)
    edit(review_of(output), {0: "D"})
    assert night(rows, output)[1].corrected == 2


def test_no_file_is_written_if_no_row_is_answered(tmp_path: Path) -> None:
    rows, output, labelled = tmp_path / "rows.csv", tmp_path / "answers.csv", tmp_path / "labelled.jsonl"
    rows.write_text("review\nfine\n")
    run(rows, output, runtime(), review_below=1.0)
    edit(review_of(output), {0: "E"})
    before = output.read_bytes()
    rows.write_text("review\nnew\n")
    assert correct(rows, output, review_of(output), labelled).corrected == 0
    assert output.read_bytes() == before
    assert not labelled.exists()
    rows.write_text("review\nfine\n")
    edit(review_of(output), {0: None})
    assert correct(rows, output, review_of(output)).corrected == 0  # what the journal kept is taken back
    assert run(rows, output, runtime(), review_below=1.0).notes == []


def test_lines_with_the_same_advice_are_named_together() -> None:
    advice = ["one", "two"]
    refusals = [Refusal(line, "x" * 99, advice[line > 3]) for line in range(2, 15)]
    error = refused(Path("review.csv"), refusals)
    text = str(error)
    assert isinstance(error, JobError)
    assert [text.count(f"({step})") for step in advice] == [1, 1]
    assert "13" in text
    assert "line 11 " in text
    assert "line 12 " not in text
    assert len(text) < 1000
