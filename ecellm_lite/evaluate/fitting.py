"""Fits a temperature to labelled rows, and keeps it only if it improves the probabilities of held-out rows.

The rows are split at random into two halves; the seed decides how. The temperature fitted to one half is tested on the
other half, so every row is held out once. The likelihood of a row is the probability that the model gives to the gold
answer. For a choice, this is the probability of the right option. The temperature must pass two tests:

- The mean logarithm of the likelihood rises by more than its standard error.
- The likelihood of a half (the product over its rows) becomes at least 20 times as large, on average over both halves.
  A model that needs no calibration passes this test by chance at most 5% of the time, even with few rows. The second
  test is the split likelihood ratio of Wasserman, Ramdas and Balakrishnan, "Universal inference" (PNAS 2020).

If both tests are passed, the temperature is fitted again, on all rows. With many rows, other methods are compared with
the temperature (see evaluate/method_fitting.py). For an extraction or several labels, a temperature and a bias are
fitted and tested together in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.answers.calibration import log_shares
from ecellm_lite.answers.option_corrections import IsotonicRegression, VectorScaling
from ecellm_lite.errors import InputError, UsageError
from ecellm_lite.evaluate.cases import Case
from ecellm_lite.evaluate.reliability import reliability
from ecellm_lite.models.calibrations import HIGHEST, LARGEST_BIAS, LOWEST, Measures, MethodFigures

LEAST_ROWS = 10
LEAST_RATIO = 20.0  # of the held-out rows' likelihood with the temperature to that without it
STRANGE = 0.01  # the share of rows with less than the calibration's least coverage

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted temperature or other correction, and its effect on held-out rows.

    The effect is measured on each half of the rows, with a correction that was fitted to the other half. A row's
    likelihood is the probability of its gold answer. A half's likelihood is the product of its rows' likelihoods.

    `gain`: by how much the mean logarithm of a row's likelihood rises, in nats.
    `error`: the standard error of this gain.
    `log_ratio`: the logarithm of the factor by which a half's likelihood rises. This factor is the arithmetic mean of
      the two halves' factors.
    `least_ratio`: the smallest such factor with which the correction is kept. A smaller factor may be chance.
    `by_option`: a correction with its own numbers for each option, or None. If there is one, it replaces the
      temperature, which is then 1.
    `methods`: the methods that were compared, by name, if there were enough rows.
    """

    temperature: float
    bias: float
    rows: int
    gain: float
    error: float
    log_ratio: float
    before: Measures
    after: Measures
    least_coverage: float
    least_ratio: float = LEAST_RATIO
    by_option: VectorScaling | IsotonicRegression | None = None
    methods: dict[str, MethodFigures] | None = None

    @property
    def refusal(self) -> str | None:
        """Why the fitted correction should not be kept, or None if it should be kept."""
        if self.gain <= 0:
            return "it does not make the right answers of held-out rows likelier"
        if self.gain <= self.error:
            return (
                f"on held-out rows it gains {self.gain:.3f} nats per row, "
                f"no more than the standard error of {self.error:.3f}"
            )
        if self.log_ratio < math.log(self.least_ratio):
            return (
                f"the right answers of held-out rows become {math.exp(self.log_ratio):.1f} times as likely, "
                f"and less than {self.least_ratio:g} times may be chance"
            )
        return None


def check_installed() -> None:
    """Raise UsageError if scipy or scikit-learn is not installed. Fitting needs both."""
    try:
        import scipy.optimize  # noqa: F401 - only whether it can be imported
    except ImportError:
        missing = True
    else:
        missing = find_spec("sklearn") is None  # its import takes a second, and only many rows need it
    if missing:
        step = "run `pip install 'ecellm-lite[eval]'`"
        raise UsageError("Fitting a calibration needs scipy and scikit-learn", step=step)


def random_parts(rows: int, parts: int, seed: int) -> Indices:
    """Divide rows at random into equally large parts. Return the index of the part for each row."""
    numbers = np.arange(rows) % parts
    np.random.default_rng(seed).shuffle(numbers)
    return numbers


def fit(cases: Sequence[Case], *, biased: bool = False, seed: int = 0) -> Fit:
    """Fit a temperature to cases (answers compared with gold answers). With `biased`, also fit a bias.

    A bias helps where each decision is between one value and everything else, as in extractions. Raises InputError for
    fewer than 10 cases, and UsageError if scipy or scikit-learn is not installed.
    """
    if len(cases) < LEAST_ROWS:
        message = f"A temperature needs at least {LEAST_ROWS} rows, and there are {len(cases)}"
        raise InputError(message, step="label more")
    check_installed()
    claims = _Claims.of(cases)
    halves = random_parts(len(cases), 2, seed)
    unchanged = np.tile([1.0, 0.0], (len(cases), 1))
    before = claims.log_likelihoods(unchanged)
    # For each row, the settings fitted to the other half.
    settings = np.stack([claims.among(halves != half).fitted(biased) for half in (0, 1)])[halves]
    after = claims.log_likelihoods(settings)
    gains = after - before
    ratios = [float(gains[halves == half].sum()) for half in (0, 1)]
    temperature, bias = claims.fitted(biased).tolist()
    return Fit(
        temperature=temperature,
        bias=bias,
        rows=len(cases),
        gain=float(gains.mean()),
        error=float(gains.std(ddof=1)) / math.sqrt(len(cases)),
        log_ratio=float(np.logaddexp(ratios[0], ratios[1])) - math.log(2),
        before=claims.measures(before, unchanged),
        after=claims.measures(after, settings),
        least_coverage=float(np.quantile([case.coverage for case in cases], STRANGE)),
    )


@dataclass(frozen=True, slots=True)
class _Claims:
    """All claims (decisions) in the answers to some rows. Each array has one line per claim.

    `logs` (claims, options): the logarithms of the options' probabilities. A calibration's bias applies to the first
      option. If a claim has fewer options than others, its line ends with -inf.
    `alike` (claims, options): the logarithm of the number of answers that an option stands for. It is 0 for one answer.
      Only a claim's last option may stand for several.
    `right` (claims,): the index of the claim's right option.
    `rows` (claims,): the index of the claim's row.
    """

    logs: Floats
    alike: Floats
    right: Indices
    rows: Indices
    count: int  # of rows

    @classmethod
    def of(cls, cases: Sequence[Case]) -> _Claims:
        claims = [(row, claim) for row, case in enumerate(cases) for claim in case.claims]
        width = max((len(claim.shares) for _, claim in claims), default=1)
        logs = np.full((len(claims), width), -np.inf)
        alike = np.zeros_like(logs)
        for place, (_, claim) in enumerate(claims):
            last = len(claim.shares) - 1
            logs[place, : last + 1] = log_shares(claim.shares)
            alike[place, last] = math.log(claim.alike)
        right = np.array([claim.right for _, claim in claims], dtype=np.intp)
        return cls(logs, alike, right, np.array([row for row, _ in claims], dtype=np.intp), len(cases))

    def among(self, rows: NDArray[np.bool_]) -> _Claims:
        """Return the claims of the rows for which the mask `rows` is true."""
        chosen = rows[self.rows]
        return _Claims(self.logs[chosen], self.alike[chosen], self.right[chosen], self.rows[chosen], self.count)

    def fitted(self, biased: bool) -> Floats:
        """Return the temperature and the bias with the greatest likelihood, as an array of two numbers.

        With these numbers, the sum over all claims of the log-probability of the right option is greatest.

        If `biased` is False, the bias is 0.
        """
        from scipy.optimize import minimize, minimize_scalar

        def loss(temperature: float, bias: float) -> float:
            return -float(self.log_likelihoods(np.tile([temperature, bias], (self.count, 1))).sum())

        # There is one minimum: the log-likelihood is concave in 1/T and the bias.
        if not biased:
            bounds = (math.log(LOWEST), math.log(HIGHEST))
            minimum = minimize_scalar(lambda log: loss(math.exp(log), 0.0), bounds=bounds, method="bounded")
            return np.array([math.exp(float(minimum.x)), 0.0])
        limits = [(1 / HIGHEST, 1 / LOWEST), (-LARGEST_BIAS, LARGEST_BIAS)]
        minimum = minimize(lambda at: loss(1 / float(at[0]), float(at[1])), (1.0, 0.0), bounds=limits)
        return np.array([1 / float(minimum.x[0]), float(minimum.x[1])])

    def log_likelihoods(self, settings: Floats) -> Floats:
        """Return the logarithm of each row's likelihood. `settings` (rows, 2): each row's temperature and bias."""
        logs = self._tempered(settings)
        likelihoods = np.zeros(self.count)
        np.add.at(likelihoods, self.rows, logs[np.arange(len(self.right)), self.right])
        return likelihoods

    def measures(self, log_likelihoods: Floats, settings: Floats) -> Measures:
        """Return the mean of `log_likelihoods`, and the ECE and Brier score of the model's choices.

        `settings`: one temperature and bias per row. They are applied before the ECE and Brier score are computed.

        Each claim's first option counts as the model's choice. This is usually correct. But in a yes-or-no claim about
        one label, the first option is always `yes`, even if the model chose `no`.
        """
        firsts = np.exp(self._tempered(settings)[:, 0])
        reliable = reliability(firsts.tolist(), (self.right == 0).tolist())
        assert reliable is not None  # every answer has at least one claim
        return Measures(float(log_likelihoods.mean()), reliable.ece, reliable.brier)

    def _tempered(self, settings: Floats) -> Floats:
        """Return the options' log probabilities (`logs`), corrected by each row's temperature and bias.

        `settings` has the shape (rows, 2): a temperature and a bias for each row.
        """
        # If n answers together have the share s, each has s/n: the temperature applies to s/n, and n multiplies again.
        logs = (self.logs - self.alike) / settings[self.rows, :1] + self.alike
        logs[:, 0] += settings[self.rows, 1]
        peaks = logs.max(axis=1, keepdims=True)
        whole: Floats = logs - peaks - np.log(np.exp(logs - peaks).sum(axis=1, keepdims=True))
        return whole
