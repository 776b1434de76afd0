"""Tests of attributes with a type, a closed list of values, or several values.

A row or a user's task can define such attributes.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ecellm_lite import InputError, Runtime, UsageError, load_task
from ecellm_lite.answers.answer import Answer
from ecellm_lite.answers.attribute_forms import AttributeForm
from ecellm_lite.answers.closed_values import ClosedValues
from ecellm_lite.answers.extraction import Extraction
from ecellm_lite.answers.label_set import Labels
from ecellm_lite.answers.units import units_registry
from ecellm_lite.engine.fake import FakeBackend, FakeVocabulary
from ecellm_lite.jobs.journal import row_key
from ecellm_lite.tables.attribute_columns import attribute_cells
from ecellm_lite.tables.results import AnswerColumns
from ecellm_lite.tasks.attributes import attributes_of
from ecellm_lite.tasks.registry import TASKS
from ecellm_lite.tasks.task import Question
from tests.support.decoding import decoded, writes
from tests.support.own_tasks import Write, task_text
from tests.support.refusals import refusal

pytest.importorskip("pint")
pytest.importorskip("dateutil")

AVE = "attribute_value_extraction"
TEXT = {"title": "Cast Iron Pan, 20-Lb., 10-12 in, made 03/04/2025"}


def question(*attributes: Any, **row: Any) -> Question:
    return TASKS[AVE].question({**TEXT, **row, "attributes": list(attributes)})


def answer_of(question: Question, *entries: tuple[str, str, str]) -> list[dict[str, Any]]:
    """Return the value of the answer if the model writes these entries."""
    written = [dict(zip(("attribute", "value", "source"), entry, strict=True)) for entry in entries]
    outcome = decoded(question.space, writes(json.dumps(written)))
    assert outcome.text == json.dumps(written)
    value: list[dict[str, Any]] = outcome.value
    return value


def test_a_quantity_stands_beside_its_span() -> None:
    weight = {"name": "Weight", "type": "quantity", "unit": "kg"}
    [entry] = answer_of(question(weight), ("weight", "20-lb.", "product title"))
    assert entry["probability"] == pytest.approx(1.0)
    assert {**entry, "probability": 1.0} == {
        "attribute": "Weight",
        "value": "20-lb.",
        "source": "product title",
        "probability": 1.0,
        "written": "20-Lb.",
        "place": {"field": "title", "item": None, "start": 15, "end": 21},
        "normalized": {"value": 9.0718474, "unit": "kg", "least": 9.0718474, "most": 9.0718474, "count": 1},
    }


def test_what_cannot_be_read_is_null_with_a_warning() -> None:
    row = {**TEXT, "attributes": [{"name": "Made", "type": "date"}, {"name": "Weight", "type": "number"}]}
    with Runtime.over(FakeBackend(cells=1 << 14)) as runtime:
        answer = runtime.answer(AVE, row)
    unread = [entry for entry in answer.value if entry["value"] and entry["normalized"] is None]
    warnings = [warning for warning in answer.warnings or () if warning.code == "value_not_read"]
    assert len(unread) == len(warnings) > 0
    assert Answer.from_dict(json.loads(json.dumps(answer.as_dict()))) == answer
    asked = question({"name": "Made", "type": "date"})
    date = ("made", "03/04/2025", "product title")
    outcome = decoded(asked.space, writes(json.dumps([dict(zip(("attribute", "value", "source"), date, strict=True))])))
    assert outcome.value[0]["normalized"] is None
    assert [warning.code for warning in outcome.warnings] == ["value_not_read"]
    [entry] = answer_of(question({"name": "Made", "type": "date", "day_first": True}), date)
    assert entry["normalized"] == "2025-04-03"
    [entry] = answer_of(question({"name": "Made", "type": "date"}), ("made", "None", "None"))
    assert entry["normalized"] is entry["place"] is entry["written"] is entry["value"] is None


COLORS = {"name": "Color", "values": ["Red", {"id": "c7", "value": "Navy Blue"}, {"id": "c8", "value": "Navy"}]}


def test_a_closed_list_gives_its_values_and_ids() -> None:
    asked = question(COLORS, "Size", title="Mug, midnight")
    assert asked.options == json.dumps({"Color": ["Red", "Navy Blue", "Navy"]})
    size = ("size", "None", "None")
    color, _ = answer_of(asked, ("color", "navy blue", "product title"), size)
    expected = {"attribute": "Color", "value": "Navy Blue", "id": "c7", "source": "product title", "place": None}
    assert color == {**expected, "written": None, "probability": pytest.approx(1.0)}
    color, _ = answer_of(asked, ("color", "None", "None"), size)
    assert color["value"] is color["id"] is None
    mug = question(COLORS, "Size", title="Mug, RED")
    color, _ = answer_of(mug, ("color", "red", "product title"), size)
    assert (color["id"], color["written"], color["place"]["start"]) == ("Red", "RED", 5)


@pytest.mark.parametrize("more", [(), ("Size",)])
def test_a_closed_list_may_give_several_values(more: tuple[str, ...]) -> None:
    asked = question({**COLORS, "at_most": 3}, *more, brand="Navy")
    first, second = ("color", "navy", "product brand"), ("color", "red", "product title")
    rest = [("size", "None", "None")] * len(more)
    entries = answer_of(asked, first, second, *rest)
    assert [entry.get("id") for entry in entries] == ["c8", "Red", *[None] * len(more)]
    always_navy = writes(json.dumps([dict(zip(("attribute", "value", "source"), first, strict=True))] * 9))
    values = [entry["value"] for entry in decoded(asked.space, always_navy).value if entry["attribute"] == "Color"]
    assert len(values) == len(set(values)) <= 3


@pytest.mark.parametrize("kind", ["first", "last"])
def test_whatever_the_logits_are_the_value_is_of_the_list(kind: str) -> None:
    import numpy as np

    def logits(tokens: Sequence[int]) -> Any:
        order = np.arange(FakeVocabulary.size, dtype=np.float32)
        return order if kind == "last" else -order

    asked = question({**COLORS, "at_most": 2}, {**COLORS, "name": "Shade"})
    outcome = decoded(asked.space, logits)
    assert outcome.tokens == FakeVocabulary().tokenize(outcome.text)
    assert {entry["value"] for entry in outcome.value} <= {"Red", "Navy Blue", "Navy", None}


def test_a_person_names_a_value_or_an_id() -> None:
    space = question({**COLORS, "at_most": 2}, {"name": "Size"}).space
    text = space.normalized('{"color": ["C7", "red"], "size": "12"}')
    entries = space.value_of(text)
    assert [entry.get("id") for entry in entries] == ["c7", "Red", None]
    assert space.normalized(text) == text
    for wrong in ('{"color": "green"}', '{"size": ["12", "10"]}', '{"color": ["c7", "red", "navy"]}'):
        with pytest.raises(InputError):
            space.normalized(wrong)


def test_a_labelled_row_names_a_value_or_an_id_of_the_list() -> None:
    space = question({**COLORS, "at_most": 2}).space
    for named in ("Navy Blue", "navy blue", "c7"):
        [entry] = space.value_of(space.written([{"attribute": "color", "value": named}]))
        assert (entry["value"], entry["id"]) == ("Navy Blue", "c7")
    [entry] = space.value_of(space.written([{"attribute": "color", "value": None}]))
    assert entry["value"] is None
    with refusal(InputError, "'green'"):
        space.written([{"attribute": "color", "value": "green"}])


OWN = """
type = "extraction"
attributes = [
  "Material",
  { name = "Weight", type = "quantity", unit = "lb", at_most = 2 },
  { name = "Made", type = "date", day_first = true },
  { name = "Color", values = { file = "colors.csv", value = "id", name = "name" } },
]
"""
FIELDS = """
[[fields]]
name = "title"
"""


def test_an_own_task_with_a_file_of_values(write: Write) -> None:
    write("id,name\nc1,Red\nc2,Navy Blue\n", "colors.csv")
    task = load_task(write(task_text(OWN, FIELDS)))
    asked = task.question({"title": "Red Steel Pan, 5 kg"})
    assert asked.text == json.dumps(
        {"title": "Red Steel Pan, 5 kg", "target attributes": "Material and Weight and Made and Color"}
    )
    value = answer_of(
        asked,
        ("material", "steel", "title"),
        ("weight", "5 kg", "title"),
        ("made", "None", "None"),
        ("color", "red", "title"),
    )
    own = AnswerColumns.of(task, ["title"], attributes=attributes_of(asked.space))
    with Runtime.over(FakeBackend(cells=1 << 14)) as runtime:
        answer = runtime.answer(task, {"title": "Red Steel Pan, 5 kg"})
    cells = dict(
        zip(
            (column.name for column in own.columns),
            own.values(Answer.from_dict({**answer.as_dict(), "value": value})),
            strict=True,
        )
    )
    assert {name: cell for name, cell in cells.items() if name[0].isupper()} == {
        "Material": "steel",
        "Material.written": "Steel",
        "Weight": "5 kg",
        "Weight.written": "5 kg",
        "Weight.place": "title:15-19",
        "Weight.lb": "11.0231131092",
        "Made": None,
        "Made.written": None,
        "Made.place": None,
        "Made.date": None,
        "Color": "Red",
        "Color.written": "Red",
        "Color.place": "title:0-3",
        "Color.id": "c1",
    }


@pytest.mark.parametrize(
    ("attribute", "field"),
    [
        ({"type": "weight"}, "type"),
        ({"type": ["quantity"]}, "type"),
        ({"type": "quantity"}, "unit"),
        ({"type": "quantity", "unit": "meter**9999"}, "unit"),
        ({"type": "quantity", "unit": "x" * 31}, "unit"),
        ({"type": "quantity", "unit": "kg", "system": "metric"}, "system"),
        ({"type": "quantity", "unit": "cup", "system": "imperial"}, "unit"),
        ({"type": "quantity", "unit": "kg", "day_first": True}, "day_first"),
        ({"type": "number", "decimal": ";"}, "decimal"),
        ({"type": "number", "unit": "kg"}, "unit"),
        ({"type": "date", "day_first": 1}, "day_first"),
        ({"unit": "kg"}, "unit"),
        ({"values": []}, "values"),
        ({"values": "red"}, "values"),
        ({"values": ["red", "Red"]}, "values"),
        ({"values": ["red", {"id": "red", "value": "blue"}]}, "values"),
        ({"values": ["None"]}, "values"),
        ({"values": [{"id": "none", "value": "red"}]}, "values"),
        ({"values": ["a\nb"]}, "values"),
        ({"values": [3]}, "values"),
        ({"values": [{"value": "red"}]}, "values[0].id"),
        ({"values": [f"v{number}" for number in range(256)]}, "values"),
        ({"values": ["red"], "type": "number"}, "type"),
        ({"values": [{"id": "Blue", "value": "red"}, {"id": "c2", "value": "blue"}]}, "values"),
        ({"values": {"file": "colors.txt", "shortlist": 3}}, "values.shortlist"),
        ({"values": {"file": "colors.txt"}}, "values.file"),
        ({"values": {"file": "/etc/passwd"}}, "values.file"),
    ],
)
def test_attributes_that_are_refused(attribute: dict[str, Any], field: str) -> None:
    with refusal(InputError, field=f"attributes[1].{field}"):
        question("Size", {"name": "Weight", **attribute})


def test_attributes_with_the_name_of_another_ones_column_have_their_own(write: Write) -> None:
    color = '{ name = "Color", values = ["red", { id = "c7", value = "blue" }] }'
    task = load_task(
        write(task_text(f'type = "extraction"\nattributes = [{color}, "Color.place", "Color.id", "x.id"]', FIELDS))
    )
    attributes = attributes_of(task.question({"title": "Mug"}).space)
    columns = [column.name for column in AnswerColumns.of(task, ["Color"], attributes=attributes).columns]
    assert columns[:4] == ["Color (2)", "Color.written", "Color.place (2)", "Color.id (2)"]
    assert columns[4::2][:3] == ["Color.place", "Color.id", "x.id"]
    names = ("Color", "Color.place", "Color.id", "x.id")
    value = [{"attribute": name, "value": name.upper(), "id": "c7", "place": None} for name in names]
    cells = ["COLOR", None, None, "c7", "COLOR.PLACE", None, "COLOR.ID", None, "X.ID", None]
    assert attribute_cells(attributes, value) == cells


def test_names_that_the_model_writes_alike_are_refused(write: Write) -> None:
    with refusal(InputError, field="answer.attributes"):
        load_task(write(task_text('type = "extraction"\nattributes = ["Color", { name = "color" }]', FIELDS)))


def test_a_shortlist_is_not_for_values(write: Write) -> None:
    write("Red\nBlue\n", "colors.txt")
    values = '{ name = "Color", values = { file = "colors.txt", shortlist = 3 } }'
    with refusal(InputError, "shortlist", field="answer.attributes[0].values.shortlist"):
        load_task(write(task_text(f'type = "extraction"\nattributes = [{values}]', FIELDS)))


def test_a_key_that_is_no_text_is_refused() -> None:
    with refusal(InputError, field="attributes[0].1"):
        question({1: "Weight"})


def test_an_object_for_an_attribute_that_occurs_twice_is_refused() -> None:
    assert len(attributes_of(question("Weight", "Weight").space)) == 2
    with refusal(InputError, field="attributes"):
        question("weight", {"name": "Weight"})


def test_an_attribute_with_lone_surrogates_has_an_answer_in_utf_8() -> None:
    attribute = {"name": "Col\ud800or", "values": [{"id": "r\udfff", "value": "r\udfffed"}, "blue"]}
    with Runtime.over(FakeBackend(cells=1 << 14)) as runtime:
        answer = runtime.answer(AVE, {**TEXT, "attributes": [attribute]})
    assert json.dumps(answer.as_dict(), ensure_ascii=False).encode()


@pytest.mark.parametrize(("kind", "module"), [("quantity", "pint"), ("date", "dateutil.parser")])
def test_a_missing_package_is_named(kind: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    units_registry.cache_clear()
    with refusal(UsageError, module.split(".")[0], "ecellm-lite[units]"):
        question({"name": "Weight", "type": kind, "unit": "kg"} if kind == "quantity" else {"name": "W", "type": kind})


def test_a_large_list_is_not_in_the_prompt() -> None:
    values = ClosedValues(
        Labels([str(number) for number in range(2000)], [f"value {n}" for n in range(2000)]), lasting=False
    )
    space = Extraction(("Color",), {"title": "Mug"}, {0: AttributeForm(values=values)})
    text = json.dumps([{"attribute": "color", "value": "value 1234", "source": "title"}])
    outcome = decoded(space, writes(text))
    assert outcome.text == text
    assert outcome.value[0]["id"] == "1234"
    assert outcome.tokens == FakeVocabulary().tokenize(text)


def test_rows_with_forms_have_keys_of_their_own() -> None:
    plain, placed = ({**TEXT, "attributes": [each]} for each in ("Color", {"name": "Color"}))
    assert row_key(plain) != row_key(placed)
    assert question("Color").space != question({"name": "Color"}).space


def test_the_example_of_the_page(write: Write) -> None:
    page = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text("utf-8")
    [toml] = re.findall(r"^cat > pans.toml <<'END'\n(.*?)^END$", page, re.M | re.S)
    [shown] = [
        json.loads(block) for block in re.findall(r"^```json\n(.*?)^```", page, re.M | re.S) if "20-lb." in block
    ]
    row = {"product title": "Lodge Cast Iron Pan, 20-lb., Navy"}
    assert json.dumps(row) in page
    value = answer_of(
        load_task(write(toml, "pans.toml")).question(row),
        ("brand", "lodge", "product title"),
        ("material", "cast iron", "product title"),
        ("weight", "20-lb.", "product title"),
        ("color", "blue", "product title"),
    )
    assert {**value[2], "probability": shown["probability"]} == shown
    assert (value[3]["value"], value[3]["id"], value[3]["place"]) == ("blue", "c7", None)
