"""Tables about the quality of answers: metrics, calibration errors, thresholds and file types."""

from __future__ import annotations

from typing import Any

from benchmarks.page_tables.sources import interval, provenance, results, short, table, values_of

_METRICS = {
    "f1": "F1*",
    "macro_f1": "macro-F1",
    "hits": "HR@1",
    "hr_at_1": "HR@1",
    "ndcg": "NDCG",
    "rouge_l": "ROUGE-L",
}


def quality() -> str:
    """Return a table with the demo's metric on each task, and the metrics of two constant answers."""
    rows = [
        (
            short(task),
            _METRICS[one["metric"]],
            interval(one["values"]["demo"]),
            *values_of(one, "majority", "best_constant"),
        )
        for task, one in results("demo")["tasks"].items()
    ]
    return table(("task", "metric", "demo", "majority", "best constant"), rows)


def demo() -> str:
    """Return a table with the demo's metric on each task.

    The table also has the metrics of the demo's base and of constant answers.
    """
    rows = [
        (
            short(task),
            str(one["rows"]),
            _METRICS[one["metric"]],
            interval(one["values"]["demo"]),
            *values_of(one, "base", "majority", "best_constant"),
        )
        for task, one in results("demo")["tasks"].items()
    ]
    return table(("task", "rows", "metric", "demo", "base", "majority", "best constant"), rows)


def demo_more() -> str:
    """Return a table with the metrics of the demo and of constant answers, and the calibration error of the demo.

    They are measured on labelled rows from other sources than the rows that the function `demo` is about.
    """
    rows = []
    for task, one in results("demo_more")["tasks"].items():
        yes = one["f1_of_yes"]
        rows.append(
            (
                short(task),
                str(one["values"]["demo"]["rows"]),
                _METRICS[one["metric"]],
                interval(one["values"]["demo"]),
                *values_of(one, "majority", "best_constant"),
                interval(yes) if yes else "",
                f"{one['ece']:.3f}" if one["ece"] is not None else "",
            )
        )
    head = ("task", "rows", "metric", "demo", "majority", "best constant", "F1 of yes", "ECE")
    return f"{table(head, rows)}\n\n{provenance('demo_more')}"


def ece() -> str:
    """Return a table of the calibrated demo's calibration errors, for the tasks with many rows."""
    tests = {name: task["test"] for name, task in results("calibration")["tasks"].items()}
    many = {name: test for name, test in tests.items() if test and test["rows"] >= 300}
    lines = table([short(name) for name in many], [[f"{test['ece']:.3f}" for test in many.values()]])
    return f"{lines}\n\n{provenance('calibration')}"


def determinism() -> str:
    """Return the sentence that says how many answers differed between batches, thread counts and orders of the rows."""
    facts = results("determinism")
    *together, alone = facts["passes"]
    return (
        f"{facts['rows']:,} labelled rows of all ten tasks, answered in {len(together)} passes with other batches and "
        f"other orders and one or two threads, and {alone['rows']} of them alone: "
        f"{sum(one['different'] for one in facts['passes'])} answers differ in any byte {provenance('determinism')}."
    )


def determinism_rates() -> str:
    """Return the sentence that says how fast deterministic mode is."""
    facts = results("determinism_rates")
    rates = facts["rows_per_second"]
    gain = rates["deterministic"] / rates["one row at a time"]
    return (
        f"Scored rows ran at {facts['share_of_fast']:.0%} of the fast mode's rate, and {gain:.1f} times as fast as one "
        f"row at a time without the kernels {provenance('determinism_rates')}."
    )


def agreement() -> str:
    """Return the sentence that says how often fast mode gives the same answer as deterministic mode."""
    facts = results("agreement")
    return (
        f"of {facts['rows']} labelled rows of the scored tasks, {facts['agreeing']} had the same answer in both modes; "
        f"for the others, the two likeliest answers were close {provenance('agreement')}."
    )


def agreement_amx() -> str:
    """Return the sentence that says how often our AMX kernels give the same answers as llama.cpp's kernels."""
    facts = results("agreement_amx")
    return (
        f"Of {facts['rows']} labelled rows of the scored tasks, {facts['agreeing']} had the same answer with AMX as "
        f"with llama.cpp's own kernels; for the others, the two likeliest answers were close "
        f"{provenance('agreement_amx')}."
    )


def quantization() -> str:
    """Return a table of file types: the size, the speed, and how often the answers are the same as with F16."""
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


def automatic() -> str:
    """Return a paragraph on how often automatic answers are right. Other rows were used to choose the thresholds."""
    facts = results("automatic")
    random = facts["random"]
    named = [
        f"{half[1]:.1%} are right with {half[0]:.0%} automatic"
        for name in ("in_the_file", "every_second_line")
        for half in facts[name]
    ]
    return (
        f"{facts['rows']:,} labelled pairs, of which one half chose the thresholds and the other checked them. With "
        f"{random['halves']} random halves, fewer than 93% of the automatic answers were right in "
        f"{random['below_0.93']}; the lowest share was {random['least_precision']:.1%}, the mean "
        f"{random['mean_precision']:.1%}. On average {random['mean_share']:.0%} of the rows were automatic (none in "
        f"{random['none_automatic']} of the halves). Thresholds chosen on all rows make "
        f"{facts['share_by_all_rows']:.0%} of them automatic. Checked on the first and on the second half of the file, "
        f"{named[0]} and {named[1]}; on every second line and on the lines between, {named[2]} and {named[3]} "
        f"{provenance('automatic')}."
    )


def option_orders() -> str:
    """Return a table of accuracy, log loss and time, for questions asked with 1, 2 and 4 orders of their options."""
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


def open_model() -> str:
    """Return a table of the metrics of a general model that was not fine-tuned for the tasks.

    The table also has the metrics of always answering with the most frequent label.
    """
    facts = results("open_model")
    rows = []
    for task, one in facts["tasks"].items():
        constant = one["most_frequent_label"]
        f1 = "f1_of_yes" if "f1_of_yes" in one else "macro_f1"
        rows.append(
            (
                short(task),
                str(one["rows"]),
                _measured(one["accuracy"]),
                f"{constant['accuracy']:.3f}",
                f"{_measured(one[f1])} ({_METRICS.get(f1, 'F1 of yes')})",
                f"{constant['f1']:.3f}",
                _measured(one["roc_auc"]) if "roc_auc" in one else "",
            )
        )
    head = ("task", "rows", "accuracy", "most frequent label", "F1", "most frequent label", "area under ROC")
    return f"{table(head, rows)}\n\n95% intervals in brackets; chance has an area of 0.5 {provenance('open_model')}."


def open_model_adapter() -> str:
    """Return a sentence with the results of an adapter of random weights on a general model's GGUF file."""
    facts = results("open_model_adapter")
    loaded, merged = facts["base_and_adapter"], facts["adapter_and_merged"]
    changed = facts["rows"] - loaded["same_answers"]
    return (
        f"An adapter of random weights on this file: of {facts['rows']} answers {changed} are others than without the "
        f"adapter, and {merged['same_answers']} are those of an F16 file into which "
        f"`convert --lora` merged it (probabilities differ by {merged['mean_difference_of_probabilities']:.4f} on "
        f"average) {provenance('open_model_adapter')}."
    )


def cascade() -> str:
    """Return the table of a cascade's accuracy and time, where the last model was not trained for the tasks."""
    return _curves("cascade")


def cascade_f32() -> str:
    """Return the table of a cascade's accuracy and time, where the last model is the first one in F32."""
    return _curves("cascade_f32")


def _curves(name: str) -> str:
    facts = results(name)
    first, last = facts["models"]
    rows = []
    for task, one in facts["tasks"].items():
        alone = one["last_model"]
        for point in one["curve"]:
            share = point["seconds"] / alone["seconds"]
            level = (f"{point['escalate_below']:g}", f"{point['escalated']:.1%}")
            rows.append((short(task), str(one["rows"]), *level, f"{point['accuracy']:.3f}", f"{share:.2f}"))
        rows.append((short(task), str(one["rows"]), f"{last} alone", "100%", f"{alone['accuracy']:.3f}", "1.00"))
    head = ("task", "rows", "`escalate_below`", "to the last model", "accuracy", "time, last model alone = 1")
    return f"{table(head, rows)}\n\nThe first model is {first}, the last {last} {provenance(name)}."


def _measured(metric: dict[str, Any]) -> str:
    low, high = metric["interval"]
    return f"{metric['value']:.3f} [{low:.3f}, {high:.3f}]"


def answer_sets() -> str:
    """Return the table of how often sets of plausible answers contain the right answer, and how large they are."""
    facts = results("answer_sets")
    rows = [
        (
            short(task),
            str(one["rows"]),
            f"{one['mean_coverage']:.1%}",
            f"{one['least_coverage']:.1%}",
            f"{one['mean_size']:.2f} of {one['answers']}",
        )
        for task, one in facts["tasks"].items()
    ]
    head = ("task", "rows", "sets with the right answer", "in the worst split", "answers in a set")
    return (
        f"A guarantee of {facts['guarantee']:.0%}, {facts['splits']} random splits. {facts['chosen_on']:.0%} of the "
        "rows choose the least probability, the others are counted:\n\n"
        f"{table(head, rows)}\n\n{provenance('answer_sets')}"
    )
