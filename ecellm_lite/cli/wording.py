"""Writes errors for the command line. For example, an error about the setting `context` names `--context`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from copy import copy
from typing import TypeVar

import click

from ecellm_lite.errors import EcellmError

Error = TypeVar("Error", bound=EcellmError)


def worded(error: EcellmError, options: Mapping[str, str]) -> str:
    """Return an error as one sentence.

    If `options` has the command's option for a setting, the sentence names the option.

    >>> error = EcellmError("The row is too long", step="allow more tokens", settings=["context"])
    >>> worded(error, {})
    'The row is too long: allow more tokens.'
    >>> worded(error, {"context": "--context"})
    'The row is too long: allow more tokens (--context).'
    """
    return str(with_options(error, options))


def with_options(error: Error, options: Mapping[str, str]) -> Error:
    """Return a copy of an error whose `step` (what to do next) also names the command's options.

    `options`: the command's option for each setting. If the error has a value for a setting, the value follows the
    option.
    """
    error = copy(error)
    names = [setting for setting in error.settings if setting in options]
    if error.step and names:
        values = [f" {shlex.quote(error.values[name])}" if name in error.values else "" for name in names]
        shown = [options[name] + value for name, value in zip(names, values, strict=True)]
        error.step = f"{error.step} ({', '.join(shown)})"
    return error


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
