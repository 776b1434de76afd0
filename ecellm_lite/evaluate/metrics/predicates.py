"""Metrics of yes/no tasks (PM, PSI, AP), such as F1, precision and recall. The positive answer is `yes`.

There are two groups of metrics, `all` and `paper` (see measured.py). They treat rows without an answer differently. In
`all`, such a row counts as wrong in accuracy, recall and specificity. It changes neither precision nor the
negative predictive value, which are about answered rows only. In `paper`, such a row is left out of all metrics.
"""

from __future__ import annotations

from collections.abc import Sequence

from ecellm_lite.evaluate.metrics.classes import ConfusionTable
from ecellm_lite.evaluate.metrics.measured import Measured, Metric, Numbers, Pair, harmonic, ratio

_LABELS = ("yes", "no")


def word_of(text: str | None) -> str | None:
    """Return "yes" for a text such as " Yes", "no" for a text such as "NO", and None for any other text."""
    word = (text or "").strip().lower()
    return word if word in _LABELS else None


def measure_predicates(pairs: Sequence[Pair]) -> Measured:
    """Measure answers that are `yes` or `no`."""
    texts = [pair.text for pair in pairs]
    table = word_table([pair.gold for pair in pairs], texts)
    return Measured(
        columns=table.columns,
        primary="f1",
        paper=_metrics(table, paper=True),
        all=_metrics(table, paper=False),
        scores=table.scores,
        answered=[word_of(text) is not None for text in texts],
        confusion=table.confusion,
    )


def word_table(gold: Sequence[str], texts: Sequence[str | None]) -> ConfusionTable:
    """Return the confusion table of the answers `yes` and `no`."""
    return ConfusionTable([word_of(text) or "" for text in gold], [word_of(text) for text in texts], _LABELS)


def f1_of_yes(table: ConfusionTable) -> Metric:
    """Return the F1 of the answer `yes` as a function. Its argument is `table.columns`, summed over rows."""
    return _metrics(table, paper=False)["f1"]


def _metrics(table: ConfusionTable, *, paper: bool) -> dict[str, Metric]:
    def counts(sums: Numbers) -> Numbers:
        return table.answered(sums) if paper else table.counts(sums)

    def share(row: int, column: int, axis: int) -> Metric:
        """Return a metric: the cell of the confusion table at `row` and `column`, as a share of its row or column.

        `axis`: -1 to divide by the sum of the row, -2 to divide by the sum of the column.
        """

        def metric(sums: Numbers) -> Numbers:
            confusion = counts(sums)
            whole = confusion.sum(axis=axis)
            return ratio(confusion[..., row, column], whole[..., row if axis == -1 else column])

        return metric

    precision, recall = share(0, 0, -2), share(0, 0, -1)
    return {
        "f1": lambda sums: harmonic(precision(sums), recall(sums)),
        "accuracy": table.paper_accuracy if paper else table.accuracy,
        "precision": precision,
        "recall": recall,
        "specificity": share(1, 1, -1),
        "negative_predictive_value": share(1, 1, -2),
    }
