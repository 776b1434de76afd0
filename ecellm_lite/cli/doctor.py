"""`ecellm-lite doctor`: reports what this machine and installation can do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from ecellm_lite.cli.options import debug_option
from ecellm_lite.cli.plain import plain
from ecellm_lite.cli.types import ModelType
from ecellm_lite.envelopes import ENVELOPES
from ecellm_lite.errors import EcellmError, UsageError

if TYPE_CHECKING:
    from ecellm_lite.doctor_offload.comparison import OffloadCheck

_MARKS = {"ok": ("✓", "green"), "note": ("·", "yellow"), "bad": ("✗", "red")}


@click.command()
@click.option("--offload", is_flag=True, help="Run one row on the CPU and on the GPU, and compare.")
@click.option(
    "-m", "--model", type=ModelType(), help="A model, as in `run`: can it answer rows together with --deterministic?"
)
@click.option("--envelope", type=click.Choice(list(ENVELOPES)), help="The model's envelope, as in `run`.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@debug_option
def doctor(offload: bool, model: str | None, envelope: str | None, as_json: bool) -> None:
    """Report what this machine and installation can do, what is installed, and what to do next."""
    if offload:
        _offload(model, envelope, as_json)
        return
    if envelope and not model:
        raise UsageError("--envelope belongs to a model: give --model, too.")
    from ecellm_lite import doctor as examination
    from ecellm_lite.cli.loading import find_model

    checks = examination.examine(model=find_model(model, envelope)[1].path if model else None)
    if as_json:
        click.echo(json.dumps(examination.as_json(checks), indent=2))
    else:
        for check in checks:
            mark, color = _MARKS[check.state]
            click.echo(f"{click.style(mark, fg=color)} {check.name:18} {check.finding}")
            if check.advice:
                click.echo(f"  {'':18} → {check.advice}")
    bad = [check.name for check in checks if check.state == "bad"]
    if bad:
        raise EcellmError(f"{', '.join(bad)} will not work: follow the arrows above.")


def _offload(model: str | None, envelope: str | None, as_json: bool) -> None:
    from ecellm_lite.cli.progress import waiting

    with waiting("answering a row on the GPU and on the CPU", hidden=False):
        from ecellm_lite.doctor_offload.comparison import compare

        check = compare(model, envelope=envelope)
    if as_json:
        click.echo(json.dumps(check.as_dict(), indent=2))
    else:
        _show(check)
    if check.agrees is False:
        raise EcellmError(
            f"The GPU and the CPU compute different results (probabilities differ by {check.difference:.2f}): "
            "update the GPU's driver and llama-cpp-python, and run with --gpu-layers 0 until then."
        )
    if check.findings:
        names = " and ".join(problem.placement.upper() for problem in check.findings)
        raise EcellmError(f"The row failed on the {names}: follow the arrows above.")


def _show(check: OffloadCheck) -> None:
    if run := check.gpu or check.cpu:
        click.echo(f"{check.model}: {run.placement}\n")
    click.echo(f"{'':5}{'layers on GPU':>15}{'load':>10}{'a row':>10}   answer")
    for name, layers, run in (("CPU", "0", check.cpu), ("GPU", "all", check.gpu)):
        if run is None:
            click.echo(f"{name:5}{layers:>15}{'':20}   none")
            continue
        share = f"{run.value} ({run.probabilities[run.value]:.1%})"
        click.echo(f"{name:5}{run.gpu_layers:>15}{run.load_seconds:>8.2f} s{run.row_seconds:>8.3f} s   {share}")
    if check.difference is not None:
        answers = "The same answer" if check.same_answer else "Another answer"
        click.echo(f"\n{answers}; probabilities differ by at most {check.difference:.4f}.")
    mark, color = _MARKS["bad"]
    for problem in check.findings:
        click.echo(f"\n{click.style(mark, fg=color)} {problem.placement.upper()}  {plain(problem.finding)}")
        click.echo(f"  → {problem.advice}")
        if problem.last_lines:
            click.echo("  The last lines its process wrote (for a crash, the innermost call comes first):")
        for line in problem.last_lines:
            click.echo(f"    {plain(line)}")
