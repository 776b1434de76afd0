"""How numbers and texts of an evaluation are shown on the page: rounded, cut, and with nothing that breaks it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

ABSENT = "–"  # noqa: RUF001 (a dash stands for a figure that there is not)

# What HTML may not hold, or what a reader cannot see: controls other than the newline and the tab, lone surrogates.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def clean(text: str) -> str:
    """Return the text with controls shown as their symbols, and what no page can hold as U+FFFD."""
    return _UNSEEN.sub(lambda found: _symbol(ord(found[0])), text.replace("\r\n", "\n"))


def _symbol(code: int) -> str:
    return "\u2421" if code == 0x7F else chr(0x2400 + code) if code < 0x20 else "\ufffd"


def cut(value: Any, limit: int = 80) -> str:
    """Return a value as clean text of at most `limit` characters and a note on how many were left out.

    A text stands as it is, anything else as JSON. Head and tail stay, for a prompt's answers stand at its end.
    """
    if value is None:
        return ABSENT
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    if len(text) > limit:
        tail = limit // 4
        left = f" … [{len(text) - limit:,} characters left out] … "
        text = text[: limit - tail] + left + text[len(text) - tail :]
    return clean(text)


def score(value: float | None) -> str:
    """Return a metric with three decimals, as the paper prints them."""
    return ABSENT if value is None or not math.isfinite(value) else f"{value:.3f}"


def share(value: float | None) -> str:
    """Return a share from 0 to 1 in percent; only all is 100%, and only none is 0%."""
    if value is None or not math.isfinite(value):
        return ABSENT
    if 0.995 <= value < 1:
        return f"{math.floor(1000 * value) / 10:.1f}%"
    if 0 < value < 0.005:
        return f"{math.ceil(1000 * value) / 10:.1f}%"
    return f"{100 * value:.0f}%"


def threshold(probability: float) -> str:
    """Return a least probability with four decimals, rounded down: what has this probability is answered."""
    return f"{math.floor(probability * 1e4) / 1e4:.4f}"


def count(value: int | None) -> str:
    """Return a whole number with its thousands apart."""
    return ABSENT if value is None else f"{value:,}"


def brief(value: int) -> str:
    """Return a whole number for a narrow place: 950, 12k, 3M."""
    return f"{value}" if value < 1000 else f"{value // 1000}k" if value < 1_000_000 else f"{value // 1_000_000}M"


def rate(value: float | None) -> str:
    """Return rows a second with three digits that mean something."""
    if value is None or not math.isfinite(value):
        return ABSENT
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def span(seconds: float | None) -> str:
    """Return a time as a person says it, from hundredths of a second to hours."""
    if seconds is None or not math.isfinite(seconds):
        return ABSENT
    if seconds < 10:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


FILTERS: dict[str, Callable[..., str]] = {
    function.__name__: function for function in (brief, clean, count, cut, rate, score, share, span, threshold)
}
