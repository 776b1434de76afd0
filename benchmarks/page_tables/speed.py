"""Tables about the runtime's speed and memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.page_tables.sources import gb, provenance, results, short, table

_PEERS = ("ecellm-lite", "Llama", "llama-server")


def speed() -> str:
    """Return a table of rows per second: one row for each program (ours and others), and one column for each task.

    A sentence below the table compares our program with the others, such as "1.5 times Llama" (geometric means).
    """
    facts = results("throughput")
    tasks = facts["tasks"].values()
    head = ["rows/s", *map(short, facts["tasks"])]
    rows = [[peer, *(f"{task['rows_per_second'][peer]:.1f}" for task in tasks)] for peer in _PEERS]
    return (
        f"{table(head, rows)}\n\nGeometric mean: {_means('throughput')} {provenance('throughput')}. "
        f"On a server with AMX: {_means('throughput_amx')}."
    )


def _means(file: str) -> str:
    return " and ".join(f"{mean:.2f} times {peer}" for peer, mean in results(file)["geometric_means"].items())


def throughput() -> str:
    """Return a table with one row for each task: how fast we are, how fast other programs are, and the ratios."""
    return _throughput("throughput")


def throughput_amx() -> str:
    """Return the same table as `throughput`, but measured on a processor with AMX."""
    return _throughput("throughput_amx")


def _throughput(file: str) -> str:
    facts = results(file)
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
    return f"{table(head, rows)}\n\n{provenance(file)}"


def grouping() -> str:
    """Return a sentence that says how much faster a job runs if the engine groups rows that begin alike."""
    facts = results("grouping")
    return (
        f"{facts['products']} products against {facts['candidates']} candidates each, shuffled, ran "
        f"{facts['ratio']:.1f} times as fast as in the file's order {provenance('grouping')}."
    )


def candidates() -> str:
    """Return sentences about comparing one product with many candidates: our rate and llama-server's rate."""
    facts = results("candidates")
    return (
        f"{facts['candidates']} candidates of each of {facts['products']} products: {_candidates('candidates')} A row "
        f"takes {facts['tokens_computed_a_row']:.0f} tokens of reading {provenance('candidates')}.\n\n"
        f"With AMX: {_candidates('candidates_amx')}"
    )


def _candidates(file: str) -> str:
    rates, times = results(file)["rows_per_second"], results(file)["times"]
    beside = " and ".join(f"{times[name]:.1f} times as fast as {name} ({rates[name]:.1f})" for name in times)
    return (
        f"{rates['ecellm-lite']:.1f} rows/s, {rates['ecellm-lite serve']:.1f} from `ecellm-lite serve` in one request. "
        f"That is {beside}."
    )


def cold_start() -> str:
    """Return a table of the seconds from the start of a process to its first answer.

    The first start has to read the instruction. Later starts find the instruction's state on the disk.
    """
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
    """Return a table of the rows per second on a GPU, and sentences that compare the GPU's answers with the CPU's."""
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
    """Return a sentence that says how much drafts speed up free text.

    A draft is a guess that copies words of the prompt.
    """
    ratio = results("drafts")["ratio"]
    return (
        f"on {results('drafts')['rows']} rows of AG that was {ratio['together']:.1f} times as fast in one job, and "
        f"{ratio['one by one']:.1f} times as fast one row at a time {provenance('drafts')}."
    )


# The variants of the prompt kernels, by results file. The one for AVX2 is in prompts.json.
_WIDER = {"AVX-VNNI": "prompts_avxvnni", "AVX-512 VNNI": "prompts_avx512vnni", "AMX": "prompts_amx"}


def prompts() -> str:
    """Return a table that says how fast and how exactly our kernels and other kernels read prompts.

    The other kernels are those of llama.cpp and of its fork ik_llama.cpp.
    """
    return _prompts(results("prompts")["models"], provenance("prompts"))


def prompts_wider() -> str:
    """Return a table like that of `prompts`, but with the prompt kernels' variants for newer processors.

    Each line of the table is for one variant and one model.
    """
    return _prompts(_wider(), " ".join(map(provenance, _WIDER.values())))


def _prompts(models: Mapping[str, Any], source: str) -> str:
    ways = next(iter(models.values()))["sizes"]["256"]["tokens_per_second"]
    rows = []
    for name, one in models.items():
        at = one["sizes"]["256"]
        lost = one["divergence"] or {}
        exact = [f"{lost[way]:.1e}" if way in lost else "" for way in ("prompt kernels", "llama.cpp")]
        rows.append((name, *(f"{at['tokens_per_second'][way]:,.0f}" for way in ways), f"{at['times']:.2f}", *exact))
    head = ("", *(f"{way}, tokens/s" for way in ways), "times llama.cpp's better", "KL to F32", "llama.cpp's KL")
    return f"{table(head, rows)}\n\n{source}"


def prompt_lengths() -> str:
    """Return a table of our kernels' speed relative to llama.cpp, for prompts of several lengths.

    llama.cpp has two kinds of kernels. The comparison is with the faster kind.
    """
    return f"{_prompt_lengths(results('prompts')['models'])}\n\n{provenance('prompts')}"


def prompt_lengths_wider() -> str:
    """Return the same table as `prompt_lengths`, but for the kernel variants of newer processors."""
    return _prompt_lengths(_wider())


def _wider() -> Mapping[str, Any]:
    """Return the prompt kernels' results on newer processors. The keys are texts such as "AMX: 7B Q4_0"."""
    return {f"{name}: {key}": one for name, file in _WIDER.items() for key, one in results(file)["models"].items()}


def _prompt_lengths(models: Mapping[str, Any]) -> str:
    sizes = sorted({int(size) for one in models.values() for size in one["sizes"]})
    rows = [
        (name, *(f"{one['sizes'][str(size)]['times']:.2f}" if str(size) in one["sizes"] else "" for size in sizes))
        for name, one in models.items()
    ]
    return table(("tokens", *map(str, sizes)), rows)


def products() -> str:
    """Return the table that compares the prompt kernels' speed with the processor's peak rate.

    The peak rate is that of multiplying numbers that are in registers already.
    """
    rows = []
    for name, one in results("products")["models"].items():
        shares = one["of_peak"].values()
        whole, times, limit = one["prompt_of_peak"], one["times"], one["limit_times"]
        rows.append((name, f"{min(shares):.0%} to {max(shares):.0%}", f"{whole:.0%}", f"{times:.2f}", f"{limit:.2f}"))
    head = ("", "a matrix product, of the peak", "a prompt, of the peak", "times llama.cpp's better", "at the peak")
    return f"{table(head, rows)}\n\n{provenance('products')}"


def memory() -> str:
    """Return the sentence that says how much a process's memory grows over time."""
    facts = results("memory")["demo_model"]
    return (
        f"in {facts['minutes']:.0f} minutes of answering rows the demo's process grew by "
        f"{facts['growth_mib']:.1f} MiB, to {facts['resident_mib'][-1]:.0f} MiB {provenance('memory')}."
    )


_WAYS = {
    "search": "the search, for the five likeliest labels",
    "best": "the search, for the likeliest label alone (`best = 1`)",
    "enum": "the labels as the enum of a JSON schema, in the same engine",
    "Llama": "the same enum in llama-cpp-python's `Llama`, by llguidance",
    "guidance": "the same enum in the package guidance, over llama-cpp-python",
    "prompts": "reading the prompts alone",
}


def labels() -> str:
    """Return a table of the speed at which rows get one of thousands of labels.

    It compares our search among the labels with JSON schemas that have the labels as an enum.
    """
    facts, amx = results("labels"), results("labels_amx")["rows_per_second"]
    rates, calls, tokens = facts["rows_per_second"], facts["calls_alone"], facts.get("tokens_a_row", {})
    rows = [
        [name, *(f"{one[way]:.1f}" if way in one else "" for one in (rates, amx)), str(tokens.get(way, ""))]
        for way, name in _WAYS.items()
        if way in rates or way in amx
    ]
    read = f" Besides, each product has {tokens['prompt']} tokens of its own to read." if tokens else ""
    return (
        f"{table(('way', 'rows/s', 'rows/s with AMX', 'tokens after the prompt'), rows)}\n\n"
        f"{facts['products']} products in {facts['labels']:,} made-up paths of up to {facts['depth']} levels.{read} "
        f"No answer of the search was outside the file. A product took {calls['mean']} calls of the model on average, "
        f"{calls['most']} at most. {facts['unexplored']:.1%} of the probability was left unexplored. Tokenizing the "
        f"labels took {facts['seconds_to_prepare']} s, reading them again {facts['milliseconds_to_load']:.0f} ms "
        f"{provenance('labels')}."
    )


def learning_speed() -> str:
    """Return a table that compares the speed and memory of `train learn` and of peft's own layers on a CPU."""
    facts = results("learning_speed")
    rows = [
        [name, f"{one['tokens_per_second']:.0f}", gb(one["peak_memory"])]
        for name, one in (("`train learn`", facts["ways"]["merged"]), ("with peft's layers", facts["ways"]["peft"]))
    ]
    packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    head = ("", "tokens/s", "peak of memory")
    return f"{table(head, rows)}\n\n{facts['ratio']:.1f} times as fast, with {packages} {provenance('learning_speed')}."
