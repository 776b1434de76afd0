"""Tests that a user's own task in a TOML file works like one of the ten tasks."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ecellm_lite import InputError, Runtime, UsageError, load_task
from ecellm_lite.cli.main import run_command
from ecellm_lite.cli.show import render
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.models.store import StoredModel
from ecellm_lite.tasks.registry import CASLIE_TASKS, TASKS, get_task
from ecellm_lite.tasks.shortening import Words
from tests.support.answer_checks import HOSTILE, KINDS, check, hard
from tests.support.own_tasks import ANSWERS, ROUTING, ROW, Write, task_text
from tests.support.refusals import refusal


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return the user's folder of tasks. Its files are removed after the test."""
    place = Path(os.environ["ECELLM_HOME"]) / "tasks"
    place.mkdir(parents=True)
    yield place
    for path in place.iterdir():
        path.unlink()
    place.rmdir()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("answer", ANSWERS)
def test_any_logits_give_an_answer_from_the_answer_set(answer: str, kind: str, write: Write) -> None:
    task = load_task(write(task_text(ANSWERS[answer])))
    space = task.question(ROW).space
    with Runtime.over(FakeBackend(hard(kind), cells=1 << 15)) as runtime:
        reply = runtime.answer(task, ROW)
    assert reply.task == "own"
    if space.type == "choice":
        assert reply.probabilities is not None
        assert reply.value in reply.probabilities
        assert space.parse(reply.text or "") == reply.value
    check(reply, ROW, space)
    json.dumps(reply.as_dict()).encode("ascii")


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text)[:20])
def test_hostile_rows_are_read_as_text(answer: str, text: str, write: Write) -> None:
    task = load_task(write(task_text(ANSWERS[answer])))
    row = {"question": text, "notes": [text, text], "shop": text}
    with Runtime.over(FakeBackend(cells=1 << 15)) as runtime:
        check(runtime.answer(task, row), row, task.question(row).space)


def test_the_model_sees_the_options_and_the_row(write: Write) -> None:
    routed = load_task(write(ROUTING)).question({"mail": "Where is it?"})
    assert routed.text == "Where is it?"
    assert routed.options == '["A: billing: invoices, payments and refunds", "B: delivery: parcels", "C: B"]'
    assert routed.instruction.startswith("Given a customer's mail")
    several = load_task(write(task_text(ANSWERS["many choices"]))).question({**ROW, "other": 1})
    assert json.loads(several.text) == ROW
    assert several.options is not None
    assert json.loads(several.options)[254] == "desk 254"
    ranked = load_task(write(task_text(ANSWERS["ranking"]))).question(ROW)
    assert json.loads(ranked.text)["notes"] == ["A: A blue lamp with a steel base.", "B: A red chair."]
    extracted = load_task(write(task_text(ANSWERS["extraction"]))).question(ROW)
    assert json.loads(extracted.text) == {**ROW, "target attributes": "Color and Material"}
    named = load_task(write(task_text(ANSWERS["extraction of a field"]))).question(ROW)
    assert json.loads(named.text) == {
        "question": "Blue lamp?",
        "target attributes": "A blue lamp with a steel base. and A red chair.",
    }
    scored = load_task(write(task_text(ANSWERS["score"]))).question(ROW)
    assert scored.options == '["A: very bad", "B: bad", "C: good", "D: very good"]'


def test_value_is_the_users_name_and_text_is_the_models_letter(write: Write) -> None:
    task = load_task(write(ROUTING))
    assert task.long == (Words(("mail",)),)
    with Runtime.over(FakeBackend()) as runtime:
        answers = [runtime.answer(task, {"mail": str(number)}) for number in range(12)]
    assert {answer.value for answer in answers} == {"billing", "delivery", "B"}
    written = {"billing": "A", "delivery": "B", "B": "C"}
    assert all(answer.text == written[answer.value] for answer in answers)
    assert all(list(answer.probabilities or ()) == list(written) for answer in answers)


def test_a_row_in_the_data_sets_form_is_taken(write: Write) -> None:
    row = {"instruction": "Choose.", "input": "Where is it?", "options": None}
    with Runtime.over(FakeBackend()) as runtime:
        assert runtime.answer(load_task(write(ROUTING)), row).error is None
        for answer in ("ranking", "extraction"):
            with pytest.raises(InputError):
                runtime.answer(load_task(write(task_text(ANSWERS[answer]))), row)


def test_a_row_that_does_not_fit_the_task_is_refused(write: Write) -> None:
    task = load_task(write(task_text(ANSWERS["ranking"])))
    for row in ({"question": "x"}, {"question": "x", "notes": []}, {"question": "x", "notes": ["x"] * 27}):
        with pytest.raises(InputError) as raised:
            task.question(row)
        assert raised.value.field == "notes"
    assert task.example() == {
        "question": "...",
        "notes": ["The lamp is blue.", "It has a steel base."],
        "shop": "...",
    }


def test_schemas_and_grammars_are_read_from_files_beside_the_task(write: Write, tmp_path: Path) -> None:
    write('{"enum": ["x", "y"]}', "answer.json")
    write('root ::= "x"', "answer.gbnf")
    schema = load_task(write(task_text('type = "schema"\nfile = "answer.json"')))
    grammar = load_task(write(task_text('type = "grammar"\nfile = "./answer.gbnf"')))
    with Runtime.over(FakeBackend()) as runtime:
        assert runtime.answer(schema, ROW).value in {"x", "y"}
        assert runtime.answer(grammar, ROW).value == "x"
    own = str(tmp_path / "own.toml")
    for name, place in {
        "../answer.json": (own, "answer.file"),
        str(tmp_path / "answer.json"): (own, "answer.file"),
        "absent.json": (str(tmp_path / "absent.json"), None),
        "answer.gbnf": (own, "answer.file"),
    }.items():
        with pytest.raises(InputError) as raised:
            load_task(write(task_text(f"type = 'schema'\nfile = '{name}'")))
        assert (raised.value.file, raised.value.field) == place


def test_custom_tasks_are_found_listed_and_described(
    folder: Path, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "support_routing.toml").write_text(ROUTING)
    (folder / "broken.toml").write_text("name = ")
    (folder / "misnamed.toml").write_text(ROUTING)
    (folder / "sentiment_analysis.toml").write_text(ROUTING.replace("support_routing", "sentiment_analysis"))
    (folder / ".hidden.toml").write_text("")
    assert get_task("Support-Routing").source == folder / "support_routing.toml"
    assert get_task(str(write(ROUTING))).name == "support_routing"
    assert get_task("SA").source is None
    assert get_task("sentiment_analysis").source is None
    for name, error in {"support_ruting": UsageError, "broken": InputError, "../tasks/broken": UsageError}.items():
        with pytest.raises(error):
            get_task(name)
    with refusal(UsageError, "support_routing", settings=("task",)):
        get_task("support_ruting")
    with refusal(InputError, "support_routing.toml", field="name", file=str(folder / "misnamed.toml")):
        get_task("misnamed")

    assert run_command(["tasks"]) == 0
    lines = capsys.readouterr().out.splitlines()
    built_in = len(TASKS) + len(CASLIE_TASKS)
    assert len(lines) == built_in + 4
    assert lines[built_in].split(maxsplit=2) == ["support_routing", "own", "Send a support mail to the right desk."]
    assert str(folder / "broken.toml") in lines[built_in + 1]
    assert str(folder / "sentiment_analysis.toml") in lines[built_in + 3]
    assert run_command(["tasks", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in listed[built_in:]] == ["support_routing", "broken", "misnamed", "sentiment_analysis"]
    assert listed[built_in]["file"] == str(folder / "support_routing.toml")
    assert [bool(one.get("error")) for one in listed[built_in:]] == [False, True, True, True]
    assert run_command(["tasks", "support_routing"]) == 0
    described = capsys.readouterr().out
    assert "mail: The customer's mail. (text)" in described
    assert "billing, delivery, B" in described
    assert '"mail": "I was charged twice."' in described


def test_the_shell_completes_custom_tasks(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "support_routing.toml").write_text(ROUTING)
    monkeypatch.setenv("_ECELLM_LITE_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_CWORD", "3")
    for begun, completed in {"supp": "plain,support_routing", "./rout": "file,"}.items():
        monkeypatch.setenv("COMP_WORDS", f"ecellm-lite run --task {begun}")
        with pytest.raises(SystemExit):
            run_command([])
        assert completed in capsys.readouterr().out


@pytest.mark.parametrize("answer", ANSWERS)
def test_answers_of_custom_tasks_are_shown(answer: str, write: Write) -> None:
    from io import StringIO

    from rich.console import Console

    task = load_task(write(task_text(ANSWERS[answer])))
    console = Console(record=True, width=120, file=StringIO(), color_system=None)
    with Runtime.over(FakeBackend(cells=1 << 15)) as runtime:
        reply = runtime.answer(task, ROW)
    console.print(render(reply, task.question(ROW).space))
    shown = console.export_text()
    first = shown.splitlines()[0]
    if reply.type == "choice":
        assert first.startswith(reply.value if reply.text != "A" else "A")
        assert all(str(value) in shown for value in reply.probabilities or ())
    if reply.type == "score":
        assert first.startswith(f"{reply.value:.2f} of 4")
        assert "very good" in shown
    if reply.type == "ranking":
        assert "A: A blue lamp" in shown


def test_the_demo_answers_a_custom_task(
    demo_model: StoredModel, write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(write(ROUTING))
    assert run_command(["run", "--task", path, "--input", '{"mail": "I was charged twice."}', "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["task"] == "support_routing"
    assert answer["type"] == "choice"
    assert answer["value"] in {"billing", "delivery", "B"}
    assert abs(sum(answer["probabilities"].values()) - 1) < 1e-9
    assert answer["usage"]["decoded_tokens"] == 0  # letters differ at the first token
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"id": 1, "mail": "Where is my parcel?"}\n{"id": 2}\n{"id": 3, "mail": "x"}\n')
    assert run_command(["run", "--task", path, "--rows", str(rows), "--quiet"]) == 5
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["id"], one["error"] is None) for one in answers] == [(1, True), (2, False), (3, True)]


@pytest.mark.slow
def test_the_demo_answers_every_type_of_custom_task(demo: Runtime, write: Write) -> None:
    for answer in ANSWERS.values():
        task = load_task(write(task_text(answer)))
        reply = demo.answer(task, ROW)
        check(reply, ROW, task.question(ROW).space)


def test_free_text_obeys_its_limits(demo_model: StoredModel, write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    text, closed = str(write(task_text(ANSWERS["text"]))), str(write(ROUTING, "routing.toml"))
    row = json.dumps(ROW)
    assert run_command(["run", "-t", text, "-i", row, "--json", "--max-tokens", "3"]) == 0
    assert json.loads(capsys.readouterr().out)["usage"]["decoded_tokens"] <= 3
    assert run_command(["run", "-t", closed, "-i", '{"mail": "x"}', "--max-tokens", "3"]) == 2
    assert "--max-tokens" in capsys.readouterr().err
