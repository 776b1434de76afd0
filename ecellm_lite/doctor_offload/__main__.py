"""Answers one row on the CPU or the GPU: `python -m ecellm_lite.doctor_offload JSON` prints the result as JSON.

The argument is a JSON object with `model` (null for the default), `envelope` (or null), `gpu_layers` and `seconds` (the
time limit). The output is {"model": its name, "run": the fields of Run}, or {"error": {"code", "message", "step",
"settings"}}.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import time
from dataclasses import asdict
from typing import Any, TextIO

from ecellm_lite.doctor_offload.comparison import TASK, Run
from ecellm_lite.engine.settings import Settings
from ecellm_lite.errors import EcellmError
from ecellm_lite.runtime import Runtime
from ecellm_lite.tasks.registry import get_task

# The first row on a GPU waits until kernels are compiled and memory is set up; this row takes that time, so that the
# measured row does not.
WARM_UP = {"review": "It does what it should."}


def main() -> None:
    """Answer the row with the settings in the command-line argument, which is JSON."""
    argument = json.loads(sys.argv[1])
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as output:
        # Output of native code goes to standard error, as it must not mix with the result.
        os.dup2(2, 1)
        # A process that hangs is killed when its time is up; before that, this prints where it hangs.
        faulthandler.dump_traceback_later(argument["seconds"] / 2)
        try:
            _answer(argument, output)
        except EcellmError as error:
            failure = {"code": error.code, "message": error.message, "step": error.step, "settings": error.settings}
            _write({"error": failure}, output)


def _answer(argument: dict[str, Any], output: TextIO) -> None:
    started = time.perf_counter()
    # Both placements must compute the same from scratch: without instruction states of an earlier process, without a
    # calibration, and with the default settings (a tuning is valid either for the CPU or for the GPU).
    settings = Settings()
    with Runtime(
        argument["model"],
        envelope=argument["envelope"],
        gpu_layers=argument["gpu_layers"],
        kv_type=settings.kv_type,
        micro_batch=settings.micro_batch,
        flash_attention=settings.flash_attention,
        prefix_files=False,
    ) as runtime:
        loaded = time.perf_counter()
        placement = runtime.placement
        assert placement is not None
        runtime.answer(TASK, WARM_UP, calibration=False)
        begun = time.perf_counter()
        answer = runtime.answer(TASK, get_task(TASK).example(), calibration=False)
        ended = time.perf_counter()
        assert answer.probabilities is not None
        run = Run(
            placement.description,
            placement.n_gpu_layers,
            answer.value,
            dict(answer.probabilities),
            round(loaded - started, 3),
            round(ended - begun, 3),
        )
        # Before the model is closed: a driver may crash then, and the row already has its answer.
        _write({"model": runtime.model.name, "run": asdict(run)}, output)


def _write(result: dict[str, Any], output: TextIO) -> None:
    output.write(json.dumps(result))
    output.flush()


if __name__ == "__main__":
    main()
