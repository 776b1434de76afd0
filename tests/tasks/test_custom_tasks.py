"""A user's own tasks: a TOML file answers like the ten, and a wrong one says where it is wrong."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecellm_lite import EcellmError, InputError, Runtime, UsageError, load_task
from ecellm_lite.cli.main import run_command
from ecellm_lite.cli.show import render
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.models.store import StoredModel
from ecellm_lite.tasks.registry import get_task
from ecellm_lite.tasks.shortening import Words
from tests.support.answer_checks import HOSTILE, KINDS, check, hard

ROUTING = '''\
name = "support_routing"
summary = "Send a support mail to the right desk."
instruction = """
Given a customer's mail, choose the desk that should answer it.
Answer only from the options."""

[[fields]]
name = "mail"
doc = "The customer's mail."
example = "I was charged twice."
long = true

[answer]
type = "choice"
choices = [
  { value = "billing", description = "invoices, payments and refunds" },
  { value = "delivery", description = "parcels" },
  { value = "B" },
]
'''

FIELDS = """
[[fields]]
name = "question"
[[fields]]
name = "notes"
list = true
example = ["The lamp is blue.", "It has a steel base."]
[[fields]]
name = "shop"
required = false
"""
ROW = {"question": "Blue lamp?", "notes": ["A blue lamp with a steel base.", "A red chair."]}

ANSWERS = {
    "predicate": 'type = "predicate"',
    "choice": 'type = "choice"\nchoices = [{ value = "A" }, { value = "AB" }]',
    "many choices": 'type = "choice"\nchoices = [' + ", ".join(f'{{ value = "desk {i}" }}' for i in range(255)) + "]",
    "score": 'type = "score"\nlevels = ["very bad", "bad", "good", "very good"]',
    "ranking": 'type = "ranking"\nover = "notes"',
    "extraction": 'type = "extraction"\nattributes = ["Color", "Material"]',
    "extraction of a field": 'type = "extraction"\nattributes_from = "notes"',
    "text": 'type = "text"\nmax_tokens = 9',
    "schema": 'type = "schema"\nmax_tokens = 60\nschema = { enum = ["yes", "no", 3] }',
    "grammar": 'type = "grammar"\ngrammar = """root ::= [a-c]{2} | "\\\\u00e9" """',
    "lark": "type = \"grammar\"\ngrammar = 'start: /[a-c]{2}/'",
}


def task_text(answer: str, fields: str = FIELDS, name: str = "own") -> str:
    return f'name = "{name}"\nsummary = "A test."\ninstruction = "Answer."\n{fields}\n[answer]\n{answer}\n'


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file into a folder of its own and return its path."""

    def write(text: str, name: str = "own.toml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def folder() -> Iterator[Path]:
    """The user's folder of tasks, emptied again."""
    place = Path(os.environ["ECELLM_HOME"]) / "tasks"
    place.mkdir(parents=True)
    yield place
    for path in place.iterdir():
        path.unlink()
    place.rmdir()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("answer", ANSWERS)
def test_no_logits_lead_out_of_the_answer_set(answer: str, kind: str, write: Write) -> None:
    task = load_task(write(task_text(ANSWERS[answer])))
    space = task.question(ROW).space
    with Runtime.over(FakeBackend(hard(kind), cells=1 << 15)) as runtime:
        given = runtime.answer(task, ROW)
    assert given.task == "own"
    if space.type == "choice":
        assert given.probabilities is not None
        assert given.value in given.probabilities
        assert space.parse(given.text or "") == given.value
    check(given, ROW, space)
    json.dumps(given.as_dict()).encode("ascii")


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text)[:20])
def test_hostile_rows_stay_text(answer: str, text: str, write: Write) -> None:
    task = load_task(write(task_text(ANSWERS[answer])))
    row = {"question": text, "notes": [text, text], "shop": text}
    with Runtime.over(FakeBackend(cells=1 << 15)) as runtime:
        check(runtime.answer(task, row), row, task.question(row).space)


def test_what_the_model_sees(write: Write) -> None:
    asked = load_task(write(ROUTING)).question({"mail": "Where is it?"})
    assert asked.text == "Where is it?"
    assert asked.options == '["A: billing: invoices, payments and refunds", "B: delivery: parcels", "C: B"]'
    assert asked.instruction.startswith("Given a customer's mail")
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


def test_values_are_the_users_and_text_is_what_the_model_writes(write: Write) -> None:
    task = load_task(write(ROUTING))
    assert task.long == (Words(("mail",)),)
    with Runtime.over(FakeBackend()) as runtime:
        answers = [runtime.answer(task, {"mail": str(number)}) for number in range(12)]
    assert {answer.value for answer in answers} == {"billing", "delivery", "B"}
    written = {"billing": "A", "delivery": "B", "B": "C"}
    assert all(answer.text == written[answer.value] for answer in answers)
    assert all(list(answer.probabilities or ()) == list(written) for answer in answers)


def test_a_row_in_the_data_sets_form(write: Write) -> None:
    row = {"instruction": "Choose.", "input": "Where is it?", "options": None}
    with Runtime.over(FakeBackend()) as runtime:
        assert runtime.answer(load_task(write(ROUTING)), row).error is None
        for answer in ("ranking", "extraction"):
            with pytest.raises(InputError, match="fields"):
                runtime.answer(load_task(write(task_text(ANSWERS[answer]))), row)


def test_a_row_that_does_not_fit_says_so(write: Write) -> None:
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


def test_files_beside_a_task(write: Write, tmp_path: Path) -> None:
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


# What stands in ROUTING, what is put in its place, and the key that the error names, with what its message holds.
WRONG: dict[str, dict[str, tuple[str | None, str]]] = {
    'name = "support_routing"': {
        'name = "Support"': ("name", "'Support'"),
        'name = "sentiment_analysis"': ("name", "built-in"),
        'name = "sa"': ("name", "built-in"),
        'name = ""': ("name", '""'),
        "name = 7": ("name", "7"),
        "": ("name", "missing"),
        'name = "x"\nname = "y"': (None, "is not TOML"),
        'nam = "x"': ("nam", "unknown"),
        '"n\\u000am" = "x"': (r'"n\nm"', "unknown"),
    },
    'doc = "The customer\'s mail."': {
        'dok = "x"': ("fields[0].dok", "unknown"),
        'doc = "a\\nb"': ("fields[0].doc", r'"a\nb"'),
        'required = "no"': ("fields[0].required", '"no"'),
        "required = false": ("fields", "required"),
        "list = true": ("fields[0].example", "I was charged twice."),
        '[[fields]]\nname = "mail"': ("fields", "'mail'"),
    },
    'name = "mail"': {'name = "id"': ("fields[0].name", "'id'"), "": ("fields[0].name", "missing")},
    'type = "choice"': {
        'type = "choise"': ("answer.type", "'choise'"),
        'type = "predicate"': ("answer.choices", "unknown"),
        "": ("answer.type", "missing"),
    },
    '{ value = "B" },': {
        '{ value = "billing" },': ("answer.choices", "'billing'"),
        '{ valu = "B" },': ("answer.choices[2].valu", "unknown"),
        "{ },": ("answer.choices[2].value", "missing"),
        "7,": ("answer.choices[2]", "7"),
        "{ value = [1] },": ("answer.choices[2].value", "[1]"),
        "{ value = 1979-05-27 },": ("answer.choices[2].value", "date"),
        '{ value = "x' + "y" * 300 + '" },': ("answer.choices[2].value", "301"),
        ", ".join(f'{{ value = "{i}" }}' for i in range(300)): ("answer.choices", "302"),
        "{ value = }": (None, "is not TOML (Invalid value (at line 18"),
    },
    "[answer]": {"[answers]": ("answers", "unknown")},
}


@pytest.mark.parametrize(("old", "new"), [(old, new) for old, news in WRONG.items() for new in news])
def test_a_wrong_file_names_its_file_and_the_key(old: str, new: str, write: Write) -> None:
    assert ROUTING.count(old) == 1
    path = write(ROUTING.replace(old, new))
    with pytest.raises(InputError) as raised:
        load_task(path)
    field, message = WRONG[old][new]
    error = raised.value
    assert (error.file, error.field) == (str(path), field)
    assert error.message.startswith(str(path))
    assert message in error.message
    assert error.step
    assert len(str(error).splitlines()) == 1


@pytest.mark.parametrize(
    ("answer", "field", "message"),
    [
        ('type = "score"\nlevels = ["one"]', "answer.levels", "1"),
        ('type = "score"\nlevels = ["one", "one"]', "answer.levels", "'one'"),
        ('type = "ranking"\nover = "question"', "answer.over", "'question'"),
        ('type = "ranking"', "answer.over", "missing"),
        ('type = "extraction"', "answer.attributes", "missing"),
        ('type = "extraction"\nattributes = ["a"]\nattributes_from = "notes"', "answer.attributes", "attributes_from"),
        ('type = "extraction"\nattributes = []', "answer.attributes", "0"),
        ('type = "text"\nmax_tokens = 0', "answer.max_tokens", "0"),
        ('type = "text"\nmax_tokens = true', "answer.max_tokens", "true"),
        ('type = "schema"', "answer.schema", "missing"),
        ('type = "schema"\nschema = "x"', "answer.schema", '"x"'),
        ('type = "schema"\n[answer.schema]\ntype = "nonsense"', "answer.schema", "does not compile"),
        ('type = "schema"\nschema = { const = 1979-05-27 }', "answer.schema", "JSON"),
        ('type = "schema"\nschema = { maximum = inf }', "answer.schema", "JSON"),
        ('type = "schema"\nschema = { const = nan }', "answer.schema", "JSON"),
        ('type = "grammar"\ngrammar = "root ::= ("', "answer.grammar", "GBNF"),
        ('type = "grammar"\ngrammar = "start: ("', "answer.grammar", "does not compile"),
    ],
)
def test_wrong_answers_name_the_key(answer: str, field: str, message: str, write: Write) -> None:
    with pytest.raises(InputError) as raised:
        load_task(write(task_text(answer)))
    error = raised.value
    assert error.field == field
    assert message in error.message
    assert error.step
    assert len(str(error).splitlines()) == 1


def test_what_is_ranked_is_never_cut(write: Write) -> None:
    text = task_text(ANSWERS["ranking"], FIELDS.replace("list = true", "list = true\nlong = true"))
    with pytest.raises(InputError, match="notes") as raised:
        load_task(write(text))
    assert raised.value.field == "answer"


def test_hostile_files(tmp_path: Path, write: Write) -> None:
    for data, reason in {
        b"\xff": "not UTF-8",
        b"x" * 70_000: "more than 65,536 bytes",
        b"a = " + b"[" * 60_000: "nested too deep",
        b"a = " + b"{b = " * 10_000: "nested too deep",
        b"a" + b".a" * 30_000 + b" = 1": "more than 64 parts in line 1",
        b"x = 1\n[a" + b'. "b"' * 10_000 + b"]": "more than 64 parts in line 2",
        b"[a" + b'."\\""' * 10_000 + b"]": "more than 64 parts in line 1",
        b"a" + b" . 'a'" * 10_000 + b" = 1": "more than 64 parts in line 1",
        b"a" * 60_000: "not TOML",
        b"a b" * 20_000: "not TOML",
        b"a" + b" " * 60_000: "not TOML",
        b'"' * 60_000: "not TOML",
        b'"a.' * 20_000: "not TOML",
        b"a = " + b"9" * 60_000: "not TOML",
        b'a = "\0"': "not TOML",
        b'a = """' + b'\\"' * 30_000: "not TOML",
        b"a = '" + b'"' * 60_000: "not TOML",
        b"": "name is missing",
        b"\xef\xbb\xbf": "name is missing",
        b"a = 1\r\n" * 3: "not TOML",
    }.items():
        path = tmp_path / "hostile.toml"
        path.write_bytes(data)
        with pytest.raises(InputError, match=reason):
            load_task(path)
    for path in (tmp_path, tmp_path / "absent.toml", Path("a\0b.toml")):
        with pytest.raises(InputError, match="cannot be read"):
            load_task(path)
    deep = f"a{'.b' * 60} = {{ {'c.' * 60}d = {{ {'e.' * 60}f = 1 }} }}"
    with pytest.raises(InputError, match="nested more than"):
        load_task(write(task_text(f'type = "schema"\nschema = {{ {deep} }}')))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    with pytest.raises(InputError, match="not a regular file"):
        load_task(tmp_path / "pipe.toml")


VALID = [ROUTING, *(task_text(answer) for name, answer in ANSWERS.items() if name != "many choices")]
SNIPPETS = [
    "=",
    "[",
    "]]",
    "{",
    "}",
    '"',
    '"""',
    "'",
    "\n",
    "#",
    ",",
    "\\",
    "true",
    "9" * 30,
    "\0",
    "é",
    ".",
    "1e9",
    "$ref",
]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    valid=st.sampled_from(VALID),
    changes=st.lists(
        st.tuples(st.floats(0, 1), st.integers(0, 12), st.sampled_from(SNIPPETS) | st.text(max_size=3)),
        min_size=1,
        max_size=4,
    ),
)
def test_any_change_is_a_task_or_an_error_of_ours(
    valid: str, changes: list[tuple[float, int, str]], tmp_path: Path
) -> None:
    text = valid
    for where, removed, added in changes:
        place = int(where * len(text))
        text = text[:place] + added + text[place + removed :]
    path = tmp_path / "changed.toml"
    path.write_text(text, encoding="utf-8", errors="replace", newline="")
    with suppress(EcellmError):
        task = load_task(path)
        task.question(task.example())


def test_own_tasks_are_found_listed_and_described(
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
    with pytest.raises(UsageError, match="use support_routing"):
        get_task("support_ruting")
    with pytest.raises(InputError, match=r"support_routing\.toml"):
        get_task("misnamed")

    assert run_command(["tasks"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 14
    assert lines[10].split(maxsplit=2) == ["support_routing", "own", "Send a support mail to the right desk."]
    assert "is not TOML" in lines[11]
    assert "built-in" in lines[13]
    assert run_command(["tasks", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in listed[10:]] == ["support_routing", "broken", "misnamed", "sentiment_analysis"]
    assert listed[10]["file"] == str(folder / "support_routing.toml")
    assert "is not TOML" in listed[11]["error"]
    assert run_command(["tasks", "support_routing"]) == 0
    described = capsys.readouterr().out
    assert "mail: The customer's mail. (text)" in described
    assert "One of billing, delivery, B." in described
    assert '"mail": "I was charged twice."' in described


def test_the_shell_completes_own_tasks(
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
def test_answers_are_shown(answer: str, write: Write) -> None:
    from io import StringIO

    from rich.console import Console

    task = load_task(write(task_text(ANSWERS[answer])))
    console = Console(record=True, width=120, file=StringIO(), color_system=None)
    with Runtime.over(FakeBackend(cells=1 << 15)) as runtime:
        given = runtime.answer(task, ROW)
    console.print(render(given, task.question(ROW).space))
    shown = console.export_text()
    first = shown.splitlines()[0]
    if given.type == "choice":
        assert first.startswith(given.value if given.text != "A" else "A")
        assert all(str(value) in shown for value in given.probabilities or ())
    if given.type == "score":
        assert first.startswith(f"{given.value:.2f} of 4")
        assert "very good" in shown
    if given.type == "ranking":
        assert "A: A blue lamp" in shown


def test_the_demo_answers_an_own_task(
    demo_model: StoredModel, write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(write(ROUTING))
    assert run_command(["run", "--task", path, "--input", '{"mail": "I was charged twice."}', "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["task"] == "support_routing"
    assert answer["type"] == "choice"
    assert answer["value"] in {"billing", "delivery", "B"}
    assert abs(sum(answer["probabilities"].values()) - 1) < 1e-9
    assert answer["usage"]["decoded_tokens"] == 0  # letters part at the first token
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"id": 1, "mail": "Where is my parcel?"}\n{"id": 2}\n{"id": 3, "mail": "x"}\n')
    assert run_command(["run", "--task", path, "--rows", str(rows), "--quiet"]) == 5
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["id"], one["error"] is None) for one in answers] == [(1, True), (2, False), (3, True)]


def test_the_demo_answers_in_every_form(demo: Runtime, write: Write) -> None:
    for answer in ANSWERS.values():
        task = load_task(write(task_text(answer)))
        given = demo.answer(task, ROW)
        check(given, ROW, task.question(ROW).space)


def test_limits_of_free_text(demo_model: StoredModel, write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    text, closed = str(write(task_text(ANSWERS["text"]))), str(write(ROUTING, "routing.toml"))
    row = json.dumps(ROW)
    assert run_command(["run", "-t", text, "-i", row, "--json", "--max-tokens", "3"]) == 0
    assert json.loads(capsys.readouterr().out)["usage"]["decoded_tokens"] <= 3
    assert run_command(["run", "-t", closed, "-i", '{"mail": "x"}', "--max-tokens", "3"]) == 2
    assert "free text" in capsys.readouterr().err
