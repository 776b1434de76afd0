"""Metrics of tasks that a user defined and whose answer is one label: accuracy, macro-F1, and a table of the labels.

Macro-F1 is the mean F1 of the labels that occur as a gold answer or as an answer of the model. In the metrics `all`
(see measured.py), a row without an answer is wrong. In the metrics `paper`, such a row is left out. If the task
has the answer "none of these", `none_precision`, `none_recall` and `none_f1` measure how well it is recognized.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from ecellm_lite.answers.choice import Choice
from ecellm_lite.answers.label_set import LabelSet
from ecellm_lite.answers.none_of_these import OrNone
from ecellm_lite.errors import InputError
from ecellm_lite.evaluate.metrics.measured import Measured, Metric, Numbers, Pair, harmonic, ratio
from ecellm_lite.evaluate.results import LabelResult

# With more different answers, there are no lines for them and no macro-F1: it takes rows * answers numbers.
MOST_LABELS = 256

# The columns: whether the answer is right, whether there is one, and 1.
_RIGHT, _ANSWERED, _ROWS = range(3)

# What is counted for each answer: rows whose gold answer and answer it is, whose answer it is, whose gold answer it is,
# and those of the latter that have no answer.
_KINDS = 4


def measure_choices(pairs: Sequence[Pair], space: Choice | LabelSet) -> Measured:
    """Measure answers that are one of a task's labels.

    In the result, `more` has four lists of counts, each with a count for every label: right answers, the model's
    answers, gold answers, and gold answers of rows without an answer.
    """
    gold = [space.parse(pair.gold) for pair in pairs]
    answers = [_key_of(space, pair.text) for pair in pairs]
    none = space.none_option.key if isinstance(space, OrNone) else None
    keys = _occurring(space, {*gold, *answers})
    if len(keys) > MOST_LABELS:
        keys = [none] if none else []
    rows = list(zip(gold, answers, strict=True))
    columns: Numbers = np.array(
        [(right == answer, answer is not None, 1.0) for right, answer in rows], dtype=np.float64
    )
    kinds = [
        Counter(right for right, answer in rows if right == answer),
        Counter(answers),
        Counter(gold),
        Counter(right for right, answer in rows if answer is None),
    ]
    counts: Numbers = np.array([[kind[key] for key in keys] for kind in kinds], dtype=np.float64).ravel()
    return Measured(
        columns=columns,
        primary="accuracy",
        paper=_metrics(keys, none, answered_only=True),
        all=_metrics(keys, none, answered_only=False),
        scores=columns[:, _RIGHT].tolist(),
        answered=[answer is not None for answer in answers],
        labels=_table(keys, np.concatenate([columns.sum(axis=0), counts])),
        more=counts,
    )


def _counts(sums: Numbers, size: int, *, answered_only: bool) -> tuple[Numbers, Numbers, Numbers]:
    """Return three arrays, with one count per label: right answers, the model's answers, and gold answers.

    With `answered_only`, the gold answers of rows without an answer are not counted.
    """
    kinds = sums[..., _ROWS + 1 :].reshape(*sums.shape[:-1], _KINDS, size)
    right, answered, gold, unanswered = (kinds[..., place, :] for place in range(_KINDS))
    return right, answered, gold - unanswered if answered_only else gold


def _metrics(keys: Sequence[str], none: str | None, *, answered_only: bool) -> Mapping[str, Metric]:
    def macro_f1(sums: Numbers) -> Numbers:
        right, answered, gold = _counts(sums, len(keys), answered_only=answered_only)
        occurring = (answered + gold > 0).sum(axis=-1).astype(np.float64)
        return ratio(ratio(2 * right, answered + gold).sum(axis=-1), occurring)

    def of_none(place: int, whole: int) -> Metric:
        def metric(sums: Numbers) -> Numbers:
            counts = _counts(sums, len(keys), answered_only=answered_only)
            return ratio(counts[0][..., place], counts[whole][..., place])

        return metric

    metrics: dict[str, Metric] = {
        "accuracy": lambda sums: ratio(sums[..., _RIGHT], sums[..., _ANSWERED if answered_only else _ROWS])
    }
    if len(keys) > 1:
        metrics["macro_f1"] = macro_f1
    if none is not None:
        place = keys.index(none)
        precision, recall = of_none(place, 1), of_none(place, 2)
        metrics["none_f1"] = lambda sums: harmonic(precision(sums), recall(sums))
        metrics["none_precision"], metrics["none_recall"] = precision, recall
    return metrics


def _table(keys: Sequence[str], sums: Numbers) -> list[LabelResult]:
    """Return each label's counts and metrics over all rows."""
    right, answered, gold = _counts(sums, len(keys), answered_only=False)
    columns = (gold, answered, ratio(right, answered), ratio(right, gold), ratio(2 * right, answered + gold))
    return [
        LabelResult(key, int(gold), int(answered), float(precision), float(recall), float(f1))
        for key, gold, answered, precision, recall, f1 in zip(keys, *columns, strict=True)
    ]


def _occurring(space: Choice | LabelSet, keys: set[str | None]) -> list[str]:
    """Return the answers of the task that are among `keys`, in the task's order.

    If the task has the answer "none of these", it is always in the list, at the end.
    """
    own = [option.key for option in space.offered] if isinstance(space, Choice) else list(space.labels.keys)
    none = [space.none_option.key] if isinstance(space, OrNone) else []
    return [*(key for key in own if key in keys and key not in none), *none]


def _key_of(space: Choice | LabelSet, text: str | None) -> str | None:
    """Return the key of an answer string, or None if there is no answer or the space does not allow it."""
    try:
        return None if text is None else str(space.parse(text))
    except InputError:
        return None
