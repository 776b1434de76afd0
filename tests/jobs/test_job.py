"""Tests of jobs: every row is written once and in order, even after an interruption, and no row is answered twice."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ecellm_lite import TASKS, InputError, Runtime, UsageError
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.jobs.job import JobOptions, open_job
from ecellm_lite.jobs.job_row import JobStep
from ecellm_lite.jobs.journal import journal_of
from ecellm_lite.jobs.tally import Tally
from ecellm_lite.tables.columns import MapOptions

TASK = TASKS["sentiment_analysis"]


class Counting(Runtime):
    """An Answerer that counts the rows that it answers."""

    answered: int

    def submit(self, *arguments: Any, **options: Any) -> Any:
        self.answered = getattr(self, "answered", 0) + 1
        return super().submit(*arguments, **options)


def run(rows: Path, output: Path | None, options: JobOptions | None = None, **request: Any) -> tuple[Tally, int]:
    """Run a job with the fake engine in deterministic mode.

    Return the job's counts of rows (its Tally), and how many rows the engine answered.
    """
    runtime = Counting.over(FakeBackend(), deterministic=True)
    assert isinstance(runtime, Counting)
    with open_job(rows, output, TASK, options) as job, runtime:
        return job.run(runtime, **request), getattr(runtime, "answered", 0)


def write_table(path: Path, reviews: Sequence[str]) -> Path:
    """Write reviews as a table in the format of the path's suffix."""
    if path.suffix == ".jsonl":
        lines = (json.dumps({"id": number, "review": review}) for number, review in enumerate(reviews))
        path.write_text("".join(line + "\n" for line in lines))
    elif path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "review"])
            writer.writerows(enumerate(reviews))
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"id": range(len(reviews)), "review": reviews}), path)
    return path


def reviews(count: int) -> list[str]:
    return [f"review number {number}, which is {'good' if number % 3 else 'bad'}" for number in range(count)]


def test_an_unknown_option_is_refused_before_a_file_is_written(tmp_path: Path) -> None:
    rows = write_table(tmp_path / "rows.jsonl", reviews(3))
    with pytest.raises(TypeError, match="'min_probabilty'"):
        run(rows, tmp_path / "out.jsonl", min_probabilty=0.99)
    assert list(tmp_path.iterdir()) == [rows]


def test_a_table_is_written_with_its_answers(tmp_path: Path) -> None:
    rows = tmp_path / "export.csv"
    rows.write_text(
        'SKU;Title;Body\nA1;"Mug; red";"<p>It&nbsp;is <b>fine</b>.</p>"\nA2;Pot;\nA3;Cup;"loud, but\nworks"\n'
    )
    output = tmp_path / "answers.csv"
    options = JobOptions(map=MapOptions(map=["id=SKU", "review=Body"]))
    tally, _ = run(rows, output, options)
    assert (tally.rows, tally.failed) == (3, 1)
    with output.open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file, delimiter=";"))
    assert [row["SKU"] for row in table] == ["A1", "A2", "A3"]
    assert table[0]["Title"] == "Mug; red"
    assert table[2]["Body"] == "loud, but\nworks"
    assert [bool(row["answer"]) for row in table] == [True, False, True]
    assert [bool(row["error"]) for row in table] == [False, True, False]
    assert table[0]["warnings"]


@pytest.mark.parametrize(
    ("data", "start"),
    [
        (b"\xef\xbb\xbfid;review\n1;good\n2;bad\n", b"\xef\xbb\xbfid;review;answer"),
        (b"id\treview\n1\tgood\n2\tbad\n", b"id,review,answer"),
    ],
)
def test_the_answers_have_the_csv_form_of_the_input(data: bytes, start: bytes, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_bytes(data)
    run(rows, tmp_path / "answers.csv")
    assert (tmp_path / "answers.csv").read_bytes().startswith(start)


@pytest.mark.parametrize(
    ("form", "kills"),
    [
        ("csv", 4),
        *(pytest.param(form, 10, marks=pytest.mark.slow) for form in ("jsonl", "csv", "parquet")),
    ],
)
def test_a_killed_job_is_resumed_to_the_same_bytes(form: str, kills: int, tmp_path: Path) -> None:
    count = 100 * kills
    rows = write_table(tmp_path / f"rows.{form}", reviews(count))
    whole = tmp_path / f"whole.{form}"
    run(rows, whole)
    chance = random.Random(f"{form} {kills}")
    output = tmp_path / f"answers.{form}"
    for _ in range(kills):
        command = [sys.executable, "-m", "tests.jobs.slow_job", str(rows), str(output)]
        with subprocess.Popen(command, stderr=subprocess.PIPE) as job:
            assert job.stderr
            job.stderr.readline()  # it has begun
            time.sleep(chance.uniform(0.0, 0.6))
            os.kill(job.pid, signal.SIGKILL)
        part = tmp_path / "answers.jsonl.part"
        if part.exists():  # the beginning of the complete output, its last line perhaps partial
            assert whole.read_bytes().startswith(part.read_bytes())
    assert not output.exists()
    tally, answered = run(rows, output)
    assert (tally.rows, tally.failed) == (count, 0)
    assert tally.reused == count - answered > 0
    assert output.read_bytes() == whole.read_bytes()


def test_each_malformed_row_is_an_error_in_its_place(tmp_path: Path) -> None:
    broken = {
        2: b'2,"' + b"x" * (10 << 20) + b'"',
        4: b"4,nul \x00 byte",
        6: b"6,caf\xe9 that is not UTF-8",
        8: b'8,"a quote that is not closed',
        10: b"10,two cells,too many,of them",
        12: b"12,a lone\rreturn",
    }
    rows = tmp_path / "rows.csv"
    good = {number: f'{number},"naïve review {number}"'.encode() for number in range(1, 15)}
    rows.write_bytes(b"id,review\n" + b"".join(line + b"\n" for line in (good | broken).values()))
    output = tmp_path / "answers.csv"
    tally, _ = run(rows, output)
    assert (tally.rows, tally.failed) == (14, len(broken))
    with output.open(newline="", encoding="utf-8") as file:
        csv.field_size_limit(16 << 20)
        table = list(csv.DictReader(file))
    assert len(table) == 14
    for number, row in enumerate(table, 1):
        if number in broken:
            assert f"line {number + 1}" in row["error"].lower()
            assert not row["answer"]
        else:
            assert (row["id"], row["review"], row["error"]) == (str(number), f"naïve review {number}", "")
            assert row["answer"]


def test_an_edited_and_sorted_table_reuses_unchanged_answers(tmp_path: Path) -> None:
    texts = reviews(100)
    output = tmp_path / "answers.csv"
    run(write_table(tmp_path / "rows.csv", texts), output)
    edited = [f"another review, {number}" if number < 10 else text for number, text in enumerate(texts)]
    random.Random(1).shuffle(edited)
    tally, answered = run(write_table(tmp_path / "rows.csv", edited), output)
    assert (tally.rows, tally.reused, answered) == (100, 90, 10)
    with output.open(newline="", encoding="utf-8") as file:
        assert [row["review"] for row in csv.DictReader(file)] == edited


def test_a_changed_instruction_needs_a_restart(tmp_path: Path) -> None:
    rows, output = write_table(tmp_path / "rows.jsonl", reviews(5)), tmp_path / "answers.jsonl"
    run(rows, output)
    with pytest.raises(UsageError) as error:
        run(rows, output, instruction="Rate it.")
    assert error.value.settings == ("instruction", "restart")
    assert run(rows, output, JobOptions(restart=True), instruction="Rate it.")[1] == 5
    assert run(rows, output, instruction="Rate it.")[1] == 0


def test_failed_rows_are_retried_on_request(tmp_path: Path) -> None:
    rows, output = write_table(tmp_path / "rows.jsonl", [*reviews(5), "x" * 100_000]), tmp_path / "answers.jsonl"
    assert run(rows, output)[0].failed == 1
    assert run(rows, output)[1] == 0
    assert run(rows, output, JobOptions(retry_failed=True))[1] == 1


def test_repeated_ids_are_counted_and_kept_apart(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"id": id_, "review": f"row {n}"}) + "\n" for n, id_ in enumerate("aabca")))
    tally, _ = run(rows, tmp_path / "answers.jsonl")
    assert (tally.rows, tally.repeated_ids) == (5, 2)
    lines = (tmp_path / "answers.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == list("aabca")


def test_two_jobs_cannot_write_to_one_output(tmp_path: Path) -> None:
    rows, output = write_table(tmp_path / "rows.jsonl", reviews(5)), tmp_path / "answers.jsonl"
    with open_job(rows, output, TASK) as job, Runtime.over(FakeBackend()) as runtime:
        seen: list[type[Exception]] = []

        def second(_: JobStep) -> None:
            try:
                run(rows, output)
            except UsageError as error:
                seen.append(type(error))

        job.run(runtime, progress=second)
    assert seen == [UsageError] * 5


def test_a_full_disk_loses_nothing(small_disk: Path, tmp_path: Path) -> None:
    rows, output = write_table(tmp_path / "rows.jsonl", reviews(2000)), small_disk / "answers.jsonl"
    with pytest.raises(InputError):
        run(rows, output)
    assert not output.exists()
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    tally, answered = run(rows, output)
    assert (tally.rows, tally.failed) == (2000, 0)
    assert answered < 2000


def test_an_interrupted_job_keeps_its_answers(tmp_path: Path) -> None:
    rows, output = write_table(tmp_path / "rows.jsonl", reviews(50)), tmp_path / "answers.jsonl"

    def interrupt(step: JobStep) -> None:
        if step.answer.id == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(rows, output, progress=interrupt)
    assert journal_of(output).exists()
    assert run(rows, output)[0].reused >= 20


def test_an_answer_is_written_before_the_next_is_awaited(tmp_path: Path) -> None:
    rows, output = write_table(tmp_path / "rows.jsonl", reviews(5)), tmp_path / "answers.jsonl"
    seen: list[int] = []
    part = tmp_path / "answers.jsonl.part"
    run(rows, output, progress=lambda _: seen.append(part.read_text().count("\n")))
    assert seen == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("form", ["path", "link", "unfinished"])
def test_a_job_does_not_replace_the_rows_it_reads(form: str, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"review": "x"}\n')
    output = {"path": rows, "link": tmp_path / "link.jsonl", "unfinished": tmp_path / "other.jsonl"}[form]
    if form == "link":
        output.symlink_to(rows)
    elif form == "unfinished":
        os.link(rows, tmp_path / "other.jsonl.part")
    with pytest.raises(UsageError) as caught, open_job(rows, output, TASK):
        pass
    assert caught.value.settings == ("output",)
    assert rows.read_text() == '{"review": "x"}\n'


def test_a_job_does_not_replace_the_file_on_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"review": "x"}\n')
    with rows.open() as standard_input:
        monkeypatch.setattr(sys, "stdin", standard_input)
        with pytest.raises(UsageError), open_job("-", rows, TASK):
            pass


def test_a_job_answers_its_rows_through_any_answerer(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"id": 1, "review": "x"}\n{"id": 2}\n')
    output = tmp_path / "answers.jsonl"
    progress: list[JobStep] = []
    with open_job(tmp_path / "rows.jsonl", output, TASK) as job, Runtime.over(FakeBackend()) as runtime:
        tally = job.run(runtime, progress=progress.append)
    assert (tally.rows, tally.failed) == (2, 1)
    answers = [json.loads(line) for line in output.read_text().splitlines()]
    assert [answer["id"] for answer in answers] == [step.answer.id for step in progress] == [1, 2]
