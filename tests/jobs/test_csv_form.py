"""Tests that a job's answers in CSV can be opened in the spreadsheet program that the job's table comes from."""

from __future__ import annotations

import csv
import io
import math
import re
from pathlib import Path

import pytest

from ecellm_lite import TASKS, Runtime
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.jobs.job import JobOptions, open_job
from ecellm_lite.jobs.review import CORRECTION, review_of
from ecellm_lite.tables.writers import WriteOptions
from tests.serve.test_tables import xlsx

TASK = TASKS["sentiment_analysis"]
MARK, WIDE_MARK = b"\xef\xbb\xbf", b"\xff\xfe"
GERMAN = "Nr;review\r\n1;schön, aber laut\r\n2;Größe paßt\r\n"


def answered(rows: Path, output: Path, options: WriteOptions | None = None) -> Path:
    job_options = JobOptions(write=options or WriteOptions(), review_below=1.0)
    with open_job(rows, output, TASK, job_options) as job, Runtime.over(FakeBackend(), deterministic=True) as runtime:
        assert job.run(runtime).failed == 0
    return output


@pytest.mark.parametrize(
    ("data", "start"),
    [
        (GERMAN.encode("cp1252"), MARK + b"Nr;review;answer;"),
        (GERMAN.encode("utf-8-sig"), MARK + b"Nr;review;answer;"),
        (GERMAN.encode("utf-16"), MARK + b"Nr;review;answer;"),
        (GERMAN.encode(), b"Nr;review;answer;"),
        (GERMAN.replace(";", "\t").encode("utf-16"), WIDE_MARK + "Nr\treview\tanswer\t".encode("utf-16-le")),
        (xlsx([{"Nr": 1, "review": "schön"}]), MARK + b"Nr,review,answer,"),
    ],
)
def test_tables_that_are_not_plain_utf8_have_answers_with_a_mark(data: bytes, start: bytes, tmp_path: Path) -> None:
    rows = tmp_path / "rows"
    rows.write_bytes(data)
    output = answered(rows, tmp_path / "answers.csv")
    assert output.read_bytes().startswith(start)
    assert review_of(output).read_bytes().startswith(start)


@pytest.mark.parametrize(
    ("table", "options", "delimiter", "sign"),
    [
        ("Nr;review;price\n1;good;19,90\n", WriteOptions(), ";", ","),
        ("Nr;review;price\n1;good;19.90\n", WriteOptions(), ";", "."),
        ("Nr;review;price\n1;good;19,90\n", WriteOptions(decimal_comma=False), ";", "."),
        ("Nr,review,price\n1,good,19.90\n", WriteOptions(), ",", "."),
        ("Nr,review,price\n1,good,19.90\n", WriteOptions(decimal_comma=True), ";", ","),
    ],
)
def test_numbers_have_the_decimal_sign_of_the_table(
    table: str, options: WriteOptions, delimiter: str, sign: str, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text(table)
    output = answered(rows, tmp_path / "answers.csv", options)
    for file in (output, review_of(output)):
        [row] = csv.DictReader(file.read_text("utf-8").splitlines(), delimiter=delimiter)
        assert row["price"] in table
        assert re.fullmatch(rf"0\{sign}\d{{1,4}}", row["probability"])


def test_a_threshold_is_compared_with_the_exact_probability(tmp_path: Path) -> None:
    rows, output = tmp_path / "rows.csv", tmp_path / "answers.csv"
    rows.write_text("Nr,review\n1,good\n")
    with Runtime.over(FakeBackend(), deterministic=True) as runtime:
        [probability] = [answer.probability for answer in runtime.answers(TASK, [{"review": "good"}])]
    assert probability
    assert probability != round(probability, 4)
    for threshold, reviewed in ((probability, 0), (math.nextafter(probability, 1), 1)):
        options = JobOptions(review_below=threshold)
        with open_job(rows, output, TASK, options) as job, Runtime.over(FakeBackend(), deterministic=True) as runtime:
            assert job.run(runtime).to_review == reviewed


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16"])
def test_plain_utf8_is_written_on_request(encoding: str, tmp_path: Path) -> None:
    rows = tmp_path / "rows.txt"
    rows.write_bytes(GERMAN.replace(";", "\t").encode(encoding))
    assert answered(rows, tmp_path / "answers.csv", WriteOptions(bom=False)).read_bytes().startswith(b"Nr")


def test_a_review_table_in_utf16_is_corrected(tmp_path: Path) -> None:
    rows = tmp_path / "rows.txt"
    rows.write_text(GERMAN.replace(";", "\t"), "utf-16", newline="")
    output = answered(rows, tmp_path / "answers.csv")
    header, *lines = csv.reader(io.StringIO(review_of(output).read_text("utf-16"), newline=""), delimiter="\t")
    lines[1][header.index(CORRECTION)] = "very negative"
    corrected = tmp_path / "corrected.txt"
    corrected.write_text("".join("\t".join(line) + "\r\n" for line in (header, *lines)), "utf-16", newline="")
    with open_job(rows, output, TASK) as job:
        assert job.correct(corrected).corrected == 1
    with output.open(encoding="utf-16", newline="") as file:
        answers = list(csv.DictReader(file, delimiter="\t"))
    assert answers[1]["answer"] == "E: very negative"
    assert [row["review"] for row in answers] == ["schön, aber laut", "Größe paßt"]
