"""What `ecellm-lite calibrate` found for a model and a task: a JSON file beside the model.

A calibration holds for the model, the envelope, the instruction and the options that it was fitted with, and is refused
for any other. Those of a model in the store lie in the folder `calibration` of the model's own, those of another GGUF
file in the store under its sha256. Files are read as hostile input.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from ecellm_lite.documents import read_document
from ecellm_lite.errors import ModelError, UsageError
from ecellm_lite.models.automatic import Automatic
from ecellm_lite.models.files import replacing
from ecellm_lite.models.store import Store, StoredModel

# A ranking of format 1 was fitted to the first place alone, and is refused; all else of it holds as before.
FORMAT = 2
LARGEST = 1 << 16  # bytes: a calibration is a page, and a larger file is not one

# Beyond these a model says nothing, or everything, and a temperature would not mend it.
LOWEST, HIGHEST = 0.05, 20.0
LARGEST_BIAS = 10.0
MOST_ROWS = 10**12

_TASK = re.compile(r"[a-z][a-z0-9_]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

# "auto" takes what is stored, where it holds; False takes none; a path takes that file, or raises.
Chosen = str | Path | Literal[False]


@dataclass(frozen=True, slots=True)
class Scope:
    """What a calibration is for: a task and its type of answer, a model's sha256, an envelope, and hashes of texts.

    `options` is None where every row has options of its own, or there are none.
    """

    task: str
    type: str
    model: str
    envelope: str
    instruction: str
    options: str | None

    def differs(self, other: Scope, subject: str = "the task") -> str | None:
        """Return in words what another scope has that this one was not fitted with, None where this one holds.

        `asked` is what the other scope is of, in words.
        """
        if reason := self.differs_in_model(other.model, other.envelope):
            return reason
        if self.task != other.task:
            return f"it is for the task {self.task}, and this is {other.task}"
        if self.instruction != other.instruction:
            return f"{subject} has another instruction than it was fitted with"
        if self.options is not None and self.options != other.options:
            return f"{subject} has other options than it was fitted with"
        if self.type != other.type:
            return f"it is for answers of the type {self.type}, and these are {other.type}"
        return None

    def differs_in_model(self, model: str, envelope: str) -> str | None:
        """Return in words that a model (its sha256) or an envelope is not what this was fitted with, or None."""
        if self.model != model:
            return f"it is for the model {self.model[:8]}, and this one is {model[:8] or 'unknown'}"
        if self.envelope != envelope:
            return f"it is for the envelope {self.envelope}, and this one is {envelope}"
        return None


def text_hash(text: str) -> str:
    """Return the sha256 of an instruction or of options."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class Measures:
    """Of rows that a temperature was not fitted on: log-likelihood a row (nats), expected calibration error, Brier."""

    log_likelihood: float
    ece: float
    brier: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """A temperature (for an extraction with a bias), what it is for, and what it was found with.

    It was fitted on all `rows`; `before` and `after` are of the rows held out, each half by the temperature of the
    other. A row whose coverage is below `least_coverage` looks unlike 99 in 100 of the rows. `data` and `data_sha256`
    name the rows' file. `automatic` says which answers need no person's look, where that was asked for.
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

    @property
    def name(self) -> str:
        """What an answer calls it: `sentiment_analysis T=1.62 (319 rows, 3f2a9c1b)`, at the end its own hash."""
        facts = {name: value for name, value in asdict(self).items() if value is not None or name != "automatic"}
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        bias = f" b={self.bias:.3g}" if self.bias else ""
        return f"{self.scope.task} T={self.temperature:.3g}{bias} ({self.rows} rows, {digest[:8]})"

    def write(self, path: Path) -> None:
        """Write the calibration; it is there whole or not at all. Raises ModelError if it cannot be written."""
        try:
            with replacing(path) as temporary:
                temporary.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise ModelError(f"{path} cannot be written ({error.strerror}): make room or check its rights.") from None


class Calibrations:
    """The calibrations of one model in one envelope: those in a folder, each read when its task is first asked.

    With `named` it is that file alone. Raises ModelError if it is not there, unusable, or of another model or envelope.
    """

    def __init__(self, model: str, envelope: str, folder: Path | None = None, *, named: Path | None = None) -> None:
        self._model = model
        self._envelope = envelope
        self._folder = folder
        self._by_task: dict[str, Calibration | None] = {}
        self._unusable: dict[str, str] = {}
        self.named: Calibration | None = None
        if named is not None:
            self.named = read_calibration(named)
            if self.named is None:
                raise ModelError(f"There is no calibration {named}: `ecellm-lite calibrate` makes one.")
            if reason := self.named.scope.differs_in_model(model, envelope):
                raise ModelError(f"The calibration {named} cannot be used: {reason}; calibrate this one.")

    def scope(self, task: str, kind: str, instruction: str, options: str | None) -> Scope:
        """Return the scope of a question to this model."""
        hashed = None if options is None else text_hash(options)
        return Scope(task, kind, self._model, self._envelope, text_hash(instruction), hashed)

    def find(self, scope: Scope) -> Calibration | None:
        """Return the calibration that holds for a scope, or None."""
        calibration = self._of(scope.task)
        return calibration if calibration and calibration.scope.differs(scope) is None else None

    def kept(self, task: str) -> Calibration | None:
        """Return the calibration that is kept for a task, be it one that does not hold for what is asked; or None."""
        return self._of(task)

    def has(self, task: str) -> bool:
        """Return whether there is a calibration for a task, be it one that cannot be used."""
        return self._of(task) is not None or task in self._unusable

    def refusal(self, scope: Scope, *, of_row: bool = False) -> str | None:
        """Return in one sentence why the calibration of a task, or of a row of it, is not used.

        None where it is used or there is none.
        """
        calibration = self._of(scope.task)
        if unusable := self._unusable.get(scope.task):
            return unusable
        if (
            calibration is None
            or (reason := calibration.scope.differs(scope, "the row" if of_row else "the task")) is None
        ):
            return None
        advice = "" if of_row else "; calibrate again, or remove it"
        return f"The calibration of {calibration.scope.task} is not used: {reason}{advice}."

    def _of(self, task: str) -> Calibration | None:
        if self.named:
            return self.named
        if task not in self._by_task:
            self._by_task[task] = self._read(task)
        return self._by_task[task]

    def _read(self, task: str) -> Calibration | None:
        if self._folder is None or not _TASK.fullmatch(task):
            return None
        try:
            return read_calibration(self._folder / f"{task}.json")
        except ModelError as error:
            self._unusable[task] = str(error)
            return None


def calibration_folder(store: Store, model: StoredModel) -> Path:
    """Return the folder of a model's calibrations."""
    if store.owns(model):
        return model.path.parent / "calibration"
    return store.root / "calibration" / model.manifest.sha256


def calibration_path(store: Store, model: StoredModel, task: str) -> Path:
    """Return where the calibration of a model and a task is kept; raises UsageError for what is no task's name."""
    if not _TASK.fullmatch(task):
        raise UsageError(f"{task[:80]!r} cannot be the name of a calibrated task: take small letters, digits and '_'.")
    return calibration_folder(store, model) / f"{task}.json"


def keep_calibration(store: Store, model: StoredModel, calibration: Calibration) -> Path:
    """Keep a calibration of a model and return its path; raises ModelError if the model is not there any more."""
    path = calibration_path(store, model, calibration.scope.task)
    with store.writing_beside(model):
        calibration.write(path)
    return path


def remove_calibrations(store: Store, model: StoredModel, task: str | None = None) -> list[str]:
    """Remove the calibration of a task, or all that a model has, and return the tasks' names.

    Raises ModelError where one cannot be removed.
    """
    folder = calibration_folder(store, model)
    paths = [calibration_path(store, model, task)] if task else sorted(folder.glob("*.json"))
    with store.writing_beside(model):
        present = [path for path in paths if path.is_file()]
        for path in present:
            try:
                path.unlink()
            except OSError as error:
                message = f"{path} cannot be removed ({error.strerror})"
                raise ModelError(message, step="check its rights") from None
    return [path.stem for path in present]


def read_calibration(path: Path) -> Calibration | None:
    """Return the calibration in a file, None if there is no file; raises ModelError with why it is not used."""
    try:
        calibration = read_document(Calibration, path, largest=LARGEST, formats=(1, FORMAT))
        _check(calibration)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ModelError(
            f"The calibration {path} is damaged ({error}) and is not used: "
            "run `ecellm-lite calibrate` again, or remove it."
        ) from None
    if calibration.format < FORMAT and calibration.scope.type == "ranking":
        raise ModelError(
            f"The calibration {path} was fitted to the first place of rankings, not to their whole order, and is not "
            "used: run `ecellm-lite calibrate` again, or remove it."
        )
    return calibration


def _check(calibration: Calibration) -> None:
    """Raise ValueError for a value that no calibration has."""
    scope = calibration.scope
    for key, value, pattern in (
        ("task", scope.task, _TASK),
        ("model", scope.model, _SHA256),
        ("instruction", scope.instruction, _SHA256),
        ("options", scope.options, _SHA256),
        ("data_sha256", calibration.data_sha256, _SHA256),
    ):
        if value is not None and not pattern.fullmatch(value):
            raise ValueError(f"{key} is {value[:80]!r}")
    if not LOWEST <= calibration.temperature <= HIGHEST:
        raise ValueError(f"temperature is {calibration.temperature!r}, and may be {LOWEST} to {HIGHEST:g}")
    if abs(calibration.bias) > (LARGEST_BIAS if scope.type == "extraction" else 0):
        raise ValueError(f"bias is {calibration.bias!r}")
    if not 0 <= calibration.least_coverage <= 1:
        raise ValueError(f"least_coverage is {calibration.least_coverage!r}")
    if calibration.automatic:
        calibration.automatic.check()
    if not all(1 <= rows <= MOST_ROWS for rows in (calibration.rows, calibration.held_out)):
        raise ValueError(f"rows is {calibration.rows!r}, and held_out {calibration.held_out!r}")
