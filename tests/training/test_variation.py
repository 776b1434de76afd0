"""Tests that varied and synthetic training rows have the right answers."""

from __future__ import annotations

import json
from random import Random
from string import ascii_uppercase

from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.demo_rows.made_rows import (
    EXACT,
    IRRELEVANT,
    classification_rows,
    ranking_rows,
    recommendation_rows,
    titles_of,
)
from ecellm_lite.tasks.registry import TASKS
from ecellm_lite.training.rows import Row
from ecellm_lite.training.variation import SHORTEST_HISTORY, varied
from tests.support.lesson_rows import training_rows

SEED = st.integers(0, 1 << 30)
WORD = st.sampled_from(["cable", "mouse", "lamp", "tent", "phone", "charger", "shirt", "boots", "guitar", "strings"])
TITLES = st.lists(st.lists(WORD, min_size=2, max_size=6).map(" ".join), min_size=4, max_size=20, unique=True)


@given(seed=SEED)
def test_two_products_keep_their_relation_in_either_order(seed: int) -> None:
    for task in ("product_matching", "product_relation_prediction"):
        fields = {"product_1": "tent", "product_2": "stove"}
        variant, answer = varied(task, fields, "yes", Random(seed))
        assert answer == "yes"
        assert variant in (fields, {"product_1": "stove", "product_2": "tent"})


def pairs(answer: str) -> list[tuple[str, str]]:
    return [(entry["attribute"], entry["value"]) for entry in json.loads(answer)]


def test_both_orders_of_a_pair_are_used() -> None:
    random = Random(0)
    fields = {"product_1": "tent", "product_2": "stove"}
    firsts = [varied("product_matching", fields, "no", random)[0]["product_1"] for _ in range(100)]
    assert 30 < firsts.count("tent") < 70


@given(
    names=st.lists(st.sampled_from(["Color", "Size", "Brand", "Material", "Fit"]), min_size=1, unique=True), seed=SEED
)
def test_values_follow_the_attributes(names: list[str], seed: int) -> None:
    entries = [
        {"attribute": name.lower(), "value": f"{name} {number}", "source": "product title"}
        for name in names
        for number in range(1 + len(name) % 2)
    ]
    fields = {"title": "a shirt", "attributes": names}
    variant, answer = varied("attribute_value_extraction", fields, json.dumps(entries), Random(seed))
    assert variant["title"] == "a shirt"
    # An attribute may get another of its names. The values follow their attributes.
    assert len(set(variant["attributes"])) == len(names)
    assert sum(name in names for name in variant["attributes"]) >= names.count("Fit")
    groups = [
        [value for attribute, value in pairs(answer) if attribute == name.lower()] for name in variant["attributes"]
    ]
    assert [value for group in groups for value in group] == [value for _, value in pairs(answer)]
    assert sorted(groups) == sorted(
        [entry["value"] for entry in entries if entry["attribute"] == name.lower()] for name in names
    )


@given(seed=SEED)
def test_attributes_with_capitals_in_the_answer_are_renamed_too(seed: int) -> None:
    fields = {"title": "Red mug", "attributes": ["Color", "Size"]}
    entries = [{"attribute": name, "value": name, "source": "product title"} for name in ("Size", "Color")]
    variant, answer = varied("attribute_value_extraction", fields, json.dumps(entries), Random(seed))
    assert [name for name, _ in pairs(answer)] == [name.lower() for name in variant["attributes"]]
    assert [value == "Color" for _, value in pairs(answer)] == [name[:3] == "Col" for name in variant["attributes"]]


@given(
    history=st.lists(st.integers(0, 30).map("bought {}".format), min_size=1, max_size=9),
    candidates=st.lists(st.integers(0, 40).map("bought {}".format), min_size=2, max_size=26, unique=True),
    gold=st.integers(0, 25),
    seed=SEED,
)
def test_the_letter_follows_the_next_item(history: list[str], candidates: list[str], gold: int, seed: int) -> None:
    gold %= len(candidates)
    fields = {"history": history, "candidates": candidates}
    variant, answer = varied("sequential_recommendation", fields, ascii_uppercase[gold], Random(seed))
    following = variant["candidates"][ascii_uppercase.index(answer)]
    others = [item for item in variant["candidates"] if item != following]
    assert sorted(others) == sorted(item for item in candidates if item != candidates[gold])
    assert len(variant["candidates"]) == len(candidates)
    if following != candidates[gold]:  # an earlier purchase becomes the next one, and what came after it is unknown
        end = len(variant["history"])
        assert end >= SHORTEST_HISTORY - 1
        assert history[end] == following
        assert following not in candidates
        assert following not in variant["history"]
    assert variant["history"] == history[: len(variant["history"])]
    assert following != candidates[gold] or variant["history"] == history


@given(count=st.integers(2, 26), seed=SEED)
def test_a_ranking_follows_the_reordered_products(count: int, seed: int) -> None:
    products = [f"product {number}" for number in range(count)]
    ranking = Random(seed + 1).sample(ascii_uppercase[:count], count)
    fields = {"query": "a", "products": products}
    variant, answer = varied("query_product_ranking", fields, ",".join(ranking), Random(seed))
    best = [products[ascii_uppercase.index(letter)] for letter in ranking]
    assert [variant["products"][ascii_uppercase.index(letter)] for letter in answer.split(",")] == best
    if ranking[1:] == sorted(ranking[1:]):  # equally good products keep the list's order
        assert [product for product in variant["products"] if product != best[0]] == [
            product for product in products if product != best[0]
        ]


def test_the_best_product_appears_at_every_place() -> None:
    random = Random(0)
    fields = {"query": "a", "products": ["tent", "stove", "lamp"]}
    answers = [varied("query_product_ranking", fields, "B,A,C", random)[1] for _ in range(90)]
    assert all(answers.count(answer) > 15 for answer in ("A,B,C", "B,A,C", "C,A,B"))


@given(seed=SEED)
def test_a_moved_value_is_whole_words_in_its_new_field(seed: int) -> None:
    fields = {"title": "Hitman practice kit new 1996 men 6 ice hockey pants", "attributes": ["Gender", "Size", "Sport"]}
    values = {"gender": "men", "size": "6", "sport": "ice hockey"}
    entries = [{"attribute": name, "value": value, "source": "product title"} for name, value in values.items()]
    variant, answer = varied("attribute_value_extraction", fields, json.dumps(entries), Random(seed))
    for entry in json.loads(answer):
        text = "".join(variant[entry["source"].removeprefix("product ")])
        assert f" {entry['value']} " in f" {text} "


def test_paragraphs_and_items_of_several_fields_are_not_varied() -> None:
    fields = {"title": ["Blue cotton shirt", "for women too"], "attributes": ["Hue"]}
    answer = json.dumps([{"attribute": "hue", "value": "blue", "source": "product title"}])
    for seed in range(20):
        assert varied("attribute_value_extraction", fields, answer, Random(seed)) == (fields, answer)
    items = [{"title": name} for name in ("tent", "stove", "lamp")]
    rows = [{"input": {"history": items[:2], "candidates": items}, "output": "A"}]
    assert recommendation_rows(rows, 5, Random(0)) == []


def test_variation_keeps_rows_without_an_order_and_changes_no_input() -> None:
    for task, rows in training_rows(4).items():
        for row in rows:
            before = json.dumps(row)
            variant, answer = varied(task, row["input"], row["output"], Random(1))
            TASKS[task].question({"input": variant}).space.parse(answer)
            assert json.dumps(row) == before
            if task in ("sentiment_analysis", "answer_generation", "multiclass_product_classification"):
                assert (variant, answer) == (row["input"], row["output"])


@settings(max_examples=40)
@given(titles=TITLES, seed=SEED)
def test_a_made_ranking_puts_the_querys_own_product_first(titles: list[str], seed: int) -> None:
    for row in ranking_rows([], titles, 5, Random(seed)):
        query = set(row["input"]["query"].split())
        products = row["input"]["products"]
        best, *strangers = [products[ascii_uppercase.index(letter)] for letter in row["output"].split(",")]
        assert query <= set(best.split())
        assert strangers == [product for product in products if product != best]
        assert not any(query <= set(stranger.split()) for stranger in strangers)
        TASKS[row["task"]].question(row).space.parse(row["output"])


def test_graded_products_appear_in_any_order() -> None:
    random = Random(0)
    fields = {"query": "a", "products": ["tent", "stove", "lamp"]}
    answers = [varied("query_product_ranking", fields, "A,C,B", random)[1] for _ in range(120)]
    assert len({*answers}) == 6


def test_an_unrelated_product_never_has_all_words_of_the_query() -> None:
    rows = [
        {"input": {"query": "LED 10 W", "products": [f"led 10 w bulb {number}", "garden hose"]}, "output": "A,B"}
        for number in range(6)
    ]
    ranked = ranking_rows(rows, ["other lamp", "other tent", "other boots", "other mouse"], 100, Random(0))
    judged = [row["input"]["products"] for row in ranked if row["input"]["query"] == "LED 10 W"]
    assert judged
    assert all(sum("bulb" in product for product in products) == 1 for products in judged)


def test_a_judged_query_keeps_its_best_product() -> None:
    rows = [
        {"input": {"query": f"query {number}", "products": [f"good thing {number}x", "bad thing"]}, "output": "A,B"}
        for number in range(9)
    ]
    ranked = ranking_rows(rows, ["other lamp", "other tent", "other boots", "other mouse"], 200, Random(0))
    judged = [row["input"] | {"best": row["output"][0]} for row in ranked if row["input"]["query"].startswith("query")]
    assert 70 < len(judged) < 130
    for one in judged:
        number = one["query"].removeprefix("query ")
        assert one["products"][ascii_uppercase.index(one["best"])] == f"good thing {number}x"
        assert not any(product.startswith("other") for product in one["products"])


@settings(max_examples=40)
@given(
    histories=st.lists(st.lists(st.integers(0, 9).map("bought {}".format), min_size=1, max_size=7), max_size=5),
    seed=SEED,
)
def test_a_made_recommendation_is_the_next_item_of_the_history(histories: list[list[str]], seed: int) -> None:
    offered = [f"offered {number}" for number in range(19)]
    rows = [
        {"input": {"history": history, "candidates": [f"next {number}", *offered]}, "output": "A"}
        for number, history in enumerate(histories)
    ]
    bought = [[*history, f"next {number}"] for number, history in enumerate(histories)]
    recommendations = recommendation_rows(rows, 12, Random(seed))
    assert bool(recommendations) == bool(rows)
    for row in recommendations:
        history, candidates = row["input"]["history"], row["input"]["candidates"]
        following = candidates[ascii_uppercase.index(row["output"])]
        assert history
        assert any([*history, following] == one[: len(history) + 1] for one in bought)
        assert following not in history
        assert len(set(candidates)) == len(candidates) <= 20
        TASKS[row["task"]].question(row).space.parse(row["output"])


@settings(max_examples=40)
@given(titles=TITLES, seed=SEED)
def test_a_made_classification_fits_the_words_of_its_title(titles: list[str], seed: int) -> None:
    rows = classification_rows(titles, 6, Random(seed))
    for row in rows:
        query, title = set(row["input"]["query"].split()), set(row["input"]["title"].split())
        assert row["output"] in (EXACT, IRRELEVANT)
        assert query <= title if row["output"] == EXACT else not query & title
        TASKS[row["task"]].question(row).space.parse(row["output"])
    irrelevant = sum(row["output"] == IRRELEVANT for row in rows)
    assert irrelevant == len(rows) // 2


def test_too_few_titles_make_no_rows() -> None:
    assert ranking_rows([], ["red lamp"], 5, Random(0)) == []
    assert recommendation_rows([], 5, Random(0)) == []
    assert classification_rows([], 5, Random(0)) == []
    assert len(classification_rows(["red lamp", "lamp red"], 5, Random(0))) == 1


def test_titles_are_collected_once_from_all_kinds_of_rows() -> None:
    rows: list[Row] = [
        {"input": {"title": "red desk lamp"}},
        {"input": {"product_1": {"title": "usb cable"}, "product_2": {"title": "red desk lamp"}}},
        {"input": {"product_1": "wall charger white", "product_2": "a tent"}},
        {"input": {"query": "cable", "products": ["usb cable", "garden hose"]}},
        {"input": {"title": "4 x"}},  # too few words for a query
    ]
    assert titles_of(rows) == ["red desk lamp", "usb cable", "garden hose"]
