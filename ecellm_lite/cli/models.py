"""`ecellm-lite models`: manages the local store, and folders that other machines pull from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ecellm_lite.cli.forms import WeightedFolder
from ecellm_lite.cli.options import debug_option
from ecellm_lite.cli.plain import plain
from ecellm_lite.cli.types import ModelType
from ecellm_lite.envelopes import ENVELOPES
from ecellm_lite.errors import UsageError

if TYPE_CHECKING:
    from ecellm_lite.provision.pull import Download


@click.group()
def models() -> None:
    """Manage the models in the store (ECELLM_HOME, or else your data folder)."""


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@debug_option
def list_(as_json: bool) -> None:
    """List the models in the store, and the published models."""
    from ecellm_lite.models.description import describe_store
    from ecellm_lite.models.store import Store

    listed = describe_store(Store())
    if as_json:
        click.echo(json.dumps(listed, indent=2))
        return
    for model in listed["store"]:
        size = f"{model['size'] / 2**20:9,.0f} MiB"
        click.echo(plain(f"{model['name']:24}  {size}  {model['envelope']:8}  {model['source']}"))
    for name, problem in listed["damaged"].items():
        click.echo(plain(f"{name:24}  {problem}"))
    if not listed["store"] and not listed["damaged"]:
        click.echo("The store is empty; the demo is made when it is first used.")
    click.echo("\nAvailable with `models pull`:")
    for entry in listed["catalogue"]:
        terms = f"{entry['licence'] or 'licence not known'}{', accepted on the hub' if entry['gated'] else ''}"
        known = f"{entry['parameters'] or '?':>9}      {entry['envelope'] or '?':12}"
        click.echo(f"{entry['name']:28}  {known}  {entry['hub_id']} ({terms})")


@models.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", type=ModelType(), required=True, help="Its name in the store, such as eCeLLM-M:Q4_K_M.")
@click.option(
    "--envelope", type=click.Choice(list(ENVELOPES)), help="The text around its prompts, if the model does not say."
)
@click.option("--move", is_flag=True, help="Move the file instead of copying it.")
@debug_option
def add(file: Path, name: str, envelope: str | None, move: bool) -> None:
    """Put a GGUF file into the store."""
    from ecellm_lite.cli.progress import waiting
    from ecellm_lite.models.gguf_header import read_header
    from ecellm_lite.models.store import Store
    from ecellm_lite.provision.envelope import envelope_of_file

    envelope_name = envelope or envelope_of_file(read_header(file), [name, file.name])
    with waiting(f"adding {file.name}", hidden=False):
        model = Store().add(file, name, envelope_name, move=move)
    click.echo(f"{name}: {model.path}, envelope {envelope_name}, sha256 {model.manifest.sha256}")


@models.command()
@click.argument("model")
@click.option("--quant", "file_type", help="The file's type: Q4_K_M, Q8_0, F16 and so on.  [default: Q4_K_M]")
@click.option(
    "--lora",
    "adapters",
    type=WeightedFolder(),
    multiple=True,
    help="A PEFT adapter to merge: a folder or a repository. NAME:0.5 gives it a weight.",
)
@click.option("--name", type=ModelType(), help="Its name in the store.  [default: its own name and type]")
@click.option(
    "--envelope", type=click.Choice(list(ENVELOPES)), help="The text around its prompts, if the model does not say."
)
@click.option("--revision", help="A branch, tag or commit of the repository.  [default: the newest]")
@click.option("--threads", type=click.IntRange(1, 1024), help="Threads to compute with.  [default: one per core]")
@click.option("--keep", is_flag=True, help="Keep the downloaded weights in the hub's cache, to convert them again.")
@click.option("--quiet", is_flag=True, help="No progress and no summary.")
@debug_option
@click.option(
    "--key", type=click.Path(path_type=Path, dir_okay=False), help="For an address: the public key of its index."
)
def pull(
    model: str,
    file_type: str | None,
    adapters: tuple[tuple[Path, float], ...],
    name: str | None,
    envelope: str | None,
    revision: str | None,
    threads: int | None,
    keep: bool,
    quiet: bool,
    key: Path | None,
) -> None:
    """Download a model, convert it, check it and put it into the store.

    MODEL is a published model (eCeLLM-M, qwen3-0.6b, or eCeLLM-M:Q8_0 to choose the file type) or a repository of the
    Hugging Face hub (OWNER/NAME). It is converted while it is downloaded. The disk needs room for the result and for
    1.2 times the largest file of the repository. Run the same command again to continue after an interruption.

    MODEL may also be the address of a folder that `models push` wrote, https://HOST/index.json. All its models are then
    brought up to date, and only what changed is downloaded.
    """
    if "://" in model:
        if any((file_type, adapters, name, envelope, revision, keep, threads)):
            raise UsageError("Models from an address are stored unchanged", step="give no option except --key")
        pull_models(model, key, quiet=quiet)
        return
    from ecellm_lite.cli.progress import conversion_progress
    from ecellm_lite.provision.pull import pull as pull_model

    with conversion_progress(hidden=quiet) as progress:
        manifest = pull_model(
            model,
            file_type=file_type,
            adapters=adapters,
            name=name,
            envelope=envelope,
            revision=revision,
            keep=keep,
            threads=threads,
            quiet=quiet,
            progress=progress,
            announce=None if quiet else _show_download,
        )
    if not quiet:
        size = f"{manifest.size / 1e9:.2f} GB"
        click.echo(f"{manifest.name}: {size}, envelope {manifest.envelope}, sha256 {manifest.sha256}")


def _show_download(download: Download) -> None:
    """Print how much a pull will download, and how much disk space it needs."""
    from ecellm_lite.models.files import size_text

    fate = (
        "The weights stay in the hub's cache."
        if download.kept
        else f"It is converted as it arrives and needs {size_text(download.result)} in the store and up to "
        f"{size_text(int(1.2 * download.largest))} meanwhile. The weights are not kept: another --quant downloads them "
        "again, unless you pull with --keep."
    )
    click.echo(f"{download.repository}: {size_text(download.size)} to download. {fate}", err=True)


def pull_models(address: str, key: Path | None, *, quiet: bool) -> None:
    """Update the store's models from the feed at `address`. If a key is given, it is trusted from then on."""
    from ecellm_lite.bundle.feed_pull import pull_feed
    from ecellm_lite.bundle.keys import keys_for, trust
    from ecellm_lite.cli.progress import bytes_progress
    from ecellm_lite.models.store import Store

    keys = keys_for(key)
    with bytes_progress("fetching", hidden=quiet) as progress:
        pulled = pull_feed(address, keys, Store(), progress=progress)
    if key:
        trust(keys[0])
    if not quiet:
        changed = ", ".join(pulled.changed) or "nothing has changed"
        click.echo(plain(f"{pulled.index.name}, serial number {pulled.index.serial}: {changed}"))


@models.command()
@click.argument("model", type=ModelType())
@click.option(
    "--to",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="The folder to write, for a web server.",
)
@click.option(
    "--sign",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="Your secret key, from `bundle keygen`.",
)
@click.option("--name", help="The index's name, if the folder is new.  [default: the folder's name]")
@click.option(
    "--serial", type=click.IntRange(1), help="The index's number, higher than the last one's.  [default: the time]"
)
@debug_option
def push(model: str, folder: Path, sign: Path, name: str | None, serial: int | None) -> None:
    """Put a model into a folder from which other machines pull it by `models pull https://…/index.json`."""
    from ecellm_lite.bundle.feed import push as push_model
    from ecellm_lite.bundle.keys import read_secret_key
    from ecellm_lite.cli.progress import waiting
    from ecellm_lite.loading import find_model

    key = read_secret_key(sign)
    store, stored = find_model(model)
    with waiting(f"writing {stored.manifest.name}", hidden=False):
        index = push_model(stored, store, folder, key, name=name, serial=serial)
    click.echo(f"{folder}: {', '.join(one.name for one in index.models)}; {index.name}, serial number {index.serial}")


@models.command()
@click.argument("name", type=ModelType())
@click.option("--verify", is_flag=True, help="Hash the file again and compare.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@debug_option
def show(name: str, verify: bool, as_json: bool) -> None:
    """Show a model's details."""
    from ecellm_lite.models.description import describe_model
    from ecellm_lite.models.store import Store

    facts = describe_model(Store(), name, verify=verify)
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    for key, value in facts.items():
        lines = value if key == "calibrations" else [", ".join(value) if isinstance(value, list) else value]
        for line in lines:
            if line not in ("", {}, None):
                click.echo(f"{key:14} {json.dumps(line) if isinstance(line, dict) else plain(str(line))}")


@models.command()
@click.argument("name", type=ModelType())
@debug_option
def remove(name: str) -> None:
    """Delete a model from the store, with its calibrations."""
    from ecellm_lite.models.store import Store

    Store().remove(name)
    click.echo(f"{name} is removed.")
