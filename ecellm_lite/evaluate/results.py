"""An evaluation's results, in memory and as a file: metrics, curves and a record for each row.

The file is JSON, and its keys are the names of the fields here. The file is read strictly. If it is truncated, edited
or in another format, reading it raises an error.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ecellm_lite.answers.answer import ModelName, RowError
from ecellm_lite.documents import read_document
from ecellm_lite.errors import InputError

FORMAT = 1
LARGEST_FILE = 1 << 30  # bytes; 92,000 records take about 60 MB

_STEP = "give a file that an evaluation wrote"

# A row's contribution to its task's metric: 1 or 0, its NDCG, its ROUGE-L, a score's error in levels, or its [hits,
# answered, gold] triples or labels.
Score = float | list[int]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A line that could not be evaluated, and why. In a JSON array, `line` is the number of the item, from 1."""

    line: int
    message: str


@dataclass(frozen=True, slots=True)
class Metrics:
    """Metrics by name, computed in two ways that differ for rows without an answer.

    `paper`: the metrics as the authors' script computes them. Most of them leave out the rows without an answer.
    `all`: the metrics over all rows.
    """

    paper: dict[str, float]
    all: dict[str, float]


@dataclass(frozen=True, slots=True)
class Interval:
    """The ends of a 95% confidence interval."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Confusion:
    """How often each gold label (row) got each answer (column). The last column counts missing answers."""

    labels: list[str]
    counts: list[list[int]]


@dataclass(frozen=True, slots=True)
class LabelResult:
    """The results of one label.

    `gold`: how many gold answers have the label. `answered`: how many of the model's answers have the label.
    """

    label: str
    gold: int
    answered: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """The answers with a probability in [low, high): their number, mean probability, and share of right answers."""

    low: float
    high: float
    count: int
    probability: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Reliability:
    """The probabilities of answers, compared with how often the answers are right; see evaluate/reliability.py."""

    bins: list[ReliabilityBin]
    ece: float
    brier: float
    count: int


@dataclass(frozen=True, slots=True)
class RiskPoint:
    """What happens if answers with a probability below `min_probability` are withheld.

    `answered`: the share of rows that get an answer.
    `accuracy`: the share of these answers that are right.
    """

    min_probability: float
    answered: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class RowResult:
    """One evaluated row: its gold answer, the model's answer, and what the row contributes to the metric."""

    id: str | int | None
    line: int
    gold: str
    text: str | None
    probability: float | None
    coverage: float | None
    score: Score
    seconds: float | None
    error: RowError | None


@dataclass(frozen=True, slots=True)
class Example:
    """A row shown as an example, such as a slow one, with its exact prompt."""

    id: str | int | None
    line: int
    gold: str
    text: str | None
    probability: float | None
    seconds: float | None
    prompt: str


@dataclass(frozen=True, slots=True)
class Uncalibrated:
    """How many rows are answered without the task's calibration.

    `line`: the line of the first of these rows. `reason`: why this row is not calibrated.
    """

    rows: int
    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class ModelResult:
    """One model's part in a task that several models answered. Each model passed unsure rows on to the next one.

    `model`: the model's name.
    `asked`: the number of rows that it answered. This includes rows that it passed on.
    `answers`: the number of rows whose final answer is this model's.
    `metric`: the primary metric over the rows counted in `answers`, or None if there are no such rows.
    `seconds`: how long the model was busy with the rows counted in `asked`.
    """

    model: str
    asked: int
    answers: int
    metric: float | None
    seconds: float


@dataclass(frozen=True, slots=True)
class TaskResult:
    """The results of one task. `interval` is the 95% interval of the primary metric over all rows.

    `abbreviation`: the task's abbreviation, or the name of a user's own task.
    `calibration`: the name of the calibration that corrected the answers' probabilities.
    `uncalibrated`: how many rows were not calibrated, and why.
    `labels`: the results of each label, for tasks that report them.
    `models`: for a cascade of models, how many rows each model answered and how well, the cheapest model first.

    In older files, `calibration`, `uncalibrated`, `labels` and `models` are missing. They are then None.
    """

    abbreviation: str
    rows: int
    answered: int
    failed: int
    abstained: int
    unreadable: list[Unreadable]
    primary: str
    metrics: Metrics
    interval: Interval
    notes: list[str]
    confusion: Confusion | None
    reliability: Reliability | None
    risk: list[RiskPoint] | None
    rows_per_second: float
    slowest: list[Example]
    least_certain: list[Example]
    records: list[RowResult]
    calibration: str | None = None
    uncalibrated: Uncalibrated | None = None
    labels: list[LabelResult] | None = None
    models: list[ModelResult] | None = None

    @property
    def without_calibration(self) -> str | None:
        """Return a sentence that says which rows are not calibrated and why, or None if all rows are calibrated."""
        plain = self.uncalibrated
        if plain is None:
            return None
        why = plain.reason.rstrip(".")
        return f"{plain.rows:,} of {self.rows:,} rows are not calibrated (the first, in line {plain.line:,}: {why})."


@dataclass(frozen=True, slots=True)
class Versions:
    """The versions of the software used."""

    ecellm_lite: str
    llama_cpp_python: str
    python: str


@dataclass(frozen=True, slots=True)
class DataFile:
    """The name and sha256 of a file of labelled rows."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class EvaluationSettings:
    """An evaluation's settings.

    `limit`: the maximum number of rows of each task.
    `split`, `setting`: which of the labelled rows were used.
    `instruction`: the instruction that replaced the task's own, or None.
    `min_probability`: answers with a lower probability count as abstentions.
    `escalate_below`: rows whose answer has a lower probability go to the next model. None if there is only one model.

    In older files, `min_probability` and `escalate_below` are missing. They are then None.
    """

    limit: int | None
    split: str | None
    setting: str | None
    deterministic: bool
    instruction: str | None
    min_probability: float | None = None
    escalate_below: float | None = None


@dataclass(frozen=True, slots=True)
class Results:
    """A whole evaluation. `tasks` has the results by task name.

    `unreadable`: lines that could not be read, and whose task is not known.
    """

    format: int
    created: str
    model: ModelName
    envelope: str
    calibrated: bool
    versions: Versions
    data: list[DataFile]
    settings: EvaluationSettings
    seconds: float
    unreadable: list[Unreadable]
    tasks: dict[str, TaskResult]

    def as_dict(self) -> dict[str, Any]:
        """Return the results as plain data."""
        return asdict(self)

    @property
    def failures(self) -> int:
        """How many rows failed or could not be read."""
        lines = len(self.unreadable) + sum(len(task.unreadable) for task in self.tasks.values())
        return lines + sum(task.failed for task in self.tasks.values())


def read_results(path: Path) -> Results:
    """Return the results in a file. Raises InputError if they cannot be read."""
    try:
        results = read_document(Results, path, largest=LARGEST_FILE, formats=(FORMAT,))
        for name, task in results.tasks.items():
            _check(name, task)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})", step=_STEP, file=str(path)) from None
    except ValueError as error:
        raise InputError(
            f"{path} is not a file of results, or is damaged ({error})", step=_STEP, file=str(path)
        ) from None
    return results


def _check(name: str, task: TaskResult) -> None:
    """Raise ValueError if the numbers in a task's results contradict each other."""
    if len(task.records) != task.rows:
        raise ValueError(f"{name} has {task.rows} rows and {len(task.records)} records")
    if task.primary not in task.metrics.all:
        raise ValueError(f"{name} has no metric {task.primary[:40]!r}")
    triples = [record.score for record in task.records if isinstance(record.score, list)]
    if triples and [len(triple) for triple in triples] != [3] * task.rows:
        raise ValueError(f"{name} has records with scores of different kinds")
    for hits, answered, gold in triples:
        if not 0 <= hits <= min(answered, gold) <= max(answered, gold) < 1 << 31:
            raise ValueError(f"{name} has a record that counts {hits} of {answered} and {gold}"[:120])
