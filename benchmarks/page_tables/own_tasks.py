"""Tables about custom tasks: the answer "none of these", rows with several labels, and prompts that list the labels."""

from __future__ import annotations

from benchmarks.page_tables.sources import provenance, results, short, table

_NONE_WAYS = {
    "unlisted": "not in the prompt, with a rule",
    "default": "in the prompt, no calibration",
    "calibrated": "in the prompt, with a rule",
}


def none_of_these() -> str:
    """Return a table about rows that fit no label: how often the model answers "none of these" for them."""
    rows = []
    for setting, one in results("none_of_these")["settings"].items():
        task, kind = setting.split(", ")
        for way, name in _NONE_WAYS.items():
            figures = [f"{one[way][figure]:.2f}" for figure in ("precision", "recall", "f1", "accuracy")]
            rows.append((f"{short(task)}, {kind}", f"{one['unfitting']} of {one['rows']}", name, *figures))
    head = ("labels", "rows that fit none", "none is", "precision of none", "recall", "F1", "all rows right")
    return (
        "Rows of two of the ten tasks, asked as a task of one's own. They fit no label because the right one was "
        "removed from the choices, or because the text is foreign (a question about a product). Rules are fitted to "
        f"one half of the rows and measured on the other:\n\n{table(head, rows)}\n\n{provenance('none_of_these')}"
    )


def several_labels() -> str:
    """Return the table that compares two ways to ask for several labels: one request, or one question per label."""
    facts = results("several_labels")
    names = {"labels": '`type = "labels"`', "questions": "a question for each label"}
    rows: list[tuple[str, ...]] = []
    for way, one in facts["ways"].items():
        f1 = (f"{one['micro_f1']:.2f}", f"{one['macro_f1']:.2f}", f"{one['roc_auc']:.2f}")
        error = f"{one['ece']:.3f}, {one['ece_calibrated']:.3f}"
        rows.append((names[way], *f1, error, f"{one['tokens_per_row']:.0f}", f"{one['seconds_per_row']:.2f}"))
    constant = facts["constant"]
    constant_f1 = (f"{constant['micro_f1']:.2f}", f"{constant['macro_f1']:.2f}")
    rows.append(("the most frequent answer to each label", *constant_f1, "", "", "", ""))
    head = (
        "",
        "micro-F1",
        "macro-F1",
        "area under ROC",
        "ECE before and after calibrating",
        "tokens a row",
        "seconds a row",
    )
    return (
        f"The attributes that a product's title names, of {len(facts['labels'])}, by {facts['model']}; it was not "
        f"trained for this. {facts['rows']} rows, of which one half calibrates and the other is measured:\n\n"
        f"{table(head, rows)}\n\n{provenance('several_labels')}"
    )


def shortlist() -> str:
    """Return sentences that say how much better the answers are if the prompt lists the labels nearest to the row."""
    facts, embeddings = results("shortlist"), results("embeddings")["label_in_shortlist"]
    right, top, rate = facts["right"], facts["top_level_right"], facts["rows_per_second"]
    return (
        f"{facts['products']} made-up products in {facts['labels']:,} made-up paths, by the demo, which was not "
        f"trained for this. With a shortlist of {facts['shortlist']}, {right['with']:.0%} of the answers are the right "
        f"path ({right['without']:.0%} without), {top['with']:.0%} begin with the right name "
        f"({top['without']:.0%} without), and {rate['with']:.1f} rows/s are answered ({rate['without']:.1f} without). "
        f"The right path was in {facts['label_in_shortlist']:.0%} of the lists {provenance('shortlist')}. Lists by the "
        f"model's own embeddings have it in {embeddings['embeddings']:.0%}, and in "
        f"{embeddings['whitened embeddings']:.0%} after whitening {provenance('embeddings')}: there is no such option."
    )
