"""Shows an answer on a terminal: first the answer, then each possible answer with its probability as a bar."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ecellm_lite.answers.answer import Answer, corrects
from ecellm_lite.answers.details import Detail
from ecellm_lite.answers.space import Space
from ecellm_lite.cli.plain import plain

_LABEL = 48  # longest label, in characters
_WIDTH, _NARROW = 30, 10  # characters of a bar for probability 1: alone, or beside texts
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def show_answer(answer: Answer, space: Space, console: Console | None = None) -> None:
    """Print an answer to the terminal. `space` is the set of possible answers."""
    (console or Console()).print(render(answer, space))


def render(answer: Answer, space: Space) -> RenderableType:
    """Return an answer in a form that the library rich can print."""
    headline = "no answer: too unsure" if answer.abstained else plain(space.headline(answer))
    share = "" if answer.probability is None else f"  {answer.probability:.1%}"
    parts: list[RenderableType] = [Text.assemble((headline, "bold"), share), ""]
    if details := space.details(answer):
        parts += [_table(details), ""]
    if answer.shortened:
        parts.append(Text(f"shortened · {plain(answer.shortened)}", style="yellow"))
    parts += [Text(f"warning · {plain(warning.message)}", style="yellow") for warning in answer.warnings or ()]
    parts.append(_footer(answer))
    return Group(*parts)


def _table(details: Sequence[Detail]) -> Table:
    """Return a table of an answer's details, one per line. A column in which all lines would be empty is left out."""
    texts = any(detail.text for detail in details)
    notes = any(detail.note for detail in details)
    shares = any(detail.share is not None for detail in details)
    table = Table.grid(padding=(0, 2 if notes else 1))
    table.add_column(max_width=None if texts else _LABEL)
    for detail in details:
        style = "bold green" if detail.chosen else "" if detail.share is None else "dim"
        label = Text(f"  {plain(detail.label)}", "" if texts else style, overflow="ellipsis", no_wrap=not texts)
        row = [label]
        if texts:
            row.append(Text(plain(detail.text), style))
        if notes:
            row.append(Text(plain(detail.note), "dim"))
        if shares and detail.share is not None:
            row.append(Text(bar(detail.share, _NARROW if texts else _WIDTH), "green" if detail.chosen else ""))
            row.append(Text(f"{detail.share:6.1%}"))
        table.add_row(*row)
    return table


def _footer(answer: Answer) -> Text:
    facts = [plain(answer.model.title), f"envelope {answer.envelope}"]
    if answer.coverage is not None:
        facts.append(f"coverage {answer.coverage:.1%}")
    if answer.calibration is not None:
        facts.append(f"{'calibrated' if corrects(answer.calibration) else 'calibration'}: {answer.calibration}")
    if answer.usage:
        facts.append(f"{answer.usage.prompt_tokens} prompt tokens")
    if answer.seconds is not None:
        facts.append(f"{answer.seconds:.2f} s")
    return Text(" · ".join(facts), style="dim")


def bar(share: float, width: int = _WIDTH) -> str:
    """Return a text bar for `share`, a number from 0 to 1.

    The bar is exact to an eighth of a character, and padded to `width` characters.
    """
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(width)
