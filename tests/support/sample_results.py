"""A made-up evaluation of all ten tasks. Its texts contain HTML, which a report must escape."""

from __future__ import annotations

import random

from ecellm_lite.answers.answer import ModelName, RowError
from ecellm_lite.evaluate.paper import METRICS
from ecellm_lite.evaluate.results import (
    FORMAT,
    Confusion,
    DataFile,
    EvaluationSettings,
    Example,
    Interval,
    Metrics,
    Reliability,
    ReliabilityBin,
    Results,
    RiskPoint,
    RowResult,
    TaskResult,
    Uncalibrated,
    Unreadable,
    Versions,
)
from ecellm_lite.tasks.registry import TASKS

HOSTILE = [
    "<script>alert('prompt')</script><img src=https://evil.example/x onerror=alert(1)>",
    "\"quotes\" 'single' `ticks` & &amp; </pre></details></body> <!-- ]]> {{ 7*7 }} {% raw %}",
    "Donaudampfschifffahrtsgesellschaft" * 40,
    "\u202eright to left override\u202c \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "\U0001f6d2 \U0001f9d1\u200d\U0001f4bb caf\u00e9 \x00\x1b[31m\ud800 \x85 end",
    "</title></style><style>*{display:none}</style><a href='javascript:alert(1)'>x</a>",
    "A usual prompt.\n\n### Input:\n" + "a product with a long description, " * 90 + "\n\n### Response:\n",
]
LABELS = {
    "PRP": ["A", "B", "C"],
    "PM": ["yes", "no"],
    "SA": ["A: very positive", "B: positive", "C: neutral", "D: negative", "E: very negative"],
    "MPC": ["A", "B", "C", "D"],
    "PSI": ["yes", "no"],
    "AP": ["yes", "no"],
}
ALL = {
    "AVE": ["precision", "recall", "f1"],
    "PRP": ["accuracy", "macro_f1"],
    "SA": ["accuracy", "macro_f1"],
    "SR": ["hr_at_1"],
    "MPC": ["accuracy", "macro_f1"],
    "QPR": ["ndcg"],
    "AG": ["bertscore_f1", "rouge_l"],
}
BINARY = ["f1", "accuracy", "precision", "recall", "specificity", "negative_predictive_value"]


def sample_results(seed: int = 1) -> Results:
    """Return made-up results of the ten tasks.

    The task AG has no metrics, QPR has no rows, and some rows of MPC failed. The texts contain HTML, which a report
    must escape.
    """
    chance = random.Random(seed)
    return Results(
        format=FORMAT,
        created="2026-11-26T10:48:00+00:00",
        model=ModelName("demo <b>bold</b>", "9f2b" * 16),
        envelope="alpaca",
        calibrated=True,
        versions=Versions("0.1.0", "0.3.36", "3.11.2"),
        data=[DataFile(f"{name}.jsonl", f"{index:x}7c1" * 16) for index, name in enumerate(TASKS)],
        settings=EvaluationSettings(limit=200, split="test", setting=None, deterministic=False, instruction=None),
        seconds=754.3,
        unreadable=[Unreadable(7, "Line 7 is not JSON (<script>alert(7)</script>).")],
        tasks={name: _task(task.abbreviation, chance) for name, task in TASKS.items()},
    )


def _task(abbreviation: str, chance: random.Random) -> TaskResult:
    rows = 0 if abbreviation == "QPR" else 200
    if not rows:
        return TaskResult(
            abbreviation, 0, 0, 0, 0, [], METRICS[abbreviation], Metrics({}, {}), Interval(0.0, 0.0),
            ["There was no row of this task."], None, None, None, 0.0, [], [], [],
        )  # fmt: skip
    pairs = sorted((chance.betavariate(5, 1.4), chance.random()) for _ in range(rows))
    answers = [(probability, luck < 0.35 + 0.5 * probability) for probability, luck in pairs]
    right = sum(good for _, good in answers) / rows
    plain = abbreviation == "AG"
    failed = 6 if abbreviation == "MPC" else 0
    names = ALL.get(abbreviation, BINARY)
    metrics = {name: min(1.0, right + chance.uniform(-0.06, 0.06)) for name in names}
    primary = METRICS[abbreviation]
    return TaskResult(
        abbreviation=abbreviation,
        rows=rows,
        answered=rows - failed,
        failed=failed,
        abstained=0,
        unreadable=[Unreadable(line, f"Line {line}: {HOSTILE[line % 7]}") for line in range(3, 33)] if failed else [],
        primary=primary,
        metrics=Metrics({name: min(1.0, value + 0.01 * bool(failed)) for name, value in metrics.items()}, metrics),
        interval=Interval(metrics[primary] - 0.05, min(1.0, metrics[primary] + 0.045)),
        notes=["Gains are by gold rank: the rows carry no labels.", HOSTILE[0]] if abbreviation == "SR" else [],
        confusion=_confusion(LABELS[abbreviation], right, chance) if abbreviation in LABELS else None,
        reliability=None if plain else _reliability(answers),
        risk=None if plain else _risk(answers),
        rows_per_second=chance.uniform(2, 30),
        slowest=[_example(line, chance, plain) for line in range(1, 6)],
        least_certain=[] if plain else [_example(line, chance, plain) for line in range(6, 14)],
        calibration=f"{abbreviation} T=1.62 (319 rows, 3f2a9c1b)" if abbreviation in {"PM", "SA"} else None,
        uncalibrated=Uncalibrated(134, 7, f"It is not used: {HOSTILE[0]}.") if abbreviation == "SA" else None,
        records=[
            RowResult(None, 1, "yes", None, None, None, 0.0, None, RowError("context_exceeded", "<i>too long</i>")),
        ],
    )


def _example(line: int, chance: random.Random, plain: bool) -> Example:
    text = HOSTILE[line % len(HOSTILE)]
    return Example(
        id=None if line % 3 == 0 else f"{text[:60]}-{line}",
        line=line,
        gold=f"gold {text}",
        text=None if line == 5 else f"answer {text}",
        probability=None if plain else chance.uniform(0.3, 0.6),
        seconds=None if line == 4 else chance.uniform(0.1, 3),
        prompt=f"Below is an instruction that describes a task.\n\n### Instruction:\n{text}\n\n### Response:\n",
    )


def _confusion(labels: list[str], right: float, chance: random.Random) -> Confusion:
    counts = [[0] * (len(labels) + 1) for _ in labels]
    for _ in range(200):
        gold = min(int(chance.betavariate(1, 1.5) * len(labels)), len(labels) - 1)
        answer = gold if chance.random() < right else chance.randrange(len(labels) + 1)
        counts[gold][answer] += 1
    return Confusion(labels, counts)


def _reliability(answers: list[tuple[float, bool]]) -> Reliability:
    bins = []
    for index in range(10):
        inside = [answer for answer in answers if index / 10 <= answer[0] < (index + 1) / 10]
        size = len(inside)
        bins.append(
            ReliabilityBin(
                index / 10,
                (index + 1) / 10,
                size,
                sum(probability for probability, _ in inside) / size if size else 0.0,
                sum(good for _, good in inside) / size if size else 0.0,
            )
        )
    ece = sum(group.count * abs(group.probability - group.accuracy) for group in bins) / len(answers)
    brier = sum((probability - good) ** 2 for probability, good in answers) / len(answers)
    return Reliability(bins, ece, brier, len(answers))


def _risk(answers: list[tuple[float, bool]]) -> list[RiskPoint]:
    best = sorted(answers, reverse=True)
    points, right = [], 0
    for index, (probability, good) in enumerate(best, 1):
        right += good
        points.append(RiskPoint(probability, index / len(best), right / index))
    return points
