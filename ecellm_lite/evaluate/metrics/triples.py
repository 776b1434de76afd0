"""Metrics of extractions (AVE): precision*, recall* and F1* over triples (attribute, value, source).

A triple is right if it equals a gold triple. Order and repetition do not matter, and an attribute may have several
triples. An attribute without a value has the triple (attribute, "None", "None"), which counts like any other. The
triples of all rows are counted together, so a row with many attributes weighs more. As in the authors' script, an
unreadable answer has no triples, but the row's gold triples still count in recall. So the paper's metrics count all
rows, and the fields `paper` and `all` of the result (see metrics/measured.py) are the same.

For out-of-domain rows, the authors' script uses weaker metrics. Their names begin with `contained_`. For these metrics,
two triples match if the attributes are equal, one value contains the other, and one source contains the other.
Precision is the share of the model's triples that match a gold triple. Recall is the share of gold triples that match a
triple of the model.

`typed` is the share of the gold answers' typed values that the model's answers have too (see metrics/typed.py).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ecellm_lite.evaluate.metrics.measured import Measured, Metric, Numbers, Pair, harmonic, ratio

NONE = "None"


@dataclass(frozen=True, slots=True)
class Triple:
    """An attribute, its value and the value's source."""

    attribute: str
    value: str
    source: str

    def contains(self, other: Triple) -> bool:
        """Return whether the attributes are equal, one value contains the other, and one source contains the other."""
        return self.attribute == other.attribute and all(
            bool(mine) and bool(theirs) and (mine in theirs or theirs in mine)
            for mine, theirs in ((self.value, other.value), (self.source, other.source))
        )


def _triple_of(attribute: Any, value: Any, source: Any) -> Triple:
    """Return an entry's attribute, value and source as a triple of texts. None becomes "None"."""
    return Triple(*(NONE if part is None else str(part) for part in (attribute, value, source)))


def triples_of(text: str | None) -> frozenset[Triple] | None:
    """Return the triples of an answer string, or None if it is not a JSON list of objects with an `attribute`.

    If an object lacks `value` or `source`, its triple matches no gold triple.
    """
    try:
        entries = json.loads(text or "")
        return frozenset(
            _triple_of(entry["attribute"], entry.get("value", ""), entry.get("source", "")) for entry in entries
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def measure_triples(pairs: Sequence[Pair]) -> Measured:
    """Measure extractions. Each column counts typed values, or triples (attribute, value, source):

    0. the model's triples that are right,
    1. the model's triples,
    2. the gold triples,
    3. the model's triples that match a gold triple, even if one value or source is only a part of the other,
    4. the gold triples that match a triple of the model, by the same rule,
    5. the gold answer's typed values that are also in the model's answer (see metrics/typed.py),
    6. the gold answer's typed values.
    """
    gold = [triples_of(pair.gold) or frozenset() for pair in pairs]
    answers = [triples_of(pair.text) for pair in pairs]
    columns: Numbers = np.zeros((len(pairs), 7))
    scores = []
    for row, (gold_triples, answer) in enumerate(zip(gold, answers, strict=True)):
        triples = answer or frozenset()
        score = [len(gold_triples & triples), len(triples), len(gold_triples)]
        near = (sum(any(one.contains(other) for other in gold_triples) for one in triples - gold_triples),
                sum(any(one.contains(other) for other in triples) for one in gold_triples - triples))  # fmt: skip
        columns[row] = [*score, score[0] + near[0], score[0] + near[1], *pairs[row].typed]
        scores.append(score)
    metrics = {**_metrics("", 0, 0), **_metrics("contained_", 3, 4)}
    if columns[:, 6].any():
        metrics["typed"] = lambda sums: ratio(sums[..., 5], sums[..., 6])
    return Measured(
        columns=columns,
        primary="f1",
        paper=metrics,
        all=metrics,
        scores=scores,
        answered=[answer is not None for answer in answers],
    )


def f1_of(sums: Numbers) -> Numbers:
    """Return the metric F1*. A triple is (attribute, value, source).

    `sums` has three counts: of right triples, of the model's triples, and of gold triples.
    """
    return harmonic(ratio(sums[..., 0], sums[..., 1]), ratio(sums[..., 0], sums[..., 2]))


def _metrics(prefix: str, answered: int, gold: int) -> dict[str, Metric]:
    def precision(sums: Numbers) -> Numbers:
        return ratio(sums[..., answered], sums[..., 1])

    def recall(sums: Numbers) -> Numbers:
        return ratio(sums[..., gold], sums[..., 2])

    return {
        f"{prefix}f1": lambda sums: harmonic(precision(sums), recall(sums)),
        f"{prefix}precision": precision,
        f"{prefix}recall": recall,
    }
