"""Tests that an invalid task file raises an error that says where the fault is.

Also tests that a hostile file takes little time and memory.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecellm_lite import EcellmError, InputError, load_task
from tests.support.own_tasks import ANSWERS, FIELDS, ROUTING, Write, task_text
from tests.support.refusals import refusal

# A line of ROUTING, its replacement, the key that the error names, and a value that its message holds.
WRONG: dict[str, dict[str, tuple[str | None, str]]] = {
    'name = "support_routing"': {
        'name = "Support"': ("name", "'Support'"),
        'name = "sentiment_analysis"': ("name", "name"),
        'name = "sa"': ("name", "name"),
        'name = ""': ("name", '""'),
        "name = 7": ("name", "7"),
        "": ("name", ""),
        'name = "x"\nname = "y"': (None, ""),
        'nam = "x"': ("nam", ""),
        '"n\\u000am" = "x"': (r'"n\nm"', ""),
    },
    'doc = "The customer\'s mail."': {
        'dok = "x"': ("fields[0].dok", ""),
        'doc = "a\\nb"': ("fields[0].doc", r'"a\nb"'),
        'required = "no"': ("fields[0].required", '"no"'),
        "required = false": ("fields", "required"),
        "list = true": ("fields[0].example", "I was charged twice."),
        '[[fields]]\nname = "mail"': ("fields", "'mail'"),
    },
    'name = "mail"': {'name = "id"': ("fields[0].name", "'id'"), "": ("fields[0].name", "")},
    'type = "choice"': {
        'type = "choise"': ("answer.type", "'choise'"),
        'type = "predicate"': ("answer.choices", ""),
        "": ("answer.type", ""),
    },
    '{ value = "B" },': {
        '{ value = "billing" },': ("answer.choices", "'billing'"),
        '{ valu = "B" },': ("answer.choices[2].valu", ""),
        "{ },": ("answer.choices[2].value", ""),
        "7,": ("answer.choices[2]", "7"),
        "{ value = [1] },": ("answer.choices[2].value", "[1]"),
        "{ value = 1979-05-27 },": ("answer.choices[2].value", ""),
        '{ value = "x' + "y" * 300 + '" },': ("answer.choices[2].value", "301"),
        ", ".join(f'{{ value = "{i}" }}' for i in range(300)): ("answer.choices", "302"),
        "{ value = }": (None, "line 18"),
    },
    "[answer]": {"[answers]": ("answers", "")},
}

LABELS = 'type = "labels"\nchoices = ['


@pytest.mark.parametrize(("old", "new"), [(old, new) for old, news in WRONG.items() for new in news])
def test_errors_name_the_file_and_the_key(old: str, new: str, write: Write) -> None:
    assert ROUTING.count(old) == 1
    path = write(ROUTING.replace(old, new))
    field, value = WRONG[old][new]
    with pytest.raises(InputError) as raised:
        load_task(path)
    error = raised.value
    assert (error.file, error.field) == (str(path), field)
    assert error.message.startswith(str(path))
    assert value in error.message
    assert error.step
    assert len(str(error).splitlines()) == 1


@pytest.mark.parametrize(
    ("answer", "field", "value"),
    [
        (LABELS + '{ value = "a" }]', "answer.choices", "1"),
        (LABELS + '{ value = "a" }, { value = "a" }]', "answer.choices", "'a'"),
        (LABELS + '{ value = "a" }, { value = "b, c" }]', "answer.choices[1].value", "'b, c'"),
        (LABELS + '{ value = "None" }, { value = "b" }]', "answer.choices[0].value", "'None'"),
        (LABELS + '{ value = "a", threshold = 1.2 }, { value = "b" }]', "answer.choices[0].threshold", "1.2"),
        (LABELS + '{ value = "a" }, { value = "b" }]\nthreshold = nan', "answer.threshold", "NaN"),
        (LABELS + '{ value = "a" }, { value = "b" }]\nthreshold = true', "answer.threshold", "true"),
        (LABELS + '{ value = "a" }, { value = "b" }]\nat_most = 0', "answer.at_most", "0"),
        (LABELS + '{ value = "a" }, { value = "b" }]\nat_least = 3', "answer.at_least", "3"),
        (LABELS + '{ value = "a" }, { value = "b" }]\nat_least = 2\nat_most = 1', "answer.at_most", "1"),
        (LABELS + '{ value = "a" }, { value = "b" }]\nlabels = "x"', "answer.labels", ""),
        ('type = "choice"\nchoices = [{ value = "a" }, { value = "b" }]\nnone = "A"', "answer.none", "'A'"),
        ('type = "choice"\nchoices = [{ value = "a" }, { value = "None" }]\nnone = true', "answer.none", "'none'"),
        ('type = "choice"\nchoices = [{ value = "a" }, { value = "b" }]\nnone = 3', "answer.none", "3"),
        ('type = "predicate"\nnone = true', "answer.none", ""),
        ('type = "score"\nlevels = ["one"]', "answer.levels", "1"),
        ('type = "score"\nlevels = ["one", "one"]', "answer.levels", "'one'"),
        ('type = "ranking"\nover = "question"', "answer.over", "'question'"),
        ('type = "ranking"', "answer.over", ""),
        ('type = "extraction"', "answer.attributes", ""),
        ('type = "extraction"\nattributes = ["a"]\nattributes_from = "notes"', "answer.attributes", "attributes_from"),
        ('type = "extraction"\nattributes = []', "answer.attributes", "0"),
        ('type = "text"\nmax_tokens = 0', "answer.max_tokens", "0"),
        ('type = "text"\nmax_tokens = true', "answer.max_tokens", "true"),
        ('type = "schema"', "answer.schema", ""),
        ('type = "schema"\nschema = "x"', "answer.schema", '"x"'),
        ('type = "schema"\n[answer.schema]\ntype = "nonsense"', "answer.schema", ""),
        ('type = "schema"\nschema = { const = 1979-05-27 }', "answer.schema", "JSON"),
        ('type = "schema"\nschema = { maximum = inf }', "answer.schema", "JSON"),
        ('type = "schema"\nschema = { const = nan }', "answer.schema", "JSON"),
        ('type = "grammar"\ngrammar = "root ::= ("', "answer.grammar", "GBNF"),
        ('type = "grammar"\ngrammar = "start: ("', "answer.grammar", ""),
    ],
)
def test_errors_in_the_answer_table_name_the_key(answer: str, field: str, value: str, write: Write) -> None:
    with pytest.raises(InputError) as raised:
        load_task(write(task_text(answer)))
    error = raised.value
    assert error.field == field
    assert value in error.message
    assert error.step
    assert len(str(error).splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "field", "form"),
    [
        (ROUTING.replace('{ value = "B" },', '"Küche",'), "answer.choices[2]", '{ value = "Küche" }'),
        (ROUTING.replace('{ value = "B" },', "7,"), "answer.choices[2]", '{ value = "…" }'),
        (task_text(ANSWERS["text"], 'fields = ["mail"]'), "fields[0]", '{ name = "mail" }'),
        (task_text('type = "choice"\nlabels = "all.txt"'), "answer.labels", '{ file = "all.txt" }'),
        (task_text('type = "choice"\nchoices = "a"'), "answer.choices", '{ value = "…" }'),
    ],
)
def test_an_error_shows_the_form_of_a_table(text: str, field: str, form: str, write: Write) -> None:
    with pytest.raises(InputError) as raised:
        load_task(write(text))
    assert raised.value.field == field
    assert form in (raised.value.step or "")


def test_a_ranked_list_cannot_be_shortened(write: Write) -> None:
    text = task_text(ANSWERS["ranking"], FIELDS.replace("list = true", "list = true\nlong = true"))
    with refusal(InputError, "notes", field="answer"):
        load_task(write(text))


def test_hostile_files_are_refused(tmp_path: Path, write: Write) -> None:
    for data, (line, field) in {
        b"\xff": (1, None),
        b"x" * 70_000: (None, None),
        b"a = " + b"[" * 60_000: (None, None),
        b"a = " + b"{b = " * 10_000: (None, None),
        b"a" + b".a" * 30_000 + b" = 1": (1, None),
        b"x = 1\n[a" + b'. "b"' * 10_000 + b"]": (2, None),
        b"[a" + b'."\\""' * 10_000 + b"]": (1, None),
        b"a" + b" . 'a'" * 10_000 + b" = 1": (1, None),
        b"a" * 60_000: (None, None),
        b"a b" * 20_000: (None, None),
        b"a" + b" " * 60_000: (None, None),
        b'"' * 60_000: (None, None),
        b'"a.' * 20_000: (None, None),
        b"a = " + b"9" * 60_000: (None, None),
        b'a = "\0"': (None, None),
        b'a = """' + b'\\"' * 30_000: (None, None),
        b"a = '" + b'"' * 60_000: (None, None),
        b"": (None, "name"),
        b"\xef\xbb\xbf": (None, "name"),
        b"a = 1\r\n" * 3: (None, None),
    }.items():
        path = tmp_path / "hostile.toml"
        path.write_bytes(data)
        with refusal(InputError, file=str(path), line=line, field=field):
            load_task(path)
    for path in (tmp_path, tmp_path / "absent.toml", Path("a\0b.toml")):
        with refusal(InputError, file=str(path)):
            load_task(path)
    deep = f"a{'.b' * 60} = {{ {'c.' * 60}d = {{ {'e.' * 60}f = 1 }} }}"
    with refusal(InputError, field="answer.schema"):
        load_task(write(task_text(f'type = "schema"\nschema = {{ {deep} }}')))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    with refusal(InputError, file=str(tmp_path / "pipe.toml")):
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
def test_any_change_of_a_task_file_is_a_task_or_our_error(
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
