"""Tests of worked examples in a user's task: their place in the prompt, their tokens, and which ones are refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ecellm_lite import InputError, Runtime
from ecellm_lite.engine.fake import FakeBackend, FakeVocabulary
from ecellm_lite.envelopes import ENVELOPES, WorkedExample, get_envelope
from ecellm_lite.evaluate.comparison import compare
from ecellm_lite.evaluate.run import prepare_evaluation
from ecellm_lite.models.calibrations import Calibrations
from ecellm_lite.tasks.custom import files_beside, read_task
from ecellm_lite.tasks.description import describe
from ecellm_lite.tasks.example_files import MAX_BYTES, MOST
from ecellm_lite.tasks.task import Task

DESK = """
name = "desk"
summary = "A desk."
instruction = "Which desk?"
[[fields]]
name = "mail"
long = true
[answer]
type = "choice"
choices = [{ value = "billing" }, { value = "delivery" }]
"""
OPTIONS = '["A: billing", "B: delivery"]'
FIXED = """
[[examples]]
input = { mail = "Refund me." }
output = "billing"
[[examples]]
input = "It never came."
output = "B"
"""
PAIR = (WorkedExample("Refund me.", OPTIONS, "A"), WorkedExample("It never came.", OPTIONS, "B"))
ROW = {"mail": "Where is it?"}


def written(folder: Path, more: str = "", name: str = "desk.toml") -> Task:
    path = folder / name
    path.write_text(f"{more}\n{DESK}" if more.startswith("examples") else DESK + more, "utf-8")
    return read_task(path)


def from_file(folder: Path, rows: Sequence[Any], keys: str = "") -> Task:
    (folder / "examples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return written(folder, f'examples = {{ file = "examples.jsonl"{keys} }}')


def test_a_wrong_output_names_the_values_to_write(tmp_path: Path) -> None:
    with pytest.raises(InputError) as fault:
        written(tmp_path, '[[examples]]\ninput = "Refund me."\noutput = "refunds"\n')
    assert fault.value.step == "write one of 'billing', 'delivery'"


def test_a_value_comes_before_a_letter(tmp_path: Path) -> None:
    values = ", ".join(f'{{ value = "{value}" }}' for value in ("A+", "A", "B"))
    text = DESK.replace('{ value = "billing" }, { value = "delivery" }', values)
    path = tmp_path / "desk.toml"
    path.write_text(f'{text}\n[[examples]]\ninput = "x"\noutput = "A"\n', "utf-8")
    task = read_task(path)
    question = task.question(ROW)
    assert [example.answer for example in question.examples] == ["B"]  # the letter of A
    space = question.space
    assert [space.written(value) for value in ("A+", "A", "B", "C")] == ["A", "B", "C", "C"]
    assert [space.normalized(value) for value in ("a+", "A", "b", "C")] == ["A", "B", "C", "C"]
    assert [space.written(space.label(letter)) for letter in "ABC"] == list("ABC")


def example(mail: str, output: Any = "billing") -> dict[str, Any]:
    return {"id": 1, "input": {"mail": mail}, "output": output}


def test_fixed_examples_are_read_from_the_task_or_a_file(tmp_path: Path) -> None:
    assert written(tmp_path, FIXED).question(ROW).examples == PAIR
    rows = [example("Refund me."), {"mail": "It never came.", "output": "delivery"}]
    task = from_file(tmp_path, rows)
    assert task.question(ROW).examples == PAIR
    assert not task.question(ROW).nearest
    assert task.question({"instruction": "Which?", "input": "Where is it?"}).examples == ()
    assert files_beside(tmp_path / "desk.toml") == ["examples.jsonl"]


def test_they_stand_between_the_instruction_and_the_row(tmp_path: Path) -> None:
    question = written(tmp_path, FIXED).question(ROW)
    blocks = [
        f"### Input:\n{text}\n\n### Options:\n{OPTIONS}\n\n"
        for text in ("Refund me.", "It never came.", "Where is it?")
    ]
    expected = (
        f"### Instruction:\nWhich desk?\n\n{blocks[0]}### Response:\nA\n\n{blocks[1]}### Response:\nB\n\n"
        f"{blocks[2]}### Response:\n"
    )
    prompt = get_envelope("alpaca").prompt(question.instruction, question.text, question.options, question.examples)
    assert prompt.endswith(f"\n\n{expected}")
    turns = [f"user\nWhich desk?\n\nInput:\n{text}\n\nOptions:\n{OPTIONS}" for text in ("Refund me.", "It never came.")]
    prompt = get_envelope("chatml").prompt(question.instruction, question.text, question.options, question.examples)
    assert prompt.startswith(
        f"<|im_start|>{turns[0]}<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n<|im_start|>{turns[1]}<|im_end|>\n"
        "<|im_start|>assistant\nB<|im_end|>\n<|im_start|>user\nWhich desk?\n\nInput:\nWhere is it?"
    )


@pytest.mark.parametrize("name", ENVELOPES)
def test_the_shared_beginning_begins_every_prompt(name: str) -> None:
    envelope = get_envelope(name)
    for examples in ((), PAIR):
        prefix = str(envelope.prefix("Which desk?", examples))
        for text in ("Where is it?", "How much?"):
            assert envelope.prompt("Which desk?", text, OPTIONS, examples).startswith(f"{prefix}{text}")
        assert prefix.count("Refund me.") == len(examples) / 2
    assert envelope.prompt("Do.", "This.", None, ()) == envelope.prompt("Do.", "This.")


@pytest.mark.parametrize("envelope", ["alpaca", "qwen2.5"])
def test_fixed_examples_cost_once_for_all_rows(tmp_path: Path, envelope: str) -> None:
    rows = [{"mail": f"{number}: where is it?"} for number in range(10)]
    vocabulary = FakeVocabulary()
    task = written(tmp_path, FIXED)
    prefix = get_envelope(envelope).prefix("Which desk?", PAIR).tokens(vocabulary)
    backend = FakeBackend(cells=16384)
    with Runtime.over(backend, envelope=envelope) as runtime:
        prompts = [runtime.request(task.question(row)).prompt for row in rows]
        answers = list(runtime.answers(task, rows))
        decoded = backend.decoded
    usages = [answer.usage for answer in answers if answer.usage]
    assert [usage.prompt_tokens for usage in usages] == [len(prompt) for prompt in prompts]
    assert sum((usage.cached_tokens or 0) >= len(prefix) for usage in usages) >= 9
    # Each prompt is read from the end of the examples on, and the examples are read once.
    assert decoded <= len(prefix) + sum(len(prompt) - len(prefix) for prompt in prompts) + len(rows)


def test_the_nearest_examples_come_last(tmp_path: Path) -> None:
    pytest.importorskip("bm25s", reason="the nearest examples need the extra 'bm25'")
    mails = ["red shoes in size 8", "a parcel that never came", "an invoice for red shoes", "???"]
    task = from_file(tmp_path, [example(mail) for mail in mails], ", nearest = 2")
    chosen = [each.text for each in task.question({"mail": "The invoice for my shoes"}).examples]
    assert chosen == ["red shoes in size 8", "an invoice for red shoes"]
    for mail in ("zzz", "!", "Ünïcödé"):  # no word in common
        assert len(task.question({"mail": mail}).examples) == 2
    question = task.question(ROW)
    assert question.nearest
    with Runtime.over(FakeBackend(cells=16384)) as runtime:
        request = runtime.request(question)
        prefix = get_envelope("alpaca").prefix("Which desk?").tokens(FakeVocabulary())
        answer = runtime.answer(task, ROW)
        prompt = runtime.prompt(task, ROW)
    assert request.shared == len(prefix)  # a row's own examples are never kept on disk
    assert answer.value in ("billing", "delivery")
    assert "a parcel that never came" in prompt or "???" in prompt


def test_a_prompt_that_is_too_long_loses_the_farthest_examples_and_then_the_rows_end(tmp_path: Path) -> None:
    pytest.importorskip("bm25s", reason="the nearest examples need the extra 'bm25'")
    rows = [example(f"invoice {'again ' * number}{'word ' * 40}") for number in range(4)]
    task = from_file(tmp_path, rows, ", nearest = 4")
    row = {"mail": "invoice " + "again " * 60}
    prompt = task.question(row)

    def needs_of(question: Any) -> int:
        return len(question.text) + sum(len(each.text) for each in question.examples)

    whole = needs_of(prompt)
    assert task.shortened(prompt, needs_of, whole) is prompt
    fewer = task.shortened(prompt, needs_of, whole - 1)
    assert (fewer.examples, fewer.text, fewer.shortened) == (
        prompt.examples[1:],
        prompt.text,
        "examples: the nearest 3 of 4",
    )
    least = task.shortened(prompt, needs_of, 50)
    assert least.examples == ()
    assert len(least.text) <= 50
    assert least.shortened is not None
    assert least.shortened.startswith("examples: the nearest 0 of 4; mail: the first ")
    hopeless = task.shortened(prompt, needs_of, 3)
    assert hopeless.shortened is None
    assert "examples and mail" in hopeless.advice
    fixed = written(tmp_path, FIXED)
    cut = fixed.shortened(fixed.question(row), needs_of, 100)
    assert cut.examples == PAIR
    assert needs_of(cut) <= 100


def test_a_calibration_is_for_these_examples(tmp_path: Path) -> None:
    tasks = [written(tmp_path), written(tmp_path, FIXED), written(tmp_path, FIXED.replace("never", "has not"))]
    calibrations = Calibrations("a" * 64, "alpaca")
    scopes = [calibrations.scope(task.name, "choice", task.question(ROW).wording, OPTIONS) for task in tasks]
    assert len({scope.instruction for scope in scopes}) == 3
    assert tasks[0].wording == tasks[0].instruction
    for task in tasks:
        assert task.question(ROW).wording == task.wording
        assert task.question(ROW, instruction="Other.").wording != task.wording
    assert scopes[1].differs(scopes[0]) is not None
    hashes = [describe(task).get("examples", {}).get("sha256") for task in tasks]
    assert len(set(hashes)) == 3


def test_an_evaluation_with_examples_is_compared_with_one_without(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="evaluations need the extra 'eval'")
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(example(f"mail {number}")) + "\n" for number in range(12)))
    results = []
    for name, more in (("desk.toml", ""), ("shown.toml", FIXED)):
        with Runtime.over(FakeBackend(cells=16384)) as runtime:
            results.append(prepare_evaluation(data, [written(tmp_path, more, name)]).run(runtime))
    compared = compare(*results).tasks["desk"]
    assert (compared.rows, compared.metric) == (12, "accuracy")
    assert compared.before == results[0].tasks["desk"].metrics.all["accuracy"]


@pytest.mark.parametrize(
    ("more", "field", "value"),
    [
        ("".join(f'[[examples]]\ninput = "m{n}"\noutput = "A"\n' for n in range(MOST + 1)), "examples", "33"),
        ("examples = []", "examples", "0"),
        ("examples = 3", "examples", "3"),
        (FIXED.replace('"B"', '"returns"'), "examples[1].output", '"returns"'),
        (FIXED.replace('"B"', "true"), "examples[1].output", "true"),
        (FIXED.replace('"B"', '["B"]'), "examples[1].output", '["B"]'),
        (FIXED.replace('output = "B"', ""), "examples[1].output", ""),
        (FIXED.replace('input = "It never came."', ""), "examples[1].input", ""),
        (FIXED.replace('"It never came."', "7"), "examples[1].input", "7"),
        (FIXED.replace('"It never came."', '" "'), "examples[1].input", "mail"),
        (FIXED.replace("mail =", "text ="), "examples[0].input.text", ""),
        (FIXED.replace("mail = ", "mail = 1979-05-27, x = "), "examples[0].input.x", ""),
        (FIXED.replace("output", "answer"), "examples[0].answer", ""),
        ('examples = { file = "none.jsonl" }', None, "none.jsonl"),
        ('examples = { file = "../x.jsonl" }', "examples.file", "../x.jsonl"),
        ('examples = { file = "x.jsonl", k = 3 }', "examples.k", ""),
        ('examples = { file = "x.jsonl", nearest = 33 }', "examples.nearest", "33"),
        ('examples = { file = "x.jsonl", nearest = 0 }', "examples.nearest", "0"),
        ("examples = { nearest = 3 }", "examples.file", ""),
    ],
)
def test_wrong_examples_name_the_place(tmp_path: Path, more: str, field: str | None, value: str) -> None:
    with pytest.raises(InputError) as raised:
        written(tmp_path, more)
    error = raised.value
    assert error.field == field
    assert value in error.message
    assert error.step
    assert len(str(error).splitlines()) == 1


@pytest.mark.parametrize(
    ("rows", "line", "value"),
    [
        ([example("a"), "x"], 2, '"x"'),
        ([example("a"), example("b", "returns")], 2, '"returns"'),
        ([example("a"), {"mail": "b"}], 2, "output"),
        ([example("a"), example("b", None)], 2, "null"),
        ([example("a"), {"input": "Where?", "instruction": "Which?", "output": "A"}], 2, "Where?"),
        ([{"text": "a", "output": "A"}], 1, "mail"),
        ([example("a")] * (MOST + 1), MOST + 1, "33"),
        ([], None, "no examples"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, rows: Sequence[Any], line: int | None, value: str) -> None:
    with pytest.raises(InputError) as raised:
        from_file(tmp_path, rows)
    assert raised.value.line == line
    assert value in raised.value.message
    assert raised.value.step


def test_hostile_files_of_examples(tmp_path: Path) -> None:
    large = tmp_path / "large.jsonl"
    with large.open("wb") as file:
        file.truncate(1 << 30)  # takes no room on disk
    (tmp_path / "broken.jsonl").write_text('{"mail": \n')
    (tmp_path / "deep.jsonl").write_text("[" * 100_000)
    (tmp_path / "folder.jsonl").mkdir()
    names = {"large": f"{MAX_BYTES:,}", "broken": "line 1", "deep": "line 1", "folder": "folder.jsonl"}
    for name, value in names.items():
        with pytest.raises(InputError) as raised:
            written(tmp_path, f'examples = {{ file = "{name}.jsonl" }}')
        assert value in raised.value.message
        assert raised.value.step


def test_a_file_may_have_many_examples_of_which_some_are_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("bm25s", reason="the nearest examples need the extra 'bm25'")
    rows = [example(f"mail {number}") for number in range(MOST + 1)]
    assert len(from_file(tmp_path, rows, ", nearest = 32").question(ROW).examples) == MOST
    monkeypatch.setattr("ecellm_lite.tasks.example_files.MOST_IN_FILE", MOST)
    with pytest.raises(InputError) as raised:
        from_file(tmp_path, rows, ", nearest = 2")
    assert raised.value.line == MOST + 1


def test_without_bm25s_the_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecellm_lite.tasks.nearest.find_spec", lambda name: None)
    with pytest.raises(InputError) as raised:
        from_file(tmp_path, [example("a")], ", nearest = 1")
    assert raised.value.field == "examples.nearest"
    assert "bm25s" in raised.value.message
    assert from_file(tmp_path, [example("a")]).question(ROW).examples
