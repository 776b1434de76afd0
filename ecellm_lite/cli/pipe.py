"""`ecellm-lite pipe`: reads requests from a host program and writes answers, all as lines of JSON.

It uses standard input and output, or a socket.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from ecellm_lite.cli.forms import Cores
from ecellm_lite.cli.options import adapters_option, escalate_option, model_options
from ecellm_lite.errors import UsageError

if TYPE_CHECKING:
    from ecellm_lite.answerer import Answerer
    from ecellm_lite.pipe.session import Progress
    from ecellm_lite.runtime import Runtime


@click.command()
@click.option("--socket", type=click.Path(path_type=Path), help="Serve several programs on this Unix socket.")
@click.option("--isolated", is_flag=True, help="Run the engine in a child process, which is restarted if it dies.")
@click.option(
    "--idle",
    type=click.FloatRange(0, min_open=True),
    help="Free the model's memory after this many seconds without a request; implies --isolated.",
)
@click.option(
    "--lazy", is_flag=True, help="Be ready at once, and load the model for the first request; implies --isolated."
)
@click.option("--cores", type=Cores(), help="Use only this many cores, or the cores of a list such as 0,2 or 2-3.")
@click.option("--memory-bytes", type=click.IntRange(1 << 24), help="The most memory to allocate, besides the model.")
@click.option("--nice", type=click.IntRange(0, 19), help="Lower the priority; 19 is the lowest.")
@click.option("--prefix-files/--no-prefix-files", default=True, help="Keep processed instructions on disk.")
@escalate_option
@adapters_option
@model_options
def pipe(
    socket: Path | None,
    isolated: bool,
    idle: float | None,
    lazy: bool,
    escalate_below: float | None,
    **settings: Any,
) -> None:
    """Answer a host program: one JSON request per line in, one JSON answer per line out.

    \b
    echo '{"id": 1, "task": "sentiment_analysis", "row": {"review": "It works."}}' | ecellm-lite pipe
    """  # noqa: D301 - click needs a real backspace character
    from ecellm_lite.cli.options import split_options
    from ecellm_lite.pipe.serve import load_runtime, serve_socket, serve_standard_streams

    split_options(settings)
    settings.pop("quiet")
    apart = isolated or lazy or idle
    if escalate_below is not None and (apart or settings["adapters"]):
        raise UsageError("--escalate-below runs in this process and without adapters: leave the other option out.")

    def load() -> tuple[Answerer, Progress | None]:
        if escalate_below is not None:
            return load_cascade(escalate_below, **settings)
        if apart:
            from ecellm_lite.pipe.child_runtime import ChildRuntime

            return ChildRuntime(idle_seconds=idle, lazy=lazy, **settings), None
        return load_runtime(**settings)

    if socket:
        serve_socket(load, socket)
    else:
        serve_standard_streams(load)


def load_cascade(
    escalate_below: float, *, memory_bytes: int | None, nice: int | None, cores: Any, **settings: Any
) -> tuple[Answerer, Progress | None]:
    """Limit this process's memory, priority and cores, and load a cascade of models.

    Return the cascade, and a function that reports the progress of all its models together.
    """
    from ecellm_lite.cli import loading
    from ecellm_lite.pipe.serve import limit_process

    limit_process(memory_bytes=memory_bytes, nice=nice, cores=cores)
    cascade = loading.load_cascade(settings, escalate_below, quiet=True)
    runtimes = cast("Sequence[Runtime]", cascade.answerers)

    def progress() -> tuple[bool, int]:
        each = [runtime.progress() for runtime in runtimes]
        return any(busy for busy, _ in each), sum(calls for _, calls in each)

    return cascade, progress
