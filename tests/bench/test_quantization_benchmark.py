"""Tests the benchmark that compares file types: its figures, its recommendation, and a run on a tiny model."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click import ClickException
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.importance import collect, lessons
from benchmarks.quantization import main
from benchmarks.type_report import picture, sentence
from benchmarks.verdict import Rated, agreement, divergence, recommended
from ecellm_lite.answers.answer import Answer, ModelName
from ecellm_lite.bench import rates
from ecellm_lite.envelopes import get_envelope
from ecellm_lite.evaluate.labelled import labelled
from ecellm_lite.models.files import sha256_of
from ecellm_lite.tasks.registry import TASKS
from tests.cli.test_convert import write_imatrix
from tests.support.labelled_rows import row
from tests.support.tiny_models import write_tiny_model

SHARES = st.lists(st.floats(1e-6, 1.0), min_size=3, max_size=3).map(lambda parts: np.array(parts) / sum(parts))


def answer(text: str | None, shares: Mapping[str, float] | None = None) -> Answer:
    return Answer(
        id=None,
        task="product_matching",
        type="predicate",
        value=text,
        text=text,
        probability=None,
        probabilities=shares,
        confidence=None,
        coverage=None,
        abstained=False,
        usage=None,
        seconds=None,
        model=ModelName("tiny", ""),
        envelope="alpaca",
    )


def spread(shares: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Answer:
    return answer("A", dict(zip("ABC", map(float, shares), strict=True)))


def test_agreement_is_the_share_of_equal_answers() -> None:
    reference = [answer("yes"), answer("no"), answer("yes"), answer(None)]
    assert agreement(reference, reference) == 1.0
    assert agreement(reference, [answer("yes"), answer("yes"), answer("yes"), answer("no")]) == 0.5


def test_divergence_of_one_row_is_as_computed_by_hand() -> None:
    reference, other = answer("yes", {"yes": 0.5, "no": 0.5}), answer("no", {"no": 0.75, "yes": 0.25})
    expected = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert divergence([reference], [other]) == pytest.approx(expected)
    assert divergence([other], [reference]) == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))


def test_rows_without_probabilities_are_not_in_the_mean() -> None:
    even, sure = answer("yes", {"yes": 0.5, "no": 0.5}), answer("yes", {"yes": 0.9, "no": 0.1})
    one = divergence([even], [sure])
    assert one is not None
    assert divergence([even, even], [sure, even]) == pytest.approx(one / 2)
    assert divergence([even, answer("text")], [sure, answer("text")]) == one
    assert divergence([answer("text")], [answer("text")]) is None


@settings(max_examples=30)
@given(SHARES, SHARES)
def test_divergence_is_never_negative_and_zero_for_equal_answers(
    shares: np.ndarray[tuple[int], np.dtype[np.float64]], others: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> None:
    nats = divergence([spread(shares)], [spread(others)])
    assert nats is not None
    assert nats >= -1e-12
    # Pinsker's inequality: half of the squared L1 distance is no more than the divergence.
    assert nats >= 0.5 * float(np.abs(shares - others).sum()) ** 2 - 1e-9
    assert divergence([spread(shares)], [spread(shares)]) == pytest.approx(0.0, abs=1e-12)


FILES = {
    "F16": Rated(270, 100.0, 10.0, 1.0, {"PM": 0.80, "SA": 0.60}),
    "Q8_0": Rated(140, 150.0, 20.0, 0.99, {"PM": 0.79, "SA": 0.61}),
    "Q5_0": Rated(110, 120.0, 25.0, 0.97, {"PM": 0.75, "SA": 0.55}),
    "Q4_0": Rated(90, 200.0, 30.0, 0.96, {"PM": 0.80, "SA": 0.60}),
    "Q2_K": Rated(80, 150.0, 40.0, 0.98, {"PM": 0.80, "SA": 0.54}),
}
LOWS = {"PM": 0.75, "SA": 0.55}


def test_the_smallest_and_the_fastest_accurate_types_are_recommended() -> None:
    recommendation = recommended(FILES, LOWS)
    # Q4_0 agrees on too few rows; Q2_K's sentiment is below F16's interval; Q5_0 is at both limits.
    assert recommendation.fit == ("F16", "Q8_0", "Q5_0")
    assert (recommendation.smallest, recommendation.fastest) == ("Q5_0", "Q8_0")


def test_without_an_accurate_type_the_reference_is_recommended() -> None:
    files = {name: FILES[name] for name in ("F16", "Q4_0", "Q2_K")}
    recommendation = recommended(files, LOWS)
    assert (recommendation.fit, recommendation.smallest, recommendation.fastest) == (("F16",), "F16", "F16")


def results() -> dict[str, Any]:
    types = {
        name: {
            "bytes": file.size * 10**6,
            "tensors": {"Q5_0": 3, "F32": 2},
            "prefill_tokens_per_second": file.prefill,
            "decode_tokens_per_second": file.decode,
            "agreement": file.agreement,
            "kl": 0.0123,
            "tasks": {"product_matching": {"metric": "f1", "value": file.metrics["PM"], "interval": [0.7, 0.9]}},
        }
        for name, file in FILES.items()
    }
    recommendation = sentence(recommended(FILES, LOWS), types)
    return {
        "types": types,
        "left_out": {"Q4_K_S": "its tensors are those of Q4_K_M"},
        "imatrix": "left out: there is no tool",
        "recommendation": {"sentence": recommendation, "smallest": "Q5_0", "fastest": "Q8_0"},
    }


def test_the_figure_names_the_recommended_types() -> None:
    drawn = picture(results())
    assert drawn.startswith("<svg")
    assert "Q5_0 is the smallest that answers as F16 does, Q8_0 the fastest." in drawn
    assert drawn.count("</text>") == 2 + 4 + 5 * len(FILES)


def test_the_imatrix_is_made_without_the_tested_rows(tmp_path: Path) -> None:
    task = TASKS["sentiment_analysis"]
    rows = [{**task.example(), "review": f"Number {number}.", "output": "B: positive"} for number in range(4)]
    (tmp_path / task.name).mkdir()
    (tmp_path / task.name / "train.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    texts = lessons(tmp_path, [task], 4, get_envelope("alpaca"), [labelled(task, 1, rows[2])])
    assert len(texts) == 3
    assert all(text.endswith("B: positive") for text in texts)
    assert not any("Number 2." in text for text in texts)


def test_the_benchmark_runs_on_a_tiny_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "SECONDS", 0.01)
    base = write_tiny_model(tmp_path / "tiny.gguf", context=8192)
    for task in ("product_matching", "attribute_value_extraction"):
        (tmp_path / "rows" / task).mkdir(parents=True)
        lines = "\n".join(json.dumps(row(task, number)) for number in range(3))
        (tmp_path / "rows" / task / "test.jsonl").write_text(lines, "utf-8")
        lines = "\n".join(json.dumps(row(task, number)) for number in range(3, 6))
        (tmp_path / "rows" / task / "train.jsonl").write_text(lines, "utf-8")
    columns = np.linspace(0.1, 9.0, 64, dtype=np.float32)
    collected = write_imatrix(tmp_path / "collected.gguf", {"blk.0.ffn_down.weight": columns})
    program = tmp_path / "llama-imatrix"
    program.write_text(f'#!/bin/sh\ncp {collected} "$6"\n', "utf-8")
    program.chmod(0o755)
    output, figure = tmp_path / "found.json", tmp_path / "found.svg"
    options = {"base": base, "envelope": "alpaca", "data": tmp_path / "rows", "output": output, "figure": figure}
    arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    arguments += ["--task", "PM", "--task", "AVE", "--rows", "2", "--turns", "1", "--threads", "1"]
    arguments += ["--type", "Q8_0", "--type", "Q6_K", "--type", "Q4_0"]
    arguments += ["--imatrix-tool", str(program), "--imatrix-data", str(tmp_path / "rows")]
    done = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    report = json.loads(output.read_text("utf-8"))
    # 32 columns are not a multiple of 256, so Q6_K falls back to Q8_0 and gives the same file.
    assert report["left_out"] == {"Q6_K": "its tensors are those of Q8_0"}
    assert list(report["types"]) == ["F16", "Q8_0", "Q4_0", "Q4_0 + imatrix"]
    assert report["rows"] == {"product_matching": 2, "attribute_value_extraction": 2}
    assert report["imatrix"]["sha256"] == sha256_of(collected)
    one = report["types"]["F16"]
    assert (one["agreement"], one["kl"], one["tasks"]["attribute_value_extraction"]["kl"]) == (1.0, 0.0, None)
    assert report["types"]["Q4_0"]["kl"] > report["types"]["Q8_0"]["kl"] > 0
    plain, weighed = report["types"]["Q4_0"], report["types"]["Q4_0 + imatrix"]
    assert (weighed["imatrix"], plain["imatrix"]) == (True, False)
    assert weighed["sha256"] != plain["sha256"]
    assert weighed["kl"] != plain["kl"]
    assert weighed["tensors"] == plain["tensors"]
    assert weighed["bytes"] == plain["bytes"] < report["types"]["Q8_0"]["bytes"] < one["bytes"]
    assert all(each["prefill_tokens_per_second"] > 0 for each in report["types"].values())
    assert report["recommendation"]["sentence"] in done.output
    assert f"{report['recommendation']['smallest']} is the smallest" in figure.read_text("utf-8")


def test_a_failed_tool_is_reported_with_its_last_lines(tmp_path: Path) -> None:
    program = tmp_path / "llama-imatrix"
    program.write_text("#!/bin/sh\necho it cannot be; exit 3\n", "utf-8")
    program.chmod(0o755)
    with pytest.raises(ClickException, match=r"\(3\).*it cannot be"):
        collect(program, tmp_path / "model.gguf", ["yes"], tmp_path / "imatrix.gguf", 1)
