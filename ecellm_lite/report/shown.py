"""Formats an evaluation's numbers and texts for the HTML page."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

ABSENT = "–"  # noqa: RUF001 (a dash stands for a missing figure)

# Characters that HTML forbids or that are invisible: controls except newline and tab, lone surrogates.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def clean(text: str) -> str:
    """Put visible symbols in place of ASCII control characters, and U+FFFD in place of others that HTML forbids."""
    return _UNSEEN.sub(lambda match: _symbol(ord(match[0])), text.replace("\r\n", "\n"))


def _symbol(code: int) -> str:
    return "\u2421" if code == 0x7F else chr(0x2400 + code) if code < 0x20 else "\ufffd"


def cut(value: Any, limit: int = 80) -> str:
    """Return a value as clean text, shortened if it is long.

    None becomes a dash. Any other value that is not a text becomes JSON. In a text longer than `limit`, a note replaces
    the middle and says how many characters it replaced. The end is kept because a prompt's options are there.
    """
    if value is None:
        return ABSENT
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    if len(text) > limit:
        tail = limit // 4
        note = f" … [{len(text) - limit:,} characters left out] … "
        text = text[: limit - tail] + note + text[len(text) - tail :]
    return clean(text)


def score(value: float | None) -> str:
    """Return a metric as text with three decimals, such as "0.812". A dash if it is None, infinite or NaN."""
    return ABSENT if value is None or not math.isfinite(value) else f"{value:.3f}"


def share(value: float | None) -> str:
    """Return a fraction from 0 to 1 in percent. Only exactly 1 is shown as 100%, and only exactly 0 as 0%."""
    if value is None or not math.isfinite(value):
        return ABSENT
    if 0.995 <= value < 1:
        return f"{math.floor(1000 * value) / 10:.1f}%"
    if 0 < value < 0.005:
        return f"{math.ceil(1000 * value) / 10:.1f}%"
    return f"{100 * value:.0f}%"


def threshold(probability: float) -> str:
    """Return a threshold with four decimals.

    It is rounded down, so that it accepts no fewer answers than the exact threshold.
    """
    return f"{math.floor(probability * 1e4) / 1e4:.4f}"


def count(value: int | None) -> str:
    """Return a whole number as text with commas between thousands, such as "1,204". A dash if it is None."""
    return ABSENT if value is None else f"{value:,}"


def brief(value: int) -> str:
    """Return a whole number in short form: 950, 12k, 3M."""
    return f"{value}" if value < 1000 else f"{value // 1000}k" if value < 1_000_000 else f"{value // 1_000_000}M"


def rate(value: float | None) -> str:
    """Return rows per second with three significant digits."""
    if value is None or not math.isfinite(value):
        return ABSENT
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def span(seconds: float | None) -> str:
    """Return a duration as text, such as "0.25 s", "3 min 20 s" or "2 h 5 min"."""
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
