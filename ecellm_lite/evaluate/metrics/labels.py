"""Metrics of answers with several labels: F1 of all decisions together (micro), and the mean F1 of the labels (macro).

Micro-F1 counts the labels of all rows together, so frequent labels weigh more. Macro-F1 is the mean over the labels
that occur in any gold answer or in any of the model's answers. `exact` is the share of rows whose labels are all right.

Each metric is computed in two ways. In the metrics `all`, a row without an answer misses all of its gold labels. In the
metrics `paper`, such a row is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ecellm_lite.answers.several_labels import SeveralLabels
from ecellm_lite.errors import InputError
from ecellm_lite.evaluate.metrics.measured import Measured, Metric, Numbers, Pair, harmonic, ratio
from ecellm_lite.evaluate.results import LabelResult

# The columns: how many labels both answers have, the model's answer has, the gold answer has, and the gold answer has
# if there is no other; then whether all labels are right, whether there is an answer, and 1.
_HITS, _GIVEN, _GOLD, _MISSED, _EXACT, _ANSWERED, _ROWS = range(7)

# What is counted for each label: rows whose gold answer and answer have it, whose answer has it, whose gold answer has
# it, and those of the latter that have no answer.
_KINDS = 4


def measure_labels(pairs: Sequence[Pair], space: SeveralLabels) -> Measured:
    """Measure answers with several labels.

    Macro-F1 is computed from the field `more` of the result. For each label, this field counts four kinds of rows:

    - both the gold answer and the model's answer have the label;
    - the model's answer has the label;
    - the gold answer has the label;
    - the gold answer has the label, and the model gave no valid answer.
    """
    answers = [_labels_of(space, pair.text) for pair in pairs]
    columns: Numbers = np.zeros((len(pairs), 7))
    places = {label: place for place, label in enumerate(space.labels)}
    counts: Numbers = np.zeros((_KINDS, len(places)))
    scores = []
    for row, (pair, answer) in enumerate(zip(pairs, answers, strict=True)):
        gold = set(space.parse(pair.gold))
        predicted = answer or set()
        kinds = [gold & predicted, predicted, gold, gold if answer is None else set()]
        for kind, labels in enumerate(kinds):
            counts[kind, [places[label] for label in labels]] += 1
        columns[row] = [*map(len, kinds), answer == gold, answer is not None, 1]
        scores.append([len(kind) for kind in kinds[:3]])
    count = len(space.labels)
    return Measured(
        columns=columns,
        primary="micro_f1",
        paper=_metrics(count, answered_only=True),
        all=_metrics(count, answered_only=False),
        scores=scores,
        answered=[answer is not None for answer in answers],
        labels=_table(space.labels, np.concatenate([columns.sum(axis=0), counts.ravel()])),
        more=counts.ravel(),
    )


@dataclass(frozen=True, slots=True)
class _Counts:
    """How often each label is in the model's answer, in the gold answer, and in both (`right`).

    Each field is an array of shape (…, labels).
    """

    right: Numbers
    answered: Numbers
    gold: Numbers

    @classmethod
    def of(cls, sums: Numbers, labels: int, *, answered_only: bool) -> _Counts:
        kinds = sums[..., _ROWS + 1 :].reshape(*sums.shape[:-1], _KINDS, labels)
        right, answered, gold, unanswered = (kinds[..., place, :] for place in range(_KINDS))
        return cls(right, answered, gold - unanswered if answered_only else gold)

    @property
    def f1(self) -> Numbers:
        """The F1 of each label."""
        return ratio(2 * self.right, self.answered + self.gold)


def _metrics(labels: int, *, answered_only: bool) -> Mapping[str, Metric]:
    def precision(sums: Numbers) -> Numbers:
        return ratio(sums[..., _HITS], sums[..., _GIVEN])

    def recall(sums: Numbers) -> Numbers:
        return ratio(sums[..., _HITS], sums[..., _GOLD] - sums[..., _MISSED] * answered_only)

    def macro_f1(sums: Numbers) -> Numbers:
        each = _Counts.of(sums, labels, answered_only=answered_only)
        occurring = (each.answered + each.gold > 0).sum(axis=-1)
        return ratio(each.f1.sum(axis=-1), occurring.astype(np.float64))

    return {
        "micro_f1": lambda sums: harmonic(precision(sums), recall(sums)),
        "macro_f1": macro_f1,
        "precision": precision,
        "recall": recall,
        "exact": lambda sums: ratio(sums[..., _EXACT], sums[..., _ANSWERED if answered_only else _ROWS]),
    }


def _table(labels: Sequence[str], sums: Numbers) -> list[LabelResult]:
    """Return each label's counts and metrics. `sums`: the numbers of each row, added up over all rows."""
    counts = _Counts.of(sums, len(labels), answered_only=False)
    precision, recall = ratio(counts.right, counts.answered), ratio(counts.right, counts.gold)
    return [
        LabelResult(
            label=label,
            gold=int(counts.gold[place]),
            answered=int(counts.answered[place]),
            precision=float(precision[place]),
            recall=float(recall[place]),
            f1=float(counts.f1[place]),
        )
        for place, label in enumerate(labels)
    ]


def _labels_of(space: SeveralLabels, text: str | None) -> set[str] | None:
    """Return the labels in an answer string, or None if there is no answer or the string is not a valid answer."""
    try:
        return None if text is None else set(space.parse(text))
    except InputError:
        return None
