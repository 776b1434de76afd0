"""Claim: no task is answered faster by what one would take instead, by more than noise; scored ones run near the limit.

    python -m benchmarks.throughput --llama-server build/bin/llama-server

Each task's first rows of `test.jsonl` are answered by this project's Runtime in fast mode, by llama-cpp-python's
`Llama` class and by llama.cpp's server, from the same file, with the same prompts and threads, one after the other in
one run; both peers have the GBNF grammar that a user would write for the row. The roofline is the rate at which plain
`llama_decode` reads 512 tokens, measured beside each of our passes. For each repeat everything is loaded anew, so that
nobody remembers rows, and warmed up on eight others, so that everybody has the instruction in memory. Rates are
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
from benchmarks.peers.peer import Asked, Pass, Peer, Rows
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

WARM_ROWS = SLOTS  # one for each slot of the server, which keeps a prompt in each
ROOFLINE_BATCHES = 2

# An answer space decided on the prompt's last logits; the others decode.
SCORED = {"predicate", "choice"}


@dataclass(slots=True)
class Passes:
    """A task's passes: of each peer by its name, and the roofline beside each of ours, in tokens a second.

    `cpu` holds the seconds of processor time for each pass: on a machine that others use too, they say more.
    """

    peers: dict[str, list[Pass]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)
    roofline: list[float] = field(default_factory=list)


@click.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), default=Path("../shared/data"), show_default=True)
@click.option("--model", help="A GGUF file or a model in the store.  [default: demo]")
@click.option("--envelope", help="The text around the prompt, if the model does not say.")
@click.option("--llama-server", "server", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--task", "tasks", multiple=True, help="A task, as often as wanted.  [default: all ten]")
@click.option("--rows", type=click.IntRange(1), default=32, show_default=True, help="Measured rows a task.")
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True)
@click.option("--threads", type=click.IntRange(1), help="For every peer.  [default: one a core]")
@click.option("--context", type=click.IntRange(256), help="For ours and for Llama.  [default: ours' own, 4096]")
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
    """Measure the tasks and write the results and their figure."""
    found = resolve(model or "demo", Store(), {"demo": ensure_demo}, envelope=envelope)
    spoken = get_envelope(envelope or found.manifest.envelope)
    used = threads or available_cores()
    asked = {task.name: read_rows(data, task, rows, spoken) for task in [get_task(t) for t in tasks or TASKS]}
    makers: dict[str, Callable[[], Peer]] = {
        OURS: lambda: Ours(found.path, spoken.name, used, context),
        CLASS: lambda: LlamaClass(found.path, used, context),
    }
    if server is None:
        say(f"{SERVER} is left out: --llama-server says where it is.")
    else:
        makers[SERVER] = lambda: LlamaServer(server, found.path, used)
    passes = {task: Passes() for task in asked}
    for repeat in range(repeats):
        run(makers, PlainDecode(found.path, used), asked, passes, f"{repeat + 1}/{repeats}")
    say("where the time goes, in a pass of its own")
    results = {
        "model": {"name": found.manifest.name, "sha256": found.manifest.sha256},
        "threads": used,
        "repeats": repeats,
        "server": "left out" if server is None else f"{SLOTS} slots",
        **summary(passes, asked, shares(found.path, spoken.name, used, asked)),
    }
    write_results(output, "throughput", results)
    with replacing(figure) as temporary:
        temporary.write_text(picture(results), "utf-8")
    click.echo(table(results))


def read_rows(data: Path, task: Task, rows: int, envelope: Envelope) -> Rows:
    """Return the first rows of a task; those that warm up stand behind them in the file."""
    lines = (data / task.name / "test.jsonl").read_text("utf-8").splitlines()[: rows + WARM_ROWS]
    if len(lines) <= WARM_ROWS:
        raise click.ClickException(f"{data / task.name} has {len(lines)} rows: {WARM_ROWS + 1} are the least.")
    asked = []
    for row in map(json.loads, lines):
        question = task.question(row)
        prompt = envelope.prompt(question.instruction, question.text, question.options)
        asked.append(Asked(row, prompt, gbnf(question.space)))
    return Rows(warm=asked[-WARM_ROWS:], measured=asked[:-WARM_ROWS])


def run(
    makers: Mapping[str, Callable[[], Peer]],
    roofline: PlainDecode,
    tasks: Mapping[str, Rows],
    passes: Mapping[str, Passes],
    repeat: str,
) -> None:
    """Load every peer, run each task through one after the other, and free them."""
    peers: dict[str, Peer] = {}
    try:
        for name, make in makers.items():
            say(f"{repeat} loading {name}")
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
                say(f"{repeat} {task:34} {name:13} {len(rows.measured) / one.seconds:6.2f} rows/s{failed}")
    finally:
        roofline.close()
        for peer in peers.values():
            peer.close()


def summary(passes: Mapping[str, Passes], asked: Mapping[str, Rows], parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the medians, the ratios to each peer with their geometric means, and the fractions of the roofline."""
    tasks: dict[str, Any] = {}
    for task, done in passes.items():
        rows = len(asked[task].measured)
        rates = {name: [rows / one.seconds for one in runs] for name, runs in done.peers.items()}
        computed = [(one.computed or 0) / one.seconds for one in done.peers[OURS]]
        fractions = [rate / limit for rate, limit in zip(computed, done.roofline, strict=True)]
        tasks[task] = {
            "rows": rows,
            "scored": TASKS[task].question(asked[task].measured[0].row).space.type in SCORED,
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


def table(results: Mapping[str, Any]) -> str:
    """Return the results as the table that the README shows."""
    names = [OURS, *results["geometric_means"]]
    lines = [
        f"| task | {' | '.join(f'{name}, rows/s' for name in names)} | "
        f"{' | '.join(f'times {name}' for name in names[1:])} | of the roofline |",
        "|---" * (2 * len(names) + 1) + "|",
    ]
    for name, task in results["tasks"].items():
        cells = [f"{task['rows_per_second'][peer]:.1f}" for peer in names]
        cells += [f"{task['ratios'][peer]:.2f}" for peer in names[1:]]
        lines.append(f"| {TASKS[name].abbreviation} | {' | '.join(cells)} | {task['of_the_roofline']:.0%} |")
    means = [f"{results['geometric_means'][peer]:.2f}" for peer in names[1:]]
    lines.append(f"| geometric mean | {'| ' * len(names)}{' | '.join(means)} | |")
    return "\n".join(lines)


def picture(results: Mapping[str, Any]) -> str:
    """Return the results as the README's figure: for each task a bar a peer, behind it its rate and ours over that."""
    said = " and ".join(f"{mean:.2f} times {peer}" for peer, mean in results["geometric_means"].items())
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
    return draw(
        "Rows a second in the ten tasks", f"Behind a peer's rate, ours over it. Geometric mean: {said}.", legend, groups
    )


def say(line: str) -> None:
    """Say how far it is."""
    click.echo(line, err=True)


if __name__ == "__main__":
    main()
