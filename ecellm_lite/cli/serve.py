"""`ecellm-lite serve`: answers over HTTP."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from ecellm_lite.cli.forms import Size
from ecellm_lite.cli.options import adapters_option, engine_options, escalate_option
from ecellm_lite.cli.types import ALL, ModelType
from ecellm_lite.errors import UsageError


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address; any but loopback needs API keys.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="The port; 0 uses a free one."
)
@click.option("--socket", type=click.Path(path_type=Path), help="A Unix socket instead of an address.")
@click.option(
    "--api-keys",
    type=click.Path(path_type=Path),
    help="A file with lines NAME KEY [ROWS].  [default: the single key in ECELLM_API_KEY, else none]",
)
@click.option("--allow-host", multiple=True, help="Another host name that clients may use for the server.")
@click.option("--allow-origin", multiple=True, help="A web site whose pages may send requests (https://…).")
@click.option(
    "--alias",
    multiple=True,
    default=["jev-*"],
    show_default=True,
    help="Another name for the first model, or a pattern of names.",
)
@click.option(
    "--body-bytes",
    type=click.IntRange(1024, 16 << 20),
    default=4 << 20,
    show_default=True,
    help="The largest request body, in bytes.",
)
@click.option(
    "--rows", type=click.IntRange(1, 100_000), default=1000, show_default=True, help="The most rows in one request."
)
@click.option(
    "--waiting",
    type=click.IntRange(1, 100_000),
    default=4000,
    show_default=True,
    help="The most rows that may wait for an answer.",
)
@click.option(
    "-m",
    "--model",
    "models",
    type=ModelType(),
    multiple=True,
    help="A GGUF file or a name in the store; the first is loaded at once, others on demand. `all`: the whole store.  "
    "[default: ECELLM_MODEL, else your only one beside demo, else demo]",
)
@click.option(
    "--memory",
    type=Size(),
    help="The limit for all loaded models (8GiB); the least recently used is unloaded.  [default: the free memory]",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Engine processes for each model. They divide the cores.",
)
@escalate_option
@click.option("--memory-bytes", type=click.IntRange(1 << 24), help="The most memory an engine may allocate.")
@click.option("--nice", type=click.IntRange(0, 19), help="Lower the engine's priority; 19 is the lowest.")
@click.option("--prefix-files/--no-prefix-files", default=True, help="Keep processed instructions on disk.")
@adapters_option
@engine_options
def serve(
    host: str,
    port: int,
    socket: Path | None,
    api_keys: Path | None,
    allow_host: tuple[str, ...],
    allow_origin: tuple[str, ...],
    alias: tuple[str, ...],
    body_bytes: int,
    rows: int,
    waiting: int,
    models: tuple[str, ...],
    memory: int | None,
    workers: int,
    escalate_below: float | None,
    **settings: Any,
) -> None:
    """Answer over HTTP: tasks, typed decisions, text and batches, and a web page.

    Without API keys, only this machine can use it. Open http://127.0.0.1:8765 in a browser, or:

    \b
    ecellm-lite serve &
    curl http://127.0.0.1:8765/v1/tasks/sentiment_analysis -H 'Content-Type: application/json' \\
      -d '{"row": {"review": "Works, but it is loud."}}'
    """  # noqa: D301 - click needs a real backspace character
    from ecellm_lite.cli.loading import cascade_names
    from ecellm_lite.cli.options import split_options
    from ecellm_lite.cli.progress import waiting as shown
    from ecellm_lite.serve.extras import check_extras

    check_extras()
    from ecellm_lite.serve.app import create_app
    from ecellm_lite.serve.fleet import Fleet
    from ecellm_lite.serve.keys import Key, Keys, read_keys
    from ecellm_lite.serve.limits import Limits
    from ecellm_lite.serve.listening import listen
    from ecellm_lite.serve.model_source import ModelSource, StoreModels, cascade_source, free_memory, source_of
    from ecellm_lite.serve.server import check_private, run
    from ecellm_lite.serve.service import Service

    split_options(settings)
    quiet, adapters = settings.pop("quiet"), settings.pop("adapters")
    single = os.environ.get("ECELLM_API_KEY")
    keys = Keys(read_keys(api_keys) if api_keys else [Key.of("ECELLM_API_KEY", single)] if single else [])
    listening = listen(host, port, socket)
    check_private(listening, keys)
    limits = Limits(body_bytes=body_bytes, rows=rows, waiting=waiting)
    names: list[str | None] = [*dict.fromkeys(name for name in models if name != ALL)] or [None]
    others = StoreModels(settings, workers) if ALL in models else None
    if memory is None and (others or workers > 1 or len(names) > 1 or escalate_below is not None):
        memory = free_memory()
    if escalate_below is not None and (adapters or not any("," in (name or "") for name in names)):
        raise UsageError("--escalate-below needs two models and no adapter: give --model demo,eCeLLM-M.")

    def source(name: str | None, **more: Any) -> ModelSource:
        if escalate_below is None or "," not in (name or ""):
            return source_of(name, workers, **more, **settings)
        return cascade_source([source_of(part, workers, **settings) for part in cascade_names(name)], escalate_below)

    with shown("loading the model", hidden=quiet):
        sources = [source(names[0], adapters=adapters), *map(source, names[1:])]
        fleet = Fleet(sources, memory=memory, others=others)
        fleet.load()
    with fleet:
        if not quiet:
            more = len(fleet.names) - 1
            click.echo(
                f"{fleet.default}{f' (and {more} more on demand)' * (more > 0)} answers at {listening.name}", err=True
            )
        service = Service(fleet, limits, keys, alias)
        run(create_app(service, listening.access(allow_host, allow_origin)), listening, limits)
