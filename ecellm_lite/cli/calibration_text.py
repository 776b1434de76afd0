"""The lines that `calibrate` prints about a task: what was fitted, how well it does, and what was stored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ecellm_lite.answers.option_corrections import VectorScaling
from ecellm_lite.errors import ModelError
from ecellm_lite.evaluate.calibrating import CalibrationResult
from ecellm_lite.evaluate.thresholds import least_rows
from ecellm_lite.models.automatic import Automatic
from ecellm_lite.models.calibrations import HIGHEST, Calibration, read_calibration


def calibration_lines(result: CalibrationResult, path: str | None) -> list[str]:
    """Return the lines about a task's calibration. `path`: the calibration's file, or None if it was not stored."""
    fit = result.fit
    counts = {"without an answer": result.failed, "with another instruction": result.others}
    left_out = "".join(f", {count:,} {reason} left out" for reason, count in counts.items() if count)
    if fit is None:
        return [f"{result.scope.task}: not kept: {result.refusal}{left_out}."]
    bias = f", bias {fit.bias:.3g}" if fit.bias else ""
    kind = f"temperature {fit.temperature:.3g}{bias}"
    if fit.by_option:
        kind = "vector scaling" if isinstance(fit.by_option, VectorScaling) else "isotonic regression"
    unfitting = ""
    if result.none and result.none.unfitting:
        unfitting = (
            f", those with a label; the other {result.none.unfitting:,} fit no label, and a temperature corrects the"
            " choice among labels only"
        )
    lines = [f"{result.scope.task}: {kind}, fitted to {fit.rows:,} rows{unfitting}{left_out}"]
    lines.append(f"  {'on held-out rows':24}{'before':>9}{'after':>9}")
    for name, label in (("log_likelihood", "log-likelihood per row"), ("ece", "ECE"), ("brier", "Brier")):
        lines.append(f"  {label:24}{getattr(fit.before, name):9.3f}{getattr(fit.after, name):9.3f}")
    lines.append(f"  {'least coverage':24}{fit.least_coverage:9.3g}")
    if fit.methods:
        lines.append("  log-likelihood per row by method, on rows of ten parts that were each held out")
        for name, figures in fit.methods.items():
            behind = f"{figures.behind:9.3f} \u00b1 {figures.error:.3f} behind" if figures.behind else "     best"
            lines.append(f"    {name:22}{figures.log_likelihood:9.3f}{behind}")
    if fit.temperature > 0.99 * HIGHEST:
        lines.append("  The probabilities mean little: at such a high temperature all answers are nearly equal.")
    if result.refusal:
        lines.append(f"  {kind.partition(',')[0]} not kept: {result.refusal}.")
    for label, own in (result.labels or {}).items():
        lines.append(f"  {label}: temperature {own.temperature:.3g}, bias {own.bias:.3g}, of its own")
    if none := result.none:
        lines.append(f"  none of these: a rule fitted to {none.rows:,} rows, {none.unfitting:,} of which fit no label")
        lines += [
            f"    {name:22}{getattr(none.before, name):9.3f}{getattr(none.after, name):9.3f}"
            for name in ("precision", "recall", "f1")
        ]
        if none.refusal:
            lines.append(f"    not kept: {none.refusal}.")
    if result.automatic:
        lines += _thresholds(result.automatic)
    if sets := result.sets:
        lines.append(f"  sets of plausible answers: those with a probability of {sets.least:.3g} or more, uncalibrated")
        lines.append(
            f"    on held-out rows {sets.reached:.1%} have the right answer, of {sets.size:.2f} answers on average"
        )
    if result.calibration:
        place = f"stored in {path}" if path else "would be stored"
        lines.append(f"  {place}: {', '.join(_parts(result.calibration))}.")
    return lines


def existing_lines(result: CalibrationResult, path: Path) -> Iterator[str]:
    """Yield a line that says whether an older, stored calibration is still used. If none is stored, yield nothing.

    `result`: the result of a new fit, which has no calibration to store. `path`: the file of the stored calibration.
    """
    try:
        existing = read_calibration(path)
    except ModelError as error:
        yield f"  {error}\n"
        return
    if existing is None:
        return
    if reason := existing.scope.differs(result.scope):
        yield f"  The calibration in {path} is not used: {reason}.\n"
    else:
        yield f"  The calibration in {path} stays in use: {', '.join(_parts(existing))}.\n"


def removed_lines(before: Calibration | None, after: Calibration) -> Iterator[str]:
    """Yield a line for each rule of the old calibration (`before`) that the new one (`after`) does not have.

    Only thresholds and the rule for sets of plausible answers are compared.
    """
    if before and before.automatic and not after.automatic:
        yield "  The thresholds stored before are removed: give --target-precision to fit new ones.\n"
    if before and before.sets and not after.sets:
        yield "  The rule for sets of plausible answers is removed: give --coverage-guarantee to fit a new one.\n"


def _parts(calibration: Calibration) -> list[str]:
    """Return what is in a calibration, in words such as `temperature 1.62` and `thresholds`."""
    parts = [] if calibration.corrects else ["no correction, so probabilities stay as they are"]
    if calibration.by_option:
        parts.append("vector scaling" if calibration.vector else "isotonic regression")
    elif calibration.temperature != 1.0 or calibration.bias:
        parts.append(f"temperature {calibration.temperature:.3g}")
    if calibration.labels:
        parts.append("corrections of single labels")
    if calibration.none:
        parts.append("the rule for none of these")
    if calibration.automatic:
        some = any(threshold is not None for threshold in calibration.automatic.thresholds.values())
        parts.append("thresholds" if some else "the rule that every answer goes to a person")
    if calibration.sets:
        parts.append("the rule for sets of plausible answers")
    return parts


def _thresholds(automatic: Automatic) -> list[str]:
    """Return the lines about thresholds: the threshold for each answer, and the result of a test of the thresholds."""
    answers, target = len(automatic.thresholds), automatic.precision
    needed = least_rows(target, answers)
    lines = [f"  thresholds above which {target:.0%} of the answers are right, chosen on all rows:"]
    for key, threshold in automatic.thresholds.items():
        name = f"answer {key!r}" if key else "every answer"
        if threshold is None:
            lines.append(
                f"    {name}: always to a person, for its rows do not prove {target:.0%} at any probability"
                f" (that takes {needed:,} right answers and none wrong, or more)"
            )
        else:
            lines.append(f"    {name}: automatic from probability {threshold:.3g}")
    reached = "" if automatic.reached is None else f", {automatic.reached:.1%} of them right"
    if not automatic.share and any(threshold is not None for threshold in automatic.thresholds.values()):
        lines.append("  not tested: half of the rows are too few to choose thresholds that the other half could test")
    else:
        share = f"{automatic.share:.1%} automatic{reached}"
        lines.append(f"  tested with thresholds from one half of the rows on the other half: {share}")
    return lines
