"""The command `ecellm-lite`: finds the subcommand, and turns errors into one sentence and an exit code."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from importlib import import_module

import click

from ecellm_lite.cli.plain import plain
from ecellm_lite.cli.wording import command_of, options_of, worded
from ecellm_lite.errors import EcellmError
from ecellm_lite.version import __version__

# The short help of each command; a command is imported only when it is called, so that `--help` is fast.
COMMANDS = {
    "run": "Answer a row, or every row of a file.",
    "tasks": "List and describe the tasks, and add your own.",
    "convert": "Convert a checkpoint and its adapters to a quantized file.",
    "verify": "Check a converted file against its source.",
    "models": "List, pull, push, add, show and remove models.",
    "doctor": "Report what this machine and installation can do.",
    "pipe": "Answer a host program: JSON lines on standard input and output.",
    "serve": "Answer over HTTP: tasks, typed decisions, texts, metrics, and a page.",
    "mcp": "Be a tool server of the Model Context Protocol.",
    "eval": "Measure a model's answers on labelled rows, as the paper does.",
    "calibrate": "Fit a temperature to labelled rows, so that probabilities are reliable.",
    "bundle": "Make, check and install one file for a machine with no network.",
    "bench": "Measure this machine with a model; --tune finds faster settings.",
    "train": "Train an adapter on labelled rows.",
}

# Commands whose file and function have another name; `eval` is the name of a Python built-in.
_NAMES = {"eval": "evaluate"}


class LazyGroup(click.Group):
    """A click group that imports a command only when it is called."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command. Exit with 0 if the program that reads the output, such as `head`, stops early."""
        try:
            try:
                result: object = super().invoke(ctx)
            finally:
                # Flush before an error is shown, so that a failed write is reported instead of it.
                if sys.stdout:
                    sys.stdout.flush()
        except BrokenPipeError:
            _forget_output()
            raise click.exceptions.Exit(0) from None
        return result

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of COMMANDS."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command, or None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        name = _NAMES.get(cmd_name, cmd_name)
        command: click.Command = getattr(import_module(f"ecellm_lite.cli.{name}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands and their short help without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="ecellm-lite")
def cli() -> None:
    """eCeLLM, the e-commerce language models, on your own machine: typed answers with probabilities, offline.

    Exit codes: 0 success; 1 a bug in ecellm-lite, or `doctor` found something that will not work; 2 wrong usage; 3 bad
    input; 4 no such model, or one that is damaged or fails `verify`; 5 a job ended, but some rows failed or some
    corrections could not be applied; 130 interrupted.
    """


def main() -> None:
    """Run the command line, and exit with its exit code."""
    sys.exit(run_command(sys.argv[1:]))


def run_command(arguments: list[str]) -> int:
    """Run one command line and return the exit code.

    An error is printed to stderr as one sentence; --debug adds a traceback.
    """
    try:
        result = cli.main(arguments, prog_name="ecellm-lite", standalone_mode=False)
        return result if isinstance(result, int) else 0  # click returns an exit code for --help and --version
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return 2
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f" (see `{context.command_path} --help`)" if context else ""
        return _fail(f"{error.format_message().rstrip('.')}{hint}.", 2)
    except EcellmError as error:
        sentence = worded(error, options_of(command_of(cli, arguments)))
        return _fail(sentence, error.exit_code, debug="--debug" in arguments)
    except (click.Abort, KeyboardInterrupt):
        return _fail("Interrupted.", 130)
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}:
            return _fault(error, arguments)
        _forget_output()
        return _fail(f"The output cannot be written ({error.strerror}): free some space, or write elsewhere.", 3)
    except Exception as error:  # noqa: BLE001 - the last handler: any error becomes one sentence
        return _fault(error, arguments)


def _fault(error: Exception, arguments: list[str]) -> int:
    sentence = f"A bug in ecellm-lite: {type(error).__name__}: {error}; run again with --debug and report it."
    return _fail(sentence, 1, debug="--debug" in arguments)


def _forget_output() -> None:
    """Redirect standard output to /dev/null, so that Python can close it without an error."""
    if sys.stdout:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(sentence: str, code: int, *, debug: bool = False) -> int:
    """Print an error message and return the exit code. With `debug`, also print the traceback."""
    if debug and sys.stderr:
        traceback.print_exc()
    click.echo(f"ecellm-lite: {plain(sentence)}", err=True)
    return code
