"""Tests of corrections whose task has changed since a person wrote them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ecellm_lite import UsageError, load_task
from ecellm_lite.jobs.job import JobOptions, open_job
from ecellm_lite.jobs.review import CORRECTION, OUTDATED, REASON, review_of
from ecellm_lite.jobs.tally import Tally
from tests.jobs.test_review import read, runtime, write


def test_a_correction_that_is_no_longer_an_answer_is_reviewed_again(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("Returns\nDelivery\nOther\n")
    file = tmp_path / "routing.toml"
    file.write_text(
        'name = "routing"\nsummary = "Routes messages."\ninstruction = "Route it."\n'
        '[[fields]]\nname = "message"\n[answer]\ntype = "choice"\nlabels = { file = "labels.txt" }\n'
    )
    rows, output = tmp_path / "rows.csv", tmp_path / "answers.csv"
    rows.write_text("message\none\ntwo\nthree\n")

    def answered(**options: Any) -> Tally:
        with open_job(rows, output, load_task(file), JobOptions(**options)) as job, runtime() as answerer:
            return job.run(answerer)

    def apply() -> Tally:
        with open_job(rows, output, load_task(file)) as job:
            return job.correct(review_of(output))

    answered(review_below=1.0)
    lines = read(review_of(output))
    for line, text in zip(lines, ("Returns", "Other", "ok"), strict=True):
        line[CORRECTION] = text
    write(review_of(output), lines)
    confirmed = read(output)[2]["answer"]
    apply()
    (tmp_path / "labels.txt").write_text("Other\nDelivery\nGoods back\nInvoices\n")
    for restart in (True, False):
        tally = answered(review_below=0.0, restart=restart)
        assert (tally.corrected, tally.to_review, len(tally.notes)) == (2, 1, 1)
        assert [line["answer"] for line in read(output)[1:]] == ["Other", confirmed]
        [line] = read(review_of(output))
        assert (line["message"], line[REASON], line[CORRECTION]) == ("one", OUTDATED, "Returns")
    write(review_of(output), [{**line, CORRECTION: "Goods back"}])
    assert apply().corrected == 3
    assert answered(review_below=0.0).notes == []
    rows.write_text("message\none\ntwo\n")
    tally = answered()
    assert (tally.corrected, len(tally.notes)) == (2, 1)
    file.write_text(file.read_text().replace('"routing"', '"desk"'))
    before = output.read_bytes()
    with pytest.raises(UsageError) as error:
        answered(restart=True)
    assert error.value.settings == ("output", "task")
    assert output.read_bytes() == before


def test_a_letter_that_means_another_answer_now_is_not_applied(tmp_path: Path) -> None:
    file, rows, output = tmp_path / "routing.toml", tmp_path / "rows.csv", tmp_path / "answers.csv"
    rows.write_text("message\none\ntwo\n")

    def answered(*choices: str) -> Tally:
        file.write_text(
            'name = "routing"\nsummary = "Routes messages."\ninstruction = "Route it."\n[[fields]]\nname = "message"\n'
            f'[answer]\ntype = "choice"\nchoices = [{", ".join(f"{{ value = {choice!r} }}" for choice in choices)}]\n'
        )
        options = JobOptions(restart=True, review_below=1.0)
        with open_job(rows, output, load_task(file), options) as job, runtime() as answerer:
            return job.run(answerer)

    def apply(review: Path) -> Tally:
        with open_job(rows, output, load_task(file)) as job:
            return job.correct(review)

    answered("delivery", "product", "other")
    first, second = read(review_of(output))
    write(review_of(output), [{**first, CORRECTION: "B"}, second])
    day = tmp_path / "day.csv"
    day.write_bytes(review_of(output).read_bytes())
    apply(review_of(output))
    assert answered("delivery", "returns", "other").corrected == 0
    tally = apply(review_of(output))  # lists the letter again
    assert (tally.corrected, [each.text for each in tally.refusals]) == (0, ["B"])
    assert answered("delivery", "returns", "product").corrected == 1
    assert (apply(day).corrected, read(output)[0]["answer"]) == (1, "product")
