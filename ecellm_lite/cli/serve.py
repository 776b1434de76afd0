"""`ecellm-lite serve`: answers over HTTP."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from ecellm_lite.cli.options import model_options


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address; others than loopback need API keys.")
@click.option("--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="0 takes a free one.")
@click.option("--socket", type=click.Path(path_type=Path), help="A Unix socket instead of an address.")
@click.option(
    "--api-keys",
    type=click.Path(path_type=Path),
    help="A file with NAME KEY [ROWS] a line.  [default: ECELLM_API_KEY, a single key, else none]",
)
@click.option("--allow-host", multiple=True, help="A further name that the server is called by.")
@click.option("--allow-origin", multiple=True, help="A page's origin that may ask from a browser (https://…).")
@click.option(
    "--alias",
    multiple=True,
    default=["jev-*"],
    show_default=True,
    help="A further name, or a pattern of names, that the model answers to.",
)
@click.option(
    "--body-bytes", type=click.IntRange(1024, 16 << 20), default=4 << 20, show_default=True, help="The largest body."
)
@click.option(
    "--rows", type=click.IntRange(1, 100_000), default=1000, show_default=True, help="The most rows of one request."
)
@click.option(
    "--waiting",
    type=click.IntRange(1, 100_000),
    default=4000,
    show_default=True,
    help="The most rows without an answer.",
)
@click.option("--memory-bytes", type=click.IntRange(1 << 24), help="The most memory the engine may allocate.")
@click.option("--nice", type=click.IntRange(0, 19), help="Lower the engine's priority: the higher, the more.")
@click.option("--prefix-files/--no-prefix-files", default=True, help="Keep processed instructions on disk.")
@model_options
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
    **model: Any,
) -> None:
    """Answer over HTTP: tasks, typed decisions, text, batches, and a page. For this machine alone, without API keys.

    Open http://127.0.0.1:8765 in a browser, or:

    \b
    ecellm-lite serve &
    curl http://127.0.0.1:8765/v1/tasks/sentiment_analysis -H 'Content-Type: application/json' \\
      -d '{"row": {"review": "Works, but it is loud."}}'
    """  # noqa: D301 - click needs a real backspace character
    from ecellm_lite.cli.options import split_options
    from ecellm_lite.cli.progress import waiting as shown
    from ecellm_lite.serve.extras import check_extras

    check_extras()
    from ecellm_lite.pipe.child_runtime import ChildRuntime
    from ecellm_lite.serve.app import create_app
    from ecellm_lite.serve.keys import Key, Keys, read_keys
    from ecellm_lite.serve.limits import Limits
    from ecellm_lite.serve.listening import listen
    from ecellm_lite.serve.server import check_private, run
    from ecellm_lite.serve.service import Service

    split_options(model)
    quiet = model.pop("quiet")
    single = os.environ.get("ECELLM_API_KEY")
    keys = Keys(read_keys(api_keys) if api_keys else [Key.of("ECELLM_API_KEY", single)] if single else [])
    listening = listen(host, port, socket)
    check_private(listening, keys)
    limits = Limits(body_bytes=body_bytes, rows=rows, waiting=waiting)
    with shown("loading the model", hidden=quiet):
        answerer = ChildRuntime(**model)
    with answerer:
        if not quiet:
            click.echo(f"{answerer.model.name} answers at {listening.name}", err=True)
        service = Service(answerer, limits, keys, alias)
        run(create_app(service, listening.access(allow_host, allow_origin)), listening, limits)
