"""Writes errors for the command line. For example, an error about the setting `context` names `--context`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

from ecellm_lite.errors import EcellmError


def worded(error: EcellmError, options: Mapping[str, str]) -> str:
    """Return an error as one sentence.

    If `options` has the command's option for a setting, the sentence names the option.

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
    """Return the command's options by the names of Python arguments, such as {"gpu_layers": "--gpu-layers"}.

    If an option's name differs from its parameter's name, both names are keys. For example, the keys `task` and `tasks`
    both have the value `--task`.
    """
    options: dict[str, str] = {}
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            option = max(parameter.opts, key=len)
            options |= {name: option for name in (option.lstrip("-").replace("-", "_"), parameter.name) if name}
    return options


def command_of(program: click.Command, arguments: Sequence[str]) -> click.Command:
    """Return the command that a command line runs, such as `pull` for `models pull X`."""
    command = program
    for argument in arguments:
        if not isinstance(command, click.Group):
            break
        command = command.get_command(click.Context(command), argument) or command
    return command
