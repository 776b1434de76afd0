"""Tests that labelled rows are read from files in order, and that every damaged row is reported with its line."""

from __future__ import annotations

import json
import os
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecellm_lite.errors import InputError, UsageError
from ecellm_lite.evaluate import json_array
from ecellm_lite.evaluate.labelled import Labelled
from ecellm_lite.evaluate.labelled_files import LabelledRows, Spread, gather, labelled_files
from ecellm_lite.tasks.registry import TASKS, get_task
from ecellm_lite.tasks.task import Task
from tests.support.labelled_rows import dataset_row, row, write_lines
from tests.support.refusals import refusal

ALL = list(TASKS.values())
SA = [get_task("SA")]


def read(path: Path, tasks: Any = ALL, **options: Any) -> LabelledRows:
    return gather(labelled_files(path, tasks, options.get("split", "test")), tasks, **options)


def messages_of(rows: LabelledRows, task: str | None) -> dict[int, str]:
    return {line.line: line.message for line in rows.unreadable[task]}


def test_a_folder_of_rows_is_read(tmp_path: Path) -> None:
    for name in ("sentiment_analysis", "product_matching"):
        write_lines(tmp_path / name / "test.jsonl", [row(name, number) for number in range(3)])
    write_lines(tmp_path / "sentiment_analysis" / "train.jsonl", [row("sentiment_analysis", 7)])
    labelled = read(tmp_path)
    assert list(labelled.rows) == ["product_matching", "sentiment_analysis"]  # in the order of the paper's tables
    assert [one.id for one in labelled.rows["sentiment_analysis"]] == ["r0", "r1", "r2"]
    assert [one.line for one in labelled.rows["sentiment_analysis"]] == [1, 2, 3]
    assert labelled.unreadable == {}
    assert [one.id for one in read(tmp_path, split="train").rows["sentiment_analysis"]] == ["r7"]
    files = labelled_files(tmp_path, ALL)
    assert files[0].hashed.name == f"{tmp_path.name}/product_matching/test.jsonl"
    with pytest.raises(InputError, match=r"query_product_ranking/test\.jsonl"):
        labelled_files(tmp_path, [get_task("QPR")])


DAMAGED: list[tuple[Any, str]] = [
    ('{"id": "x", ', "JSON"),
    ("[1, 2]", "object"),
    ({"input": {"review": "x"}}, "output"),
    ({"input": {"review": "x"}, "output": 4}, "output 4"),
    ({"input": {"reviews": "x"}, "output": "C: neutral"}, "'reviews'"),
    ({"input": {"review": "x"}, "output": "splendid"}, "'splendid'"),
    ({"input": {"review": "x"}, "output": "F"}, "'F'"),
    ({"task": 7, "input": {"review": "x"}, "output": "C: neutral"}, "task is 7"),
    ({"id": [], "input": {"review": "x"}, "output": "C: neutral"}, "id"),
    ({"split": 7, "input": {"review": "x"}, "output": "C: neutral"}, "split is 7"),
    ({"setting": [], "input": {"review": "x"}, "output": "C: neutral"}, "setting is []"),
]


def test_damaged_rows_are_reported_with_their_line(tmp_path: Path) -> None:
    lines = [part for damage, _ in DAMAGED for part in (damage, row("sentiment_analysis", 0))]
    write_lines(tmp_path / "sentiment_analysis" / "test.jsonl", ["", *lines])
    labelled = read(tmp_path)
    messages = messages_of(labelled, "sentiment_analysis")
    assert list(messages) == [2 + 2 * place for place in range(len(DAMAGED))]
    for (_, expected), message in zip(DAMAGED, messages.values(), strict=True):
        assert expected in message
        assert message.endswith((".", "?"))
    assert [one.line for one in labelled.rows["sentiment_analysis"]] == [line + 1 for line in messages]


def test_a_labelled_row_may_name_an_option_by_its_key(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "rows.jsonl", [{"input": {"review": "x"}, "output": "C"}])
    assert [one.gold for one in read(path, SA).rows["sentiment_analysis"]] == ["C: neutral"]


def test_a_file_of_several_tasks_is_read(tmp_path: Path) -> None:
    rows = [row("sentiment_analysis", 0), "{", {**row("product_matching", 1), "task": "PM"}]
    untold = {name: value for name, value in row("sentiment_analysis", 2).items() if name != "task"}
    path = write_lines(tmp_path / "rows.jsonl", [*rows, untold])
    labelled = read(path)
    assert {name: [one.id for one in listed] for name, listed in labelled.rows.items()} == {
        "product_matching": ["r1"],
        "sentiment_analysis": ["r0"],
    }
    assert list(messages_of(labelled, None)) == [2, 4]
    # With a single task, rows need not name it, and damaged rows count for it.
    labelled = read(path, SA)
    assert [one.id for one in labelled.rows["sentiment_analysis"]] == ["r0", "r2"]
    assert list(messages_of(labelled, "sentiment_analysis")) == [2]


def test_a_custom_task_is_found_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(
        'name = "hot_deal"\nsummary = "s"\ninstruction = "i"\n[[fields]]\nname = "mail"\n[answer]\ntype = "predicate"\n'
    )
    own = get_task(str(tmp_path / "own.toml"))
    plain = {"input": {"mail": "x"}, "output": "yes"}
    named = [{**plain, "task": name} for name in ("hot_deal", "Hot-Deal", None, 7)]
    path = write_lines(tmp_path / "rows.jsonl", [plain, *named, row("sentiment_analysis", 0)])
    labelled = read(path, [own])
    assert [one.line for one in labelled.rows["hot_deal"]] == [1, 2, 3, 4]
    assert list(messages_of(labelled, "hot_deal")) == [5]
    assert labelled.others == {"sentiment_analysis": 1}
    # If it is not asked for, its rows are left out.
    assert read(path, ALL).others == {"hot_deal": 1, "Hot-Deal": 1}


@pytest.mark.parametrize("name", ["rows.jsonl", "sentiment_analysis/test.jsonl"])
def test_rows_of_other_tasks_are_left_out_and_counted(name: str, tmp_path: Path) -> None:
    others = [{"task": task, "input": {"mail": "x"}, "output": "yes"} for task in ("desk", "desk", "no such task")]
    lines = [row("sentiment_analysis", 0), *others, row("product_matching", 1), row("sentiment_analysis", 2)]
    path = write_lines(tmp_path / name, lines)
    labelled = read(tmp_path if "/" in name else path, SA)
    assert [one.line for one in labelled.rows["sentiment_analysis"]] == [1, 6]
    assert labelled.unreadable == {}
    assert labelled.others == {"desk": 2, "no such task": 1, "product_matching": 1}
    assert labelled.left_out
    assert "desk" in labelled.left_out
    write_lines(path, lines[:1])
    assert read(path, SA).left_out is None


@pytest.mark.parametrize("tasks", [SA, ALL])
def test_a_file_that_has_only_other_tasks_is_refused(tasks: list[Task], tmp_path: Path) -> None:
    lines = [{"task": task, "input": {"mail": "x"}, "output": "yes"} for task in ("desk", "tone")]
    with refusal(InputError, "desk, tone", settings=("tasks",)):
        read(write_lines(tmp_path / "rows.jsonl", lines), tasks)


def test_a_custom_task_may_have_fields_with_the_names_of_the_data_sets_keys(tmp_path: Path) -> None:
    names = ("setting", "split", "task", "input")
    fields = "".join(f'[[fields]]\nname = "{name}"\nrequired = {str(name == "setting").lower()}\n' for name in names)
    (tmp_path / "own.toml").write_text(
        f'name = "ring"\nsummary = "s"\ninstruction = "i"\n{fields}[answer]\ntype = "predicate"\n'
    )
    own = get_task(str(tmp_path / "own.toml"))
    values = {"setting": "prong", "split": "shank", "task": "resize"}
    top = [values, {**values, "input": "a text"}]
    wrapped: list[dict[str, Any]] = [{"input": values, "split": "test"}, {"input": values, "task": "ring"}]
    others: list[dict[str, Any]] = [{"input": values, "split": "train"}, {"input": values, "setting": "OOD"}]
    lines = [{**each, "output": "yes"} for each in [*top, *wrapped, *others]]
    labelled = read(write_lines(tmp_path / "rows.jsonl", lines), [own])
    assert [one.line for one in labelled.rows["ring"]] == [1, 2, 3, 4]
    assert labelled.unreadable == {}


def test_the_labels_of_a_ranking_are_read(tmp_path: Path) -> None:
    good = {**row("query_product_ranking", 0), "labels": ["S", "E", "I"]}
    bad = [{**good, "labels": labels} for labels in (["S", "E"], ["S", "E", "X"], "SEI", [1, 2, 3])]
    labelled = read(write_lines(tmp_path / "rows.jsonl", [good, *bad]))
    assert [one.labels for one in labelled.rows["query_product_ranking"]] == [("S", "E", "I")]
    assert len(messages_of(labelled, "query_product_ranking")) == 4


DATASET = [
    dataset_row("sentiment_analysis", 0),
    dataset_row("sentiment_analysis", 1, split="train"),
    dataset_row("sentiment_analysis", 2, setting="OOD_Diverse_Instruction"),
    dataset_row("query_product_ranking", 3),
    {**dataset_row("product_relation_prediction", 4), "task": "Product_Relation_Predicition"},
    {**dataset_row("product_matching", 5), "output": "maybe"},
    {**dataset_row("product_matching", 6), "options": 7},
    dataset_row("attribute_value_extraction", 7),
    dataset_row("sequential_recommendation", 8),
]


@pytest.mark.parametrize("form", ["array", "array with mark", "lines"])
def test_rows_in_the_data_sets_own_form_are_read(form: str, tmp_path: Path) -> None:
    path = tmp_path / "dataset.json"
    if form == "lines":
        write_lines(path, DATASET)
    else:
        pytest.importorskip("ijson", reason="a JSON array is read by ijson (extra 'eval')")
        path.write_text(json.dumps(DATASET, indent=1), "utf-8-sig" if "mark" in form else "utf-8")
    labelled = read(path)
    assert {name: [one.line for one in rows] for name, rows in labelled.rows.items()} == {
        "attribute_value_extraction": [8],
        "product_relation_prediction": [5],
        "sentiment_analysis": [1],
        "sequential_recommendation": [9],
        "query_product_ranking": [4],
    }
    refused = messages_of(labelled, "product_matching")
    assert list(refused) == [6, 7]
    assert "'maybe'" in refused[6]
    assert "options is 7" in refused[7]
    [one] = labelled.rows["sentiment_analysis"]
    question = one.task.question(one.row)
    assert question.instruction.endswith("(said otherwise)")
    assert question.text == DATASET[0]["input"]
    assert [one.line for one in read(path, SA, split="train").rows["sentiment_analysis"]] == [2]
    assert [one.line for one in read(path, SA, setting="OOD_Diverse_Instruction").rows["sentiment_analysis"]] == [3]
    with refusal(InputError, "IND_Diverse_Instruction, OOD_Diverse_Instruction"):
        read(path, SA, setting="IND")


def test_a_null_split_or_setting_counts_as_absent(tmp_path: Path) -> None:
    rows = [
        {**row("sentiment_analysis", 0), "split": None, "setting": None},
        {**row("product_matching", 1), "split": 7},
    ]
    labelled = read(write_lines(tmp_path / "rows.jsonl", rows), SA)
    assert [one.line for one in labelled.rows["sentiment_analysis"]] == [1]
    assert labelled.unreadable == {}  # a row of a task that is not read


def test_an_unknown_task_in_another_split_is_ignored(tmp_path: Path) -> None:
    unknown = {**dataset_row("sentiment_analysis", 1, split="train"), "task": "sentimental"}
    path = write_lines(tmp_path / "rows.jsonl", [dataset_row("sentiment_analysis", 0), unknown])
    labelled = read(path)
    assert (labelled.unreadable, labelled.left_out) == ({}, None)
    with refusal(InputError, "sentimental", settings=("tasks",)):
        read(path, split="train")


def test_an_array_needs_a_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps(DATASET))
    monkeypatch.setitem(sys.modules, "ijson", None)
    with pytest.raises(UsageError, match=r"ecellm-lite\[eval\]"):
        read(tmp_path / "dataset.json")


def test_a_damaged_array_is_read_up_to_the_damage(tmp_path: Path) -> None:
    pytest.importorskip("ijson", reason="a JSON array is read by ijson (extra 'eval')")
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps([dataset_row("sentiment_analysis", 0), 7, dataset_row("sentiment_analysis", 1)])[:-30])
    labelled = read(path, SA)
    assert [one.line for one in labelled.rows["sentiment_analysis"]] == [1]
    messages = messages_of(labelled, "sentiment_analysis")
    assert list(messages) == [2, 3]


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(VALUES, max_size=6))
def test_an_array_has_the_values_that_json_reads(tmp_path_factory: pytest.TempPathFactory, values: list[Any]) -> None:
    pytest.importorskip("ijson", reason="a JSON array is read by ijson (extra 'eval')")
    path = tmp_path_factory.mktemp("array") / "dataset.json"
    path.write_text(json.dumps(values))
    with path.open("rb") as file:
        items = list(json_array.array_rows(file))
    assert [number for number, _ in items] == list(range(1, len(values) + 1))
    for value, (_, item) in zip(values, items, strict=True):
        assert item == value if isinstance(value, dict) else isinstance(item, InputError)


def test_a_row_of_an_array_has_a_size_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ijson", reason="a JSON array is read by ijson (extra 'eval')")
    path = tmp_path / "dataset.json"
    good = dataset_row("sentiment_analysis", 0)

    def refused(damage: str) -> str:
        path.write_text(json.dumps([good])[:-1] + "," + damage)
        labelled = read(path, SA)
        assert [one.line for one in labelled.rows["sentiment_analysis"]] == [1]
        [message] = messages_of(labelled, "sentiment_analysis").values()
        return message

    assert "64" in refused("[" * 2_000_000)
    assert "64" in refused('{"a":' * 65 + "{}" + "}" * 65 + "]")
    path.write_text(json.dumps([{**good, "more": json.loads("[" * 63 + "]" * 63)}]))
    assert read(path, SA).unreadable == {}
    monkeypatch.setattr(json_array, "LONGEST_LINE", 1 << 17)
    assert "131,072" in refused('{"input": "' + "a" * (1 << 19))
    path.write_text(json.dumps([{**good, "more": "a" * 50_000}] * 20))  # many rows may be longer than one
    assert len(read(path, SA).rows["sentiment_analysis"]) == 20


def test_an_endless_gold_extraction_is_reported(tmp_path: Path) -> None:
    good = row("attribute_value_extraction", 0)
    entry = {"attribute": "color", "value": None, "source": None}
    rows = [{**good, "output": "[" * 100_000}, {**good, "output": json.dumps([entry])}]
    labelled = read(write_lines(tmp_path / "rows.jsonl", rows), [get_task("AVE")])
    assert list(messages_of(labelled, "attribute_value_extraction")) == [1]
    [one] = labelled.rows["attribute_value_extraction"]
    assert one.task.question(one.row).space.parse(one.gold) == [entry]


@given(st.binary(max_size=200))
def test_any_bytes_of_an_array_are_rows_or_reported_errors(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    pytest.importorskip("ijson", reason="a JSON array is read by ijson (extra 'eval')")
    path = tmp_path_factory.mktemp("array") / "dataset.json"
    path.write_bytes(b"[" + data)
    try:
        labelled = read(path)
    except InputError:  # an array of nothing
        return
    assert not labelled.rows
    assert labelled.unreadable


def test_files_of_other_formats_are_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("id,review\n")
    with refusal(InputError, "rows.csv"):
        read(tmp_path / "rows.csv")
    with refusal(InputError, "absent.jsonl"):
        read(tmp_path / "absent.jsonl")
    with refusal(InputError, os.devnull):
        read(Path(os.devnull))
    (tmp_path / "empty.jsonl").write_text("\n")
    with refusal(InputError, "sentiment_analysis", settings=("tasks", "split", "setting")):
        read(tmp_path / "empty.jsonl", SA)


@given(st.integers(0, 300), st.integers(1, 40))
def test_a_limit_spreads_evenly(count: int, limit: int) -> None:
    spread = Spread(limit)
    for number in range(count):
        spread.add(Labelled(SA[0], number, {}, ""))
    lines = [one.line for one in spread.chosen()]
    assert len(lines) == min(count, limit)
    assert lines == sorted(set(lines))
    if len(lines) > 1:
        gaps = [after - before for before, after in pairwise(lines)]
        assert max(gaps) <= 2 * min(gaps) or max(gaps) - min(gaps) <= 1
    if lines:
        assert lines[0] == 0
        assert count - lines[-1] <= 4 * count / limit + 1
