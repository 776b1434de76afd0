"""Options of jobs over tables: how to read the table, which column fills which field, how to write results."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ecellm_lite.cli.forms import ReviewBelow
from ecellm_lite.cli.plain import plain
from ecellm_lite.cli.wording import options_of, with_options
from ecellm_lite.errors import UsageError

if TYPE_CHECKING:
    from ecellm_lite.cli.options import Command
    from ecellm_lite.jobs.job import JobOptions
    from ecellm_lite.tables.columns import MapOptions
    from ecellm_lite.tables.labelled_table import LabelledOptions
    from ecellm_lite.tables.row import TableOptions

_TABLE = ("encoding", "delimiter", "quote", "header_row", "sheet", "total_rows")
_MAP = ("map", "only_where", "fill_down", "html")
_WRITE = ("bom", "decimal_comma", "safe_cells")


def reading_options(command: Command) -> Command:
    """Add the options that say how a table is read, and which column fills which field."""
    for option in reversed(
        [
            click.option("--map", multiple=True, metavar="FIELD=COLUMN", help="Read a field from a column."),
            click.option("--set", "constants", multiple=True, metavar="FIELD=VALUE", help="Set a field for all rows."),
            click.option("--fill-down", multiple=True, metavar="COLUMN", help="Empty cells take the value above."),
            click.option(
                "--only-where",
                metavar="COLUMN",
                help="Use only rows in which this column has a value. The others stay in a job's output, unanswered.",
            ),
            click.option(
                "--html",
                type=click.Choice(["auto", "text", "keep"]),
                default="auto",
                help="HTML in cells becomes text: where it is clearly HTML (auto), always (text), or never (keep).",
            ),
            click.option("--encoding", help="The table's encoding, such as cp1252."),
            click.option("--delimiter", help="The table's delimiter: a character, or tab."),
            click.option("--quote", help="The table's quoting character, or none."),
            click.option(
                "--header-row", type=click.IntRange(0), help="The line with the column names, or 0 if there is none."
            ),
            click.option("--sheet", help="The sheet of a spreadsheet: its name or number."),
            click.option("--total-rows", is_flag=True, help="Keep rows of totals at the end."),
        ]
    ):
        command = option(command)
    return command


def labelled_options(command: Command) -> Command:
    """Add the options of a command that reads labelled rows: `reading_options`, and --answer-column."""
    return click.option(
        "--answer-column",
        metavar="COLUMN",
        help="A table's column with the right answers.  [default: output, answer, label or gold]",
    )(reading_options(command))


def table_options(command: Command) -> Command:
    """Add the options of a job over a table."""
    for option in reversed(
        [
            click.option(
                "--bom/--no-bom",
                default=None,
                help="Mark CSV as UTF-8 for Excel.  [default: unless the table is plain UTF-8]",
            ),
            click.option(
                "--decimal-comma/--no-decimal-comma",
                default=None,
                help="Write added numbers in CSV as 0,95 or as 0.95.  [default: as the table's numbers]",
            ),
            click.option("--safe-cells", is_flag=True, help="Prevent CSV cells from running as formulas."),
            click.option("--resume", is_flag=True, help="Resume an unfinished job (the default)."),
            click.option("--restart", is_flag=True, help="Answer every row again."),
            click.option("--retry-failed", is_flag=True, help="Answer failed rows again."),
            click.option(
                "--review-below",
                type=ReviewBelow(),
                help="Write a review table of the answers below this probability. `auto`: calibrate's thresholds.",
            ),
            click.option(
                "--corrections",
                type=click.Path(path_type=Path, dir_okay=False),
                help="A corrected review table. Its answers are written into the output.",
            ),
            click.option(
                "--labelled",
                type=click.Path(path_type=Path, dir_okay=False),
                help="Write the corrected and confirmed rows here, for eval, calibrate and train.",
            ),
            click.option(
                "--report",
                type=click.Path(path_type=Path, dir_okay=False),
                help="Write an HTML page about the finished job here.",
            ),
            click.option("--estimate", is_flag=True, help="Answer about 50 rows, estimate the total time, and stop."),
            click.option("--preview", type=click.IntRange(1), metavar="N", help="Show N rows and prompts, and stop."),
        ]
    ):
        command = option(command)
    return reading_options(command)


def job_options(options: dict[str, Any]) -> JobOptions:
    """Remove the options of a job from `options`, and return them."""
    from ecellm_lite.jobs.job import JobOptions
    from ecellm_lite.tables.writers import WriteOptions

    if options.pop("resume") and options["restart"]:
        raise UsageError("--resume continues a job and --restart starts it anew: give one of them.")
    table, mapping = _reading(options)
    return JobOptions(
        table=table,
        map=mapping,
        write=WriteOptions(**{name: options.pop(name) for name in _WRITE}),
        restart=options.pop("restart"),
        retry_failed=options.pop("retry_failed"),
        review_below=options.pop("review_below"),
        report=options.pop("report"),
        worded=partial(with_options, options=options_of(click.get_current_context().command)),
    )


def read_labelled_options(options: dict[str, Any], *, quiet: bool) -> LabelledOptions:
    """Remove the options for reading labelled rows from `options`, and return them.

    Unless `quiet`, standard error says how each table was read.
    """
    from ecellm_lite.tables.labelled_table import LabelledOptions

    table, mapping = _reading(options)
    return LabelledOptions(table, mapping, options.pop("answer_column"), None if quiet else _describe)


def _describe(sentence: str) -> None:
    click.echo(plain(sentence), err=True)


def _reading(options: dict[str, Any]) -> tuple[TableOptions, MapOptions]:
    from ecellm_lite.tables.columns import MapOptions
    from ecellm_lite.tables.row import TableOptions

    constants = _constants(options.pop("constants"))
    return (
        TableOptions(**{name: options.pop(name) for name in _TABLE}),
        MapOptions(constants=constants, **{name: options.pop(name) for name in _MAP}),
    )


def _constants(texts: Sequence[str]) -> dict[str, str]:
    constants: dict[str, str] = {}
    for name, value in map(_pair, texts):
        if name in constants:
            raise UsageError(f'--set {name} is given twice: give it once, a list as {name}=\'["A", "B"]\'.')
        constants[name] = value
    return constants


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise UsageError(f"--set {text!r} is not FIELD=VALUE: give a field, an equals sign and its value.")
    return name, value
