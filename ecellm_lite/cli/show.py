"""An answer as a person wants to see it: the answer first, then a bar for each possibility."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ecellm_lite.answers.answer import Answer
from ecellm_lite.answers.choice import Choice
from ecellm_lite.answers.ranking import Ranking
from ecellm_lite.answers.score import Score
from ecellm_lite.cli.plain import plain
from ecellm_lite.tasks.task import Question
from ecellm_lite.tasks.wire import read_object, read_options

_WIDTH = 30  # of a bar for probability 1
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def show_answer(answer: Answer, question: Question, console: Console | None = None) -> None:
    """Print an answer to the terminal."""
    (console or Console()).print(render(answer, question))


def render(answer: Answer, question: Question) -> RenderableType:
    """Return an answer as something rich can print; the question says what its letters stand for."""
    lines = _lines(question)
    parts: list[RenderableType] = [Text.from_markup(f"[bold]{escape(_headline(answer))}[/bold]{_share(answer)}"), ""]
    if answer.type == "extraction" and not answer.abstained:
        parts += [_entries(answer), ""]
    elif answer.type == "ranking" and not answer.abstained:
        parts += [_places(answer, lines), ""]
    elif answer.probabilities:
        parts += [_bars(answer, lines), ""]
    if answer.shortened:
        parts.append(Text(f"shortened · {plain(answer.shortened)}", style="yellow"))
    parts += [Text(f"warning · {plain(warning.message)}", style="yellow") for warning in answer.warnings or ()]
    parts.append(_footer(answer))
    return Group(*parts)


def _headline(answer: Answer) -> str:
    if answer.abstained:
        return "no answer: too unsure"
    if answer.type == "extraction":
        found = sum(entry["value"] is not None for entry in answer.value)
        return f"{found} of {len(answer.value)} attributes found"
    if answer.type == "score":
        levels = list(answer.probabilities or {})
        return f"{answer.value:.2f} of {len(levels)}"
    if answer.type == "choice" and not (answer.text or "").startswith(answer.value):
        return plain(answer.value)  # of a user's own task, where the model writes a letter for it
    return plain(answer.text or "(empty)")


def _share(answer: Answer) -> str:
    return "" if answer.probability is None else f"  {answer.probability:.1%}"


def _lines(question: Question) -> dict[str, str]:
    """Return the option lines by the keys of the answer: `A: very positive` by `A`."""
    space = question.space
    if isinstance(space, Ranking):
        lists = [value for value in read_object(question.text).values() if isinstance(value, list)]
        found = [lines for lines in map(_by_letter, lists) if tuple(lines) == space.letters]
        return found[0] if found else {}
    if not isinstance(space, Choice | Score) or not question.options:
        return {}
    lines = _by_letter(read_options(question.options))
    if isinstance(space, Choice):
        # A user's own values stand for themselves, whatever letters the model has for them.
        letters = {option.key for option in space.options if option.text.partition(":")[0] == option.key}
        return {key: line for key, line in lines.items() if key in letters}
    return lines


def _by_letter(lines: Sequence[Any]) -> dict[str, str]:
    return {str(line).partition(":")[0]: plain(str(line)) for line in lines}


def _bars(answer: Answer, lines: Mapping[str, str]) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(max_width=48)
    for key, share in (answer.probabilities or {}).items():
        best = share == answer.probability and not answer.abstained
        style = "bold green" if best else "dim"
        label = Text(f"  {lines.get(key, plain(key))}", style=style, overflow="ellipsis", no_wrap=True)
        table.add_row(label, Text(bar(share), style="green" if best else ""), f"{share:6.1%}")
    return table


def _places(answer: Answer, lines: Mapping[str, str]) -> Table:
    table = Table.grid(padding=(0, 1))
    for place, letter in enumerate(answer.value, start=1):
        table.add_row(f"  {place}.", Text(lines.get(letter, letter), style="bold green" if place == 1 else ""))
    return table


def _entries(answer: Answer) -> Table:
    table = Table.grid(padding=(0, 2))
    for entry in answer.value:
        value = (
            Text(plain(entry["value"]), style="bold green") if entry["value"] is not None else Text("none", style="dim")
        )
        source = Text(plain(entry["source"] or ""), style="dim")
        table.add_row(
            Text(f"  {plain(entry['attribute'])}"),
            value,
            source,
            bar(entry["probability"], 10),
            f"{entry['probability']:6.1%}",
        )
    return table


def _footer(answer: Answer) -> Text:
    facts = [plain(answer.model.name), f"envelope {answer.envelope}"]
    if answer.coverage is not None:
        facts.append(f"coverage {answer.coverage:.1%}")
    if answer.calibration is not None:
        facts.append(f"calibrated: {answer.calibration}")
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
