"""The answer to one row, as Python objects that can be converted to JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ecellm_lite.errors import EcellmError, error_of

UNCORRECTED = "without correction"
"""The words in the name of a calibration that has only thresholds or sets of plausible answers."""


def corrects(calibration: str | None) -> bool:
    """Return whether the calibration with this name corrects probabilities. None means that there is no calibration.

    >>> corrects("sentiment_analysis T=1.62 (319 rows, 3f2a9c1b)"), corrects("desk without correction (60 rows, 0a1b)")
    (True, False)
    """
    return calibration is not None and f" {UNCORRECTED} " not in calibration


@dataclass(frozen=True, slots=True)
class Usage:
    """How many tokens a prompt and its answer had.

    - `prompt_tokens`: the prompt's tokens.
    - `cached_tokens`: how many of the prompt's tokens did not have to be computed, because they were in memory from
      earlier rows. It is None in deterministic mode, where an answer must not depend on earlier rows.
    - `decoded_tokens`: the answer's tokens that the model chose.
    - `forced_tokens`: the answer's tokens where only one token was allowed.
    - `answer_tokens`: all tokens of the answer; 0 for an answer that an earlier version stored.

    `decoded_tokens` and `forced_tokens` leave out tokens at the answer's end that the model never computed.
    """

    prompt_tokens: int
    cached_tokens: int | None
    decoded_tokens: int
    forced_tokens: int
    answer_tokens: int = 0


@dataclass(frozen=True, slots=True)
class AdapterName:
    """The name of the adapter that answered, and the sha256 of its file."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class ModelName:
    """The model that answered. `adapter` is None if the model answered without an adapter."""

    name: str
    sha256: str
    adapter: AdapterName | None = None

    @property
    def title(self) -> str:
        """The name to show: `demo`, or `demo+shop-a` with an adapter."""
        return f"{self.name}+{self.adapter.name}" if self.adapter else self.name

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelName:
        """Return the ModelName that a dict describes. Dicts from older versions have no `adapter`."""
        adapter = data.get("adapter")
        return cls(**{**data, "adapter": AdapterName(**adapter) if adapter else None})


@dataclass(frozen=True, slots=True)
class RowError:
    """Why a row has no answer: a stable code and a sentence.

    `field` is the row's field with the mistake, or None. `step` says what to do next, or is None.
    """

    code: str
    message: str
    field: str | None = None
    step: str | None = None

    @classmethod
    def of(cls, error: EcellmError) -> RowError:
        """Return the RowError that describes an exception."""
        return cls(error.code, str(error), error.field, error.step)

    def exception(self) -> EcellmError:
        """Return an exception with this error's message, field and step. The exception's class depends on `code`."""
        message = self.message.removesuffix(f": {self.step}.") if self.step else self.message
        return error_of(self.code)(message, step=self.step, field=self.field)


@dataclass(frozen=True, slots=True)
class AnswerWarning:
    """A warning about an answer: a stable code, and a sentence that says what is odd."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One row's answer.

    - `value`: its form depends on the type of the answer space:
        - predicate: true or false;
        - choice: the key of an option;
        - labels: a list of the labels that apply, which may be empty;
        - score: the mean position on the scale of levels, weighted by the levels' probabilities;
        - ranking: the keys, best first;
        - extraction: a list of {attribute, value, source, probability, written}. `written` is the value as the row
          writes it;
        - text: a string;
        - schema: an object.
    - `text`: the answer exactly as ECInstruct writes it.
    - `probability`: the probability of this answer among the allowed ones.
    - `confidence`: 0 if the answer is no likelier than a random guess, 1 if it is certain.
    - `coverage`: the total probability that the model gave to the allowed tokens, from 0 to 1.
    - `unexplored`: with very many labels, the total probability of the labels that were not compared; otherwise None.
    - `plausible`: the keys of the likeliest answer and of all others that are probable enough, the likeliest first;
      None without a calibration that says what is probable enough.
    - `abstained`: whether the model was not sure enough. An abstention has probabilities, but no `value` and no `text`.
    - `seconds`: the time from the row's start to its answer; None in deterministic mode.
    - `calibration`: the task, temperature, number of rows and hash of the calibration that was used, as in
      `sentiment_analysis T=1.62 (319 rows, 3f2a9c1b)`. Some calibrations have only thresholds or a rule for sets of
      plausible answers, and do not change probabilities. Then `without correction` is in place of the temperature.
    - `shortened`: what was cut from the row or the answer, or None.
    - `warnings`: other problems of the row or its answer, or None.
    - `error`: why the row has no answer, or None. With an error, `value` and `text` are None.
    """

    id: str | int | None
    task: str
    type: str | None
    value: Any
    text: str | None
    probability: float | None
    probabilities: Mapping[str, float] | None
    confidence: float | None
    coverage: float | None
    abstained: bool
    usage: Usage | None
    seconds: float | None
    model: ModelName
    envelope: str
    calibration: str | None = None
    plausible: Sequence[str] | None = None
    unexplored: float | None = None
    shortened: str | None = None
    warnings: Sequence[AnswerWarning] | None = None
    error: RowError | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the answer as a dict that can be written as JSON.

        The keys are in the order that the documentation gives.
        """
        return asdict(self)

    @classmethod
    def failed(cls, task: str, error: EcellmError, *, model: ModelName, envelope: str, row: Any = None) -> Answer:
        """Return an answer with an error, for a row that failed before it reached the model.

        The answer has the row's id if the row is an object with an id.
        """
        return cls(
            id=row.get("id") if isinstance(row, Mapping) else None,
            task=task,
            type=None,
            value=None,
            text=None,
            probability=None,
            probabilities=None,
            confidence=None,
            coverage=None,
            abstained=False,
            usage=None,
            seconds=None,
            model=model,
            envelope=envelope,
            error=RowError.of(error),
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Answer:
        """Return the answer that a dict from `as_dict` describes. The dict may have been stored as JSON in between."""
        parts = {name: data[name] and kind(**data[name]) for name, kind in _PARTS.items()}
        parts["model"] = ModelName.from_dict(data["model"])
        warnings = data["warnings"] and [AnswerWarning(**warning) for warning in data["warnings"]]
        return cls(**{**data, **parts, "warnings": warnings})


_PARTS: Mapping[str, Callable[..., Any]] = {"usage": Usage, "error": RowError}
