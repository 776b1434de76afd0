"""Checks that a job's files are all different, so that the job overwrites neither its table nor its other files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from ecellm_lite.errors import UsageError
from ecellm_lite.jobs.journal import journal_of
from ecellm_lite.jobs.output import HasDescriptor, is_read_from, part_of
from ecellm_lite.jobs.review import review_of
from ecellm_lite.models.files import same_file


def check_files(
    source: HasDescriptor,
    output: Path | None,
    *,
    reviewed: bool,
    report: Path | None = None,
    labelled: Path | None = None,
    corrections: Path | None = None,
) -> None:
    """Raise UsageError if the job would write a file that it also reads, or write one file twice.

    `source`: the open table. `output`: None for standard output. `reviewed`: whether the job writes a review table.
    `labelled`: the file for the corrected rows. `corrections`: the review table that the job reads.
    """
    others = [(setting, path) for setting, path in (("report", report), ("labelled", labelled)) if path]
    written = [("output", output), *others]
    if output and reviewed:
        written.append(("output", review_of(output)))
    for setting, path in written:
        if is_read_from(path, source):
            name = f"{path}, or from its unfinished file" if path else "the file that standard output goes to"
            raise UsageError(f"The rows are read from {name}", step="write to another file", settings=(setting,))
        if path and corrections and same_file(path, corrections):
            raise UsageError(f"The corrections are read from {path}", step="write to another file", settings=(setting,))
    for setting, path in others:
        if output and any(same_file(path, own) for own in _files_of(output)):
            raise UsageError(
                f"The job with the output {output} already writes to {path}",
                step="give another file",
                settings=(setting,),
            )
    if report and labelled and same_file(report, labelled):
        message = f"The report and the corrected rows have the same file, {report}"
        raise UsageError(message, step="give two files", settings=("report", "labelled"))


def check_inputs(written: Mapping[str, Path | None], read: Iterable[Path]) -> None:
    """Raise UsageError if a file to write is one of the files that are read, such as the model or a task's file.

    `written`: the files to write, by the names of their settings. None stands for a file that is not wanted.
    """
    files = [path for path in read if os.path.isfile(path)]  # noqa: PTH113 - Path.is_file raises for a long name
    for setting, path in written.items():
        if path and any(same_file(path, file) for file in files):
            step = "write to another file"
            raise UsageError(f"{path} is one of the files to read", step=step, settings=(setting,))


def _files_of(output: Path) -> tuple[Path, ...]:
    """Return the paths of the output, its review table, their unfinished files, and the journal."""
    target, review = output.resolve(), review_of(output).resolve()
    return target, part_of(target), review, part_of(review), journal_of(target)
