"""Compares the speed of this project with that of other programs that use llama.cpp, and with the machine's limit.

    python -m benchmarks.throughput --llama-server build/bin/llama-server

Each task's first rows of `test.jsonl` are answered by three programs: this project's Runtime in fast mode,
llama-cpp-python's `Llama` class, and llama.cpp's server. The programs run one after the other, with the same file,
prompts and threads. `Llama` and the server get the GBNF grammar that a user would write for the row. The machine's
limit, or roofline, is how fast plain `llama_decode` reads 512 tokens. It is measured before each task.

Each repeat loads the model again in all three programs, so that no program has rows of an earlier repeat in memory.
Before the clock starts, each program answers eight other rows, so that it has the instruction in memory. Rates are
medians over the repeats. Answers are not compared here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

import click

from benchmarks.chart import Group, draw
from benchmarks.facts import write_results
from benchmarks.peers.grammar import gbnf
from benchmarks.peers.llama_class import LlamaClass
from benchmarks.peers.llama_server import SLOTS, LlamaServer
from benchmarks.peers.ours import Ours
from benchmarks.peers.peer import Pass, Peer, PreparedRow, Rows
from benchmarks.peers.plain_decode import PlainDecode
from benchmarks.shares import shares
from ecellm_lite.demo.build import ensure_demo
from ecellm_lite.engine.settings import available_cores
from ecellm_lite.envelopes import Envelope, get_envelope
from ecellm_lite.models.files import replacing
from ecellm_lite.models.resolve import resolve
from ecellm_lite.models.store import Store
from ecellm_lite.tasks.registry import TASKS, get_task
from ecellm_lite.tasks.task import Task

OURS, CLASS, SERVER = "ecellm-lite", "Llama", "llama-server"

WARM_ROWS = SLOTS  # one for each of the server's slots, because each slot keeps a prompt
ROOFLINE_BATCHES = 2

# The answer spaces that are decided on the prompt's last logits; the others decode.
SCORED = {"predicate", "choice"}


@dataclass(slots=True)
class Passes:
    """The measurements of one task.

    - `peers`: the measurements of each pass over the rows, for each program that is compared.
    - `cpu`: the processor time of each peer's passes, in seconds. On a shared machine, processor time is more reliable
      than elapsed time.
    - `roofline`: the tokens per second of plain llama.cpp, measured once in each repeat.
    """

    peers: dict[str, list[Pass]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)
    roofline: list[float] = field(default_factory=list)


@click.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), default=Path("../shared/data"), show_default=True)
@click.option("--model", help="A GGUF file or a model in the store.  [default: demo]")
@click.option("--envelope", help="The text around the prompt, if the model does not say.")
@click.option("--llama-server", "server", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--task", "tasks", multiple=True, help="A task; repeatable.  [default: all ten]")
@click.option("--rows", type=click.IntRange(1), default=32, show_default=True, help="Measured rows per task.")
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True)
@click.option("--threads", type=click.IntRange(1), help="For every peer.  [default: one per core]")
@click.option("--context", type=click.IntRange(256), help="For ours and Llama.  [default: automatic, Llama's 4096]")
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/throughput.json"))
@click.option("--figure", type=click.Path(path_type=Path), default=Path("benchmarks/figures/throughput.svg"))
def main(
    data: Path,
    model: str | None,
    envelope: str | None,
    server: Path | None,
    tasks: tuple[str, ...],
    rows: int,
    repeats: int,
    threads: int | None,
    context: int | None,
    output: Path,
    figure: Path,
) -> None:
    """Measure the tasks, and write the results and their chart."""
    resolved = resolve(model or "demo", Store(), {"demo": ensure_demo}, envelope=envelope)
    model_envelope = get_envelope(envelope or resolved.manifest.envelope)
    cores = threads or available_cores()
    task_rows = {task.name: read_rows(data, task, rows, model_envelope) for task in map(get_task, tasks or TASKS)}
    makers: dict[str, Callable[[], Peer]] = {
        OURS: lambda: Ours(resolved.path, model_envelope.name, cores, context),
        CLASS: lambda: LlamaClass(resolved.path, cores, context),
    }
    if server is None:
        click.echo(f"{SERVER} is left out; --llama-server sets its path.", err=True)
    else:
        makers[SERVER] = lambda: LlamaServer(server, resolved.path, cores)
    passes = {task: Passes() for task in task_rows}
    for repeat in range(repeats):
        run(makers, PlainDecode(resolved.path, cores), task_rows, passes, f"{repeat + 1}/{repeats}")
    click.echo("where the time goes, in a separate pass", err=True)
    results = {
        "model": {"name": resolved.manifest.name, "sha256": resolved.manifest.sha256},
        "threads": cores,
        "repeats": repeats,
        "server": "left out" if server is None else f"{SLOTS} slots",
        **summary(passes, task_rows, shares(resolved.path, model_envelope.name, cores, task_rows)),
    }
    write_results(output, "throughput", results)
    with replacing(figure) as temporary:
        temporary.write_text(picture(results), "utf-8")
    click.echo(means(results))


def read_rows(data: Path, task: Task, rows: int, envelope: Envelope) -> Rows:
    """Return a task's first `rows` rows, which are measured, and some rows after them, which are used as a warm-up."""
    lines = (data / task.name / "test.jsonl").read_text("utf-8").splitlines()[: rows + WARM_ROWS]
    if len(lines) <= WARM_ROWS:
        raise click.ClickException(f"{data / task.name} has {len(lines)} rows, fewer than {WARM_ROWS + 1}.")
    prepared = []
    for row in map(json.loads, lines):
        question = task.question(row)
        prompt = envelope.prompt(question.instruction, question.text, question.options)
        prepared.append(PreparedRow(row, prompt, gbnf(question.space)))
    return Rows(warm=prepared[-WARM_ROWS:], measured=prepared[:-WARM_ROWS])


def run(
    makers: Mapping[str, Callable[[], Peer]],
    roofline: PlainDecode,
    tasks: Mapping[str, Rows],
    passes: Mapping[str, Passes],
    repeat: str,
) -> None:
    """Load all peers. Then, task by task, measure each peer in turn. At the end, free the peers and the roofline.

    The measurements are added to `passes`. `repeat`: the number of the repeat, such as "1/3", for progress messages.
    """
    peers: dict[str, Peer] = {}
    try:
        for name, make in makers.items():
            click.echo(f"{repeat} loading {name}", err=True)
            peers[name] = make()
        for task, rows in tasks.items():
            passes[task].roofline.append(roofline.rate(ROOFLINE_BATCHES))
            for name, peer in peers.items():
                peer.run(task, rows.warm)
                before = peer.cpu_seconds()
                one = peer.run(task, rows.measured)
                after = peer.cpu_seconds()
                passes[task].peers.setdefault(name, []).append(one)
                if before is not None and after is not None:
                    passes[task].cpu.setdefault(name, []).append(after - before)
                failed = f", {one.failures} failed" if one.failures else ""
                click.echo(
                    f"{repeat} {task:34} {name:13} {len(rows.measured) / one.seconds:6.2f} rows/s{failed}", err=True
                )
    finally:
        roofline.close()
        for peer in peers.values():
            peer.close()


def summary(passes: Mapping[str, Passes], task_rows: Mapping[str, Rows], parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the results for each task, as medians over the repeats, and the geometric means over all tasks.

    A task's results have the rows per second of each peer, and the ratio of our rate to each peer's rate. They also
    have our tokens per second as a fraction of the roofline.

    `parts`: for each task, the fraction of our time that each part of a run takes (see shares.py).
    """
    tasks: dict[str, Any] = {}
    for task, done in passes.items():
        rows = len(task_rows[task].measured)
        rates = {name: [rows / one.seconds for one in runs] for name, runs in done.peers.items()}
        computed = [(one.computed or 0) / one.seconds for one in done.peers[OURS]]
        fractions = [rate / limit for rate, limit in zip(computed, done.roofline, strict=True)]
        tasks[task] = {
            "rows": rows,
            "scored": TASKS[task].question(task_rows[task].measured[0].row).space.type in SCORED,
            "rows_per_second": {name: round(median(each), 3) for name, each in rates.items()},
            "each_repeat": {name: [round(rate, 3) for rate in each] for name, each in rates.items()},
            "cpu_seconds_a_row": {name: round(median(each) / rows, 4) for name, each in done.cpu.items()},
            "failures": {name: sum(one.failures for one in runs) for name, runs in done.peers.items()},
            "answer_tokens": {name: runs[0].answer_tokens for name, runs in done.peers.items()},
            "ratios": {name: round(median(rates[OURS]) / median(each), 3) for name, each in rates.items()},
            "tokens_computed": done.peers[OURS][0].computed,
            "tokens_per_second": round(median(computed), 1),
            "of_the_roofline": round(median(fractions), 3),
            "time": parts[task],
        }
    names = [name for name in next(iter(passes.values())).peers if name != OURS]
    return {
        "roofline_tokens_per_second": round(median(rate for done in passes.values() for rate in done.roofline), 1),
        "geometric_means": {
            name: round(geometric_mean(task["ratios"][name] for task in tasks.values()), 3) for name in names
        },
        "tasks": tasks,
    }


def means(results: Mapping[str, Any]) -> str:
    """Return a sentence such as "Geometric mean: 1.42 times llama-server", which says how much faster we are."""
    ratios = " and ".join(f"{mean:.2f} times {peer}" for peer, mean in results["geometric_means"].items())
    return f"Geometric mean: {ratios}."


def picture(results: Mapping[str, Any]) -> str:
    """Return an SVG chart with a bar for each task and peer.

    Beside each bar is the peer's rate, and how many times as fast ecellm-lite is.
    """
    groups = [
        Group(
            TASKS[name].abbreviation,
            [
                (rate, f"{rate:.1f}" + ("" if peer == OURS else f"   \u00d7 {task['ratios'][peer]:.2f}"))
                for peer, rate in task["rows_per_second"].items()
            ],
        )
        for name, task in results["tasks"].items()
    ]
    legend = [OURS, *results["geometric_means"]]
    subtitle = f"After each peer's rate: our rate relative to it. {means(results)}"
    return draw("Rows per second in the ten tasks", subtitle, legend, groups)


if __name__ == "__main__":
    main()
