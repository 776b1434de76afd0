"""Tests that a user's tasks keep texts of every script unchanged: in prompts, answers, tables and over the pipe."""

# ruff: noqa: RUF001 - texts of many scripts

from __future__ import annotations

import csv
import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecellm_lite import Runtime
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.jobs.job import open_job
from ecellm_lite.pipe.lines import Output
from ecellm_lite.pipe.session import Session
from ecellm_lite.tasks.custom import read_task
from ecellm_lite.tasks.task import Task
from tests.support.own_tasks import task_text

TEXTS = {
    "NFC": "Caf\u00e9 Å ngström ﬁ",
    "NFD": unicodedata.normalize("NFD", "Café Ångström"),
    "Hebrew": "\u200fמנורת שולחן\u200f 12 ס״מ",
    "Arabic": "مصباح \u202eLED\u202c أزرق ٣٤",
    "Persian, with ZWNJ": "می\u200cخواهم",
    "Hindi": "लकड़ी की पहेली, १०० टुकड़े",
    "Thai": "ตัวต่อไม้ ๑๐๐ ชิ้น",
    "Khmer": "ល្បែងផ្គុំរូប",
    "Chinese": "木制拼图（100片），𠀋",
    "Japanese": "木製パズル ﾊﾟｽﾞﾙ が",
    "Korean, NFD": unicodedata.normalize("NFD", "나무 퍼즐"),
    "Turkish": "IĞDIR İstanbul ışık",
    "emoji": "👩\u200d👩\u200d👧\u200d👦 🏳\ufe0f\u200d🌈 🇩🇪 👍🏽 1\ufe0f\u20e3",
    "math": "𝔘𝔫𝔦 ½ №5 ﷺ",
}
LONE = "a\ud800b"

TWO_FIELDS = '[[fields]]\nname = "product"\n[[fields]]\nname = "notes"\nlist = true\n'
ONE_FIELD = '[[fields]]\nname = "product"\n'


def own(folder: Path, answer: str, fields: str = ONE_FIELD) -> Task:
    path = folder / "own.toml"
    path.write_text(task_text(answer, fields), encoding="utf-8")
    return read_task(path)


def choices(values: Sequence[str]) -> str:
    parts = (f"{{ value = {json.dumps(each, ensure_ascii=False)} }}" for each in values)
    return f'type = "choice"\nchoices = [{", ".join(parts)}]\n'


@pytest.fixture
def predicate(tmp_path: Path) -> Task:
    return own(tmp_path, 'type = "predicate"\n')


@pytest.fixture
def product_task(tmp_path: Path) -> Task:
    return own(tmp_path, 'type = "predicate"\n', TWO_FIELDS)


def check_prompts(text: str, single: Task, several: Task) -> None:
    with Runtime.over(FakeBackend()) as runtime:
        assert text in runtime.prompt(single, {"product": text})
        row = {"product": text, "notes": [text, "x"]}
        question = several.question(row)
        assert json.loads(question.text) == row
        assert question.text in runtime.prompt(several, row)
        assert json.dumps(text, ensure_ascii=False) in question.text


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_text_is_in_the_prompt_as_it_is(text: str, predicate: Task, product_task: Task) -> None:
    check_prompts(text, predicate, product_task)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=30).map("a{}z".format))
def test_any_text_is_in_the_prompt_as_it_is(text: str, predicate: Task, product_task: Task) -> None:
    check_prompts(text, predicate, product_task)


def test_half_a_character_becomes_a_replacement_character(predicate: Task) -> None:
    with Runtime.over(FakeBackend()) as runtime:
        assert "a\ufffdb" in runtime.prompt(predicate, {"product": LONE})
        assert runtime.answer(predicate, {"product": LONE}).error is None


def test_composed_and_decomposed_texts_stay_different(tmp_path: Path) -> None:
    values = [TEXTS["NFC"], unicodedata.normalize("NFD", TEXTS["NFC"])]
    task = own(tmp_path, choices(values))
    with Runtime.over(FakeBackend()) as runtime:
        answer = runtime.answer(task, {"product": "x"})
    assert list(answer.probabilities or {}) == values
    (tmp_path / "labels.txt").write_text("\n".join([*values, *(f"{n:0300}" for n in range(300))]), "utf-8")
    labels = own(tmp_path, 'type = "choice"\nlabels = { file = "labels.txt" }\n').question({"product": "x"}).space
    assert [labels.value_of(value) for value in values] == values


@pytest.mark.parametrize("more", [0, 30], ids=["letters", "texts"])
def test_answers_of_every_script_come_out_as_they_are(more: int, tmp_path: Path) -> None:
    values = [*TEXTS.values(), *map(str, range(more))]
    task = own(tmp_path, choices(values))
    options = task.question({"product": "x"}).options
    assert options is not None
    assert all(value in options for value in values)
    with Runtime.over(FakeBackend()) as runtime:
        answers = list(runtime.answers(task, [{"product": text} for text in values]))
    assert all(list(answer.probabilities or {}) == values for answer in answers)
    assert {answer.value for answer in answers} <= set(values)
    assert [task.question({"product": "x"}).space.normalized(value) for value in values]


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
def test_tables_keep_every_script(name: str, tmp_path: Path) -> None:
    values = list(TEXTS.values())
    task = own(tmp_path, choices(values))
    with (tmp_path / name).open("w", encoding="utf-8", newline="") as file:
        if name.endswith(".csv"):
            csv.writer(file).writerows([["product"], *([value] for value in values)])
        else:
            file.writelines(json.dumps({"product": value}, ensure_ascii=False) + "\n" for value in values)
    output = tmp_path / f"out-{name}"
    with Runtime.over(FakeBackend()) as runtime:
        direct = list(runtime.answers(task, [{"product": value} for value in values]))
        with open_job(tmp_path / name, output, task) as job:
            tally = job.run(runtime)
    assert (tally.rows, tally.failed) == (len(values), 0)
    text = output.read_text("utf-8-sig")
    if name.endswith(".csv"):
        rows: list[dict[str, Any]] = list(csv.DictReader(text.splitlines()))
        assert [row["answer"] for row in rows] == [answer.value for answer in direct]
        assert [row["product"] for row in rows] == values
    else:
        rows = [json.loads(line) for line in text.splitlines()]
        assert [row["value"] for row in rows] == [answer.value for answer in direct]


@pytest.mark.parametrize("escaped", [True, False])
def test_the_pipe_keeps_every_script(escaped: bool, tmp_path: Path) -> None:
    """A row gets the same answer through the pipe's protocol as directly from the Runtime, whatever its script."""
    values = [*TEXTS.values(), LONE] if escaped else [*TEXTS.values()]
    task = own(tmp_path, choices(list(TEXTS.values())))
    written: list[bytes] = []
    with Runtime.over(FakeBackend(), deterministic=True) as runtime:
        direct = [runtime.answer(task, {"product": value}) for value in values]
        output = Output(written.append)
        session = Session(runtime, output)
        requests = [
            {"id": place, "task": str(task.source), "row": {"product": value}} for place, value in enumerate(values)
        ]
        session.run(json.dumps(request, ensure_ascii=escaped).encode() for request in requests)
        output.close()
    messages = [json.loads(line) for line in b"".join(written).splitlines()]
    answers = {message["id"]: message["answer"] for message in messages if message["type"] == "answer"}
    assert [answers[place]["value"] for place in range(len(values))] == [answer.value for answer in direct]
    assert [answers[place]["probabilities"] for place in range(len(values))] == [
        answer.probabilities for answer in direct
    ]
