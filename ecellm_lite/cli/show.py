"""An answer as a person wants to see it: the answer first, then a bar for each possibility."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ecellm_lite.answers.answer import Answer

_WIDTH = 30  # of a bar for probability 1
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def show_answer(answer: Answer, row: Mapping[str, Any], console: Console | None = None) -> None:
    """Print an answer to the terminal."""
    (console or Console()).print(render(answer, row))


def render(answer: Answer, row: Mapping[str, Any]) -> RenderableType:
    """Return an answer as something rich can print."""
    parts: list[RenderableType] = [Text.from_markup(f"[bold]{escape(_headline(answer))}[/bold]{_share(answer)}"), ""]
    if answer.type == "extraction":
        parts += [_entries(answer), ""]
    elif answer.type == "ranking":
        parts += [_places(answer, row), ""]
    elif answer.probabilities:
        parts += [_bars(answer), ""]
    parts.append(_footer(answer))
    return Group(*parts)


def _headline(answer: Answer) -> str:
    if answer.type == "extraction":
        found = sum(entry["value"] is not None for entry in answer.value)
        return f"{found} of {len(answer.value)} attributes found"
    return answer.text or "(empty)"


def _share(answer: Answer) -> str:
    return "" if answer.probability is None else f"  {answer.probability:.1%}"


def _bars(answer: Answer) -> Table:
    table = Table.grid(padding=(0, 1))
    for key, share in (answer.probabilities or {}).items():
        best = share == answer.probability
        style = "bold green" if best else "dim"
        table.add_row(Text(f"  {key}", style=style), Text(bar(share), style="green" if best else ""), f"{share:6.1%}")
    return table


def _places(answer: Answer, row: Mapping[str, Any]) -> Table:
    table = Table.grid(padding=(0, 1))
    products = row.get("products")
    for place, letter in enumerate(answer.value, start=1):
        index = ord(letter) - ord("A")
        title = products[index] if isinstance(products, list) and index < len(products) else ""
        table.add_row(f"  {place}.", Text(letter, style="bold green" if place == 1 else ""), Text(str(title)))
    return table


def _entries(answer: Answer) -> Table:
    table = Table.grid(padding=(0, 2))
    for entry in answer.value:
        value = Text(entry["value"], style="bold green") if entry["value"] is not None else Text("none", style="dim")
        source = Text(entry["source"] or "", style="dim")
        table.add_row(
            Text(f"  {entry['attribute']}"),
            value,
            source,
            bar(entry["probability"], 10),
            f"{entry['probability']:6.1%}",
        )
    return table


def _footer(answer: Answer) -> Text:
    facts = [answer.model.name, f"envelope {answer.envelope}"]
    if answer.coverage is not None:
        facts.append(f"coverage {answer.coverage:.1%}")
    if answer.usage:
        facts.append(f"{answer.usage.prompt_tokens} prompt tokens")
    if answer.seconds is not None:
        facts.append(f"{answer.seconds:.2f} s")
    return Text(" · ".join(facts), style="dim")


def bar(share: float, width: int = _WIDTH) -> str:
    """Return a bar of `width` characters at 1, to an eighth of a character."""
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(width)
