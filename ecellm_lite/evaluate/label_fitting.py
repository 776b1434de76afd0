"""Finds the labels that need their own correction of probabilities, and fits these corrections.

All labels share a temperature and a bias. After this shared correction, a further temperature and bias are fitted for
each label. They are kept only if they improve the probabilities of held-out rows (see evaluate/fitting.py). For a
single correction, the likelihood must become at least 20 times as large. With many labels, some label may pass this
test by chance. So with n labels, the likelihood must become at least 20 n times as large.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from ecellm_lite.answers.calibration import Correction
from ecellm_lite.evaluate.cases import Case
from ecellm_lite.evaluate.fitting import LEAST_RATIO, fit
from ecellm_lite.models.calibrations import HIGHEST, LARGEST_BIAS, LOWEST


def own_corrections(
    labels: Sequence[str], cases: Sequence[Case], shared: Correction, *, seed: int = 0
) -> dict[str, Correction]:
    """Return a correction for each label that needs its own. For the other labels, `shared` is enough.

    A further correction of each label's probabilities is fitted after `shared`. If it clearly helps, the result has
    both combined into one correction.

    `cases`: the model's probabilities for the labelled rows. In each case there is one claim for each label, in the
    order of `labels`. A claim decides between `yes` (the first option) and `no`.
    """
    own = {}
    least = math.log(LEAST_RATIO * len(labels))
    for place, label in enumerate(labels):
        further = fit([_of_label(case, place, shared) for case in cases], biased=True, seed=seed)
        whole = shared.then(Correction(further.temperature, further.bias))
        sound = LOWEST <= whole.temperature <= HIGHEST and abs(whole.bias) <= LARGEST_BIAS
        if further.refusal is None and further.log_ratio >= least and sound:
            own[label] = whole
    return own


def _of_label(case: Case, place: int, shared: Correction) -> Case:
    claim = case.claims[place]
    yes = shared.odds(claim.shares[0])
    return Case((replace(claim, shares=(yes, 1.0 - yes)),), case.coverage)
