"""Checks the options of a request, which are listed in answerer.RequestOptions."""

from __future__ import annotations

from collections.abc import Iterable

from ecellm_lite.deadlines import LONGEST
from ecellm_lite.errors import DeadlineError, UsageError


def checked_probability(least: float | None, name: str = "min_probability") -> float | None:
    """Return the value `least` of the option `name` unchanged. Raises UsageError unless it is from 0 to 1, or None."""
    number = isinstance(least, (int, float)) and not isinstance(least, bool)
    if least is None or (number and 0 <= least <= 1):
        return least
    raise UsageError(f"{name} is {least!r}", step="give a probability from 0 to 1", settings=(name,))


def checked_deadline(milliseconds: float | None) -> float | None:
    """Return a request's time limit in milliseconds, or None if it has no limit.

    Raises UsageError if it is out of range.
    """
    number = isinstance(milliseconds, (int, float)) and not isinstance(milliseconds, bool)
    if milliseconds is None or (number and 0 < milliseconds <= LONGEST):
        return milliseconds
    raise UsageError(
        f"deadline_ms is {milliseconds!r}",
        step=f"give milliseconds above 0, at most {LONGEST:,}",
        settings=("deadline_ms",),
    )


def checked_priority(priority: str) -> bool:
    """Return whether a request is urgent. Raises UsageError for an unknown priority."""
    if priority in ("normal", "urgent"):
        return priority == "urgent"
    raise UsageError(f"priority is {priority!r}", step="give normal or urgent", settings=("priority",))


def checked_adapter(adapter: str | None, names: Iterable[str]) -> str | None:
    """Return the name of a request's adapter, or None. Raises UsageError if `names` does not contain it."""
    known = sorted(names)
    if adapter is None or (isinstance(adapter, str) and adapter in known):
        return adapter
    step = f"name one of {', '.join(known)}" if known else "load it with the model"
    raise UsageError(f"There is no adapter {str(adapter)[:80]!r}", step=step, settings=("adapters",), field="adapter")


def deadline_error(deadline_ms: float) -> DeadlineError:
    """Return the error of a request that was not answered within its time limit."""
    return DeadlineError(f"The row had no answer within {deadline_ms:g} ms", step="try again later, or allow more time")
