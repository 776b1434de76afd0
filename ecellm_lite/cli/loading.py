"""Loads a model for a command. Prints on standard error what a user should know about the model's answers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from ecellm_lite.cli.plain import plain
from ecellm_lite.envelopes import Envelope, get_envelope
from ecellm_lite.errors import UsageError

if TYPE_CHECKING:
    from ecellm_lite.answerer import RequestOptions
    from ecellm_lite.cascade import Cascade
    from ecellm_lite.jobs.ray_cluster import RayRuntime
    from ecellm_lite.models.store import Store, StoredModel
    from ecellm_lite.runtime import Runtime
    from ecellm_lite.tasks.task import Task


def find_model(model: str | None, envelope: str | None) -> tuple[Store, StoredModel]:
    """Return the store and the model. `model` is a path, a model's name, or None for the default model."""
    from ecellm_lite.demo.build import ensure_demo
    from ecellm_lite.models.resolve import resolve
    from ecellm_lite.models.store import Store

    store = Store()
    return store, resolve(model, store, {"demo": ensure_demo}, envelope=envelope)


def envelope_of(model: str | None, envelope: str | None, escalate_below: float | None = None) -> Envelope:
    """Return the envelope named `envelope`, or the model's own if it is None. The model is not loaded.

    With `escalate_below`, `model` names the models of a cascade, and the first model's envelope is returned.
    """
    if escalate_below is not None:
        model = cascade_names(model)[0]
    from ecellm_lite.demo.build import ENVELOPE
    from ecellm_lite.models.resolve import resolve_envelope
    from ecellm_lite.models.store import Store

    return get_envelope(envelope or resolve_envelope(model, Store(), ENVELOPE))


def load_runtime(model: Mapping[str, Any], *, quiet: bool) -> Runtime:
    """Load the model that the command's options describe, and show a spinner meanwhile."""
    from ecellm_lite.cli.progress import waiting

    with waiting("loading the model", hidden=quiet):
        from ecellm_lite.runtime import Runtime

        return Runtime(**model)


def load_answerer(
    model: Mapping[str, Any],
    *,
    quiet: bool,
    escalate_below: float | None = None,
    cluster: bool = False,
    address: str | None = None,
) -> Runtime | Cascade | RayRuntime:
    """Load the model in this process. With `escalate_below`, load a cascade.

    With `cluster`, load the model on every actor of the Ray cluster at `address`.
    """
    if escalate_below is not None:
        return load_cascade(model, escalate_below, quiet=quiet)
    name = model["model"] or ""
    if "," in name and not os.path.exists(name):  # noqa: PTH110 - Path.exists raises for a name that is too long
        raise UsageError(f"--model {name} names several models, which make a cascade: add --escalate-below 0.9, say.")
    if not cluster:
        return load_runtime(model, quiet=quiet)
    from ecellm_lite.cli.progress import waiting

    with waiting("loading the model on the cluster", hidden=quiet):
        from ecellm_lite.jobs.ray_cluster import RayRuntime

        return RayRuntime(address=address, **model)


def load_cascade(model: Mapping[str, Any], escalate_below: float, *, quiet: bool) -> Cascade:
    """Load several models, and return a cascade of them.

    `model` has the command's options for a model. Its key `model` has the models' names, separated by commas, the
    cheapest first. A row whose answer has a probability below `escalate_below` goes on to the next model.

    The models are loaded in reverse order, so that the largest one gets memory first.
    """
    from ecellm_lite.cascade import Cascade

    names = cascade_names(model["model"])
    runtimes: list[Runtime] = []
    try:
        for name in reversed(names):
            runtimes.insert(0, load_one_of_several(model, name, quiet=quiet))
        return Cascade(runtimes, escalate_below=escalate_below)
    except BaseException:
        for runtime in runtimes:
            runtime.close()
        raise


def load_one_of_several(model: Mapping[str, Any], name: str, *, quiet: bool) -> Runtime:
    """Load one of several models, `name`. The options in `model` are the same for all of them.

    Raises UsageError if the model's envelope is unknown. The error does not suggest the option `envelope`, because this
    option would change the envelopes of the other models, too.
    """
    try:
        return load_runtime({**model, "model": name}, quiet=quiet)
    except UsageError as error:
        if "envelope" not in error.settings:
            raise
        step = f"store it with its envelope, by `ecellm-lite models add {name} --name NAME --envelope ENVELOPE`"
        raise UsageError(error.message, step=step) from None


def cascade_names(model: str | None) -> list[str]:
    """Return the names of a cascade's models. Raises UsageError for fewer than two names, or for an empty name."""
    names = [name.strip() for name in (model or "").split(",")]
    if len(names) < 2 or not all(names):
        raise UsageError("--escalate-below needs two models, the cheaper one first: give --model demo,eCeLLM-M.")
    return names


def warn_of_pace(answerer: Runtime | Cascade | RayRuntime) -> None:
    """Print a line for each model that answers rows one at a time, with the reason."""
    for model in getattr(answerer, "answerers", (answerer,)):
        if reason := getattr(model, "one_at_a_time", None):  # only a model in this process can say
            click.echo(f"{plain(model.model.title)} answers one row at a time: {reason}.", err=True)


def warn(answerer: Runtime | Cascade | RayRuntime, task: Task, options: RequestOptions) -> None:
    """Print which layers are on a GPU, if any. Warn if the answers to the task may be unreliable or uncalibrated.

    The models of a cascade are checked one by one, and the lines about each begin with its name.
    """
    models: Sequence[Any] = getattr(answerer, "answerers", (answerer,))
    for model in models:
        if hasattr(model, "uncalibrated"):  # only a model in this process can say
            _warn(model, task, options, f"{plain(model.model.name)}: " if len(models) > 1 else "")


def _warn(runtime: Runtime, task: Task, options: RequestOptions, name: str) -> None:
    adapter = options.get("adapter")  # its tasks are not known
    if runtime.placement and runtime.placement.loads:
        click.echo(f"{name}{runtime.placement.description}.", err=True)
    if not adapter and runtime.intended_tasks and task.name not in runtime.intended_tasks:
        tasks = plain(", ".join(runtime.intended_tasks))
        click.echo(f"{runtime.model.name} is for {tasks}: do not rely on its answers to {task.name}.", err=True)
    instruction, calibration = options.get("instruction"), options.get("calibration", "auto")
    refusal = runtime.uncalibrated(task, instruction=instruction, calibration=calibration, adapter=adapter)
    if refusal and options.get("space") is None:
        click.echo(f"{name}{refusal}", err=True)
