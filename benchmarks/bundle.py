"""Claim: a bundle is made and checked about as fast as its bytes are copied and hashed, in constant memory.

    python -m benchmarks.bundle --wheels FOLDER --program FOLDER

A bundle is one file that installs a model on a machine without a network.

A file of random bytes, as large as a model of 7 billion parameters (`--gigabytes`), is put into a bundle. Then the
bundle is verified. Each step has its own process. For comparison, `cp` with `sync` and `sha256sum` are timed too. All
results are medians of `--repeats` runs. The file is in the page cache as far as memory allows.

Then a bundle of the demo is made, verified and installed. The bundle can contain the program as wheels (`--wheels`) and
as a folder that needs no Python (`--program`).
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks.facts import write_results
from ecellm_lite.bundle.archive import open_archive
from ecellm_lite.bundle.contents import Contents, create
from ecellm_lite.bundle.install import install
from ecellm_lite.bundle.keys import make_key
from ecellm_lite.loading import find_model

BLOCK = 1 << 24
MOST_MEMORY = 150  # MiB, of which Python and its modules take about a third


@click.command()
@click.option("--gigabytes", type=click.FloatRange(0, min_open=True), default=4.4, show_default=True)
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True)
@click.option("--wheels", type=click.Path(path_type=Path, exists=True), help="For the demo's bundle with wheels.")
@click.option("--program", type=click.Path(path_type=Path, exists=True), help="For the demo's standalone bundle.")
@click.option("--folder", type=click.Path(path_type=Path, exists=True), help="A folder on the disk to measure.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/bundle.json"))
def main(
    gigabytes: float, repeats: int, wheels: Path | None, program: Path | None, folder: Path | None, output: Path
) -> None:
    """Make and check a large bundle and the demo's bundle, and write the seconds and the memory."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        place = Path(name)
        large = measured(place, int(gigabytes * 1e9), repeats)
        ways: dict[str, dict[str, Path | None]] = {"model alone": {}}
        ways |= {"wheels": {"wheels": wheels}} if wheels else {}
        ways |= {"standalone": {"program": program}} if program else {}
        demo = {way: demo_bundle(place, **parts) for way, parts in ways.items()}
    figures = {"large": large, "demo": demo}
    click.echo(json.dumps(figures, indent=2), err=True)
    write_results(output, "bundle", figures)
    if max(large["peak_memory_mib"].values()) > MOST_MEMORY:
        raise SystemExit("A large bundle takes much memory.")


def measured(folder: Path, size: int, repeats: int) -> dict[str, Any]:
    """Measure how long it takes to create and to verify a bundle with one file of `size` random bytes.

    For comparison, `cp` and `sha256sum` are timed on the same file. Returns the median seconds and the megabytes per
    second of each step, and the peak memory in MiB of creating and of verifying.
    """
    source, bundle, copy = folder / "model.gguf", folder / "large.ecb", folder / "copy"
    with source.open("wb") as file:
        for start in range(0, size, BLOCK):
            file.write(os.urandom(min(BLOCK, size - start)))
        os.fsync(file.fileno())
    seconds: dict[str, list[float]] = {"cp and sync": [], "create": [], "sha256sum": [], "verify": []}
    memory: dict[str, float] = {}
    for _ in range(repeats):
        for path in (bundle, copy):
            path.unlink(missing_ok=True)
        seconds["cp and sync"].append(timed(["sh", "-c", 'cp "$1" "$2" && sync "$2"', "sh", str(source), str(copy)]))
        copy.unlink()
        for step, arguments in (("create", ["write", str(source), str(bundle)]), ("verify", ["verify", str(bundle)])):
            command = [sys.executable, "-m", "benchmarks.bundle_step", *arguments]
            facts = json.loads(subprocess.check_output(command))
            seconds[step].append(facts["seconds"])
            memory[step] = max(memory.get(step, 0), round(facts["peak_kib"] / 1024, 1))
        seconds["sha256sum"].append(timed(["sha256sum", str(source)]))
    for path in (source, bundle):
        path.unlink()
    medians = {step: statistics.median(values) for step, values in seconds.items()}
    return {
        "bytes": size,
        "repeats": repeats,
        "seconds": {step: round(value, 2) for step, value in medians.items()},
        "megabytes_per_second": {step: round(size / 1e6 / value) for step, value in medians.items()},
        "peak_memory_mib": memory,
    }


def demo_bundle(folder: Path, **parts: Path | None) -> dict[str, Any]:
    """Create, verify and install a bundle of the demo. Return its size and the seconds of each step.

    `parts`: what the bundle contains besides the model: `wheels=FOLDER` or `program=FOLDER`.
    """
    store, model = find_model("demo")
    key, path, base = make_key(), folder / "demo.ecb", folder / "till"
    started = time.perf_counter()
    create(path, Contents(model, **parts), store, name="demo", serial=time.time_ns() // 1000, key=key)  # type: ignore[arg-type]
    created = time.perf_counter()
    with open_archive(path, [key.public]) as archive:
        archive.verify()
    verified = time.perf_counter()
    install(path, [key.public], base=base)
    installed = time.perf_counter()
    return {
        "bytes": path.stat().st_size,
        "create_seconds": round(created - started, 2),
        "verify_seconds": round(verified - created, 2),
        "install_seconds": round(installed - verified, 2),
    }


def timed(command: Sequence[str]) -> float:
    """Return the seconds that a command takes."""
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
