"""An answer beside what it should have been, as the choices that a temperature changes.

A case holds choices: of each the shares of what could be answered, the chosen one first, and where in them the right
one stands. A predicate, choice or score is one choice, and so is the first place of a ranking; every entry of an
extraction is one, between itself and all else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ecellm_lite.answers.answer import Answer
from ecellm_lite.errors import InputError


@dataclass(frozen=True, slots=True)
class Weighing:
    """The shares of one choice, the chosen one first; `right` is the place of the right one in them."""

    shares: tuple[float, ...]
    right: int


@dataclass(frozen=True, slots=True)
class Case:
    """The choices of one row's answer, at least one, and its coverage."""

    choices: tuple[Weighing, ...]
    coverage: float


def case_of(answer: Answer, gold: Any) -> Case:
    """Return the case of an uncalibrated answer and the value that it should have had (of its space's `parse`).

    Raises InputError for an answer without a probability, or a value that it could not have had.
    """
    if answer.value is None or answer.coverage is None:
        raise InputError(f"Answers of the type {answer.type} have no probability, and nothing to calibrate.")
    if answer.type == "extraction":
        return Case(_entries(answer.value, gold), answer.coverage)
    shares: Mapping[str, float] = answer.probabilities or {}
    right = _key(answer.type, list(shares), gold)
    if right not in shares:
        raise InputError(f"The right answer {right!r} is none of {', '.join(shares)}.")
    chosen = max(shares, key=shares.__getitem__)
    order = [chosen, *(key for key in shares if key != chosen)]
    return Case((Weighing(tuple(shares[key] for key in order), order.index(right)),), answer.coverage)


def _key(kind: str | None, keys: Sequence[str], gold: Any) -> str:
    if kind == "predicate":
        return "yes" if gold else "no"
    if kind == "score":
        return keys[int(gold) - 1]
    return str(gold[0] if kind == "ranking" else gold)


def _entries(entries: Sequence[Mapping[str, Any]], gold: Sequence[Mapping[str, Any]]) -> tuple[Weighing, ...]:
    """Return the choice of each entry, which is right if its value and source are among those of its attribute."""
    wanted: dict[str, set[tuple[str | None, str | None]]] = {}
    for entry in gold:
        wanted.setdefault(entry["attribute"].lower(), set()).add((entry["value"], entry["source"]))
    choices = []
    for entry in entries:
        found = (entry["value"], entry["source"])
        right = found in wanted.get(entry["attribute"].lower(), {(None, None)})  # one not named has no value
        choices.append(Weighing((entry["probability"], 1.0 - entry["probability"]), 0 if right else 1))
    return tuple(choices)
