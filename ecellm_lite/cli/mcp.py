"""`ecellm-lite mcp`: offers tools to a Model Context Protocol client, on standard input and output."""

from __future__ import annotations

from typing import Any

import click

from ecellm_lite.cli.options import model_options


@click.command()
@click.option("--memory-bytes", type=click.IntRange(1 << 24), help="The most memory the engine may allocate.")
@click.option("--nice", type=click.IntRange(0, 19), help="Lower the engine's priority; 19 is the lowest.")
@click.option("--prefix-files/--no-prefix-files", default=True, help="Keep processed instructions on disk.")
@model_options
def mcp(**model: Any) -> None:
    """Offer tools to a host: each task is a tool, and `decide` answers the host's own questions about a text."""
    import asyncio
    from importlib.util import find_spec

    from ecellm_lite.cli.options import split_options
    from ecellm_lite.errors import UsageError

    if find_spec("mcp") is None:
        raise UsageError("The Model Context Protocol needs mcp", step="install 'ecellm-lite[mcp]'")
    from ecellm_lite.pipe.child_runtime import ChildRuntime
    from ecellm_lite.serve.mcp_tools import serve

    split_options(model)
    model.pop("quiet")
    with ChildRuntime(**model) as answerer:
        asyncio.run(serve(answerer))
