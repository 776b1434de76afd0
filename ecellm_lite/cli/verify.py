"""`ecellm-lite verify`: checks a converted file against its source."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from ecellm_lite.cli.forms import WeightedFolder
from ecellm_lite.cli.options import debug_option
from ecellm_lite.errors import ModelError, UsageError


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--against",
    "base",
    metavar="BASE",
    help="The source checkpoint to compare tokens and predictions with: a folder or a cached hub id.",
)
@click.option("--lora", "adapters", type=WeightedFolder(), multiple=True, help="An adapter that was merged in.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@debug_option
def verify(file: Path, base: str | None, adapters: tuple[tuple[Path, float], ...], as_json: bool) -> None:
    """Check a GGUF file: its hash, its header and, if the original is given, its tokens and logits."""
    from ecellm_lite.provision.verification import failures
    from ecellm_lite.provision.verification import verify as verify_file

    if adapters and base is None:
        raise UsageError("--lora names what was merged into the original: give --against, too.")
    results = verify_file(file, base, adapters)
    problems = failures(results)
    if as_json:
        click.echo(json.dumps({"passed": not problems, "findings": list(map(asdict, results))}, indent=2))
    else:
        for check in results:
            mark = {True: "ok", False: "WRONG", None: "not checked"}[check.passed]
            click.echo(f"{check.name:10}  {mark:11}  {check.detail}")
    if problems:
        raise ModelError(f"{file} is not as it should be ({problems})", step="convert it again")
