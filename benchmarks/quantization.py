"""Finds the best file type of a model for this machine, by the quality and the speed of each type's answers.

    python -m benchmarks.quantization --imatrix-tool imatrix-build/bin/llama-imatrix

A base model and its adapters are converted to each file type without an imatrix. If the type can use an imatrix, they
are also converted with one. llama.cpp's llama-imatrix makes the imatrix from the F16 file and rows of `train.jsonl`. A
file is left out if an earlier file has the same weights: the same tensor types, with an imatrix for both files or for
neither.

Rows of `test.jsonl` are answered in deterministic mode, so only the weights can cause a difference from F16. Tokens per
second are measured as in `ecellm-lite bench`. All files are measured one after the other, several times, and rates are
medians.

A file is suitable if it meets both conditions:

- on each task, its metric is not below the 95% interval of F16's metric;
- its answers are the same as F16's on at least 97% of the rows.

The smallest and the fastest of the suitable files are recommended.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import click

from benchmarks.facts import write_results
from benchmarks.importance import collect, lessons
from benchmarks.type_report import REFERENCE, picture, sentence, spelt
from benchmarks.verdict import LEAST_AGREEMENT, Rated, agreement, divergence, recommended
from ecellm_lite import Answer, Runtime
from ecellm_lite.bench.rates import decode_rate, prefill_rate
from ecellm_lite.convert.conversion import prepare_conversion
from ecellm_lite.convert.request import ConversionRequest
from ecellm_lite.demo.build import ENVELOPE, shipped_weights
from ecellm_lite.engine.llama import LlamaBackend
from ecellm_lite.engine.settings import Settings, available_cores
from ecellm_lite.envelopes import get_envelope
from ecellm_lite.evaluate.bootstrap import interval
from ecellm_lite.evaluate.evaluation import measure_rows
from ecellm_lite.evaluate.labelled import Labelled
from ecellm_lite.evaluate.labelled_files import gather, labelled_files
from ecellm_lite.models.files import replacing, sha256_of
from ecellm_lite.models.manifest import Manifest
from ecellm_lite.tasks.registry import TASKS, get_task

FILE_TYPES = ("F16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_0", "Q4_K_M", "Q4_K_S", "Q4_0", "Q3_K_M", "Q2_K")
WEIGHED = frozenset(FILE_TYPES[3:])  # above five bits an imatrix changes almost nothing
ADAPTER = Path("ecellm_lite/demo/adapter")
DEFAULT_TASKS = ("PM", "SA", "PRP", "AVE")

TaskAnswers = Mapping[str, list[Answer]]  # by task
TaskRows = Mapping[str, Sequence[Labelled]]  # by task


@dataclass(frozen=True, slots=True)
class File:
    """A converted file.

    - `types`: the type of each tensor, by its name.
    - `counts`: for each type, how many tensors of the file have it.
    - `bits`: the mean bits per weight.
    - `source_types`: for each type, how many tensors of the source have it.
    - `imatrix`: whether an imatrix was used.
    """

    path: Path
    manifest: Manifest
    types: Mapping[str, str]
    counts: Mapping[str, int]
    bits: float
    source_types: Mapping[str, int]
    imatrix: bool


@click.command()
@click.option("--base", help="A checkpoint or a GGUF file.  [default: the demo's]")
@click.option("--lora", type=click.Path(exists=True, path_type=Path), multiple=True, help="[default: the demo's]")
@click.option("--envelope", help="The text around the prompt, if the base does not say.")
@click.option(
    "--type", "types", type=click.Choice(FILE_TYPES), multiple=True, help="In addition to F16.  [default: all]"
)
@click.option("--data", type=click.Path(exists=True, path_type=Path), default=Path("../shared/data"), show_default=True)
@click.option("--task", "tasks", multiple=True, default=DEFAULT_TASKS, show_default=True, help="Repeatable.")
@click.option("--rows", type=click.IntRange(1), default=60, show_default=True, help="Of each task, spread evenly.")
@click.option("--imatrix-tool", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="llama-imatrix.")
@click.option("--imatrix-data", type=click.Path(exists=True, path_type=Path), default=Path("../shared/data"))
@click.option("--imatrix-rows", type=click.IntRange(1), default=100, show_default=True, help="Over all tasks.")
@click.option("--turns", type=click.IntRange(1), default=5, show_default=True, help="Measurements of each rate.")
@click.option("--threads", type=click.IntRange(1), help="[default: one per core]")
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/quantization.json"))
@click.option("--figure", type=click.Path(path_type=Path), default=Path("benchmarks/figures/quantization.svg"))
def main(
    base: str | None,
    lora: tuple[Path, ...],
    envelope: str | None,
    types: tuple[str, ...],
    data: Path,
    tasks: tuple[str, ...],
    rows: int,
    imatrix_tool: Path | None,
    imatrix_data: Path,
    imatrix_rows: int,
    turns: int,
    threads: int | None,
    output: Path,
    figure: Path,
) -> None:
    """Convert the model to each file type, measure the quality and speed of each, and write the results and a chart."""
    if base is None:
        base, lora, envelope = str(shipped_weights()), lora or (ADAPTER,), envelope or ENVELOPE
    chosen_tasks = [get_task(name) for name in tasks]
    data_files = labelled_files(data, chosen_tasks)
    gathered = gather(data_files, chosen_tasks, limit=rows)
    labelled = gathered.rows
    kinds = [name for name in FILE_TYPES if name in {REFERENCE, *(types or FILE_TYPES)}]
    cores = threads or available_cores()
    with tempfile.TemporaryDirectory() as temporary:
        folder, left_out = Path(temporary), {}
        request = ConversionRequest(base, folder / "F16.gguf", REFERENCE, tuple((one, 1.0) for one in lora), envelope)
        reference = converted(request, cores, {})
        assert isinstance(reference, File)
        files = {REFERENCE: reference}
        imatrix_facts: dict[str, Any] | str = "left out: --imatrix-tool sets the path of llama-imatrix"
        imatrix = folder / "imatrix.gguf"
        if imatrix_tool:
            click.echo(f"collecting an imatrix with {imatrix_tool.name}", err=True)
            tested = [row for each in labelled.values() for row in each]
            texts = lessons(imatrix_data, chosen_tasks, imatrix_rows, get_envelope(reference.manifest.envelope), tested)
            collect(imatrix_tool, reference.path, texts, imatrix, cores)
            imatrix_facts = {"rows": len(texts), "split": "train", "sha256": sha256_of(imatrix)}
        for kind in kinds[1:]:
            for importance in (None, imatrix) if imatrix_tool and kind in WEIGHED else (None,):
                name = f"{kind} + imatrix" if importance else kind
                target = folder / f"{name.replace(' + ', '-')}.gguf"
                result = converted(
                    ConversionRequest(base, target, kind, request.adapters, envelope, imatrix=importance), cores, files
                )
                if isinstance(result, File):
                    files[name] = result
                else:
                    left_out[name] = f"its tensors are those of {result}"
                    click.echo(f"{name} is left out: {left_out[name]}", err=True)
        answers = {name: answered(file, labelled, name, cores) for name, file in files.items()}
        rates = measured_rates(files, cores, turns)
    measured = {name: described(files[name], answers, labelled, name, rates[name]) for name in files}
    advice = recommended({name: rated(one) for name, one in measured.items()}, lows(measured[REFERENCE]))
    results = {
        "model": {
            "base": Path(base).name,
            "adapters": [path.name for path in lora],
            "quantized_in_the_base": reference.source_types,
        },
        "threads": cores,
        "turns": turns,
        "data": [asdict(file.hashed) for file in data_files],
        "rows": {name: len(each) for name, each in labelled.items()},
        "unreadable": sum(map(len, gathered.unreadable.values())),
        "imatrix": imatrix_facts,
        "types": measured,
        "left_out": left_out,
        "recommendation": {
            "least_agreement": LEAST_AGREEMENT,
            "fit": list(advice.fit),
            "smallest": advice.smallest,
            "fastest": advice.fastest,
            "sentence": sentence(advice, measured),
        },
    }
    write_results(output, "quantization", results)
    with replacing(figure) as temporary_figure:
        temporary_figure.write_text(picture(results), "utf-8")
    click.echo(sentence(advice, measured))


def converted(request: ConversionRequest, threads: int, others: Mapping[str, File]) -> File | str:
    """Convert the model to a file type, and return the file.

    If a file in `others` has the same weights, nothing is written, and the name of that file is returned. The weights
    are the same if the tensor types are the same, and an imatrix is used for both files or for neither.
    """
    with prepare_conversion(request) as conversion:
        plan = conversion.plan
        types = {tensor.name: tensor.type.name for tensor in plan.tensors}
        for name, other in others.items():
            if other.types == types and other.imatrix == bool(request.imatrix):
                return name
        click.echo(f"converting to {request.target.stem}: {spelt(plan.types)}", err=True)
        manifest = conversion.run(threads=threads)
        return File(
            request.target,
            manifest,
            types,
            plan.types,
            plan.bits_per_weight,
            plan.lossy_source,
            request.imatrix is not None,
        )


def answered(file: File, labelled: TaskRows, name: str, threads: int) -> TaskAnswers:
    """Return the file's answers to each task's rows. `name`: the file's name in the progress messages."""
    with Runtime(file.path, threads=threads, deterministic=True, prefix_files=False) as runtime:
        answers = {}
        for task, rows in labelled.items():
            click.echo(f"{name} answers {task}", err=True)
            answers[task] = list(runtime.answers(task, [row.row for row in rows], calibration=False))
        return answers


def measured_rates(files: Mapping[str, File], threads: int, turns: int) -> dict[str, tuple[float, float]]:
    """Return two rates for each file, in tokens per second: reading and generating.

    The rates are medians over several rounds. Each round measures every file. Files with the same tensor types share a
    measurement, because their speed does not depend on the weights' values.
    """
    keys = {name: tuple(sorted(file.types.items())) for name, file in files.items()}
    first = {key: name for name, key in reversed(keys.items())}
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in first.values()}
    for turn in range(turns):
        for name in sorted(rates, key=list(files).index):
            backend = LlamaBackend(files[name].path, Settings(threads=threads))
            try:
                if backend.cells < backend.max_cells:
                    backend.grow(backend.max_cells)
                rates[name].append((prefill_rate(backend), decode_rate(backend, 1)))
            finally:
                backend.close()
            click.echo(
                f"{turn + 1}/{turns} {name}: {rates[name][-1][0]:.0f} read, {rates[name][-1][1]:.0f} written a second",
                err=True,
            )
    medians = {name: (median(one for one, _ in each), median(one for _, one in each)) for name, each in rates.items()}
    return {name: medians[first[key]] for name, key in keys.items()}


def described(
    file: File,
    answers: Mapping[str, TaskAnswers],
    labelled: TaskRows,
    name: str,
    rates: tuple[float, float],
) -> dict[str, Any]:
    """Return the results for a file as a dict for JSON.

    `name`: the file's key in `answers`. `rates`: the file's tokens per second, first for reading a prompt, then for
    generating. In the result, `agreement` is the fraction of the file's answers that equal F16's answers. `kl` is the
    divergence from F16's probabilities, in nats.
    """
    tasks = {}
    for task, rows in labelled.items():
        one, reference = answers[name][task], answers[REFERENCE][task]
        measured = measure_rows(TASKS[task], rows, one)
        ends = interval(measured.columns, measured.all[measured.primary])
        tasks[task] = {
            "metric": measured.primary,
            "value": round(measured.values()[1][measured.primary], 4),
            "interval": [round(ends.low, 4), round(ends.high, 4)],
            "failed": sum(answer.error is not None for answer in one),
            "agreement": round(agreement(reference, one), 4),
            "kl": rounded(divergence(reference, one)),
        }
    whole, reference = ([answer for each in answers[key].values() for answer in each] for key in (name, REFERENCE))
    return {
        "bytes": file.manifest.size,
        "bits_a_weight": round(file.bits, 3),
        "imatrix": file.imatrix,
        "tensors": file.counts,
        "sha256": file.manifest.sha256,
        "prefill_tokens_per_second": round(rates[0], 1),
        "decode_tokens_per_second": round(rates[1], 1),
        "agreement": round(agreement(reference, whole), 4),
        "kl": rounded(divergence(reference, whole)),
        "tasks": tasks,
    }


def rated(one: Mapping[str, Any]) -> Rated:
    """Return the part of a file's results that decides whether the file is recommended."""
    return Rated(
        one["bytes"],
        one["prefill_tokens_per_second"],
        one["decode_tokens_per_second"],
        one["agreement"],
        {task: each["value"] for task, each in one["tasks"].items()},
    )


def lows(one: Mapping[str, Any]) -> dict[str, float]:
    """Return, for each task, the lower end of the metric's 95% interval. `one`: the results of one file."""
    return {task: each["interval"][0] for task, each in one["tasks"].items()}


def rounded(value: float | None) -> float | None:
    """Round a divergence to 6 digits."""
    return None if value is None else round(value, 6)


if __name__ == "__main__":
    main()
