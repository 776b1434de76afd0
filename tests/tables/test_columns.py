"""Tests how a table's columns are mapped to a task's fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from ecellm_lite.errors import InputError, UsageError
from ecellm_lite.tables.columns import ColumnMap, MapOptions
from ecellm_lite.tables.row import TableRow
from ecellm_lite.tasks.registry import TASKS
from ecellm_lite.tasks.task import Task

MATCHING = TASKS["product_matching"]
EXTRACTION = TASKS["attribute_value_extraction"]
RANKING = TASKS["query_product_ranking"]
SENTIMENT = TASKS["sentiment_analysis"]


def mapped(task: Task, row: Mapping[str, Any], **options: Any) -> Mapping[str, Any]:
    columns = ColumnMap(task, list(row), MapOptions(**options))
    result = columns.row(TableRow(1, 2, row))
    assert result.error is None
    assert result.row is not None
    task.question(result.row)  # the task takes it
    return result.row


def test_columns_named_like_fields_map_by_themselves() -> None:
    row = {"Product 1 Title": "Mug", "product_1.price": 5.5, "PRODUCT_2_TITLE": "Cup", "Other": "x", "ID": 7}
    assert mapped(MATCHING, row) == {
        "id": "7",
        "product_1": {"title": "Mug", "price": "5.5"},
        "product_2": {"title": "Cup"},
    }


def test_the_prefix_of_google_feeds_is_ignored_in_names() -> None:
    row = {"title": "Mug", "g:price": "5.00 USD", "g:shipping.g:price": "2.00 USD"}
    constants = {"attributes": ["Color"]}
    assert mapped(EXTRACTION, row, constants=constants)["price"] == "5.00 USD"


def test_a_mapping_names_fields_and_columns() -> None:
    row = {"A": "Mug", "B": "Cup", "SKU": "0012"}
    result = mapped(MATCHING, row, map=["product_1.title=A", "product_2.title=B", "id=SKU"])
    assert result == {"product_1": {"title": "Mug"}, "product_2": {"title": "Cup"}, "id": "0012"}


def test_a_list_takes_several_columns_or_one_that_holds_a_list() -> None:
    several = {"Query": "mug", "p1": "Blue mug", "p2": "", "p3": "Cup"}
    pairs = ["products=p1", "products=p2", "products=p3"]
    assert mapped(RANKING, several, map=pairs)["products"] == ["Blue mug", "Cup"]
    for listed in (["Blue mug", "Cup"], '["Blue mug", "Cup"]'):
        assert mapped(RANKING, {"query": "mug", "products": listed})["products"] == ["Blue mug", "Cup"]


@pytest.mark.parametrize(
    ("text", "attributes"),
    [
        ("Color, Size", ["Color", "Size"]),
        ("Color;Size ,, ", ["Color", "Size"]),
        ("Color", ["Color"]),
        ('["Size, EU", "Color"]', ["Size, EU", "Color"]),
        ('[{"name": "Color", "at_most": 2}]', [{"name": "Color", "at_most": 2}]),
    ],
)
def test_attributes_share_a_text(text: str, attributes: list[Any]) -> None:
    assert mapped(EXTRACTION, {"title": "Mug", "Attributes": text})["attributes"] == attributes
    assert mapped(EXTRACTION, {"title": "Mug"}, constants={"attributes": text})["attributes"] == attributes
    columns = {"title": "Mug", "a": text, "b": "Brand"}
    assert mapped(EXTRACTION, columns, map=["attributes=a", "attributes=b"])["attributes"] == [*attributes, "Brand"]


@pytest.mark.parametrize("text", ["[Color, Size]", "['Color', 'Size']", '{"name": "Color", "at_most": 2}', ",", "[]"])
def test_a_text_without_attributes_is_refused(text: str) -> None:
    row = ColumnMap(EXTRACTION, ["title"], MapOptions(constants={"attributes": text})).row(
        TableRow(1, 2, {"title": "Mug"})
    )
    assert row.row is not None
    with pytest.raises(InputError) as error:
        EXTRACTION.question(row.row)
    assert error.value.field == "attributes"


def test_a_text_of_another_list_is_not_split() -> None:
    row = {"query": "mug", "products": "Mug, blue; with handle"}
    assert mapped(RANKING, row)["products"] == ["Mug, blue; with handle"]


def test_a_text_takes_several_columns() -> None:
    row = {"review title": "Great", "body": "I like it"}
    assert mapped(SENTIMENT, row, map=["review=review title", "review=body"]) == {"review": "Great I like it"}


def test_numbers_become_texts_in_text_fields() -> None:
    row = {"review": 5, "id": 4006381333931.0}
    assert mapped(SENTIMENT, row) == {"review": "5", "id": "4006381333931"}


@pytest.mark.parametrize(
    ("task", "columns", "options", "setting", "step"),
    [
        (SENTIMENT, ["Reviews", "Stars"], {}, "map", "review=Reviews, review=Stars"),
        (SENTIMENT, ["Nr", "Preis (€)", "Reviews"], {}, "map", "review=Reviews, review=Nr, 'review=Preis (€)'"),
        (SENTIMENT, ["Nr", "Titel", "Preis (€)"], {}, "map", "review=Nr, review=Titel, 'review=Preis (€)'"),
        (MATCHING, ["product_1.title", "Title 2"], {}, "map", "'product_2.title=Title 2'"),
        (SENTIMENT, ["Text"], {"map": ["reviev=Text"]}, "map", "review"),
        (SENTIMENT, ["Text"], {"map": ["review=Texte"]}, "map", "'Text'"),
        (SENTIMENT, ["Text"], {"map": ["review"]}, "map", "FIELD=COLUMN"),
        (SENTIMENT, ["review"], {"only_where": "Revue"}, "only_where", "'review'"),
        (SENTIMENT, ["review"], {"fill_down": ["Title"]}, "fill_down", "'review'"),
        (EXTRACTION, ["a"], {"constants": {"attributes": ["Color"]}}, "map", "title=a"),
    ],
)
def test_a_missing_column_is_an_error_before_a_row_is_read(
    task: Task, columns: list[str], options: dict[str, Any], setting: str, step: str
) -> None:
    with pytest.raises(UsageError) as error:
        ColumnMap(task, columns, MapOptions(**options))
    assert error.value.settings == (setting,)
    assert error.value.step is not None
    assert step in error.value.step


def test_rows_in_the_data_sets_own_form_are_read() -> None:
    row = {"instruction": "Rate it.", "input": "I like it", "options": "A: good\nB: bad"}
    columns = ColumnMap(SENTIMENT, list(row))
    assert columns.row(TableRow(1, 2, row)).row == row


def test_a_row_with_only_empty_fields_is_an_error() -> None:
    columns = ColumnMap(SENTIMENT, ["id", "review"])
    result = columns.row(TableRow(4, 9, {"id": "1", "review": "  "}))
    assert result.error is not None
    assert result.error.line == 9
    assert (result.error.settings, result.error.values) == (("only_where",), {"only_where": "review"})
    assert "9" in result.error.message, "the line, and not the number of the row"
    assert "'review'" in result.error.message
    assert "'id'" not in result.error.message, "it is not empty"


def test_a_reversed_mapping_is_refused_with_the_right_one() -> None:
    with pytest.raises(UsageError) as error:
        ColumnMap(SENTIMENT, ["Text"], MapOptions(map=["Text=review"]))
    assert "review=Text" in (error.value.step or "")


@pytest.mark.parametrize("options", [MapOptions(), MapOptions(map=["review=Text"])])
def test_a_single_unsplit_column_suggests_a_delimiter(options: MapOptions) -> None:
    with pytest.raises(UsageError) as error:
        ColumnMap(SENTIMENT, ["SKU;Text"], options)
    assert error.value.settings == ("delimiter",)


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>Soft &amp; warm</p><script>alert(1)</script><style>p{}</style>", "Soft & warm"),
        ("Tom &amp; Co", "Tom & Co"),
        ("a < b > c & d, <3", "a < b > c & d, <3"),
        ("<unknown> tag", "<unknown> tag"),
        ("size 5<6, R&D; x &y;", "size 5<6, R&D; x &y;"),
        ("<ul><li>one</li><li>two</li></ul>", "one\ntwo"),
        ('<div data-x="{&quot;a&quot;:&quot;<b>&quot;}">text<br/>more</div>', "text\nmore"),
        ("<xml><w:View>Normal</w:View></xml><p class=MsoNormal><o:p>word</o:p></p><xml><w:cut", "word"),
        ("<!-- hidden --><b>shown</b>", "shown"),
        ("<b>tab\tand  space</b>\n\nline", "tab and space line"),
    ],
)
def test_html_becomes_text(html: str, text: str) -> None:
    columns = ColumnMap(SENTIMENT, ["review"])
    result = columns.row(TableRow(1, 2, {"review": html}))
    assert result.row == {"review": text}
    assert bool(result.warnings) == (html != text)
    keep = ColumnMap(SENTIMENT, ["review"], MapOptions(html="keep"))
    assert keep.row(TableRow(1, 2, {"review": html})).row == {"review": html}


def test_hostile_html_becomes_text() -> None:
    deep = "<div>" * 100_000 + "x" + "</div>" * 100_000
    result = ColumnMap(SENTIMENT, ["review"]).row(TableRow(1, 2, {"review": deep}))
    assert result.row == {"review": "x"}


def test_json_rows_are_used_unchanged_or_mapped() -> None:
    row = {"product_1": {"title": "Mug"}, "product_2": {"title": "Cup"}, "id": 7}
    assert ColumnMap(MATCHING, None).row(TableRow(1, 1, row)).row == row
    other = {"left": "Mug", "product_2": {"title": "Cup"}, "id": 7}
    result = ColumnMap(MATCHING, None, MapOptions(map=["product_1.title=left"])).row(TableRow(1, 1, other))
    assert result.row == row


def test_fill_down_does_not_change_the_tables_cells() -> None:
    columns = ColumnMap(SENTIMENT, ["review"], MapOptions(fill_down=["review"]))
    first, second = (columns.row(TableRow(n, n, {"review": text})) for n, text in ((1, "x"), (2, "")))
    assert first.row == second.row == {"review": "x"}
    assert second.source.cells == {"review": ""}


def test_the_mapping_has_a_description() -> None:
    columns = ColumnMap(SENTIMENT, ["Review", "id"])
    assert columns.columns == {"review": ("Review",), "id": ("id",)}
    assert "'Review'" in columns.description


def test_mapping_does_not_change_the_source_row() -> None:
    row = {"product_1": {"title": "Mug"}, "product_2": {"title": "Cup"}}
    columns = ColumnMap(MATCHING, None, MapOptions(constants={"product_1.price": "5.00"}))
    result = columns.row(TableRow(1, 1, row)).row
    assert result is not None
    assert result["product_1"] == {"title": "Mug", "price": "5.00"}
    assert row["product_1"] == {"title": "Mug"}
