"""A program that runs a job with a slow fake engine, for tests that kill it. Its arguments are ROWS and OUTPUT."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ecellm_lite import TASKS, Runtime
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.jobs import journal
from ecellm_lite.jobs.job import open_job


class Slow(FakeBackend):
    def decode(self, chunks: Sequence[Any]) -> list[Any]:
        time.sleep(0.005)
        return super().decode(chunks)


def main() -> None:
    journal.UNCOMMITTED_SECONDS = 0.05  # half a second is too long for a test
    rows, output = map(Path, sys.argv[1:])
    with (
        open_job(rows, output, TASKS["sentiment_analysis"]) as job,
        Runtime.over(Slow(), deterministic=True) as runtime,
    ):
        sys.stderr.write("begun\n")
        sys.stderr.flush()
        job.run(runtime)


if __name__ == "__main__":
    main()
