"""Corrections of a choice's probabilities, with separate parameters for each option.

A temperature treats all options in the same way. This does not help if a model chooses one option too often. There are
two other kinds of correction:

- Vector scaling multiplies the logarithm of each option's probability by the option's scale, and adds the option's
  bias. With two options this is beta calibration. Sources: Guo et al., "On Calibration of Modern Neural Networks" (ICML
  2017); Kull et al., "Beta calibration" (AISTATS 2017).
- Isotonic regression corrects each option's probability with a curve that never falls. Source: Zadrozny and Elkan,
  "Transforming classifier scores into accurate multiclass probability estimates" (KDD 2002).

Afterwards, the probabilities are divided by their sum. A correction can change which option is the likeliest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ecellm_lite.answers.calibration import log_shares
from ecellm_lite.answers.decoding import Probabilities

# The bounds of a scale, as those of a temperature; and of a bias.
LEAST_SCALE, LARGEST_SCALE = 0.05, 20.0
LARGEST_BIAS = 10.0

MOST_OPTIONS = 256
MOST_POINTS = 2048  # of all curves of a calibration


class OptionCorrection(Protocol):
    """A correction with separate parameters for each option."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the options."""

    def corrected(self, shares: Probabilities) -> Probabilities:
        """Return the corrected probabilities. The shape is (rows, options), with the options in the order of `keys`."""

    def check(self) -> None:
        """Raise ValueError if the correction's options or numbers are invalid."""


@dataclass(frozen=True, slots=True)
class VectorScaling:
    """A scale and a bias for each option.

    `scales` and `biases` map each option's key to a number. Both must have the keys in the same order.
    """

    scales: dict[str, float]
    biases: dict[str, float]

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the options."""
        return tuple(self.scales)

    def corrected(self, shares: Probabilities) -> Probabilities:
        """Return the corrected probabilities, in the shape of `shares`."""
        logs = log_shares(shares) * np.array([*self.scales.values()]) + np.array([*self.biases.values()])
        powers = np.exp(logs - logs.max(axis=1, keepdims=True))
        weighted: Probabilities = powers / powers.sum(axis=1, keepdims=True)
        return weighted

    def check(self) -> None:
        """Raise ValueError if `scales` and `biases` have different keys, or if a number is out of its bounds."""
        _check_count(self.scales)
        if list(self.scales) != list(self.biases):
            raise ValueError("vector has scales and biases of different options")
        for scale in self.scales.values():
            if not LEAST_SCALE <= scale <= LARGEST_SCALE:
                raise ValueError(f"a scale is {scale!r}, not from {LEAST_SCALE} to {LARGEST_SCALE:g}")
        for bias in self.biases.values():
            if abs(bias) > LARGEST_BIAS:
                raise ValueError(f"a bias is {bias!r}, not from -{LARGEST_BIAS:g} to {LARGEST_BIAS:g}")


@dataclass(frozen=True, slots=True)
class Curve:
    """A curve from a model's probability to the corrected one. The curve never falls.

    The curve is a line through points, and is flat before the first point and after the last one. `before` has the
    points' probabilities in ascending order. `after` has their corrected values, which are above 0.
    """

    before: tuple[float, ...]
    after: tuple[float, ...]

    def check(self) -> None:
        """Raise ValueError if the curve's points are invalid, for example if the curve falls."""
        if not self.before or len(self.before) != len(self.after):
            raise ValueError("a curve has no points, or has points without a value")
        if not (self.before[0] >= 0 and self.before[-1] <= 1 and bool((np.diff(self.before) > 0).all())):
            raise ValueError("the points of a curve are not ascending probabilities")
        if not (self.after[0] > 0 and self.after[-1] <= 1 and bool((np.diff(self.after) >= 0).all())):
            raise ValueError("the values of a curve are not above 0, or fall")


@dataclass(frozen=True, slots=True)
class IsotonicRegression:
    """A curve for each option, from the model's probability to the corrected one.

    `curves`: the curves, by the option's key.
    """

    curves: dict[str, Curve]

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the options."""
        return tuple(self.curves)

    def corrected(self, shares: Probabilities) -> Probabilities:
        """Return the corrected probabilities, in the shape of `shares`."""
        columns = [
            np.interp(column, curve.before, curve.after)
            for column, curve in zip(shares.T, self.curves.values(), strict=True)
        ]
        values = np.stack(columns, axis=1)
        weighted: Probabilities = values / values.sum(axis=1, keepdims=True)
        return weighted

    def check(self) -> None:
        """Raise ValueError for an invalid curve, too few or too many options, or too many points in total."""
        _check_count(self.curves)
        if sum(len(curve.before) for curve in self.curves.values()) > MOST_POINTS:
            raise ValueError(f"isotonic has more than {MOST_POINTS} points")
        for curve in self.curves.values():
            curve.check()


def _check_count(options: dict[str, float] | dict[str, Curve]) -> None:
    if not 2 <= len(options) <= MOST_OPTIONS:
        raise ValueError(f"there are figures for {len(options)} options, not for 2 to {MOST_OPTIONS}")
