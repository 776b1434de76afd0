"""`ecellm-lite doctor`: what this machine and install can do."""

from __future__ import annotations

import json

import click

from ecellm_lite.cli.options import debug_option
from ecellm_lite.errors import EcellmError

_MARKS = {"ok": ("✓", "green"), "note": ("·", "yellow"), "bad": ("✗", "red")}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@debug_option
def doctor(as_json: bool) -> None:
    """Say what this machine and install can do, what is there, and what to do next."""
    from ecellm_lite import doctor as examination
    from ecellm_lite.models.store import Store

    checks = examination.examine(Store())
    if as_json:
        click.echo(json.dumps(examination.as_json(checks), indent=2))
    else:
        for check in checks:
            mark, colour = _MARKS[check.state]
            click.echo(f"{click.style(mark, fg=colour)} {check.name:18} {check.finding}")
            if check.advice:
                click.echo(f"  {'':18} → {check.advice}")
    bad = [check.name for check in checks if check.state == "bad"]
    if bad:
        raise EcellmError(f"{', '.join(bad)} will not work as it is: follow the arrows above.")
