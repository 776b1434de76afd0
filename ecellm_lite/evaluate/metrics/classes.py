"""Accuracy and macro-F1, the metrics of the tasks that are answered with a letter (PRP, SA, MPC).

Macro-F1 is the mean F1 of the labels that occur in any gold answer or in any of the model's answers. Scikit-learn uses
the same labels.

In the metrics `all` (see measured.py), a row without an answer counts as wrong. It lowers the recall of its gold label,
and changes no precision. The metrics `paper` leave out rows without an answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from ecellm_lite.evaluate.metrics.measured import Measured, Numbers, Pair, ratio
from ecellm_lite.evaluate.results import Confusion

# The letter alone, or an option's whole line; the authors' script reads the first character, too.
_LETTER = re.compile(r"\s*([A-Z])(?!\w)")


def letter_of(text: str | None) -> str | None:
    """Return the letter at the start of an answer string, or None if there is no such letter."""
    match = _LETTER.match(text or "")
    return match[1] if match else None


def measure_classes(pairs: Sequence[Pair], primary: str) -> Measured:
    """Measure answers that are letters. `primary` is the main metric: `accuracy` or `macro_f1`."""
    gold, texts = [pair.gold for pair in pairs], [pair.text for pair in pairs]
    letters = map(letter_of, (*gold, *texts))
    table = class_table(gold, texts, sorted({letter for letter in letters if letter}))
    return Measured(
        columns=table.columns,
        primary=primary,
        paper={"accuracy": table.paper_accuracy, "macro_f1": lambda sums: table.macro_f1(table.answered(sums))},
        all={"accuracy": table.accuracy, "macro_f1": lambda sums: table.macro_f1(table.counts(sums))},
        scores=table.scores,
        answered=[letter_of(text) is not None for text in texts],
        confusion=table.confusion,
    )


def class_table(gold: Sequence[str], texts: Sequence[str | None], labels: Sequence[str]) -> ConfusionTable:
    """Return the confusion table of answer strings such as "B: positive", by their option letters.

    `labels`: the option letters. Every letter in `gold` and `texts` must be among them.
    """
    return ConfusionTable([letter_of(text) or "" for text in gold], [letter_of(text) for text in texts], labels)


class ConfusionTable:
    """A table that counts the answers: one line for each gold label, and one column for each answer.

    The last column is for rows without an answer. `columns` is an array of the shape (rows to evaluate, cells of the
    table). Its values are 1 where the cell counts the row, and 0 elsewhere.
    """

    def __init__(self, gold: Sequence[str], answers: Sequence[str | None], labels: Sequence[str]) -> None:
        self.labels = list(labels)
        self.scores = [float(one == other) for one, other in zip(gold, answers, strict=True)]
        size = len(labels)
        places = {label: place for place, label in enumerate(labels)}
        cells = [
            places[one] * (size + 1) + (size if other is None else places[other])
            for one, other in zip(gold, answers, strict=True)
        ]
        self.columns: Numbers = np.zeros((len(gold), size * (size + 1)))
        self.columns[np.arange(len(gold)), cells] = 1

    def counts(self, sums: Numbers) -> Numbers:
        """Return the table of counts, with one line for each gold label and one column for each answer.

        The last column counts the rows without an answer.

        `sums`: the attribute `columns`, summed over rows. If it has several sums, of shape (…, cells), each of them
        becomes a table.
        """
        size = len(self.labels)
        return sums.reshape(*sums.shape[:-1], size, size + 1)

    def answered(self, sums: Numbers) -> Numbers:
        """Return what the method `counts` returns, but without the last column (the rows without an answer)."""
        return self.counts(sums)[..., :-1]

    def right(self, sums: Numbers) -> Numbers:
        """Return how many answers are right. `sums`: `self.columns`, summed over rows."""
        hits: Numbers = np.diagonal(self.counts(sums), axis1=-2, axis2=-1).sum(axis=-1)
        return hits

    def accuracy(self, sums: Numbers) -> Numbers:
        """Return the share of all rows whose answer is right."""
        return ratio(self.right(sums), sums.sum(axis=-1))

    def paper_accuracy(self, sums: Numbers) -> Numbers:
        """Return the share of right answers among the rows that have an answer."""
        return ratio(self.right(sums), self.answered(sums).sum(axis=(-2, -1)))

    def macro_f1(self, counts: Numbers) -> Numbers:
        """Return the mean F1 of the labels that occur in `counts`.

        `counts`: tables of shape (…, gold labels, answers), as returned by the methods `counts` and `answered`.
        """
        gold = counts.sum(axis=-1)
        answered = counts.sum(axis=-2)[..., : len(self.labels)]
        hits: Numbers = np.diagonal(counts, axis1=-2, axis2=-1)
        return ratio(
            ratio(2 * hits, gold + answered).sum(axis=-1), (gold + answered > 0).sum(axis=-1).astype(np.float64)
        )

    @property
    def confusion(self) -> Confusion:
        """How many rows there are for each pair of a gold label and an answer, in the form that the results store."""
        counts = self.counts(self.columns.sum(axis=0)).astype(int).tolist()
        return Confusion(self.labels, counts)
