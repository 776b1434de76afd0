"""`ecellm-lite bench`: measures how fast this machine is with a model, and finds faster settings."""

from __future__ import annotations

import json
from dataclasses import asdict
from statistics import median
from typing import TYPE_CHECKING, Any

import click

from ecellm_lite.cli.options import model_options
from ecellm_lite.cli.progress import waiting
from ecellm_lite.envelopes import get_envelope
from ecellm_lite.errors import UsageError

if TYPE_CHECKING:
    from ecellm_lite.bench.rates import Rates
    from ecellm_lite.bench.tuner import Trial
    from ecellm_lite.engine.settings import Settings
    from ecellm_lite.models.store import StoredModel


@click.command()
@click.option("--tune", is_flag=True, help="Find faster settings, and store them for this model and machine.")
@click.option("--lossy", is_flag=True, help="With --tune: also try an 8-bit KV memory, which changes answers.")
@click.option("--rows", type=click.IntRange(1, 10_000), help="Rows per task.  [default: as many as take two seconds]")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@model_options
def bench(
    tune: bool,
    lossy: bool,
    rows: int | None,
    as_json: bool,
    model: str | None,
    envelope: str | None,
    deterministic: bool,
    seed: int,
    quiet: bool,
    **settings: Any,
) -> None:
    """Measure how fast a model runs here: tokens read and written per second, rows of the ten tasks, memory.

    The rows are the shipped examples with their words shuffled. With --tune, each setting is compared with the
    defaults. Settings that are clearly faster become the defaults of later runs.
    """
    from ecellm_lite.cli.loading import find_model

    if lossy and not tune:
        raise UsageError("--lossy is for --tune: give both.")
    if tune and deterministic:
        raise UsageError("Deterministic runs ignore a tuning: give --tune or --deterministic, not both.")
    store, stored = find_model(model, envelope)
    prompts = get_envelope(envelope or stored.manifest.envelope)
    if tune:
        from ecellm_lite.bench.tuner import tune_model
        from ecellm_lite.models.tuning import keep_tuning

        if not quiet:
            click.echo("Comparing each setting with the best so far: this takes some minutes.", err=True)
        fixed = {name: value for name, value in settings.items() if value not in (None, "auto")}
        show = _hidden if quiet else _show_trial
        tuning = tune_model(store, stored, prompts, fixed=fixed, lossy=lossy, rows=rows, show=show)
        changed = ", ".join(f"{name} {value}" for name, value in tuning.settings.items()) or "the defaults"
        sentence = f"The fastest for {stored.manifest.name} on this machine: {changed}."
        # Shown first: it took minutes, and the disk may be full by now.
        click.echo(json.dumps(asdict(tuning), indent=2) if as_json else sentence)
        keep_tuning(store, stored, tuning)
        if not as_json:
            click.echo("Later runs use these settings.")
        return
    from ecellm_lite.bench.rates import measure
    from ecellm_lite.engine.tuned import tuned_settings

    chosen = tuned_settings(store, stored, **settings, deterministic=deterministic)
    with waiting("measuring", hidden=quiet) as update:
        rates = measure(stored.path, prompts, chosen, rows=rows, say=update)
    if as_json:
        identity = {"name": stored.manifest.name, "sha256": stored.manifest.sha256}
        click.echo(json.dumps({"model": identity, "settings": asdict(chosen), **rates.as_dict()}, indent=2))
    else:
        _show(stored, chosen, rates)


def _hidden(_: Trial) -> None: ...


def _show_trial(trial: Trial) -> None:
    name = f"{trial.setting} {trial.value}"
    if trial.error:
        click.echo(f"{name:20} {trial.error}", err=True)
        return
    rates = f"{median(trial.readings):.2f} rows/s against {median(trial.baseline):.2f}"
    click.echo(f"{name:20} {rates}, {'kept' if trial.wins else 'not clearly faster'}", err=True)


def _show(model: StoredModel, settings: Settings, rates: Rates) -> None:
    from ecellm_lite.tasks.registry import TASKS

    kernels = rates.prompt_kernels
    used = kernels.variant or f"off ({kernels.reason})"
    threads = f"threads {settings.threads}" if settings.threads else "one thread per core"
    click.echo(
        f"{model.manifest.name}, {threads}, micro-batch {settings.micro_batch}, "
        f"flash attention {settings.flash_attention}, KV memory {settings.kv_type}, "
        f"prompt kernels {used}\n"
    )
    click.echo(f"{'loaded in':34} {rates.load_seconds:9.2f} s")
    click.echo(f"{'read, one prompt':34} {rates.prefill:9.1f} tokens/s")
    for sequences, rate in rates.decode.items():
        click.echo(f"{f'written, {sequences} at once':34} {rate:9.1f} tokens/s")
    for name, rate in rates.rows.items():
        click.echo(f"{name:34} {rate:9.2f} rows/s   ({TASKS[name].abbreviation})")
    click.echo(f"{'geometric mean':34} {rates.mean:9.2f} rows/s")
    if settings.deterministic:
        why = f"one at a time: {rates.one_at_a_time}" if rates.one_at_a_time else "together"
        click.echo(f"in deterministic mode, rows run {why}")
    if rates.memory is not None:
        click.echo(f"{'peak memory, with the model':34} {rates.memory / 2**20:9,.0f} MiB")
