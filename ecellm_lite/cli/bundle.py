"""`ecellm-lite bundle`: makes and installs one file with all that a machine without a network needs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ecellm_lite.cli.bundle_build import engine, program
from ecellm_lite.cli.forms import NamedAdapter
from ecellm_lite.cli.options import debug_option
from ecellm_lite.cli.plain import plain
from ecellm_lite.cli.types import ModelType, TaskType

if TYPE_CHECKING:
    from ecellm_lite.tasks.task import Task

Command = TypeVar("Command", bound=Callable[..., Any])

_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.group()
def bundle() -> None:
    """Make, check and install one signed file with everything for a machine with no network.

    \b
    ecellm-lite bundle keygen shop
    ecellm-lite bundle create --output till.ecb --model demo --wheels wheels --sign shop.key
    sh till.ecb --key shop.pub

    The last line runs on the other machine, which needs only a shell and, for wheels, Python.
    """  # noqa: D301 - click keeps these line breaks only with the character itself


for _command in (engine, program):
    bundle.add_command(_command)


def trust_options(command: Command) -> Command:
    """Add --key and --unsigned, which say how a bundle must be signed, and --debug."""
    for option in (
        click.option("--unsigned", is_flag=True, help="Accept a bundle without a signature."),
        click.option(
            "--key",
            type=_FILE,
            help="The public key of the bundle's maker.  [default: the keys that you trust already]",
        ),
    ):
        command = option(command)
    return debug_option(command)


base_option = click.option(
    "--to", "base", type=_FOLDER, help="The folder for installed bundles.  [default: your data folder]"
)


@bundle.command()
@click.option("-o", "--output", type=_FILE, required=True, help="The bundle to write.")
@click.option("-m", "--model", type=ModelType(), required=True, help="A GGUF file, or a name in the store.")
@click.option("--wheels", type=_FOLDER, help="A folder of wheels for the other machine's Python.")
@click.option("--program", type=_FOLDER, help="The folder of the standalone program, which needs no Python.")
@click.option(
    "--task",
    "tasks",
    type=TaskType(),
    multiple=True,
    help="A task of your own: its name or its TOML file.  [default: all in the store]",
)
@click.option("--adapter", "adapters", type=NamedAdapter(), multiple=True, help="A LoRA file for the model, NAME=FILE.")
@click.option(
    "--name", help="The bundle's name. A newer bundle replaces an older one of this name.  [default: OUTPUT's]"
)
@click.option(
    "--serial", type=click.IntRange(1), help="The bundle's number, higher than the last one's.  [default: the time]"
)
@click.option("--sign", type=_FILE, help="Your secret key, from `bundle keygen`.")
@click.option("--since", type=_FILE, help="An older bundle; write only what changed since then.")
@debug_option
def create(
    output: Path,
    model: str,
    wheels: Path | None,
    program: Path | None,
    tasks: Sequence[Task],
    adapters: Sequence[tuple[str, str]],
    name: str | None,
    serial: int | None,
    sign: Path | None,
    since: Path | None,
) -> None:
    """Write a bundle: a model with its calibrations, the program, your own tasks, adapters, and licences."""
    from ecellm_lite.bundle.contents import Contents
    from ecellm_lite.bundle.contents import create as create_bundle
    from ecellm_lite.bundle.keys import read_secret_key
    from ecellm_lite.bundle.writer import check_target
    from ecellm_lite.cli.progress import bytes_progress
    from ecellm_lite.loading import find_model
    from ecellm_lite.models.files import size_text
    from ecellm_lite.tasks.registry import load_own, own_files

    check_target(output, [sign] if sign else [])
    key = read_secret_key(sign) if sign else None
    store, stored = find_model(model)
    own = tasks or [load_own(path) for path in own_files().values()]
    files = [task.source for task in own if task.source]  # a built-in task has none, and is in every program
    contents = Contents(stored, wheels, program, files, {adapter: Path(path) for adapter, path in adapters})
    with bytes_progress("writing") as progress:
        index = create_bundle(
            output, contents, store, name=name, serial=serial, key=key, since=since, progress=progress
        )
    count = f"{len(index.included)} of {len(index.files)} files" if since else f"{len(index.files)} files"
    signed = f"signed with the key {key.public.name}" if key else "not signed"
    click.echo(f"{output}: {index.name}, serial number {index.serial}, {count}, {signed}")
    for kind, names in index.named.items():
        click.echo(plain(f"{kind}: {', '.join(names) or 'none'}"))
    click.echo(f"{size_text(output.stat().st_size)}")


@bundle.command()
@click.argument("file", type=_FILE)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@trust_options
def verify(file: Path, key: Path | None, unsigned: bool, as_json: bool) -> None:
    """Check a bundle's signature, and every byte in it."""
    from ecellm_lite.bundle.archive import open_archive
    from ecellm_lite.bundle.keys import keys_for
    from ecellm_lite.cli.progress import bytes_progress

    with open_archive(file, keys_for(key), unsigned=unsigned) as archive, bytes_progress("reading") as progress:
        archive.verify(progress)
    index = archive.index
    facts = {
        "name": index.name,
        "serial": index.serial,
        "created": index.created,
        "model": index.model,
        "platform": index.platform or None,
        "key": archive.key.name if archive.key else None,
        "sha256": archive.sha256,
        "base": index.base,
        **{kind.replace(" ", "_"): names for kind, names in index.named.items()},
        "files": len(index.files),
        "bytes": sum(file.size for file in index.included),
    }
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    for name, value in facts.items():
        text = ", ".join(value) if isinstance(value, list) else value
        if text not in (None, ""):
            click.echo(plain(f"{name:12} {text}"))
    click.echo("It is whole.")


@bundle.command()
@click.argument("file", type=_FILE)
@base_option
@trust_options
def install(file: Path, key: Path | None, unsigned: bool, base: Path | None) -> None:
    """Install a bundle; an older version stays installed beside it. The signing key is trusted from then on."""
    from ecellm_lite.bundle.install import install as install_bundle
    from ecellm_lite.bundle.keys import keys_for, trust
    from ecellm_lite.cli.progress import bytes_progress

    with bytes_progress("installing") as progress:
        installed = install_bundle(file, keys_for(key, base), unsigned=unsigned, base=base, progress=progress)
    if key and installed.key:
        trust(installed.key, base)
    index = installed.version.index
    click.echo(f"{index.name}, serial number {index.serial}, is installed. Start it with\n{installed.command}")
    click.echo("It has its own store: only this command shows and uses the bundle's models and tasks.")


@bundle.command()
@click.argument("name", required=False)
@base_option
@debug_option
def rollback(name: str | None, base: Path | None) -> None:
    """Go back to the version that was installed before."""
    from ecellm_lite.bundle.installation import find_installation

    version = find_installation(name, base).rollback()
    click.echo(f"{version.index.name} is back at serial number {version.index.serial}.")


@bundle.command()
@click.argument("name", type=click.Path(path_type=Path))
@debug_option
def keygen(name: Path) -> None:
    """Make a pair of keys: NAME.key for signing, which must stay secret, and NAME.pub for checking."""
    from ecellm_lite.bundle.keys import make_key
    from ecellm_lite.errors import InputError, UsageError

    if name.name in {"", ".."}:
        raise UsageError(f"{str(name)!r} cannot be the name of keys", step="give a name such as shop")
    secret = make_key()
    secret_file, public_file = name.with_name(f"{name.name}.key"), name.with_name(f"{name.name}.pub")
    if public_file.exists() and not secret_file.exists():
        raise UsageError(f"{public_file} exists, and its secret key is elsewhere: choose another name.")
    try:
        if not secret_file.exists():
            # A secret key without its public key could not be made again.
            secret.public.write(public_file)
        secret.write(secret_file)
    except OSError as error:
        with suppress(OSError):
            public_file.unlink()
        step = "free some space, or give a name in another folder"
        raise InputError(f"The keys {name} cannot be written ({error.strerror})", step=step) from None
    click.echo(f"{secret_file} is secret: keep it off the machines that install. {public_file} goes to them.")
