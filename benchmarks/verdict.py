"""Compares the answers of quantized files with those of a reference file, and chooses a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import geometric_mean

from scipy.stats import entropy

from ecellm_lite.answers.answer import Answer

LEAST_AGREEMENT = 0.97


@dataclass(frozen=True, slots=True)
class Rated:
    """The measurements of a quantized file, by which the function `recommended` chooses files.

    - `size`: in bytes.
    - `prefill`, `decode`: the rates of reading prompts and of writing answers, in tokens per second.
    - `agreement`: the fraction of its answers that are the same as the reference file's answers.
    - `metrics`: for each task, the value of the task's primary metric.
    """

    size: int
    prefill: float
    decode: float
    agreement: float
    metrics: Mapping[str, float]

    @property
    def speed(self) -> float:
        """The geometric mean of two rates in tokens per second: reading prompts, and writing answers."""
        return geometric_mean((self.prefill, self.decode))


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The names of the suitable files (`fit`), and of the smallest and the fastest of these files.

    A file is suitable if its metrics and answers are about the same as the reference file's (see `recommended`).
    """

    fit: tuple[str, ...]
    smallest: str
    fastest: str


def agreement(reference: Sequence[Answer], answers: Sequence[Answer]) -> float:
    """Return the fraction of rows whose answer is the same as the reference file's answer."""
    same = [one.text == other.text for one, other in zip(reference, answers, strict=True)]
    return sum(same) / len(same)


def divergence(reference: Sequence[Answer], answers: Sequence[Answer]) -> float | None:
    """Return how far the probabilities in `answers` are from those in `reference`: the mean KL divergence, in nats.

    Rows without probabilities do not count. Returns None if no row has probabilities.
    """
    divergences = [
        float(entropy(list(one.probabilities.values()), [other.probabilities[key] for key in one.probabilities]))
        for one, other in zip(reference, answers, strict=True)
        if one.probabilities and other.probabilities
    ]
    return sum(divergences) / len(divergences) if divergences else None


def recommended(files: Mapping[str, Rated], lows: Mapping[str, float]) -> Recommendation:
    """Return the files that are suitable, the smallest of them, and the fastest of them.

    A file is suitable if in every task, its metric is not below the 95% interval of the reference file's metric. In
    addition, at least the fraction LEAST_AGREEMENT of its answers must be the same as the reference file's answers.

    `lows`: the lower end of the reference file's interval, by task. The reference file must be one of `files`, so at
    least one file is suitable.
    """
    fit = tuple(
        name
        for name, file in files.items()
        if file.agreement >= LEAST_AGREEMENT and all(file.metrics[task] >= low for task, low in lows.items())
    )
    return Recommendation(
        fit,
        smallest=min(fit, key=lambda name: files[name].size),
        fastest=max(fit, key=lambda name: files[name].speed),
    )
