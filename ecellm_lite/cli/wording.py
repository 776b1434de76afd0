"""Errors as the command line words them: a setting that would help becomes the option of the command that was run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

from ecellm_lite.errors import EcellmError


def worded(error: EcellmError, options: Mapping[str, str]) -> str:
    """Return an error as one sentence; `options` are those of the command, by the settings that they stand for.

    >>> error = EcellmError("The row is too long", step="allow more tokens", settings=["context"])
    >>> worded(error, {})
    'The row is too long: allow more tokens.'
    >>> worded(error, {"context": "--context"})
    'The row is too long: allow more tokens (--context).'
    """
    names = [options[setting] for setting in error.settings if setting in options]
    if not error.step or not names:
        return str(error)
    return f"{error.message}: {error.step} ({', '.join(names)})."


def options_of(command: click.Command) -> dict[str, str]:
    """Return a command's options, in their long form, by the names of its parameters: `--gpu-layers` by `gpu_layers`.

    An option is named after the setting that it holds, which is the name of an argument in the rooms below.
    """
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    return {option.name: max(option.opts, key=len) for option in options if option.name}


def command_of(program: click.Command, arguments: Sequence[str]) -> click.Command:
    """Return the command that a command line runs: of `models pull X` the one that pulls."""
    command = program
    for argument in arguments:
        if not isinstance(command, click.Group):
            break
        command = command.get_command(click.Context(command), argument) or command
    return command
