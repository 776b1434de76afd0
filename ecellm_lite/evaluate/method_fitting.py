"""Compares ways to calibrate a choice, and keeps the simplest that is about as good as the best.

With few rows, only a temperature is fitted. With 200 rows and more, it is compared with vector scaling and isotonic
regression (see answers/option_corrections.py), which have more numbers to fit. The rows are split at random into ten
parts. A method is fitted to nine parts and corrects the probabilities of the tenth, for each part in turn. The best
method has the highest mean log-likelihood. A simpler method is kept if its mean is lower by at most the standard error
of the difference. This is the one-standard-error rule of Breiman et al., "Classification and Regression Trees" (1984),
applied to paired differences.

A method must also pass the two tests in evaluate/fitting.py, but the likelihood of held-out rows must become 60 times
as large instead of 20 times. The reason is that each of three methods could pass by chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.answers.calibration import log_shares
from ecellm_lite.answers.option_corrections import (
    LARGEST_BIAS,
    LARGEST_SCALE,
    LEAST_SCALE,
    MOST_OPTIONS,
    Curve,
    IsotonicRegression,
    VectorScaling,
)
from ecellm_lite.evaluate.fitting import LEAST_RATIO, Fit, random_parts
from ecellm_lite.evaluate.reliability import reliability
from ecellm_lite.models.calibrations import HIGHEST, LOWEST, Measures, MethodFigures

LEAST_ROWS = 200
PARTS = 10

Floats = NDArray[np.float64]
Parts = NDArray[np.intp]
Method = VectorScaling | IsotonicRegression


@dataclass(frozen=True, slots=True)
class OptionRows:
    """The probabilities of rows that have the same options.

    `keys`: the keys of the options.
    `shares` (rows, options): the options' probabilities, in the order of `keys`.
    `right` (rows,): the index of each row's right option.
    """

    keys: tuple[str, ...]
    shares: Floats
    right: NDArray[np.intp]

    @classmethod
    def of(cls, keys: Sequence[str], rows: Sequence[tuple[Mapping[str, float], int]]) -> OptionRows:
        """Return the OptionRows for the options `keys`.

        Each of `rows` is a pair: a dict of probabilities by key, and the index of the right key.
        """
        shares = np.array([[probabilities[key] for key in keys] for probabilities, _ in rows])
        return cls(tuple(keys), shares, np.array([right for _, right in rows], dtype=np.intp))

    def among(self, rows: NDArray[np.bool_]) -> OptionRows:
        """Return the rows for which the mask `rows` is true."""
        return OptionRows(self.keys, self.shares[rows], self.right[rows])

    def log_likelihoods(self, shares: Floats) -> Floats:
        """Return, for each row, the logarithm of the right option's probability.

        `shares` (rows, options): the options' probabilities, which may be corrected ones.
        """
        logs: Floats = log_shares(shares[np.arange(len(self.right)), self.right])
        return logs


def choose_method(temperature: Fit, rows: OptionRows, *, seed: int = 0) -> Fit:
    """Return the fit of the simplest calibration method that is about as good as the best one.

    `temperature`: the fit of the simplest method, a temperature, to the same rows. It is returned without a comparison
    if there are fewer than 200 rows or more than 256 options.
    """
    if len(rows.right) < LEAST_ROWS or not 2 <= len(rows.keys) <= MOST_OPTIONS:
        return temperature
    fits = {name: _tested(fit, rows, temperature, seed) for name, fit in METHODS.items() if name != TEMPERATURE}
    fits = {TEMPERATURE: replace(temperature, least_ratio=LEAST_RATIO * len(METHODS)), **fits}
    tenths = random_parts(len(rows.right), PARTS, seed)
    logs = {name: rows.log_likelihoods(_held_out(rows, tenths, fit)) for name, fit in METHODS.items()}
    eligible = [name for name, fit in fits.items() if fit.refusal is None and _is_storable(fit)] or [TEMPERATURE]
    chosen = next(name for name in eligible if _behind(logs, name, eligible).is_close)
    figures = {name: _behind(logs, name, list(logs)) for name in logs}
    methods = {name: MethodFigures(float(logs[name].mean()), one.mean, one.error) for name, one in figures.items()}
    return replace(fits[chosen], methods=methods)


@dataclass(frozen=True, slots=True)
class _Difference:
    """How far a method's mean log-likelihood is below the best method's, and the standard error of this difference."""

    mean: float
    error: float

    @property
    def is_close(self) -> bool:
        return self.mean <= self.error


def _behind(logs: Mapping[str, Floats], name: str, among: Sequence[str]) -> _Difference:
    best = max(among, key=lambda one: float(logs[one].mean()))
    differences = logs[best] - logs[name]
    return _Difference(float(differences.mean()), float(differences.std(ddof=1)) / math.sqrt(len(differences)))


def _tested(fit: Callable[[OptionRows], Method], rows: OptionRows, temperature: Fit, seed: int) -> Fit:
    """Fit a calibration method to all rows, and measure on held-out rows how much it improves the probabilities.

    For the measurement, the method is fitted to each half of the rows and tested on the other half.

    `temperature`: the fit of a temperature to the same rows. The figures that do not depend on the method are copied
      from this fit.
    """
    halves = random_parts(len(rows.right), 2, seed)
    shares = _held_out(rows, halves, fit)
    after = rows.log_likelihoods(shares)
    gains = after - rows.log_likelihoods(rows.shares)
    ratios = [float(gains[halves == half].sum()) for half in (0, 1)]
    likeliest = shares.argmax(axis=1)
    reliable = reliability(shares.max(axis=1).tolist(), (likeliest == rows.right).tolist())
    assert reliable is not None  # there are rows
    return replace(
        temperature,
        temperature=1.0,
        gain=float(gains.mean()),
        error=float(gains.std(ddof=1)) / math.sqrt(len(gains)),
        log_ratio=float(np.logaddexp(ratios[0], ratios[1])) - math.log(2),
        after=Measures(float(after.mean()), reliable.ece, reliable.brier),
        least_ratio=LEAST_RATIO * len(METHODS),
        by_option=fit(rows),
    )


def _held_out(rows: OptionRows, parts: Parts, fit: Callable[[OptionRows], Method]) -> Floats:
    """Return the corrected probabilities of all rows.

    Each part is corrected by a method that was fitted to the other parts.
    """
    shares = np.empty_like(rows.shares)
    for part in range(parts.max() + 1):
        own = parts == part
        shares[own] = fit(rows.among(~own)).corrected(rows.shares[own])
    return shares


def _is_storable(fit: Fit) -> bool:
    try:
        if fit.by_option:
            fit.by_option.check()
    except ValueError:  # more points than a calibration's file may have
        return False
    return True


def _temperature(rows: OptionRows) -> VectorScaling:
    """Return the best temperature, in the form of a VectorScaling with equal scales and no biases."""
    from scipy.optimize import minimize_scalar

    def scaling(log: float) -> VectorScaling:
        return VectorScaling(dict.fromkeys(rows.keys, math.exp(-log)), dict.fromkeys(rows.keys, 0.0))

    def loss(log: float) -> float:
        return -float(rows.log_likelihoods(scaling(log).corrected(rows.shares)).sum())

    minimum = minimize_scalar(loss, bounds=(math.log(LOWEST), math.log(HIGHEST)), method="bounded")
    return scaling(float(minimum.x))


def _vector_scaling(rows: OptionRows) -> VectorScaling:
    """Return the scales and biases that make the right options likeliest.

    A normal prior of variance 1 keeps the biases near 0 and the scales near their mean. So a rare option does not get
    extreme values.
    """
    from scipy.optimize import minimize

    logs = log_shares(rows.shares)
    count, options = logs.shape
    hits = np.zeros_like(logs)
    hits[np.arange(count), rows.right] = 1.0

    def loss(at: Floats) -> tuple[float, Floats]:
        """Return the value to minimize, and its gradient.

        The value is the negative log-likelihood plus a penalty (the prior).
        """
        scales, biases = at[:options], at[options:]
        logits = logs * scales + biases
        logits -= logits.max(axis=1, keepdims=True)
        powers = np.exp(logits)
        totals = powers.sum(axis=1, keepdims=True)
        excess = powers / totals - hits
        apart = scales - scales.mean()
        value = float((np.log(totals) - (logits * hits).sum(axis=1, keepdims=True)).sum())
        prior = float((apart**2).sum() + (biases**2).sum()) / 2
        slopes = (excess * logs).sum(axis=0) + apart
        return value + prior, np.concatenate([slopes, excess.sum(axis=0) + biases])

    start = np.repeat([1.0, 0.0], options)
    bounds = [(LEAST_SCALE, LARGEST_SCALE)] * options + [(-LARGEST_BIAS, LARGEST_BIAS)] * options
    at = minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B").x.tolist()
    return VectorScaling(
        dict(zip(rows.keys, at[:options], strict=True)), dict(zip(rows.keys, at[options:], strict=True))
    )


def _isotonic_regression(rows: OptionRows) -> IsotonicRegression:
    """Return a curve for each option, which corrects the option's probability.

    For n rows, the curve stays between 1 / (n + 2) and 1 - 1 / (n + 2), because n rows cannot show that an event is
    rarer than 1 / (n + 2).
    """
    from sklearn.isotonic import IsotonicRegression as Regression

    least = 1 / (len(rows.right) + 2)
    curves = {}
    for place, key in enumerate(rows.keys):
        regression = Regression(y_min=least, y_max=1 - least, out_of_bounds="clip")
        regression.fit(rows.shares[:, place], rows.right == place)
        curves[key] = Curve(tuple(regression.X_thresholds_.tolist()), tuple(regression.y_thresholds_.tolist()))
    return IsotonicRegression(curves)


TEMPERATURE, VECTOR, ISOTONIC = "temperature", "vector scaling", "isotonic regression"

# The simplest first.
METHODS: Mapping[str, Callable[[OptionRows], Method]] = {
    TEMPERATURE: _temperature,
    VECTOR: _vector_scaling,
    ISOTONIC: _isotonic_regression,
}
