"""Stores calibrations. A calibration corrects the probabilities of one model for one task.

`ecellm-lite calibrate` makes a calibration, and stores it as a JSON file beside the model. A calibration is used only
with the model, adapter, envelope, instruction and options that it was fitted with. The files are read as untrusted
input. `calibration_files` says where they are.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from ecellm_lite.answers.answer import UNCORRECTED
from ecellm_lite.answers.calibration import Correction
from ecellm_lite.answers.decoding import Outcome
from ecellm_lite.answers.none_of_these import NoneRule, OrNone
from ecellm_lite.answers.option_corrections import IsotonicRegression, OptionCorrection, VectorScaling
from ecellm_lite.answers.space import Space
from ecellm_lite.documents import read_document
from ecellm_lite.errors import ModelError
from ecellm_lite.models.answer_sets import AnswerSets
from ecellm_lite.models.automatic import Automatic
from ecellm_lite.models.calibration_scope import Scope, text_hash
from ecellm_lite.models.files import write_json

# Calibrations of rankings in format 1 are refused: they were fitted to the first place only. Other types are valid.
FORMAT = 2
LARGEST = 1 << 18  # bytes; a calibration is about a page, and may have a line for each of 255 labels

# Outside these bounds all answers become equally likely, or one becomes certain: a temperature does not help.
LOWEST, HIGHEST = 0.05, 20.0
LARGEST_BIAS = 10.0
MOST_ROWS = 10**12

_LATER = ("automatic", "sets", "labels", "vector", "isotonic", "methods", "none")  # keys that older calibrations lack

MOST_CACHED = 4096  # calibrations, and tasks known to have none

TASK_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

# "auto": the stored calibration if it fits; False: none; a path: that file, or an error.
CalibrationChoice = str | Path | Literal[False]


@dataclass(frozen=True, slots=True)
class Measures:
    """How well the predicted probabilities fit rows that were not used for the calibration.

    `log_likelihood`: the mean logarithm of the right answer's probability. Nearer to 0 is better.
    `ece`, `brier`: the expected calibration error and the Brier score (see evaluate/reliability.py). Lower is better.
    """

    log_likelihood: float
    ece: float
    brier: float


@dataclass(frozen=True, slots=True)
class MethodFigures:
    """How well one calibration method did on rows that it was not fitted to.

    `log_likelihood`: the mean logarithm of the right answer's probability. Nearer to 0 is better.
    `behind`: the best method's `log_likelihood` minus this method's. It is 0 for the best method.
    `error`: the standard error of `behind`.
    """

    log_likelihood: float
    behind: float
    error: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """A correction of a model's probabilities, with its scope and a record of how it was fitted.

    `temperature`: above 1, it makes the model less sure; below 1, surer (the formula is in answers/calibration.py).
    `bias`: above 0, it makes an extracted entry or a label likelier. Only extractions and sets of labels use it.
    `rows`: the number of rows that the correction was fitted to.
    `vector`, `isotonic`: a correction that treats each option separately. It replaces the temperature, which is then 1.
      At most one of these two fields is set.
    `methods`: the methods that were compared, by name, if there were enough rows.
    `before`, `after`: how well the probabilities fit the right answers, before and after correction. A correction was
      fitted to each half of the rows and measured on the other half.
    `held_out`: the number of rows in this measurement.
    `least_coverage`: the coverage that 99% of the rows reached. Coverage is the share of the model's probability that
      falls on allowed tokens.
    `data`, `data_sha256`: the file with the rows, and its sha256.
    `versions`: the versions of the software that fitted the correction.
    `automatic`: the thresholds above which answers need no review, if the user asked for thresholds.
    `sets`: the rule for sets of plausible answers, if the user asked for a guarantee.
    `labels`: the corrections for single labels. A label that is missing here is corrected by `temperature` and `bias`.
    `none`: the rule for the answer "none of these". None if the task lacks this answer, or if the rule does not improve
      the probabilities of held-out rows.
    """

    scope: Scope
    temperature: float
    bias: float
    least_coverage: float
    rows: int
    held_out: int
    before: Measures
    after: Measures
    data: str
    data_sha256: str
    versions: dict[str, str]
    format: int
    automatic: Automatic | None = None
    sets: AnswerSets | None = None
    labels: dict[str, Correction] | None = None
    vector: VectorScaling | None = None
    isotonic: IsotonicRegression | None = None
    methods: dict[str, MethodFigures] | None = None
    none: NoneRule | None = None

    @property
    def by_option(self) -> OptionCorrection | None:
        """The correction that treats each option separately, or None."""
        return self.vector or self.isotonic

    @property
    def corrects(self) -> bool:
        """Whether probabilities are corrected. If not, there are only thresholds or a rule for plausible answers."""
        return bool(self.temperature != 1.0 or self.bias or self.by_option or self.labels or self.none)

    def applied(self, space: Space, outcome: Outcome) -> Outcome:
        """Return `outcome` (a decoded answer) with corrected probabilities. Another answer may become the likeliest.

        The calibration must have been fitted to the options of `space`.
        """
        if self.by_option:
            return space.corrected_by_option(outcome, self.by_option)
        outcome = space.corrected(outcome, Correction(self.temperature, self.bias), self.labels or {})
        return space.ruled(outcome, self.none) if self.none and isinstance(space, OrNone) else outcome

    def differs(self, scope: Scope, keys: Sequence[str], subject: str = "the task") -> str | None:
        """Return the reason why the calibration does not apply to a question, or None if it applies.

        `scope`: the question's task, answer type, model, adapter, envelope, instruction and options.
        `keys`: the keys of the question's options.
        `subject`: "the task" or "the row". The returned reason uses these words for the question.
        """
        reason = self.scope.differs(scope, subject)
        if reason is None and self.by_option and set(self.by_option.keys) != set(keys):
            return f"{subject} has other options than it was fitted with"
        return reason

    @property
    def name(self) -> str:
        """The calibration's name as answers show it, such as `sentiment_analysis T=1.62 (319 rows, 3f2a9c1b)`.

        The last part is a hash of the calibration.
        """
        facts = asdict(self)
        for part, name in (*((facts, name) for name in _LATER), (facts["scope"], "adapter")):
            if part[name] is None:  # as in the names that were given before there were any
                del part[name]
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        bias = f" b={self.bias:.3g}" if self.bias else ""
        method = "vector" if self.vector else "isotonic" if self.isotonic else f"T={self.temperature:.3g}{bias}"
        method = method if self.corrects else UNCORRECTED
        return f"{self.scope.task} {method} ({self.rows} rows, {digest[:8]})"

    def write(self, path: Path) -> None:
        """Write the calibration atomically. Raises ModelError if the file cannot be written."""
        write_json(path, asdict(self))


class Calibrations:
    """The stored calibrations of one model with one envelope and one adapter.

    A task's calibration is read when it is first needed. If `named` is given, the calibration in that file is used for
    every task, and the folder is not read. Raises ModelError if the named file is missing, damaged, or made for another
    model, envelope or adapter.
    """

    def __init__(
        self,
        model: str,
        envelope: str,
        folder: Path | None = None,
        *,
        named: Path | None = None,
        adapter: str | None = None,
    ) -> None:
        self._model = model
        self._envelope = envelope
        self._adapter = adapter
        self._folder = folder
        self._by_task: dict[str, Calibration | None] = {}
        self._unusable: dict[str, str] = {}
        self.named: Calibration | None = None
        if named is not None:
            self.named = read_calibration(named)
            if self.named is None:
                raise ModelError(f"There is no calibration {named}", step="make one with `ecellm-lite calibrate`")
            if reason := self.named.scope.differs_in_model(model, envelope, adapter):
                raise ModelError(f"The calibration {named} cannot be used: {reason}", step="calibrate this one")

    def scope(self, task: str, kind: str, instruction: str, options: str | None) -> Scope:
        """Return the scope of a question: this method's arguments, the model, the envelope and the adapter.

        A calibration is used for the question only if it was fitted for the same scope.

        `kind`: the type of the answer, such as `choice`.
        `instruction`: the instruction, with a hash of the worked examples (`Question.wording`).
        `options`: a text that identifies the options or labels (`Question.answers`). None if there are none, or if each
          row has its own.
        """
        hashed = None if options is None else text_hash(options)
        return Scope(task, kind, self._model, self._envelope, text_hash(instruction), hashed, self._adapter)

    def find(self, scope: Scope, keys: Sequence[str] = ()) -> Calibration | None:
        """Return the calibration that applies to a question with this scope, or None.

        `keys`: the keys of the question's options.
        """
        calibration = self._of(scope.task)
        return calibration if calibration and calibration.differs(scope, keys) is None else None

    def get(self, task: str) -> Calibration | None:
        """Return a task's calibration, or None. It does not necessarily apply to every question of the task."""
        return self._of(task)

    def has(self, task: str) -> bool:
        """Return whether a task has a calibration. A damaged calibration counts too."""
        return self._of(task) is not None or task in self._unusable

    def refusal(self, scope: Scope, keys: Sequence[str] = (), *, of_row: bool = False) -> str | None:
        """Return the reason why the task's calibration is not used for a question with this scope.

        Return None if the calibration is used, or if the task has none. The scope has the question's task, answer type,
        model, envelope, instruction and options.

        `keys`: the keys of the options.
        `of_row`: if True, the reason speaks of "the row" and has no advice. If False, it speaks of "the task" and ends
          with advice. `of_row` has no effect if the calibration's file is damaged or outdated.
        """
        calibration = self._of(scope.task)
        if unusable := self._unusable.get(scope.task):
            return unusable
        if (
            calibration is None
            or (reason := calibration.differs(scope, keys, "the row" if of_row else "the task")) is None
        ):
            return None
        advice = "" if of_row else "; calibrate again, or remove it"
        return f"The calibration of {calibration.scope.task} is not used: {reason}{advice}."

    def _of(self, task: str) -> Calibration | None:
        if self.named:
            return self.named
        if task not in self._by_task:
            if len(self._by_task) >= MOST_CACHED:  # any number of questions may be asked
                self._by_task.clear()
            self._by_task[task] = self._read(task)
        return self._by_task[task]

    def _read(self, task: str) -> Calibration | None:
        if self._folder is None or not TASK_NAME.fullmatch(task):
            return None
        try:
            return read_calibration(self._folder / f"{task}.json")
        except ModelError as error:
            self._unusable[task] = str(error)
            return None


def read_calibration(path: Path) -> Calibration | None:
    """Return the calibration in a file, or None if there is no file.

    Raises ModelError for a damaged or outdated file, and for a folder.
    """
    try:
        calibration = read_document(Calibration, path, largest=LARGEST, formats=(1, FORMAT))
        _check(calibration)
    except FileNotFoundError:
        return None
    except IsADirectoryError:
        raise ModelError(f"The calibration {path} is a folder", step="give the path of a calibration's file") from None
    except (OSError, ValueError) as error:
        raise ModelError(
            f"The calibration {path} is damaged ({error}) and is not used",
            step="run `ecellm-lite calibrate` again, or remove it",
        ) from None
    if calibration.format < FORMAT and calibration.scope.type == "ranking":
        raise ModelError(
            f"The calibration {path} is not used: it was fitted to the first place of rankings, not their whole order",
            step="run `ecellm-lite calibrate` again, or remove it",
        )
    return calibration


def _check(calibration: Calibration) -> None:
    scope = calibration.scope
    for key, value, pattern in (
        ("task", scope.task, TASK_NAME),
        ("model", scope.model, _SHA256),
        ("instruction", scope.instruction, _SHA256),
        ("options", scope.options, _SHA256),
        ("adapter", scope.adapter, _SHA256),
        ("data_sha256", calibration.data_sha256, _SHA256),
    ):
        if value is not None and not pattern.fullmatch(value):
            raise ValueError(f"{key} is {value[:80]!r}")
    if calibration.labels and scope.type != "labels":
        raise ValueError(f"answers of type {scope.type} have no labels with corrections of their own")
    if calibration.none:
        calibration.none.check()
    shared = Correction(calibration.temperature, calibration.bias)
    for correction in (shared, *(calibration.labels or {}).values()):
        if not LOWEST <= correction.temperature <= HIGHEST:
            raise ValueError(f"temperature is {correction.temperature!r}, not from {LOWEST} to {HIGHEST:g}")
        if abs(correction.bias) > (LARGEST_BIAS if scope.type in ("extraction", "labels") else 0):
            raise ValueError(f"bias is {correction.bias!r}")
    if calibration.vector and calibration.isotonic:
        raise ValueError("it has both vector and isotonic")
    if calibration.by_option:
        calibration.by_option.check()
        if scope.type not in ("predicate", "choice", "score"):
            raise ValueError(f"answers of type {scope.type} have no correction by option")
        if shared != Correction():
            raise ValueError("it has a temperature beside a correction by option")
    if not 0 <= calibration.least_coverage <= 1:
        raise ValueError(f"least_coverage is {calibration.least_coverage!r}")
    if calibration.automatic:
        calibration.automatic.check()
    if calibration.sets:
        calibration.sets.check()
    if not all(1 <= rows <= MOST_ROWS for rows in (calibration.rows, calibration.held_out)):
        raise ValueError(f"rows is {calibration.rows!r} and held_out is {calibration.held_out!r}")
