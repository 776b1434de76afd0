"""`ecellm-lite convert`: converts a checkpoint and its adapters to one quantized file."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import click

from ecellm_lite.cli.forms import Size, TaskNames, TensorTypeOverride, WeightedFolder
from ecellm_lite.cli.options import debug_option
from ecellm_lite.cli.types import ModelType
from ecellm_lite.envelopes import ENVELOPES
from ecellm_lite.errors import ModelError, UsageError

_GIVEN = click.core.ParameterSource.COMMANDLINE
_OF_ADAPTERS = {"base", "adapters", "adapter_only", "file_type", "target", "as_json", "quiet", "debug"}


@click.command()
@click.argument("base")
@click.option(
    "--lora",
    "adapters",
    type=WeightedFolder(),
    multiple=True,
    help="An adapter to merge: a PEFT folder or a GGUF file. DIR:0.5 gives it a weight.",
)
@click.option(
    "--adapter-only",
    is_flag=True,
    help="Write only the adapter, for `run --adapter`. Any number of adapters can share one base.",
)
@click.option(
    "--quant",
    "file_type",
    help="The file's type: Q4_K_M, Q8_0, F16 and so on.  [default: Q4_K_M; F16 with --adapter-only]",
)
@click.option("-o", "--output", "target", type=click.Path(path_type=Path), help="The GGUF file to write.")
@click.option("--name", type=ModelType(), help="Put the file into the store under this name, instead of --output.")
@click.option(
    "--envelope", type=click.Choice(list(ENVELOPES)), help="The text around prompts, if the model does not name it."
)
@click.option(
    "--tasks",
    type=TaskNames(),
    default=(),
    help="The tasks that the model is for, such as a,b.  [default: those of BASE; none with --lora]",
)
@click.option(
    "--tensor-type", "overrides", type=TensorTypeOverride(), multiple=True, help="A different type for some tensors."
)
@click.option("--imatrix", type=click.Path(path_type=Path), help="llama.cpp's importance matrix, in its GGUF form.")
@click.option("--threads", type=click.IntRange(1, 1024), help="Threads to compute with.  [default: one per core]")
@click.option("--max-memory", type=Size(), help="The most memory to use, such as 1GiB.")
@click.option("--dry-run", is_flag=True, help="Print what would be written, and stop.")
@click.option("--resume", is_flag=True, help="Continue an interrupted run.")
@click.option("--hash-inputs", is_flag=True, help="Record the sha256 of every input in the manifest.")
@click.option("--verify", "check", is_flag=True, help="Compare the file with BASE afterwards, as `verify` does.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--quiet", is_flag=True, help="No progress and no summary.")
@debug_option
def convert(
    base: str,
    adapters: tuple[tuple[Path, float], ...],
    adapter_only: bool,
    file_type: str | None,
    target: Path | None,
    name: str | None,
    envelope: str | None,
    tasks: tuple[str, ...],
    overrides: tuple[tuple[str, str], ...],
    imatrix: Path | None,
    threads: int | None,
    max_memory: int | None,
    dry_run: bool,
    resume: bool,
    hash_inputs: bool,
    check: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Convert a checkpoint, with adapters merged into it, to a quantized GGUF file in one pass.

    BASE is a folder of safetensors, a Hugging Face model in the hub's cache (OWNER/NAME), or a GGUF file. The target
    file is written as a whole or not at all. A manifest beside it lists the files that it was made from. --resume
    continues an interrupted run.
    """
    if adapter_only:
        _refuse_other_options()
        _write_adapter(base, adapters, file_type, target, as_json=as_json, quiet=quiet)
        return
    file_type = file_type or "Q4_K_M"
    from ecellm_lite.cli.plan import show_plan
    from ecellm_lite.cli.progress import conversion_progress
    from ecellm_lite.convert.conversion import prepare_conversion
    from ecellm_lite.convert.request import ConversionRequest

    path, manifest_path = _place(target, name)
    request = ConversionRequest(
        base=base,
        target=path,
        file_type=file_type.upper(),
        adapters=adapters,
        envelope=envelope,
        overrides=overrides,
        imatrix=imatrix,
        max_memory=max_memory,
        name=name or "",
        manifest=manifest_path,
        tasks=tasks,
    )
    if check and Path(base).is_file():
        raise UsageError("--verify compares with a checkpoint's folder, and BASE is a GGUF file", step="leave it out")
    workers = threads or os.cpu_count() or 1
    with prepare_conversion(request) as conversion:
        if dry_run:
            show_plan(conversion, workers, as_json=as_json)
            return
        try:
            with conversion_progress(hidden=quiet) as progress:
                manifest = conversion.run(threads=workers, resume=resume, hash_inputs=hash_inputs, progress=progress)
        except KeyboardInterrupt:
            click.echo("ecellm-lite: To continue, run the same command with --resume.", err=True)
            raise
    if check:
        from ecellm_lite.provision.verification import check_against, checkpoint_of, failures

        if problems := failures(check_against(path, checkpoint_of(base), adapters)):
            raise ModelError(f"{path} differs from its original ({problems})", step="report this")
    if as_json:
        click.echo(json.dumps({"path": str(path), "manifest": asdict(manifest)}, indent=2))
    elif not quiet:
        click.echo(
            f"{path}: {manifest.size / 1e9:.2f} GB of {file_type.upper()} in {manifest.details['seconds']:,.0f} s, "
            f"envelope {manifest.envelope}, sha256 {manifest.sha256}"
        )


def _refuse_other_options() -> None:
    """Raise UsageError if the user gave an option that --adapter-only does not use."""
    context = click.get_current_context()
    for option in context.command.params:
        if option.name not in _OF_ADAPTERS and context.get_parameter_source(str(option.name)) is _GIVEN:
            raise UsageError(
                f"{option.opts[0]} is for a model's file", step="leave it out, or leave --adapter-only out"
            )


def _write_adapter(
    base: str,
    adapters: tuple[tuple[Path, float], ...],
    file_type: str | None,
    target: Path | None,
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    from ecellm_lite.convert.adapter_file import FILE_TYPE, write_adapter_file

    if len(adapters) != 1 or target is None:
        raise UsageError("--adapter-only writes one adapter", step="give --lora DIR once, and --output OUT.gguf")
    [(folder, weight)] = adapters
    facts = write_adapter_file(base, folder, target, weight=weight, file_type=(file_type or FILE_TYPE).upper())
    if as_json:
        click.echo(json.dumps(asdict(facts) | {"path": str(facts.path)}, indent=2))
    elif not quiet:
        click.echo(
            f"{target}: {facts.size / 1e6:.1f} MB, {facts.tensors} tensors of {facts.base} with rank up to "
            f"{facts.rank}, sha256 {facts.sha256}"
        )


def _place(target: Path | None, name: str | None) -> tuple[Path, Path | None]:
    """Return the paths of the GGUF file and of its manifest. Outside the store, the second path is None.

    Raises UsageError if both `target` and `name` are given, or neither.
    """
    from ecellm_lite.models.store import Store

    if (target is None) == (name is None):
        raise UsageError("The file needs one place", step="give --output OUT.gguf, or --name NAME for the store")
    if target is not None:
        return target.resolve() if target.is_symlink() else target, None
    place = click.get_current_context().with_resource(Store().placing(str(name)))
    return place.file, place.manifest
