"""How far a smaller file's answers are from those of the file it was made of, and which file is worth taking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import geometric_mean

from scipy.stats import entropy

from ecellm_lite.answers.answer import Answer

LEAST_AGREEMENT = 0.97


@dataclass(frozen=True, slots=True)
class Rated:
    """A file: its bytes, the tokens it reads and writes a second, its agreement, and each task's primary metric."""

    size: int
    prefill: float
    decode: float
    agreement: float
    metrics: Mapping[str, float]

    @property
    def speed(self) -> float:
        """The geometric mean of the two rates, so that neither counts for more."""
        return geometric_mean((self.prefill, self.decode))


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The files that answer as well as the reference, in their order, the smallest and the fastest of them."""

    fit: tuple[str, ...]
    smallest: str
    fastest: str


def agreement(reference: Sequence[Answer], answers: Sequence[Answer]) -> float:
    """Return the share of rows with the same answer."""
    same = [one.text == other.text for one, other in zip(reference, answers, strict=True)]
    return sum(same) / len(same)


def divergence(reference: Sequence[Answer], answers: Sequence[Answer]) -> float | None:
    """Return the mean KL(reference ‖ answers) over the rows with probabilities, in nats; None where no row has any."""
    found = [
        float(entropy(list(one.probabilities.values()), [other.probabilities[key] for key in one.probabilities]))
        for one, other in zip(reference, answers, strict=True)
        if one.probabilities and other.probabilities
    ]
    return sum(found) / len(found) if found else None


def recommended(files: Mapping[str, Rated], lows: Mapping[str, float]) -> Recommendation:
    """Return what to take of the files, by name; `lows` is the reference's interval's lower end for each task.

    A file fits if no task's metric is below that end, and if it agrees with the reference on LEAST_AGREEMENT of the
    rows. The reference must be among the files, so that one fits always.
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
