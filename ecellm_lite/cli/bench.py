"""`ecellm-lite bench`: how fast this machine is with a model, and which settings make it faster."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from statistics import median
from typing import TYPE_CHECKING, Any

import click

from ecellm_lite.cli.options import model_options
from ecellm_lite.cli.progress import waiting
from ecellm_lite.envelopes import Envelope, get_envelope
from ecellm_lite.errors import UsageError

if TYPE_CHECKING:
    from ecellm_lite.bench.rates import Rates
    from ecellm_lite.bench.tuner import Trial
    from ecellm_lite.engine.llama import Settings
    from ecellm_lite.models.store import Store, StoredModel
    from ecellm_lite.models.tuning import Tuning


@click.command()
@click.option("--tune", is_flag=True, help="Look for faster settings, and keep them for this model and machine.")
@click.option("--lossy", is_flag=True, help="With --tune: also try a KV memory in 8 bits, which changes answers.")
@click.option("--rows", type=click.IntRange(1, 10_000), help="Rows a task.  [default: as many as take two seconds]")
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
    **given: Any,
) -> None:
    """Measure this machine with this model: tokens read and written a second, rows of the ten tasks, memory.

    The rows are the shipped examples with their words shuffled. With --tune, settings are tried in turn with the
    defaults, and what clearly wins is what later runs take where they are not told otherwise.
    """
    from ecellm_lite.demo.build import ensure_demo
    from ecellm_lite.models.resolve import resolve
    from ecellm_lite.models.store import Store

    if lossy and not tune:
        raise UsageError("--lossy says what --tune may try: give both.")
    if tune and deterministic:
        raise UsageError("Deterministic runs take nothing from a tuning: give --tune or --deterministic, not both.")
    store = Store()
    found = resolve(model, store, {"demo": ensure_demo}, envelope=envelope)
    spoken = get_envelope(envelope or found.manifest.envelope)
    if tune:
        tuning = _tune(store, found, spoken, given, lossy, rows, quiet)
        settled = ", ".join(f"{name} {value}" for name, value in tuning.settings.items())
        kept = f"Kept for {found.manifest.name} on this machine: {settled or 'the defaults'}."
        click.echo(json.dumps(asdict(tuning), indent=2) if as_json else kept)
        return
    settings, rates = _measure(store, found, spoken, {**given, "deterministic": deterministic}, rows, quiet)
    if as_json:
        named = {"name": found.manifest.name, "sha256": found.manifest.sha256}
        click.echo(json.dumps({"model": named, "settings": asdict(settings), **rates.as_dict()}, indent=2))
    else:
        _show(found, settings, rates)


def _measure(
    store: Store, model: StoredModel, envelope: Envelope, given: Mapping[str, Any], rows: int | None, quiet: bool
) -> tuple[Settings, Rates]:
    """Measure the model as a run with these options would have it."""
    from ecellm_lite.bench.rates import measure
    from ecellm_lite.engine.tuned import tuned_settings

    settings = tuned_settings(store, model, **given)
    with waiting("measuring", hidden=quiet) as say:
        return settings, measure(model.path, envelope, settings, rows=rows, say=say)


def _tune(
    store: Store,
    model: StoredModel,
    envelope: Envelope,
    given: Mapping[str, Any],
    lossy: bool,
    rows: int | None,
    quiet: bool,
) -> Tuning:
    """Try the settings that are not given, and keep what wins."""
    from ecellm_lite.bench.tuner import measuring, tune
    from ecellm_lite.engine.llama import Settings, available_cores
    from ecellm_lite.models.tuning import Tuning, keep_tuning, this_machine

    asked = {name: value for name, value in given.items() if value is not None}
    start = Settings(**{"threads": available_cores(), **asked})

    def tell(trial: Trial) -> None:
        if not quiet:
            click.echo(_line(trial), err=True)

    if not quiet:
        click.echo("Trying settings, each in turn with the best so far: this takes some minutes.", err=True)
    measure = measuring(model.path, envelope, start, rows=rows)
    settings, trials = tune(start, measure, fixed=asked, lossy=lossy, say=tell)
    machine = this_machine(available_cores())
    tuning = Tuning(model.manifest.sha256, machine, start.gpu_layers, settings, [asdict(trial) for trial in trials])
    keep_tuning(store, model, tuning)
    return tuning


def _line(trial: Trial) -> str:
    what = f"{trial.setting} {trial.value}"
    if trial.error:
        return f"{what:20} {trial.error}"
    rates = f"{median(trial.readings):.2f} rows/s against {median(trial.against):.2f}"
    return f"{what:20} {rates}, {'kept' if trial.kept else 'not clearly faster'}"


def _show(model: StoredModel, settings: Settings, rates: Rates) -> None:
    from ecellm_lite.tasks.registry import TASKS

    threads = f"threads {settings.threads}" if settings.threads else "a thread a core"
    click.echo(
        f"{model.manifest.name}, {threads}, micro-batch {settings.micro_batch}, "
        f"flash attention {settings.flash_attention}, KV memory {settings.kv_type}\n"
    )
    click.echo(f"{'loaded in':34} {rates.load_seconds:9.2f} s")
    click.echo(f"{'read, one prompt':34} {rates.prefill:9.1f} tokens/s")
    for sequences, rate in rates.decode.items():
        click.echo(f"{f'written, {sequences} at once':34} {rate:9.1f} tokens/s")
    for name, rate in rates.rows.items():
        click.echo(f"{name:34} {rate:9.2f} rows/s   ({TASKS[name].abbreviation})")
    click.echo(f"{'geometric mean':34} {rates.mean:9.2f} rows/s")
    if rates.memory is not None:
        click.echo(f"{'most memory, model and all':34} {rates.memory / 2**20:9,.0f} MiB")
