"""Writes results files, each with the command, the version and the machine that produced it."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ecellm_lite import __version__, ggml
from ecellm_lite.engine.settings import available_cores
from ecellm_lite.models.files import replacing


def write_results(output: Path, module: str, results: Mapping[str, Any]) -> None:
    """Write the results and the facts of this run to a JSON file, atomically.

    `module`: the benchmark's module without its package, such as "adapters".
    """
    facts = {
        "command": " ".join(["python -m", f"benchmarks.{module}", *sys.argv[1:]]),
        "version": __version__,
        "llama_cpp_python": ggml.version(),
        "machine": f"{platform.machine()}, {available_cores()} cores, {ggml.system_info().strip()}",
        **results,
    }
    with replacing(output) as temporary:
        temporary.write_text(json.dumps(facts, indent=2) + "\n", "utf-8")
