"""Metrics of attributes, values and sources (AVE): precision*, recall* and F1* over the triples of all rows.

A triple is right if attribute, value and source are exactly those of a gold triple. Each row's triples are a set: order
and repetition do not matter, and an attribute may have several triples. A missing value is the triple (attribute,
"None", "None") on both sides: saying that there is no value is an answer, right or wrong. The sums are over all rows,
so that a row with many attributes weighs more. As in the authors' script, an answer that cannot be read is an empty
list, and its row's gold triples stay in recall's denominator. So the two ways to count such a row are the same here.

The contained_ metrics are those that the script uses for out-of-domain rows. There a triple is also right if its value
contains the gold value or is contained in it, and its source likewise. Precision is then the share of answered triples
that match a gold one, recall the share of gold triples that match an answered one.
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
        """Return whether the attributes are equal, and one value contains the other, and one source the other."""
        return self.attribute == other.attribute and all(
            bool(mine) and bool(theirs) and (mine in theirs or theirs in mine)
            for mine, theirs in ((self.value, other.value), (self.source, other.source))
        )


def _triple_of(attribute: Any, value: Any, source: Any) -> Triple:
    """Return the triple of an entry's parts; None stands for a missing value or source."""
    return Triple(*(NONE if part is None else str(part) for part in (attribute, value, source)))


def triples_of(text: str | None) -> frozenset[Triple] | None:
    """Return the triples of an answer string, or None if it is not a JSON list of objects with an attribute each.

    An entry without a value or a source is a triple that matches no gold one.
    """
    try:
        entries = json.loads(text or "")
        return frozenset(
            _triple_of(entry["attribute"], entry.get("value", ""), entry.get("source", "")) for entry in entries
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def measure_triples(pairs: Sequence[Pair]) -> Measured:
    """Measure extractions; columns are hits, answered, gold, contained answers and contained gold triples."""
    gold = [triples_of(pair.gold) or frozenset() for pair in pairs]
    answers = [triples_of(pair.text) for pair in pairs]
    columns: Numbers = np.zeros((len(pairs), 5))
    scores = []
    for row, (gold_triples, answer) in enumerate(zip(gold, answers, strict=True)):
        triples = answer or frozenset()
        score = [len(gold_triples & triples), len(triples), len(gold_triples)]
        near = (sum(any(one.contains(other) for other in gold_triples) for one in triples - gold_triples),
                sum(any(one.contains(other) for other in triples) for one in gold_triples - triples))  # fmt: skip
        columns[row] = [*score, score[0] + near[0], score[0] + near[1]]
        scores.append(score)
    metrics = {**_metrics("", 0, 0), **_metrics("contained_", 3, 4)}
    return Measured(
        columns=columns,
        primary="f1",
        paper=metrics,
        all=metrics,
        scores=scores,
        answered=[answer is not None for answer in answers],
    )


def f1_of(sums: Numbers) -> Numbers:
    """Return F1* of sums whose first three columns are hits, answered and gold triples."""
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
