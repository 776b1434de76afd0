"""Tests of tasks whose labels are in a file: what is read, which answers are possible, and which lines are refused."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from ecellm_lite import Runtime
from ecellm_lite.answers.choice import Choice
from ecellm_lite.answers.label_set import LabelSet
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.errors import InputError
from ecellm_lite.tasks.custom import files_beside, read_task
from ecellm_lite.tasks.label_files import MAX_LABELS
from ecellm_lite.tasks.task import Task
from tests.support.own_tasks import task_text

FIELDS = '[[fields]]\nname = "product"\n'
ROW = {"product": "A wooden puzzle with 100 pieces"}


def labelled(folder: Path, name: str, text: str | bytes, keys: str = "", more: str = "") -> Task:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    path = folder / "own.toml"
    path.write_text(
        task_text(f'type = "choice"\nlabels = {{ file = "{name}"{keys} }}\n{more}', FIELDS), encoding="utf-8"
    )
    return read_task(path)


def space_of(task: Task) -> LabelSet:
    space = task.question(ROW).space
    assert isinstance(space, LabelSet)
    return space


def paths(count: int, seed: int = 1) -> list[str]:
    """Return the paths to all nodes of a random tree with made-up names, such as `abc > def & gh`."""
    random_ = random.Random(seed)
    words = ["".join(random_.choices("abcdefghij", k=random_.randint(3, 8))) for _ in range(400)]
    tree = [random_.choice(words) for _ in range(5)]
    while len(set(tree)) < count:
        tree.append(f"{random_.choice(tree)} > {random_.choice(words)} & {random_.choice(words)}")
    return sorted(set(tree))


def test_a_text_file_has_a_label_in_each_line(tmp_path: Path) -> None:
    labels = paths(600)
    task = labelled(tmp_path, "labels.txt", "# made up\n" + "\n\n".join(labels))
    assert list(space_of(task).labels.texts) == labels
    assert files_beside(tmp_path / "own.toml") == ["labels.txt"]  # what a bundle takes along
    assert task.question(ROW).options is None
    with Runtime.over(FakeBackend()) as runtime:
        answer = runtime.answer(task, ROW)
    assert answer.value == answer.text
    assert answer.value in labels
    assert answer.type == "choice"
    assert answer.probabilities is not None
    assert answer.probability == max(answer.probabilities.values()) == answer.probabilities[answer.value]
    assert answer.unexplored is not None
    assert sum(answer.probabilities.values()) + answer.unexplored <= 1 + 1e-6
    assert answer.usage is not None
    assert answer.usage.decoded_tokens > 0


@pytest.mark.parametrize(
    ("first", "labels"),
    [
        ("# Google_Product_Taxonomy_Version: 2021-09-21\n", ()),
        ("#1 sellers\n", ("#1 sellers",)),
        ("# made up\n# toys\n#2 sellers\n", ("# toys", "#2 sellers")),
    ],
)
def test_only_a_first_line_with_a_sign_and_a_space_is_a_comment(
    first: str, labels: tuple[str, ...], tmp_path: Path
) -> None:
    others = tuple(paths(600))
    assert space_of(labelled(tmp_path, "labels.txt", first + "\n".join(others))).labels.texts == (*labels, *others)


def test_best_is_the_number_of_labels_that_an_answer_has(tmp_path: Path) -> None:
    text = "\n".join(paths(600))
    one, several = (labelled(tmp_path, "labels.txt", text, more=f"best = {best}\ndetours = 1000") for best in (1, 20))
    with Runtime.over(FakeBackend()) as runtime:
        likeliest, twenty = runtime.answer(one, ROW), runtime.answer(several, ROW)
    assert likeliest.probabilities is not None
    assert list(likeliest.probabilities) == [likeliest.value]
    assert likeliest.value == twenty.value
    assert twenty.probabilities is not None
    assert 1 < len(twenty.probabilities) <= 20


def test_a_table_has_ids_names_and_parents(tmp_path: Path) -> None:
    rows = [(str(n), f"name {n % 7}", str(n // 7) if n >= 7 else "") for n in range(300)]
    text = "id,name,above,note\n" + "".join(f'{id_},"{name}",{above},x\n' for id_, name, above in rows)
    keys = ', value = "id", name = "name", parent = "above", separator = "/"'
    labels = space_of(labelled(tmp_path, "labels.csv", text, keys)).labels
    assert labels.keys[8] == "8"
    assert labels.texts[8] == "name 1/name 1"
    assert labels.texts[299].count("/") == 2
    objects = "\n".join(json.dumps({"id": id_, "name": name, "above": above or None}) for id_, name, above in rows)
    assert space_of(labelled(tmp_path, "labels.jsonl", objects, keys)).labels == labels
    tabs = text.replace(",", "\t")
    assert space_of(labelled(tmp_path, "labels.tsv", tabs, keys)).labels == labels


def test_few_labels_are_listed_in_the_prompt(tmp_path: Path) -> None:
    text = "path;note\n".replace(";", ",") + "Toys > Puzzles,of wood\nToys > Dolls,\n"
    task = labelled(tmp_path, "labels.csv", text, ', value = "path", description = "note"')
    question = task.question(ROW)
    assert question.space.type == "choice"
    assert isinstance(question.space, Choice)
    assert json.loads(question.options or "") == ["A: Toys > Puzzles: of wood", "B: Toys > Dolls"]


def test_labels_are_recognized_in_any_case(tmp_path: Path) -> None:
    space = space_of(labelled(tmp_path, "labels.txt", "\n".join(f"Part > Label {n}" for n in range(300))))
    assert space.normalized(" part > LABEL 7 ") == "Part > Label 7"
    with pytest.raises(InputError):
        space.normalized("Label 7")


def test_labels_that_differ_only_in_case_are_told_apart(tmp_path: Path) -> None:
    space = space_of(labelled(tmp_path, "labels.txt", "\n".join([*map(str, range(300)), "Polish", "polish"])))
    assert [space.normalized(name) for name in ("Polish", "polish")] == ["Polish", "polish"]
    with pytest.raises(InputError):
        space.normalized("POLISH")


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffid;name\r\n1;Toys, Games\r\n2;Größe\r\n",
        "id\tname\n1\tToys, Games\n2\tGröße",
        'id,name\n1,"Toys, Games"\n,,\n2,Größe,\n\n',
    ],
    ids=["semicolons of a spreadsheet", "tabs", "empty lines and cells"],
)
def test_a_csv_file_is_read_as_spreadsheets_write_it(tmp_path: Path, text: str) -> None:
    task = labelled(tmp_path, "labels.csv", text, ', value = "id", name = "name"')
    assert json.loads(task.question(ROW).options or "") == ["A: Toys, Games", "B: Größe"]


def test_a_line_ends_only_at_a_line_feed_or_a_carriage_return(tmp_path: Path) -> None:
    rows = [{"id": "a", "note": "one\u2028two"}, {"id": "b", "note": ""}]
    text = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    with pytest.raises(InputError) as fault:
        labelled(tmp_path, "labels.jsonl", text, ', value = "id", description = "note"')
    assert fault.value.line == 1
    assert "'note'" in str(fault.value)
    labelled(tmp_path, "labels.jsonl", text, ', value = "id"')


@pytest.mark.parametrize("count", [3, 300])
@pytest.mark.parametrize("shortlist", ['"20"', "-1", "101", "true"])
def test_a_shortlist_is_checked_even_if_all_labels_are_listed(tmp_path: Path, count: int, shortlist: str) -> None:
    with pytest.raises(InputError) as fault:
        labelled(tmp_path, "labels.txt", "\n".join(map(str, range(count))), f", shortlist = {shortlist}")
    assert fault.value.field == "answer.labels.shortlist"


def test_a_value_that_is_another_labels_text_is_refused(tmp_path: Path) -> None:
    keys = ', value = "id", name = "name"'
    with pytest.raises(InputError) as fault:
        labelled(tmp_path, "labels.csv", "id,name\n1,One\none,Two\n", keys)
    assert fault.value.line == 3
    labelled(tmp_path, "labels.csv", "id,name\nOne,one\ntwo,Two\n", keys)  # its own


FAULTS = {
    "labels.csv": [
        (b"id,above\nab,\nab,\n", 3),  # twice
        (b"id,above\na,\nb,c\n", 3),  # no such parent
        (b"id,above\na,b\nb,a\n", 2),  # a circle
        (b"id,above\na,\n ,\n", 3),  # blank
        (b"name,above\na,\nb,\n", 2),  # no such column
        (b'id,above\n"a,\nb,\n', 3),  # an open quote
        (b"id,above\na\x07,\nb,\n", 2),  # a control character
        (b"id,above\na,\n\xff,\n", 3),  # not UTF-8
        (b"id,above\na,\nb,,c\n", 3),  # more cells than the header
        (b'id,above\na,\n"b\nc",\n', 3),  # a label of two lines: where it begins
        (b"id,above,id\na,,b\nb,,c\n", 1),  # a column twice
        (b"id,above\n" + b"a" * 501 + b",\nb,\n", 2),
    ],
    "labels.jsonl": [(b'{"id": "a", "above": ""}\n{"id": \n', 2), (b'{"id": "a", "above": ""}\n["a"]\n', 2)],
}


@pytest.mark.parametrize(
    ("name", "text", "line"), [(name, *fault) for name, faults in FAULTS.items() for fault in faults]
)
def test_errors_name_the_line(tmp_path: Path, name: str, text: bytes, line: int) -> None:
    with pytest.raises(InputError) as fault:
        labelled(tmp_path, name, text, ', value = "id", parent = "above"')
    assert fault.value.line == line


@pytest.mark.parametrize(
    ("keys", "more"),
    [
        (', value = "id"', ""),  # a text file has no columns
        (', separator = ""', ""),
        (', separator = "\\n"', ""),
        (', column = "id"', ""),
        ("", 'choices = [{ value = "a" }, { value = "b" }]'),
        ("", "detours = -1"),
        ("", "best = 0"),
        ("", "best = 21"),
    ],
)
def test_a_bad_key_is_refused(tmp_path: Path, keys: str, more: str) -> None:
    with pytest.raises(InputError):
        labelled(tmp_path, "labels.txt", "a\nb\n", keys, more)


def test_a_file_elsewhere_or_with_no_or_too_many_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        labelled(tmp_path, "labels.txt", "only one\n")
    with pytest.raises(InputError) as fault:
        labelled(tmp_path, "labels.txt", "\n".join(map(str, range(MAX_LABELS + 1))))
    assert fault.value.line == MAX_LABELS + 1
    (tmp_path / "own.toml").write_text(task_text('type = "choice"\nlabels = { file = "../labels.txt" }', FIELDS))
    with pytest.raises(InputError):
        read_task(tmp_path / "own.toml")
