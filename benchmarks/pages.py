"""Fills the pages' tables from the results: the text between `<!-- table: NAME -->` and `<!-- end -->` is generated.

python -m benchmarks.pages            # make docs
python -m benchmarks.pages --check    # make lint: exits with 1 if a page is stale
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import click

from benchmarks import scaling
from ecellm_lite.tasks.registry import TASKS

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_PEERS = ("ecellm-lite", "Llama", "llama-server")


@cache
def results(name: str) -> Mapping[str, Any]:
    """Return the content of a results file."""
    data: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text("utf-8"))
    return data


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def provenance(name: str) -> str:
    """Return the machine and the command that made a results file, in parentheses."""
    facts = results(name)
    widths = [width for width in ("AVX512", "AVX2", "NEON") if f"{width} = 1" in facts["machine"]]
    machine = facts["machine"].split(", CPU")[0].split(", CUDA")[0].replace(" 1 cores", " 1 core")
    vectors = f" with {widths[0].replace('AVX512', 'AVX-512')}" if widths else ""
    return f"({machine}{vectors}; `{facts['command']}`)"


def short(task: str) -> str:
    """Return a task's abbreviation."""
    return TASKS[task].abbreviation


def quality() -> str:
    """Return the table of the demo's metric on each task, next to those of trivial answers."""
    rows = [
        (
            short(task),
            _METRICS[one["metric"]],
            _interval(one["values"]["demo"]),
            *_others(one, "majority", "best_constant"),
        )
        for task, one in results("demo")["tasks"].items()
    ]
    return table(("task", "metric", "demo", "majority", "best constant"), rows)


def demo() -> str:
    """Return the table of the demo's metric on each task, next to those of its base and of trivial answers."""
    rows = [
        (
            short(task),
            str(one["rows"]),
            _METRICS[one["metric"]],
            _interval(one["values"]["demo"]),
            *_others(one, "base", "majority", "best_constant"),
        )
        for task, one in results("demo")["tasks"].items()
    ]
    return table(("task", "rows", "metric", "demo", "base", "majority", "best constant"), rows)


def ece() -> str:
    """Return the table of the demo's calibration error out of the box, on the tasks with many rows."""
    tests = {name: task["test"] for name, task in results("calibration")["tasks"].items()}
    many = {name: test for name, test in tests.items() if test and test["rows"] >= 300}
    lines = table([short(name) for name in many], [[f"{test['ece']:.3f}" for test in many.values()]])
    return f"{lines}\n\n{provenance('calibration')}"


def speed() -> str:
    """Return the table of rows per second on each task, next to the peers'.

    Below it stand the geometric means of our rates relative to each peer's.
    """
    facts = results("throughput")
    tasks = facts["tasks"].values()
    head = ["rows/s", *map(short, facts["tasks"])]
    rows = [[peer, *(f"{task['rows_per_second'][peer]:.1f}" for task in tasks)] for peer in _PEERS]
    means = " and ".join(f"{mean:.2f} times {peer}" for peer, mean in facts["geometric_means"].items())
    return f"{table(head, rows)}\n\nGeometric mean: {means} {provenance('throughput')}."


def throughput() -> str:
    """Return the table of each task's rates, our rate relative to each peer's, and our share of the roofline."""
    facts = results("throughput")
    rows = [
        [
            short(name),
            *(f"{task['rows_per_second'][peer]:.1f}" for peer in _PEERS),
            *(f"{task['ratios'][peer]:.2f}" for peer in _PEERS[1:]),
            f"{task['of_the_roofline']:.0%}",
        ]
        for name, task in facts["tasks"].items()
    ]
    means = [f"{facts['geometric_means'][peer]:.2f}" for peer in _PEERS[1:]]
    rows.append(["geometric mean", "", "", "", *means, ""])
    head = ("task", *(f"{peer}, rows/s" for peer in _PEERS), "times Llama", "times llama-server", "of the roofline")
    return f"{table(head, rows)}\n\n{provenance('throughput')}"


def convert() -> str:
    """Return the table of the time, memory and written bytes of each step of a conversion."""
    facts = results("convert")
    names = {"ecellm-lite": "**one pass, `ecellm-lite convert`**"}
    rows = [
        (names.get(step, step), f"{one['seconds']:.0f}", _gib(one["peak_memory"]), _gb(one["written"]))
        for step, one in facts["steps"].items()
    ]
    written = sum(one["written"] for step, one in facts["steps"].items() if step != "ecellm-lite")
    rows.append(("the three together", f"{facts['chain_seconds']:.0f}", _gib(facts["chain_peak_memory"]), _gb(written)))
    large = results("convert_large")["steps"]["ecellm-lite"]
    return (
        f"{table(('step', 'seconds', 'peak memory', 'written'), rows)}\n\n{facts['times_faster']:.1f} times as fast. "
        f"The shape of eCeLLM-L (26 GB) took {large['seconds']:.0f} s and {_gib(large['peak_memory'])} "
        f"{provenance('convert')}."
    )


def quantization() -> str:
    """Return the table of each file type's size, speed and agreement."""
    rows = [
        (
            name,
            f"{one['bytes'] / 1e6:.1f} MB",
            f"{one['prefill_tokens_per_second']:.0f}",
            f"{one['decode_tokens_per_second']:.0f}",
            f"{one['agreement']:.1%}",
            f"{one['kl']:.4f}",
        )
        for name, one in results("quantization")["types"].items()
    ]
    head = ("type", "size", "read, tokens/s", "written, tokens/s", "answers as F16", "KL, nats")
    return f"{table(head, rows)}\n\n{provenance('quantization')}"


def agreement() -> str:
    """Return the sentence that says how often fast mode gives the same answer as deterministic mode."""
    facts = results("agreement")
    return (
        f"of {facts['rows']} labelled rows of the scored tasks, {facts['agreeing']} had the same answer in both modes; "
        f"for the others, the two likeliest answers were close {provenance('agreement')}."
    )


def grouping() -> str:
    """Return the sentence that says how much faster grouped rows are answered."""
    facts = results("grouping")
    return (
        f"{facts['products']} products against {facts['candidates']} candidates each, shuffled, ran "
        f"{facts['ratio']:.1f} times as fast as in the file's order {provenance('grouping')}."
    )


def cold_start() -> str:
    """Return the table of the times of a new process's first answer, with and without its instruction on disk."""
    rows = [
        (
            name,
            *(f"{one[state][part]:.2f} s" for part in ("process", "row") for state in ("cold", "warm")),
            f"{one['found_on_disk']} of {one['prompt_tokens']}",
        )
        for name, one in results("cold_start")["models"].items()
    ]
    head = (
        "a new process, one review",
        "first time",
        "after that",
        "the row alone, first time",
        "after that",
        "tokens from disk",
    )
    return f"{table(head, rows)}\n\n{provenance('cold_start')}"


def offload() -> str:
    """Return the table of rates on the GPU, and a comparison of its answers with the CPU's."""
    facts = results("offload")
    rates = facts["rows_per_second"]
    lines = table(["on the H100", *map(short, rates)], [["rows/s", *(f"{rate:.1f}" for rate in rates.values())]])
    closed = [one for one in facts["tasks"].values() if "agreeing" in one]
    rows, agreeing = (sum(one[key] for one in closed) for key in ("rows", "agreeing"))
    farthest = max(one["largest_difference"] for one in closed)
    same = {short(task): one["same"] for task, one in facts["tasks"].items() if "same" in one}
    others = " and ".join(f"{count} of {facts['rows']} of {task}" for task, count in same.items())
    return (
        f"{lines}\n\nIt loaded in {facts['load_seconds']:.2f} s. Of {rows} rows with closed answers, {agreeing} were "
        f"answered the same, with probabilities at most {farthest:.2f} apart; of the others, {others} were the same."
    )


def drafts() -> str:
    """Return the sentence that says how much faster free text is with drafts from the prompt's words."""
    ratio = results("drafts")["ratio"]
    return (
        f"on {results('drafts')['rows']} rows of AG that was {ratio['together']:.1f} times as fast in one job, and "
        f"{ratio['one by one']:.1f} times as fast one row at a time {provenance('drafts')}."
    )


def memory() -> str:
    """Return the sentence that says how much a process's memory grows."""
    facts = results("memory")["demo_model"]
    return (
        f"in {facts['minutes']:.0f} minutes of answering rows the demo's process grew by "
        f"{facts['growth_mib']:.1f} MiB, to {facts['resident_mib'][-1]:.0f} MiB {provenance('memory')}."
    )


def neighbours() -> str:
    """Return the table of rates next to busy programs, by llama.cpp's own threads and by ours."""
    facts = results("neighbours")
    rows = []
    for hogs in facts["ours"]["rows_per_second"]:
        cells = []
        for way in ("plain", "ours"):
            one = facts[way]
            part = f", {one['of_the_rate_alone'][hogs]:.0%}" if hogs != "0" else ""
            cells += [f"{one['rows_per_second'][hogs]:.2f}{part}", f"{one['hog_share'][hogs]:.0%}" if part else ""]
        fair = facts["ours"]["fair_share"]
        rows.append((hogs, *cells, f"{fair[hogs]:.0%}" if hogs in fair else ""))
    head = (
        "busy programs",
        "plain llama.cpp: rows/s, of the rate alone",
        "of a core, each program",
        "here: rows/s, of the rate alone",
        "of a core, each program",
        "equal part",
    )
    alone = f"Alone it has {1 - facts['cost_alone']:.0%} of plain llama.cpp's rate (median over pairs of short turns)"
    return f"{table(head, rows)}\n\n{alone} {provenance('neighbours')}."


def adapters() -> str:
    """Return the table of three shops on one base next to three models."""
    facts = results("adapters")
    names = {
        "one_base": "one base, three adapters",
        "three_processes": "three merged models, a process each",
        "alone": "one merged model for all rows",
    }
    rows = [
        (name, f"{facts['rows_per_second'][way]:.2f}", f"{facts['peak_memory_mib'][way]:,.0f} MiB")
        for way, name in names.items()
    ]
    lines = table(("", "rows/s", "peak memory"), rows)
    return f"{lines}\n\n{facts['same_answers']:.1%} of the answers are the merged models' {provenance('adapters')}."


def pipe() -> str:
    """Return the table of rates inside and outside the host program, and the times of requests and starts."""
    facts = results("pipe")
    rows = [
        (
            short(task),
            *(f"{rate:.1f}" for rate in one["rows_per_second"].values()),
            *(f"{part:.0%}" for part in one["of_the_runtime"].values()),
        )
        for task, one in facts["tasks"].items()
    ]
    rows.append(("geometric mean", "", "", "", *(f"{part:.0%}" for part in facts["of_the_runtime"].values())))
    head = ("rows/s", "Runtime", "ChildRuntime", "pipe", "ChildRuntime of Runtime", "pipe of Runtime")
    requests = ", ".join(f"{ms:.0f} ms ({way})" for way, ms in facts["one_request"]["milliseconds"].items())
    starts = ", ".join(f"{seconds:.2f} s ({name})" for name, seconds in facts["cold_start"].items())
    return (
        f"{table(head, rows)}\n\nOne request alone: {requests}. First answer of a new process: {starts} "
        f"{provenance('pipe')}."
    )


def kills() -> str:
    """Return the table of how a ChildRuntime recovered from kills of its child under load."""
    facts = results("kills")
    first, back, after = facts["first_answer"], facts["back"], facts["rate_after"]
    longest = "not by the next kill" if back["longest"] is None else f"{back['longest']:.1f} s"
    rows = [
        ("from the kill to the first answer", f"{first['median']:.1f} s", f"{first['longest']:.1f} s"),
        ("from the kill to 85% of the rate before it", f"{back['median']:.1f} s", longest),
        ("rate from 3 s after the kill, of the one before it", f"{after['median']:.0%}", f"{after['lowest']:.0%}"),
    ]
    heading = (f"{facts['kills']} kills", "median", "worst")
    ends = ", ".join(f"{count:,} {outcome}" for outcome, count in facts["outcomes"].items())
    return (
        f"{table(heading, rows)}\n\n{facts['requests']:,} requests of {facts['clients']} clients: {ends}. "
        f"The median rate before a kill was {facts['rates']['median']:.1f} rows/s {provenance('kills')}."
    )


def tables() -> str:
    """Return the table of rows per second of reading and writing tables without a model."""
    facts = results("tables")
    rows = []
    for form, rates in facts["reading_rows_per_second"].items():
        peer = f"{rates['polars']:,}" if rates["polars"] else "not measured"
        rows.append((form, f"{rates['ecellm_lite']:,}", peer, f"{facts['writing_rows_per_second'][form]:,}"))
    peak, mapping = facts["peak_memory_mib"], facts["mapping_rows_per_second"]
    return (
        f"{table(('rows/s', 'read', 'read by polars', 'written'), rows)}\n\nMapping columns to fields: "
        f"{mapping['plain']:,} rows/s, {mapping['html']:,} where cells are HTML. Peak memory was "
        f"{peak['2000_rows']:.0f} MiB after 2,000 rows and {peak['200000_rows']:.0f} MiB after 200,000 "
        f"{provenance('tables')}."
    )


def job_cost() -> str:
    """Return the text on the time, memory and journal of a job, without its model's work."""
    facts = results("job_cost")
    peak, parquet = facts["peak_memory_mib"], facts["parquet"]
    return (
        f"A whole job, with its journal and all but a model, takes {facts['milliseconds_a_row']:.2f} ms of processor "
        f"time a row, which is {facts['of_the_demos_least']:.1%} of what the demo takes for its shortest rows. Its "
        f"peak memory was {peak['few']:.0f} MiB after {facts['few_rows']:,} rows and {peak['all']:.0f} MiB after "
        f"{facts['rows']:,}; the journal has {facts['journal_bytes_a_row']:,} bytes a row. A Parquet file of "
        f"{parquet['rows']:,} short rows went in and out at {parquet['rows_per_cpu_second']:,} rows/s in "
        f"{parquet['peak_memory_mib']:.0f} MiB {provenance('job_cost')}."
    )


def automatic() -> str:
    """Return the text on the precision of thresholds that were chosen on one half of the rows."""
    facts = results("automatic")
    random = facts["random"]
    named = [
        f"{half[1]:.1%} with {half[0]:.0%} automatic"
        for name in ("in_the_file", "every_second_line")
        for half in facts[name]
    ]
    return (
        f"On {facts['rows']:,} labelled pairs, half to choose on and half to check: in {random['below_0.93']} of "
        f"{random['halves']} random halves fewer than 93% of the automatic answers were right, at least "
        f"{random['least_precision']:.1%}, {random['mean_precision']:.1%} on average. {random['mean_share']:.0%} of "
        f"the rows were automatic (in {random['none_automatic']} halves none); with thresholds from all rows it is "
        f"{facts['share_by_all_rows']:.0%}. Halves as they stand in the file: {named[0]}, and {named[1]}; every second "
        f"line: {named[2]}, and {named[3]} {provenance('automatic')}."
    )


def scale() -> str:
    """Return the table of the time that many rows take on several machines."""
    head = ("task", "tokens a row", "core seconds a row", "rows/s a core", *scaling.HEAD)
    return (
        f"{table(head, scaling.rows(results('throughput')))}\n\nThe first four columns were measured "
        f"{provenance('throughput')}."
    )


def scale_limits() -> str:
    """Return the list of what limits the speed of many rows, besides the number of cores."""
    names = ("throughput", "quantization", "job_cost", "cold_start", "offload")
    return "\n".join(f"- {line}" for line in scaling.limits(*map(results, names)))


def quantize() -> str:
    """Return the table of each variant's rate as a multiple of ggml's."""
    types = results("quantize")["types"]
    ways = [way for way in next(iter(types.values()))["times_ggml"] if way != "ggml"]
    rows = [
        (name, f"{one['million_weights_per_second']['ggml']:.1f}", *(f"{one['times_ggml'][way]:.1f}" for way in ways))
        for name, one in types.items()
    ]
    merged = next(share for way, share in results("quantize")["merge"]["times_plain"].items() if way != "plain")
    head = ("type", "ggml, million weights/s", *(f"times, {way}" for way in ways))
    return (
        f"{table(head, rows)}\n\nMerging an adapter of rank 16 costs {1 - merged:.0%} of throughput "
        f"{provenance('quantize')}."
    )


def prompts() -> str:
    """Return the table of how fast and how exactly the prompt kernels read prompts, compared with other kernels.

    The other kernels are llama.cpp's own and those of its fork ik_llama.cpp.
    """
    models = results("prompts")["models"]
    ways = next(iter(models.values()))["sizes"]["256"]["tokens_per_second"]
    rows = []
    for name, one in models.items():
        at = one["sizes"]["256"]
        lost = one["divergence"] or {}
        exact = [f"{lost[way]:.1e}" if way in lost else "" for way in ("prompt kernels", "llama.cpp")]
        rows.append((name, *(f"{at['tokens_per_second'][way]:,.0f}" for way in ways), f"{at['times']:.2f}", *exact))
    head = ("", *(f"{way}, tokens/s" for way in ways), "times llama.cpp's better", "KL to F32", "llama.cpp's KL")
    times = {
        int(size): min(one["sizes"][size]["times"] for one in models.values() if size in one["sizes"])
        for size in {size for one in models.values() for size in one["sizes"]}
    }
    least = ", ".join(f"{times[size]:.2f} at {size}" for size in sorted(times) if size != 256)
    return (
        f"{table(head, rows)}\n\nThe lowest ratio to llama.cpp's better rate, by prompt length in tokens: "
        f"{least} {provenance('prompts')}."
    )


def load() -> str:
    """Return the table of rates, times and responses under 64 clients, and the server's memory."""
    facts = results("load")
    rows = [
        (
            name,
            f"{way['rows_per_second']:.1f}",
            *(f"{way['milliseconds'][p]:.0f}" for p in ("p50", "p95", "p99")),
            ", ".join(f"{number:,} of {status}" for status, number in way["statuses"].items()),
        )
        for name, way in facts["ways"].items()
    ]
    head = ("", "rows/s", "p50, ms", "p95, ms", "p99, ms", "responses")
    times = ", ".join(f"{value:.0%} of {name}'s" for name, value in facts["of_the_rate"].items())
    memory = facts["memory_mib"]
    sizes = " and ".join(f"{name} {memory[0][name]:.0f} → {memory[-1][name]:.0f} MiB" for name in memory[0])
    return (
        f"{table(head, rows)}\n\nThe server's rate is {times} (median over the same parts). "
        f"Memory from the first part to the last: {sizes} {provenance('load')}."
    )


def questions() -> str:
    """Return the table of seconds for 40 questions about one state, and how many tokens were read."""
    facts = results("questions")
    rows = [(name, f"{seconds:.2f}") for name, seconds in facts["seconds"].items()]
    head = (f"{facts['questions']} questions about {facts['words']} words", "s")
    one = facts["tokens"][0]
    return (
        f"{table(head, rows)}\n\nOf {one['all']:,} tokens in the prompts, {one['common']:,} are common to all and "
        f"{one['behind']:,} follow them; {one['read']:,} were read {provenance('questions')}."
    )


def option_orders() -> str:
    """Return the table of accuracy, log loss and time with 1, 2 and 4 orders of a choice's options."""
    rows = [
        (
            short(task),
            {"trained": "as trained", "shuffled": "shuffled"}[order],
            str(one["1"]["rows"]),
            *(f"{measure['accuracy']:.3f}, {measure['log_loss']:.2f} nats" for measure in one.values()),
            " / ".join(f"{measure['seconds_per_row']:.2f}" for measure in one.values()),
        )
        for task, orders in results("option_orders")["tasks"].items()
        for order, one in orders.items()
    ]
    head = ("asked as questions", "order of the choices", "rows", "n = 1", "n = 2", "n = 4", "seconds a row")
    return f"{table(head, rows)}\n\n{provenance('option_orders')}"


TABLES: Mapping[str, Callable[[], str]] = {
    one.__name__: one
    for one in (
        quality,
        demo,
        ece,
        speed,
        throughput,
        convert,
        quantization,
        agreement,
        grouping,
        cold_start,
        offload,
        drafts,
        prompts,
        memory,
        adapters,
        neighbours,
        pipe,
        kills,
        tables,
        job_cost,
        automatic,
        scale,
        scale_limits,
        quantize,
        load,
        questions,
        option_orders,
    )
}

_METRICS = {
    "f1": "F1*",
    "macro_f1": "macro-F1",
    "hits": "HR@1",
    "hr_at_1": "HR@1",
    "ndcg": "NDCG",
    "rouge_l": "ROUGE-L",
}


def _interval(value: Mapping[str, float]) -> str:
    return f"{value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f})"


def _others(one: Mapping[str, Any], *names: str) -> list[str]:
    return [f"{one['values'][name]['value']:.3f}" for name in names]


def _gib(size: float) -> str:
    return f"{size / 2**30:.2f} GiB"


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB"


def filled(text: str) -> str:
    """Return a page with its tables generated from the results."""
    return _MARKED.sub(lambda match: f"{match[1]}{TABLES[match[2]]()}\n{match[3]}", text)


@click.command()
@click.option("--check", is_flag=True, help="Change nothing; exit with 1 if a page is stale.")
def main(check: bool) -> None:
    """Write the tables of README.md and docs/ from benchmarks/results/."""
    stale = []
    for page in PAGES:
        text = page.read_text("utf-8")
        if (new := filled(text)) != text:
            stale.append(page.relative_to(ROOT).as_posix())
            if not check:
                page.write_text(new, "utf-8")
    if check and stale:
        click.echo(f"Stale: {', '.join(stale)}. Run `make docs` to update them.", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
