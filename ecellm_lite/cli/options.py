"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from ecellm_lite.cli.forms import GpuLayers, NamedAdapter, Probability
from ecellm_lite.cli.types import CalibrationType, ModelType
from ecellm_lite.envelopes import ENVELOPES
from ecellm_lite.errors import UsageError

if TYPE_CHECKING:
    from ecellm_lite.answerer import RequestOptions
    from ecellm_lite.tasks.task import Task

# The command-line options that belong to a request (see RequestOptions).
REQUEST_OPTIONS = ("calibration", "min_probability", "seed")

# A copy of kernels.prompt.CHOICES, because importing it would load llama.cpp.
PROMPT_KERNELS = ("auto", "off", "avx2", "avxvnni", "avx512", "avx512vnni", "amx", "neon")

Command = TypeVar("Command", bound=Callable[..., Any])


def certainty_options(command: Command) -> Command:
    """Add the options --calibration and --min-probability."""
    for option in (
        click.option(
            "--calibration",
            type=CalibrationType(),
            default="auto",
            show_default=True,
            help="`auto`: the one that `calibrate` stored for this model; `off`: none; or a calibration's file.",
        ),
        click.option("--min-probability", type=Probability(0, 1), help="Abstain below this probability."),
    ):
        command = option(command)
    return command


def adapter_option(command: Command) -> Command:
    """Add --adapter, the adapter that answers all rows of a command."""
    return click.option(
        "--adapter",
        type=NamedAdapter(),
        multiple=True,
        callback=_single,
        help="Answer with this adapter, made by `convert --adapter-only`.",
    )(command)


def _single(context: click.Context, parameter: click.Parameter, adapters: Sequence[tuple[str, str]]) -> Any:
    if len(adapters) > 1:
        raise UsageError("All rows of a command are answered with one adapter: give --adapter once.")
    return adapters[0] if adapters else None


def adapters_option(command: Command) -> Command:
    """Add --adapter, which may be repeated.

    Requests choose one of these adapters by its name.
    """
    return click.option(
        "--adapter",
        "adapters",
        type=NamedAdapter(),
        multiple=True,
        help="An adapter made by `convert --adapter-only`. Requests choose it by its name. May be given several times.",
    )(command)


def escalate_option(command: Command) -> Command:
    """Add --escalate-below, which makes a cascade of the models in --model."""
    return click.option(
        "--escalate-below",
        type=Probability(0, 1),
        metavar="P",
        help="With --model A,B: rows that A answers with a lower probability are answered by B.",
    )(command)


def check_cascade(escalate_below: float | None, options: Mapping[str, Any]) -> None:
    """Raise UsageError if a cascade gets an adapter or a calibration's file, which are for one model."""
    if escalate_below is not None and (options["adapter"] or options["calibration"] not in ("auto", False)):
        raise UsageError(
            "--escalate-below makes a cascade, which takes no adapter and uses each model's own calibrations: "
            "leave --adapter and --calibration out."
        )


def split_options(options: dict[str, Any]) -> RequestOptions:
    """Remove the options of a request from `options`, and return them.

    The remaining options are for the Runtime. If the command takes one --adapter, the request and the Runtime both get
    it. If the command takes several adapters, only the Runtime gets them.
    """
    request = {name: options.pop(name) for name in REQUEST_OPTIONS if name in options}
    if adapter := options.pop("adapter", None):
        name, path = adapter
        options["adapters"] = {name: path}
        request["adapter"] = name
    elif "adapters" in options:
        pairs = options["adapters"]
        options["adapters"] = dict(pairs)
        if len(options["adapters"]) < len(pairs):
            raise UsageError("Two adapters have the same name", step="give each one a name of its own: NAME=FILE")
    return cast("RequestOptions", request)


def files_read(options: Mapping[str, Any], tasks: Sequence[Task]) -> Iterator[Path]:
    """Yield the files that a command reads: those that `options` name, and those of the user's own tasks.

    `options` are for a model and a request. A model's name and the word `auto` are yielded as if they were paths.
    """
    from ecellm_lite.tasks.custom import files_beside

    yield from map(Path, (options.get("model") or "").split(","))
    _, adapter = options.get("adapter") or ("", "")
    yield from (Path(value) for value in (options.get("calibration"), adapter) if value)
    for source in filter(None, (task.source for task in tasks)):
        yield source
        yield from (source.parent / name for name in files_beside(source))


def debug_option(command: Command) -> Command:
    """Add --debug, which makes main() print an error's traceback."""
    return click.option("--debug", is_flag=True, expose_value=False, help="Show a traceback with an error.")(command)


def model_options(command: Command) -> Command:
    """Add the options that select the model and say how it runs."""
    return click.option(
        "-m",
        "--model",
        type=ModelType(),
        help="A GGUF file, or a name in the store.  [default: ECELLM_MODEL, else your only one beside demo, else demo]",
    )(engine_options(command))


def engine_options(command: Command) -> Command:
    """Add the options for how a model runs."""
    for option in reversed(
        [
            click.option(
                "--envelope",
                type=click.Choice(list(ENVELOPES)),
                help="The text around prompts, if the model does not name it.",
            ),
            click.option(
                "--gpu-layers",
                type=GpuLayers(),
                default="auto",
                show_default=True,
                help="Layers on the GPU: as many as fit (auto), all, or N.",
            ),
            click.option(
                "--threads", type=click.IntRange(1, 1024), help="Threads to compute with.  [default: one per core]"
            ),
            click.option(
                "--context",
                type=click.IntRange(256, 1 << 20),
                help="The context: how many tokens fit in memory.  [default: up to 4096]",
            ),
            click.option(
                "--prompt-kernels",
                type=click.Choice(PROMPT_KERNELS),
                default="auto",
                show_default=True,
                help="Kernels that read prompts: the fastest for this machine, or `off` for llama.cpp's own.",
            ),
            click.option(
                "--deterministic", is_flag=True, help="Give a row the same answer, byte for byte, whatever else runs."
            ),
            click.option(
                "--seed",
                type=click.IntRange(0, 2**32 - 1),
                default=0,
                show_default=True,
                help="The seed of sampled text.",
            ),
            click.option("--quiet", is_flag=True, help="No progress and no summary."),
        ]
    ):
        command = option(command)
    return debug_option(command)
