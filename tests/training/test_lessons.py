"""Tests that a lesson is the prompt that the command `run` makes, followed by the correct answer.

Also tests that held-out rows are never trained on.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.demo_rows.__main__ import main as demo_lessons
from benchmarks.demo_rows.layout import REPEATS, demo_layout
from ecellm_lite import Runtime
from ecellm_lite.answers.decoding import Vocabulary
from ecellm_lite.cli.main import run_command
from ecellm_lite.engine.llama import LlamaBackend
from ecellm_lite.engine.settings import Settings
from ecellm_lite.envelopes import ALPACA
from ecellm_lite.errors import InputError
from ecellm_lite.evaluate.labelled_files import gather, labelled_files
from ecellm_lite.models.store import StoredModel
from ecellm_lite.tasks.registry import TASKS
from ecellm_lite.training.curriculum import LONGEST, Curriculum, Layout, make_curriculum
from ecellm_lite.training.lesson_batches import batches
from ecellm_lite.training.lessons import VALIDATION, Lesson, Lessons, read_lessons
from ecellm_lite.training.paraphrases import HELD_OUT, PARAPHRASES
from ecellm_lite.training.rows import Row, split_rows
from tests.support.labelled_rows import write_lines
from tests.support.lesson_rows import training_row, training_rows
from tests.support.refusals import refusal

COUNT, PASSES, MADE = 20, 3, 4
CHOSEN = {name for name in TASKS if name.startswith(("product_", "sent", "seq", "multi", "answerability"))}
TASK = "sentiment_analysis"
ITEM = re.compile(r"item\d{3}")


@pytest.fixture(scope="module")
def vocabulary(demo_model: StoredModel) -> Iterator[Vocabulary]:
    backend = LlamaBackend(demo_model.path, Settings(context=256, gpu_layers=0))
    yield backend.vocabulary
    backend.close()


@pytest.fixture(scope="module")
def held_out() -> dict[str, list[Row]]:
    return split_rows(training_rows(COUNT), Random(3))[1]


@pytest.fixture(scope="module")
def lessons(vocabulary: Vocabulary) -> Lessons:
    random = Random(3)
    learned, held_out = split_rows(training_rows(COUNT), random)
    layout = demo_layout()
    layout = Layout(layout.repeats, made={task: (maker, MADE) for task, (maker, _) in layout.made.items()})
    curriculum = make_curriculum(learned, held_out, vocabulary, ALPACA, passes=PASSES, random=random, layout=layout)
    assert not curriculum.too_long
    return curriculum.lessons


def prompt(lesson: Lesson, vocabulary: Vocabulary) -> str:
    return vocabulary.detokenize(lesson.tokens[: -lesson.answer]).decode()


def answer(lesson: Lesson, vocabulary: Vocabulary) -> str:
    return vocabulary.detokenize(lesson.tokens[-lesson.answer : -1]).decode()


def test_a_held_out_lesson_is_the_prompt_of_run_and_the_gold_answer(
    lessons: Lessons, held_out: dict[str, list[Row]], demo: Runtime, vocabulary: Vocabulary
) -> None:
    rows = [row for own in held_out.values() for row in own]
    validation = lessons.of(VALIDATION)
    assert len(validation) == len(rows) == len(TASKS) * COUNT // 10
    for lesson, row in zip(validation, rows, strict=True):
        question = TASKS[row["task"]].question(row)
        assert lesson.task == row["task"]
        assert list(lesson.tokens[: -lesson.answer]) == list(demo.request(question).prompt)
        assert answer(lesson, vocabulary) == row["output"]


def test_every_lesson_ends_with_an_answer_of_its_task_and_the_end(lessons: Lessons, vocabulary: Vocabulary) -> None:
    assert lessons.end == vocabulary.end
    for lesson in lessons.lessons:
        assert lesson.tokens[-1] == vocabulary.end
        assert vocabulary.end not in lesson.tokens[:-1]
        text = prompt(lesson, vocabulary)
        assert text.endswith("\n\n### Response:\n")
        joint = vocabulary.tokenize(text + answer(lesson, vocabulary), begin=True)
        assert list(lesson.tokens[:-1]) == joint


def test_the_right_answer_is_among_the_choices(lessons: Lessons) -> None:
    for lesson in lessons.lessons:
        assert (lesson.gold >= 0) == bool(lesson.choices) == (lesson.task in CHOSEN)
        if lesson.choices:
            assert len(set(lesson.choices)) == len(lesson.choices)
            assert lesson.choices[lesson.gold] == lesson.tokens[-lesson.answer]


def test_nothing_that_is_held_out_is_learned(
    lessons: Lessons, held_out: dict[str, list[Row]], vocabulary: Vocabulary
) -> None:
    unseen = {word for own in held_out.values() for row in own for word in ITEM.findall(json.dumps(row))}
    assert unseen == {word for lesson in lessons.of(VALIDATION) for word in ITEM.findall(prompt(lesson, vocabulary))}
    for turn in range(PASSES):
        learned = {word for lesson in lessons.of(turn) for word in ITEM.findall(prompt(lesson, vocabulary))}
        assert len(learned) == len(TASKS) * COUNT * 9 // 10
        assert not learned & unseen


def test_each_pass_contains_every_row_and_the_made_ones(lessons: Lessons) -> None:
    assert lessons.passes == PASSES
    for turn in range(PASSES):
        for task in TASKS:
            extra = MADE if task in demo_layout().made else 0
            count = sum(lesson.task == task for lesson in lessons.of(turn))
            assert count == COUNT * 9 // 10 * REPEATS.get(task, 1) + extra
    orders = [[lesson.task for lesson in lessons.of(turn)] for turn in range(PASSES)]
    assert orders[0] != orders[1]


def test_every_wording_of_an_instruction_is_used_except_held_out_ones(lessons: Lessons, vocabulary: Vocabulary) -> None:
    wordings: dict[str, set[str]] = {task: set() for task in TASKS}
    for lesson in lessons.lessons:
        text = prompt(lesson, vocabulary).partition("### Instruction:\n")[2].partition("\n\n### Input:")[0]
        wordings[lesson.task].add(text)
    for name, task in TASKS.items():
        assert wordings[name] == {task.instruction, *PARAPHRASES[name]}
        assert HELD_OUT.get(name) not in wordings[name]


def test_held_out_wordings_are_not_used_elsewhere() -> None:
    assert set(PARAPHRASES) == set(TASKS)
    assert set(HELD_OUT) <= set(TASKS)
    wordings = [text for own in PARAPHRASES.values() for text in own] + [task.instruction for task in TASKS.values()]
    assert len(set(wordings)) == len(wordings)
    assert not {*HELD_OUT.values()} & {*wordings}


def test_lessons_survive_a_round_trip(lessons: Lessons, tmp_path: Path) -> None:
    lessons.write(tmp_path / "lessons.npz")
    copy = read_lessons(tmp_path / "lessons.npz")
    assert copy.end == lessons.end
    assert [comparable(one) for one in copy.lessons] == [comparable(one) for one in lessons.lessons]


def comparable(lesson: Lesson) -> tuple[Any, ...]:
    return lesson.task, [*lesson.tokens], lesson.answer, [*lesson.choices], lesson.gold, lesson.turn, lesson.left_out


def test_token_ids_above_65535_are_kept(tmp_path: Path) -> None:
    written = Lessons(131071, [Lesson("product_matching", [70000, 5, 131071], 2)])
    written.write(tmp_path / "lessons.npz")
    assert read_lessons(tmp_path / "lessons.npz").lessons[0].tokens == [70000, 5, 131071]


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("no array")
    with refusal(InputError, file=str(tmp_path / "other")):
        read_lessons(tmp_path / "other")


@pytest.mark.parametrize("size", [0, 100, 4000])
def test_a_cut_file_is_refused(size: int, lessons: Lessons, tmp_path: Path) -> None:
    path = tmp_path / "lessons.npz"
    lessons.write(path)
    path.write_bytes(path.read_bytes()[:size])
    with refusal(InputError, file=str(path)):
        read_lessons(path)


def test_a_single_array_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "lessons.npy", np.arange(3))
    with refusal(InputError, file=str(tmp_path / "lessons.npy")):
        read_lessons(tmp_path / "lessons.npy")


def test_a_row_that_is_too_long_is_left_out_and_counted(vocabulary: Vocabulary) -> None:
    row = training_row("sentiment_analysis", 1)
    row["input"] = {"review": "loud " * LONGEST}
    rows = {"sentiment_analysis": [row, training_row("sentiment_analysis", 2)]}
    curriculum = make_curriculum(rows, {}, vocabulary, ALPACA, passes=2, random=Random(0))
    assert curriculum.too_long == {"sentiment_analysis": 2}
    assert [len(curriculum.lessons.of(turn)) for turn in (VALIDATION, 0, 1)] == [0, 1, 1]


def test_a_folder_of_rows_becomes_lessons_and_calibration_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = training_rows(COUNT, ["product_matching", "sentiment_analysis"])
    for task, own in rows.items():
        unnamed = [{"input": row["input"], "output": row["output"]} for row in own]
        write_lines(tmp_path / "data" / task / "train.jsonl", unnamed)
    call = ["train", "lessons", "--data", str(tmp_path / "data"), "--passes", "2"]
    output = ["--held-out", str(tmp_path / "held-out"), "-o", str(tmp_path / "lessons.npz")]
    assert run_command([*call, *output]) == 0
    assert re.findall(r"\b\d+\b", capsys.readouterr().err.splitlines()[-1])[:3] == ["2", "36", "4"]
    assert len(read_lessons(tmp_path / "lessons.npz").lessons) == 4 + 2 * 36
    tasks = list(TASKS.values())
    gathered = gather(labelled_files(tmp_path / "held-out", tasks, "test"), tasks, split="test")
    assert {task: len(own) for task, own in gathered.rows.items() if own} == dict.fromkeys(rows, 2)
    assert not gathered.unreadable


def test_rows_of_a_pass_can_be_limited_for_all_tasks_or_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tasks = ["product_matching", "sentiment_analysis", "query_product_ranking"]
    for task, own in training_rows(COUNT, tasks).items():
        write_lines(tmp_path / "data" / task / "train.jsonl", own)
    lessons = tmp_path / "lessons.npz"
    options = ["--data", str(tmp_path / "data"), "--passes", "2", "-o", str(lessons)]
    most = ["--most", "product_matching=7", "--most", "5"]
    assert run_command(["train", "lessons", *options, *most]) == 0
    for turn in range(2):
        counts = Counter(lesson.task for lesson in read_lessons(lessons).of(turn))
        assert counts == {"product_matching": 7, "sentiment_analysis": 5, "query_product_ranking": 5}
    result = CliRunner().invoke(demo_lessons, [*options, *most])  # plus as many synthetic rows
    assert result.exit_code == 0, result.output
    counts = Counter(lesson.task for lesson in read_lessons(lessons).of(0))
    assert counts == {"product_matching": 7 + 7, "sentiment_analysis": 5 + 5, "query_product_ranking": 5 + 5}
    capsys.readouterr()
    for wrong, reason in [("pm=0", "x>=1"), ("many", "'many'"), ("none=3", "none")]:
        assert run_command(["train", "lessons", *options, "--most", wrong]) == 2
        assert reason in capsys.readouterr().err


def test_hard_cases_are_made_for_tasks_with_rules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tasks = ["product_matching", "sentiment_analysis", "query_product_ranking"]
    for task, own in training_rows(COUNT, tasks).items():
        write_lines(tmp_path / "data" / task / "train.jsonl", own)
    options = ["--data", str(tmp_path / "data"), "--passes", "1", "-o", str(tmp_path / "lessons.npz")]
    assert run_command(["train", "lessons", *options, "--most", "2", "--hard", "9", "--hard", "PM=4"]) == 0
    counts = Counter(lesson.task for lesson in read_lessons(tmp_path / "lessons.npz").of(0))
    assert counts == {"product_matching": 2 + 4, "sentiment_analysis": 2 + 9, "query_product_ranking": 2}
    assert run_command(["train", "lessons", *options, "--hard", "QPR=4"]) == 2
    assert "query_product_ranking" in capsys.readouterr().err


def test_rows_of_a_source_that_is_left_out_validate_alone(tmp_path: Path) -> None:
    rows = [row | {"source": f"shop/{number % 2}"} for number, row in enumerate(training_rows(40, [TASK])[TASK])]
    write_lines(tmp_path / "data" / TASK / "train.jsonl", rows)
    write_lines(tmp_path / "more" / TASK / "train.jsonl", training_rows(41, [TASK])[TASK][40:])
    output = tmp_path / "lessons.npz"
    call = ["train", "lessons", "--data", str(tmp_path / "data"), "--data", str(tmp_path / "more"), "--passes", "1"]
    assert run_command([*call, "--leave-out", "shop/1", "--most-held-out", "7", "-o", str(output)]) == 0
    lessons = read_lessons(output)
    assert Counter((lesson.turn, lesson.left_out) for lesson in lessons.lessons) == {
        (0, False): 21 - 2,
        (VALIDATION, False): 2,
        (VALIDATION, True): 7,
    }


def test_rows_that_are_all_too_long_or_held_out_are_refused(tmp_path: Path) -> None:
    long = [{"input": {"review": f"{number} " + "loud " * LONGEST}, "output": "C: neutral"} for number in range(12)]
    same = [{"input": {"review": "loud"}, "output": "C: neutral"}] * 12
    for rows in (long, same):
        write_lines(tmp_path / TASK / "train.jsonl", rows)
        call = ["train", "lessons", "--data", str(tmp_path), "--passes", "1", "-o", str(tmp_path / "out.npz")]
        assert run_command(call) == 3
        assert not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize("option", [("--most", "PM=3"), ("--hard", "PM=50")])
def test_a_named_task_without_rows_is_refused(
    option: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_lines(tmp_path / TASK / "train.jsonl", training_rows(COUNT, [TASK])[TASK])
    call = ["train", "lessons", "--data", str(tmp_path), "--passes", "1", "-o", str(tmp_path / "out.npz")]
    assert run_command([*call, *option]) == 2
    assert "product_matching" in capsys.readouterr().err
    assert run_command([*call, "--most", "3", "--hard", "2"]) == 0


def test_an_output_inside_a_file_is_refused_before_the_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_lines(tmp_path / TASK / "train.jsonl", training_rows(COUNT, [TASK])[TASK])
    file = tmp_path / "file"
    file.touch()
    call = ["train", "lessons", "--data", str(tmp_path), "--model", str(file)]
    for output in (["-o", str(file / "out.npz")], ["-o", str(tmp_path / "out"), "--held-out", str(file / "held")]):
        assert run_command([*call, *output]) == 2
        assert str(file) in capsys.readouterr().err


def test_a_half_surrogate_is_held_out_as_the_model_sees_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"input": {"question": "Is it loud?", "documents": [f"{number} \ud83d"]}, "output": "\ud83d, no"}
        for number in range(20)
    ]
    write_lines(tmp_path / "data" / "answer_generation" / "train.jsonl", rows)
    call = ["train", "lessons", "--data", str(tmp_path / "data"), "--passes", "1", "-o", str(tmp_path / "out.npz")]
    assert run_command([*call, "--held-out", str(tmp_path / "held-out")]) == 0, capsys.readouterr().err
    written = (tmp_path / "held-out" / "answer_generation" / "test.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["output"] for line in written] == ["\ufffd, no"] * 2


def test_lessons_are_written_after_the_held_out_rows(tmp_path: Path) -> None:
    (tmp_path / "held-out").write_text("a file")
    with pytest.raises(OSError, match="held-out"):
        Curriculum(Lessons(2), {TASK: [training_row(TASK, 1)]}, {}).write(tmp_path / "out.npz", tmp_path / "held-out")
    assert not (tmp_path / "out.npz").exists()


def test_without_torch_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lessons.npz").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "ecellm_lite.training.learning", raising=False)
    assert run_command(["train", "learn", str(tmp_path / "lessons.npz"), "-o", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "torch" in error
    assert "pip install 'ecellm-lite[train]'" in error


@given(lengths=st.lists(st.integers(1, 90), min_size=1, max_size=200), rows=st.integers(1, 9), seed=st.integers(0, 9))
def test_batches_contain_every_lesson_once(lengths: list[int], rows: int, seed: int) -> None:
    lessons = [Lesson("product_matching", [number] * length, 1) for number, length in enumerate(lengths)]
    drawn = list(batches(lessons, rows, Random(seed)))
    assert all(1 <= len(batch) <= rows for batch in drawn)
    assert sorted(lesson.tokens[0] for batch in drawn for lesson in batch) == list(range(len(lengths)))
    assert drawn == list(batches(lessons, rows, Random(seed)))


def test_lessons_do_not_replace_their_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = write_lines(tmp_path / "product_matching" / "train.jsonl", training_rows(3)["product_matching"])
    before = rows.read_bytes()
    assert run_command(["train", "lessons", "--data", str(tmp_path), "-o", str(rows)]) == 2
    assert "--output" in capsys.readouterr().err
    assert rows.read_bytes() == before
    rows.unlink()
    table = rows.with_suffix(".csv")
    table.write_text("review,output\n" + "good,positive\n" * 30, "utf-8")
    before = table.read_bytes()
    assert run_command(["train", "lessons", "--data", str(tmp_path), "-o", str(table)]) == 2
    assert table.read_bytes() == before
