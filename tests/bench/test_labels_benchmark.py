"""Tests benchmarks/labels.py, which measures how fast we and other programs choose one of many labels."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.labels import enum_space, label_of
from benchmarks.page_tables import speed
from benchmarks.peers.llama_enum import LlamaEnum, WrittenLabel
from tests.support.tiny_models import write_tiny_model

LABELS = ("Toys", "Toys > Puzzles", "Home > Lamps")


def test_llama_writes_a_label_of_the_enum(tmp_path: Path) -> None:
    llama = LlamaEnum(write_tiny_model(tmp_path / "tiny.gguf", context=4096), enum_space(LABELS).compiled, 1)
    try:
        first, other, again = (llama.answer(prompt) for prompt in ([5, 6, 7, 8], [5, 6, 9], [5, 6, 7, 8]))
    finally:
        llama.close()
    assert {label_of(first), label_of(other)} <= set(LABELS)
    assert first.tokens > 0
    assert again == first


def test_the_label_of_a_peer_is_its_text() -> None:
    assert label_of(WrittenLabel("Toys", 4)) == label_of("Toys") == "Toys"


@pytest.mark.parametrize("ways", [("search", "enum"), ("search", "best", "enum", "Llama", "prompts")])
def test_the_page_has_a_line_for_each_way(ways: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {
        "labels": 5595,
        "depth": 7,
        "products": 200,
        "rows_per_second": dict.fromkeys(ways, 2.5),
        "calls_alone": {"mean": 4.5, "most": 8},
        "unexplored": 0.05,
        "seconds_to_prepare": 0.8,
        "milliseconds_to_load": 2.0,
    }
    if "Llama" in ways:
        facts["tokens_a_row"] = {"prompt": 41.0, "search": 13.5, "Llama": 6.5}
    monkeypatch.setattr(speed, "results", lambda name: facts)
    monkeypatch.setattr(speed, "provenance", lambda name: "")
    assert speed.labels().count("| 2.5 |") == len(ways)
