"""Options that several commands have, and what they may hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click
from click.shell_completion import CompletionItem

from ecellm_lite.envelopes import ENVELOPES

if TYPE_CHECKING:
    from ecellm_lite.answerer import RequestOptions

# The options that a Runtime takes with each request.
REQUEST_OPTIONS = ("calibration", "min_probability", "seed")

Command = TypeVar("Command", bound=Callable[..., Any])


class TaskName(click.ParamType):  # type: ignore[type-arg]
    """A task's name or a file, completed by the shell; the registry itself says what it is not."""

    name = "task"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the tasks that begin so, the user's own too, or let the shell complete a path."""
        from ecellm_lite.tasks.registry import TASKS, own_files

        summaries = {name: task.summary for name, task in TASKS.items()}
        summaries.update(dict.fromkeys(own_files(), "Your own."))
        found = [CompletionItem(name, help=text) for name, text in summaries.items() if name.startswith(incomplete)]
        return found or [CompletionItem(incomplete, type="file")]


class ModelName(click.ParamType):  # type: ignore[type-arg]
    """A model: a path, or a name that the shell completes from the store."""

    name = "model"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the models in the store that begin so, or let the shell complete a path."""
        from ecellm_lite.models.catalogue import DEMO
        from ecellm_lite.models.store import Store

        names = dict.fromkeys([*Store().names(), DEMO])
        found = [CompletionItem(name) for name in names if name.startswith(incomplete)]
        return found or [CompletionItem(incomplete, type="file")]


class WeightedFolder(click.ParamType):  # type: ignore[type-arg]
    """An adapter's folder, with a weight behind a colon or without one."""

    name = "folder[:weight]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Path, float]:
        """Return the folder and the weight."""
        if isinstance(value, tuple):
            return value
        folder, colon, weight = str(value).rpartition(":")
        if colon and not Path(value).exists():
            try:
                return Path(folder), float(weight)
            except ValueError:
                pass  # a colon of the path's own
        return Path(value), 1.0


class GpuLayers(click.ParamType):  # type: ignore[type-arg]
    """`auto`, `all` or a number of layers."""

    name = "auto|all|N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str | int:
        """Return the word or the number."""
        if value in {"auto", "all"}:
            return str(value)
        if str(value).isdecimal():
            return int(value)
        return self.fail(f"{value!r} is not auto, all or a number of layers", param, ctx)


class CalibrationChoice(click.ParamType):  # type: ignore[type-arg]
    """`auto`, `off` or a file; `off` is False, as Runtime takes it."""

    name = "auto|off|FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the word, False, or the file's path."""
        return False if value == "off" else value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Let the shell complete a path."""
        return [CompletionItem(incomplete, type="file")]


def certainty_options(command: Command) -> Command:
    """Add the options that say how sure an answer has to be, and what its probabilities are calibrated by."""
    for option in (
        click.option(
            "--calibration",
            type=CalibrationChoice(),
            default="auto",
            show_default=True,
            help="What `calibrate` kept for this model, nothing, or a file of it.",
        ),
        click.option("--min-probability", type=click.FloatRange(0, 1), help="Abstain below this probability."),
    ):
        command = option(command)
    return command


def split_options(options: dict[str, Any]) -> RequestOptions:
    """Take out of a command's options those that are settled for each request, and return them."""
    return cast("RequestOptions", {name: options.pop(name) for name in REQUEST_OPTIONS if name in options})


def debug_option(command: Command) -> Command:
    """Add --debug, which main() looks for: an error comes with its traceback."""
    return click.option("--debug", is_flag=True, expose_value=False, help="Show a traceback with an error.")(command)


def model_options(command: Command) -> Command:
    """Add the options that say which model answers, and how it is run."""
    for option in reversed(
        [
            click.option(
                "-m",
                "--model",
                type=ModelName(),
                help="A GGUF file, or a name in the store.  [default: ECELLM_MODEL, else your only one, else demo]",
            ),
            click.option(
                "--envelope",
                type=click.Choice(list(ENVELOPES)),
                help="The text around the prompt, if the model does not say.",
            ),
            click.option(
                "--gpu-layers",
                type=GpuLayers(),
                default="auto",
                show_default=True,
                help="Layers on the GPU: as many as fit, all, or N.",
            ),
            click.option(
                "--threads", type=click.IntRange(1, 1024), help="Threads to compute with.  [default: one a core]"
            ),
            click.option(
                "--context", type=click.IntRange(256, 1 << 20), help="Tokens that fit in memory.  [default: up to 4096]"
            ),
            click.option(
                "--deterministic", is_flag=True, help="The same row, the same bytes, whatever runs beside it."
            ),
            click.option(
                "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="For drawn text."
            ),
            click.option("--quiet", is_flag=True, help="No progress and no summary."),
        ]
    ):
        command = option(command)
    return debug_option(command)
