"""`ecellm-lite models`: the local store."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from ecellm_lite.cli.options import ModelName, debug_option
from ecellm_lite.envelopes import ENVELOPES
from ecellm_lite.errors import ModelError


@click.group()
def models() -> None:
    """List, add, show and remove the models in the store (ECELLM_HOME, else the place for your data)."""


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@debug_option
def list_(as_json: bool) -> None:
    """List the models in the store, and the published ones."""
    from ecellm_lite.models.catalogue import CATALOGUE
    from ecellm_lite.models.store import Store

    store = Store()
    found, damaged = [], {}
    for name in store.names():
        try:
            found.append(store.get(name).manifest)
        except ModelError as error:
            damaged[name] = str(error)
    if as_json:
        listed = {"store": [asdict(one) for one in found], "damaged": damaged}
        click.echo(json.dumps({**listed, "catalogue": [asdict(entry) for entry in CATALOGUE.values()]}, indent=2))
        return
    for one in found:
        click.echo(f"{one.name:24}  {one.size / 2**20:9,.0f} MiB  {one.envelope:8}  {one.source}")
    for name, problem in damaged.items():
        click.echo(f"{name:24}  {problem}")
    if not found and not damaged:
        click.echo("The store is empty; the demo is made when it is first used.")
    click.echo("\nPublished:")
    for entry in CATALOGUE.values():
        click.echo(f"{entry.name:24}  {entry.parameters:>9}      {entry.envelope:8}  {entry.hub_id} ({entry.licence})")


@models.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", type=ModelName(), required=True, help="The name to call it by, eCeLLM-M:Q4_K_M say.")
@click.option(
    "--envelope", type=click.Choice(list(ENVELOPES)), help="The text around its prompts, if its name does not say."
)
@click.option("--move", is_flag=True, help="Move the file instead of copying it.")
@debug_option
def add(file: Path, name: str, envelope: str | None, move: bool) -> None:
    """Put a GGUF file into the store."""
    from ecellm_lite.cli.progress import waiting
    from ecellm_lite.models.gguf_header import read_header
    from ecellm_lite.models.resolve import envelope_of
    from ecellm_lite.models.store import Store

    wanted = envelope or envelope_of(read_header(file), [name, file.name])
    with waiting(f"adding {file.name}", hidden=False):
        model = Store().add(file, name, wanted, move=move)
    click.echo(f"{name}: {model.path}, envelope {wanted}, sha256 {model.manifest.sha256}")


@models.command()
@click.argument("name", type=ModelName())
@click.option("--verify", is_flag=True, help="Hash the file again and compare.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@debug_option
def show(name: str, verify: bool, as_json: bool) -> None:
    """Show what is known of a model."""
    from ecellm_lite.models.files import sha256_of
    from ecellm_lite.models.gguf_header import read_header
    from ecellm_lite.models.store import Store

    model = Store().get(name)
    header = read_header(model.path)
    if verify and (digest := sha256_of(model.path)) != model.manifest.sha256:
        raise ModelError(
            f"The model {name!r} is damaged: its sha256 is {digest} and its manifest says {model.manifest.sha256}; "
            f"remove it with `ecellm-lite models remove {name}` and add it again."
        )
    facts = {
        **asdict(model.manifest),
        "path": str(model.path),
        "architecture": header.metadata.get("general.architecture"),
        "tensors": len(header.tensors),
        "verified": verify or None,
    }
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    for key, value in facts.items():
        if value not in ("", {}, None):
            click.echo(f"{key:14} {json.dumps(value) if isinstance(value, dict) else value}")


@models.command()
@click.argument("name", type=ModelName())
@debug_option
def remove(name: str) -> None:
    """Delete a model from the store."""
    from ecellm_lite.models.store import Store

    Store().remove(name)
    click.echo(f"{name} is removed.")
