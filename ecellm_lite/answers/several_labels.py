"""The answer space of several labels: any number of a task's labels, such as `color, size`, or `none`.

Each label is a question of its own: is `LABEL: yes` or `LABEL: no` more probable right after the prompt? The model
reads the prompt once for all labels. The result for one label does not depend on the other labels. A label is part of
the answer if the probability of its `yes` is at least its threshold. Then labels are added or removed if there are too
few or too many.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ecellm_lite.answers.answer import Answer
from ecellm_lite.answers.calibration import Correction
from ecellm_lite.answers.candidates import Candidates, weigh
from ecellm_lite.answers.claims import Claim
from ecellm_lite.answers.decoding import Decoding, Outcome, Scene
from ecellm_lite.answers.details import Detail
from ecellm_lite.answers.space import Space
from ecellm_lite.answers.tape import Tape
from ecellm_lite.errors import InputError

NONE = "none"
"""The answer without a label."""

THRESHOLD = 0.5

_SEPARATOR = ","

# Those of yes come first. General models, which were not trained to write exactly these words, may write a capital.
_WORDS = ("yes", "no")
_SPELLINGS = ("yes", "Yes", "no", "No")


@dataclass(frozen=True, slots=True)
class SeveralLabels(Space):
    """A space whose answers are lists of labels, always in the order of `labels`. The list may be empty.

    - `labels`: at least one. No two labels are equal when letter case is ignored. A label has no comma, and is not
      `none`.
    - `thresholds`: for each label, the lowest probability at which it is part of the answer.
    - `at_least`, `at_most`: the limits for the number of labels in an answer. If too few labels reach their
      thresholds, the likeliest other labels are added. If too many labels reach their thresholds, only the likeliest
      labels are kept.
    """

    labels: tuple[str, ...]
    thresholds: tuple[float, ...]
    at_least: int
    at_most: int
    type: ClassVar[str] = "labels"
    generates: ClassVar[bool] = False
    scored: ClassVar[bool] = True
    biased: ClassVar[bool] = True

    def decode(self, scene: Scene) -> Decoding:
        """Compute the probability that each label applies.

        The answer's probability is a product with one factor for each label. For a label in the answer, the factor is
        the probability that the label applies. For any other label, the factor is the probability that the label does
        not apply. The coverage is the lowest coverage of all labels.
        """
        words = _SPELLINGS if scene.form.spellings else _WORDS
        rows = [[scene.continuation(f"{label}: {word}") for word in words] for label in self.labels]
        tape = Tape()
        shares = [0.0] * len(rows)
        coverage = 1.0
        # Sorted by tokens, so that labels that begin alike follow each other and share what the model has read.
        for place in sorted(range(len(rows)), key=rows.__getitem__):
            weighed = yield from weigh(Candidates(rows[place], scene.end), tape)
            shares[place] = min(float(weighed.shares[: len(words) // 2].sum()), 1.0)
            coverage = min(coverage, weighed.coverage)
        value = self._chosen(shares)
        text = self.text_of(value)
        return Outcome(
            value=value,
            text=text,
            tokens=scene.continuation(text),
            probability=self._probability(shares, value),
            probabilities=dict(zip(self.labels, shares, strict=True)),
            coverage=coverage,
        )

    def text_of(self, labels: Iterable[str]) -> str:
        """Return the answer string for these labels, such as `color, size`. Without labels, return `none`."""
        holding = set(labels)
        return f"{_SEPARATOR} ".join(label for label in self.labels if label in holding) or NONE

    def parse(self, text: str) -> list[str]:
        """Return the labels of an answer string. Raises InputError for an unknown label or a wrong number of labels."""
        return self._checked(_split(text))

    def normalized(self, text: str) -> str:
        """Return the answer string for labels that a person wrote: `size, color`, or a JSON list.

        The order of the labels does not matter. Upper and lower case are treated as equal, unless two labels differ
        only in case.
        """
        try:
            names = json.loads(text)
        except (ValueError, RecursionError):
            names = None
        names = [str(name).strip() for name in names] if isinstance(names, list) else _split(text)
        return self.text_of(self._checked([self._named(name) for name in names]))

    def _named(self, name: str) -> str:
        """Return the label that a name means. If it means no label or several labels, return the name itself."""
        alike = [label for label in self.labels if label.casefold() == name.casefold()]
        return alike[0] if len(alike) == 1 else name

    def written(self, output: str | list[Any]) -> str:
        """Return a labelled row's `output` as an answer string. The output may be a list of labels."""
        if isinstance(output, str):
            return output
        for label in output:
            if label not in self.labels:
                raise InputError(f"The output has {str(label)[:80]!r}", step="use the task's labels", field="output")
        return self.text_of(output)

    def longest(self, scene: Scene) -> int:
        """Return the number of tokens in the longest text that the model may read for a label, such as `color: yes`."""
        return max(len(scene.continuation(f"{label}: {word}")) for label in self.labels for word in ("yes", "no"))

    def calibrated(self, outcome: Outcome, temperature: float, bias: float = 0.0) -> Outcome:
        """Return an answer (`outcome`) with calibrated probabilities and the labels that these probabilities select.

        Each label's probability is corrected by `temperature` and `bias`.
        """
        return self.corrected(outcome, Correction(temperature, bias), {})

    def corrected(self, outcome: Outcome, correction: Correction, own: Mapping[str, Correction]) -> Outcome:
        """Return a copy of `outcome`, a decoded answer, with corrected probabilities and the answer that they give.

        Each label is corrected by its entry in `own`. A label without an entry is corrected by `correction`.
        """
        if not outcome.probabilities or (correction == Correction() and not own):
            return outcome
        shares = [own.get(label, correction).odds(outcome.probabilities[label]) for label in self.labels]
        value = self._chosen(shares)
        return replace(
            outcome,
            value=value,
            text=self.text_of(value),
            probability=self._probability(shares, value),
            probabilities=dict(zip(self.labels, shares, strict=True)),
        )

    def claims(self, answer: Answer, gold: str, labels: Sequence[str] | None = None) -> tuple[Claim, ...]:
        """Return one claim (decision) for each label.

        Each claim has two options: first that the label applies, then that it does not.
        """
        shares: Mapping[str, float] = answer.probabilities or {}
        right = self.parse(gold)
        return tuple(
            Claim((shares[label], 1.0 - shares[label]), int(label not in right), chosen=int(label not in answer.value))
            for label in self.labels
        )

    def headline(self, answer: Answer) -> str:
        """Return the answer's labels, or `none`."""
        return answer.text or NONE

    def details(self, answer: Answer) -> tuple[Detail, ...]:
        """Return a line for each label, with the probability that it applies.

        The labels of the answer are highlighted.
        """
        holding = answer.value or ()
        return tuple(
            Detail(label, share=share, chosen=label in holding) for label, share in (answer.probabilities or {}).items()
        )

    def _checked(self, names: Sequence[str]) -> list[str]:
        """Return labels in the order of the space's `labels`.

        Raises InputError for an unknown label or a wrong number of labels.
        """
        for name in names:
            if name not in self.labels:
                shown = ", ".join(self.labels[:26]) + (", …" if len(self.labels) > 26 else "")
                raise InputError(f"{name[:80]!r} is not one of the labels", step=f"write {NONE}, or some of {shown}")
        wanted = set(names)
        value = [label for label in self.labels if label in wanted]
        if not self.at_least <= len(value) <= self.at_most:
            message = f"The answer has {len(value)} labels"
            raise InputError(message, step=f"give at least {self.at_least} and at most {self.at_most}")
        return value

    def _chosen(self, shares: Sequence[float]) -> list[str]:
        """Return the labels of the answer.

        `shares`: the probability that each label applies, in the order of `labels`.
        """
        reached = [share >= threshold for share, threshold in zip(shares, self.thresholds, strict=True)]
        # Those that reach their threshold come first, the most probable first among each kind.
        order = sorted(range(len(shares)), key=lambda place: (not reached[place], -shares[place]))
        count = min(max(sum(reached), self.at_least), self.at_most)
        return [self.labels[place] for place in sorted(order[:count])]

    def _probability(self, shares: Sequence[float], value: Sequence[str]) -> float:
        holding = set(value)
        return math.prod(
            share if label in holding else 1.0 - share for label, share in zip(self.labels, shares, strict=True)
        )


def _split(text: str) -> list[str]:
    return [] if text.strip().casefold() == NONE else [name.strip() for name in text.split(_SEPARATOR)]
