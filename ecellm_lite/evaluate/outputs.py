"""Writes an evaluation's results, as JSON and as a page for a browser.

An existing file is replaced only when the new one is complete. While an evaluation runs, the results of the
finished tasks are in `FILE.part`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ecellm_lite.errors import InputError, UsageError
from ecellm_lite.evaluate.results import Results
from ecellm_lite.jobs.output import check_output, part_of, write_whole
from ecellm_lite.models.files import is_replaceable, same_file


@dataclass(slots=True)
class Outputs:
    """The paths of the results and of the report. A path is None if that file is not wanted.

    `partial` is the file of the results so far. It is None until the first task ends.
    """

    output: Path | None = None
    report: Path | None = None
    partial: Path | None = None

    def check(self, rows: Sequence[Path]) -> None:
        """Raise InputError or UsageError if the results cannot be written, or would overwrite a file of rows."""
        if self.report:
            from ecellm_lite.evaluate.report import page

            page.check()
        for setting, path in (("output", self.output), ("report", self.report)):
            if path is None:
                continue
            check_output(path, setting)
            folder = path.resolve().parent
            if is_replaceable(path) and not os.access(folder, os.W_OK):
                message = f"{path} cannot be written, because no file can be created in {folder}"
                raise InputError(message, step="give another place", settings=(setting,))
            if any(same_file(place, file) for place in (path, part_of(path)) for file in rows):
                raise UsageError(
                    f"{path} or its unfinished file is a file of labelled rows",
                    step="write the results to another file",
                    settings=(setting,),
                )
        if self.output and self.report and same_file(self.output, self.report):
            message = f"The results and the report would be the same file, {self.output}"
            raise UsageError(message, step="give two files", settings=("output", "report"))

    def keep(self, results: Results) -> None:
        """Write the results so far to `FILE.part`. Nothing is written if the output is a device or a pipe."""
        if self.output and is_replaceable(self.output):
            with suppress(InputError):  # the disk is full now, and may have room at the end
                part = part_of(self.output)
                write_whole(part, json.dumps(results.as_dict()), "output")
                self.partial = part

    def write(self, results: Results) -> None:
        """Write the results and the report. Raises InputError if one of them cannot be written."""
        if self.output:
            write_whole(self.output, json.dumps(results.as_dict()), "output")
        if self.partial:
            self.partial.unlink(missing_ok=True)
            self.partial = None
        if self.report:
            from ecellm_lite.evaluate.report import page

            write_whole(self.report, page.page(results), "report")
