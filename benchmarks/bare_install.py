"""Measures the time to install a bundle and to ask one question, on a bare Debian without a network.

    python -m benchmarks.bare_install --program FOLDER --wheels FOLDER

A bundle is one file with a model and, optionally, the program: as wheels, or as a folder that needs no Python (the
standalone program). The demo's bundle is copied to a bare Debian system with only the minimal packages. For a bundle
with wheels, the system also has python3. An ordinary user in an empty network namespace installs the bundle with its
own script and asks a question. This is done with an empty file cache, and again with the files in the cache. The
benchmark needs root and debootstrap. Instead of debootstrap, ECELLM_BARE_ROOT may name the folder of a bare system.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from benchmarks.facts import write_results
from ecellm_lite.bundle.contents import Contents, create
from ecellm_lite.bundle.keys import make_key
from ecellm_lite.loading import find_model
from tests.support.bare_system import USER, bare_root, entered

MOST_SECONDS = 60
INSTALL = "cd; sh till.ecb --key shop.pub"
ANSWER = """cd; .local/share/ecellm-lite/bundles/till/current/ecellm-lite run --task sentiment_analysis --json \\
  --input '{"review": "Works, but it is loud, and the lid feels flimsy."}'"""


@click.command()
@click.option("--program", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--wheels", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/bare_install.json"))
def main(program: Path, wheels: Path, output: Path) -> None:
    """Measure how long an installation and a first answer take, with wheels and with the standalone program."""
    seconds = {}
    with tempfile.TemporaryDirectory() as place:
        seconds["standalone program"] = measured(bare_root(Path(place)), program=program)
    with tempfile.TemporaryDirectory() as place:
        seconds["wheels"] = measured(bare_root(Path(place), "python3"), wheels=wheels)
    results: dict[str, Any] = {"seconds": seconds}
    click.echo(json.dumps(results, indent=2), err=True)
    write_results(output, "bare_install", results)
    if max(sum(times.values()) for caches in seconds.values() for times in caches.values()) > MOST_SECONDS:
        raise SystemExit("An installation took more than a minute.")


def measured(root: Path, **part: Path) -> dict[str, dict[str, float]]:
    """Install the demo's bundle in the bare system and ask one question. Return the seconds of both steps.

    Both steps run twice: with an empty file cache, then with the files in the cache.

    `part`: what the bundle contains besides the model, as `wheels=FOLDER` or `program=FOLDER`.
    """
    home = root / "home/till"
    home.mkdir(parents=True)
    store, model = find_model("demo")
    key = make_key()
    key.public.write(home / "shop.pub")
    create(home / "till.ecb", Contents(model, **part), store, name="till", serial=1, key=key)  # type: ignore[arg-type]
    subprocess.run(["chown", "-R", f"{USER}:{USER}", home], check=True)
    times: dict[str, dict[str, float]] = {}
    for cache in ("not in the file cache", "in the file cache"):
        shutil.rmtree(home / ".local", ignore_errors=True)
        if cache.startswith("not"):
            os.sync()
            Path("/proc/sys/vm/drop_caches").write_text("3\n", "ascii")
        times[cache] = {"install": seconds_of(root, INSTALL), "first answer": seconds_of(root, ANSWER)}
    return times


def seconds_of(root: Path, script: str) -> float:
    """Return the seconds that a shell script takes in the bare system with the root folder `root`."""
    started = time.perf_counter()
    ended = entered(root, script)
    if ended.returncode:
        raise SystemExit(ended.stderr)
    return round(time.perf_counter() - started, 2)


if __name__ == "__main__":
    main()
