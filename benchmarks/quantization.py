"""Claim: which file type of a model to take on this machine, by what it answers and how fast.

    python -m benchmarks.quantization --imatrix-tool imatrix-build/bin/llama-imatrix

A base and its adapters are converted to each file type, and where it can matter once more with an imatrix, which
llama.cpp's llama-imatrix collects on the F16 file and rows of `train.jsonl`. Rows of `test.jsonl` are answered in
deterministic mode, so that what differs from F16 comes of the weights alone. A file whose tensors are of the same types
as another's has the same bytes behind its header, and is left out. Tokens a second are measured as `ecellm-lite bench`
does, the files in turns; rates are medians over the turns. A file fits if no task's metric is below the 95% interval
of F16's and its answers are F16's on 97% of the rows.
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
from benchmarks.type_table import REFERENCE, picture, sentence, spelt, table
from benchmarks.verdict import LEAST_AGREEMENT, Rated, agreement, divergence, recommended
from ecellm_lite import Answer, Runtime
from ecellm_lite.bench.rates import decode_rate, prefill_rate
from ecellm_lite.convert.conversion import prepared
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
WEIGHED = frozenset(FILE_TYPES[3:])  # above five bits an imatrix changes next to nothing
ADAPTER = Path("ecellm_lite/demo/adapter")
ASKED = ("PM", "SA", "PRP", "AVE")

Answered = Mapping[str, list[Answer]]


@dataclass(frozen=True, slots=True)
class File:
    """A converted file, its tensors' types by their names, and how many tensors there are of each type."""

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
@click.option("--type", "types", type=click.Choice(FILE_TYPES), multiple=True, help="Beside F16.  [default: all]")
@click.option("--data", type=click.Path(exists=True, path_type=Path), default=Path("../shared/data"), show_default=True)
@click.option("--task", "tasks", multiple=True, default=ASKED, show_default=True, help="As often as wanted.")
@click.option("--rows", type=click.IntRange(1), default=60, show_default=True, help="Of each task, spread evenly.")
@click.option("--imatrix-tool", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="llama-imatrix.")
@click.option("--imatrix-data", type=click.Path(exists=True, path_type=Path), default=Path("../shared/data"))
@click.option("--imatrix-rows", type=click.IntRange(1), default=100, show_default=True, help="Over all tasks.")
@click.option("--turns", type=click.IntRange(1), default=5, show_default=True, help="Of the rates.")
@click.option("--threads", type=click.IntRange(1), help="[default: one a core]")
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
    """Convert, answer and measure, and write the results and their figure."""
    if base is None:
        base, lora, envelope = str(shipped_weights()), lora or (ADAPTER,), envelope or ENVELOPE
    known = [get_task(name) for name in tasks]
    read = labelled_files(data, known)
    gathered = gather(read, known, limit=rows)
    asked = gathered.rows
    wanted = [name for name in FILE_TYPES if name in {REFERENCE, *(types or FILE_TYPES)}]
    used = threads or available_cores()
    with tempfile.TemporaryDirectory() as temporary:
        folder, left_out = Path(temporary), {}
        request = ConversionRequest(base, folder / "F16.gguf", REFERENCE, tuple((one, 1.0) for one in lora), envelope)
        reference = converted(request, used, {})
        assert isinstance(reference, File)
        files = {REFERENCE: reference}
        given: dict[str, Any] | str = "left out: --imatrix-tool says where llama-imatrix is"
        imatrix = folder / "imatrix.gguf"
        if imatrix_tool:
            say(f"collecting an imatrix with {imatrix_tool.name}")
            spoken = get_envelope(reference.manifest.envelope)
            texts = lessons(imatrix_data, known, imatrix_rows, spoken, [row for each in asked.values() for row in each])
            collect(imatrix_tool, reference.path, texts, imatrix, used)
            given = {"rows": len(texts), "split": "train", "sha256": sha256_of(imatrix)}
        for kind in wanted[1:]:
            for importance in (None, imatrix) if imatrix_tool and kind in WEIGHED else (None,):
                name = f"{kind} + imatrix" if importance else kind
                target = folder / f"{name.replace(' + ', '-')}.gguf"
                found = converted(
                    ConversionRequest(base, target, kind, request.adapters, envelope, imatrix=importance), used, files
                )
                if isinstance(found, File):
                    files[name] = found
                else:
                    left_out[name] = f"its tensors are those of {found}"
        answers = {name: answered(file, asked, name, used) for name, file in files.items()}
        rates = measured_rates(files, used, turns)
    measured = {name: described(files[name], answers, asked, name, rates[name]) for name in files}
    advice = recommended({name: rated(one) for name, one in measured.items()}, lows(measured[REFERENCE]))
    results = {
        "model": {
            "base": Path(base).name,
            "adapters": [path.name for path in lora],
            "quantized_in_the_base": reference.source_types,
        },
        "threads": used,
        "turns": turns,
        "data": [asdict(file.hashed) for file in read],
        "rows": {name: len(each) for name, each in asked.items()},
        "unreadable": sum(map(len, gathered.unreadable.values())),
        "imatrix": given,
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
    click.echo(table(results))
    click.echo(f"\n{sentence(advice, measured)}")


def converted(request: ConversionRequest, threads: int, others: Mapping[str, File]) -> File | str:
    """Convert and return the file; or write nothing, and return the name of one of the others with the same tensors."""
    with prepared(request) as conversion:
        plan = conversion.plan
        types = {tensor.name: tensor.type.name for tensor in plan.tensors}
        for name, other in others.items():
            if other.types == types and other.imatrix == bool(request.imatrix):
                return name
        say(f"converting to {request.target.stem}: {spelt(plan.types)}")
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


def answered(file: File, asked: Mapping[str, Sequence[Labelled]], name: str, threads: int) -> Answered:
    """Return the file's answers to each task's rows."""
    with Runtime(file.path, threads=threads, deterministic=True, prefix_files=False) as runtime:
        found = {}
        for task, rows in asked.items():
            say(f"{name} answers {task}")
            found[task] = list(runtime.answers(task, [row.row for row in rows], calibration=False))
        return found


def measured_rates(files: Mapping[str, File], threads: int, turns: int) -> dict[str, tuple[float, float]]:
    """Return the tokens that each file reads and writes a second: medians over turns, of which each has every file.

    Files whose tensors are of the same types compute the same, whatever their values: they share a measurement.
    """
    keys = {name: tuple(sorted(file.types.items())) for name, file in files.items()}
    first = {key: name for name, key in reversed(keys.items())}
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in first.values()}
    for turn in range(turns):
        for name in sorted(rates, key=list(files).index):
            backend = LlamaBackend(files[name].path, Settings(threads=threads))
            try:
                if backend.cells < backend.most:
                    backend.grow(backend.most)
                rates[name].append((prefill_rate(backend), decode_rate(backend, 1)))
            finally:
                backend.close()
            say(f"{turn + 1}/{turns} {name}: {rates[name][-1][0]:.0f} read, {rates[name][-1][1]:.0f} written a second")
    medians = {name: (median(one for one, _ in each), median(one for _, one in each)) for name, each in rates.items()}
    return {name: medians[first[key]] for name, key in keys.items()}


def described(
    file: File,
    answers: Mapping[str, Answered],
    asked: Mapping[str, Sequence[Labelled]],
    name: str,
    rates: tuple[float, float],
) -> dict[str, Any]:
    """Return what is known of a file as plain data, beside what the reference answered."""
    tasks = {}
    for task, rows in asked.items():
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
    """Return what a recommendation goes by."""
    return Rated(
        one["bytes"],
        one["prefill_tokens_per_second"],
        one["decode_tokens_per_second"],
        one["agreement"],
        {task: found["value"] for task, found in one["tasks"].items()},
    )


def lows(one: Mapping[str, Any]) -> dict[str, float]:
    """Return the lower end of each task's interval."""
    return {task: found["interval"][0] for task, found in one["tasks"].items()}


def rounded(value: float | None) -> float | None:
    """Return a divergence as it is written down."""
    return None if value is None else round(value, 6)


def say(line: str) -> None:
    """Say how far it is."""
    click.echo(line, err=True)


if __name__ == "__main__":
    main()
