"""The names that the report shows for metrics and tasks, with explanations in everyday words."""

from __future__ import annotations

from collections.abc import Mapping

from ecellm_lite.report.shown import cut
from ecellm_lite.tasks.registry import TASKS

# name -> (label, meaning)
METRICS: Mapping[str, tuple[str, str]] = {
    "accuracy": ("Accuracy", "Of all rows, the share answered right."),
    "f1": (
        "F1",
        "One number for two questions: is what it finds right (precision), and does it find what is there (recall)? "
        "It is high only if both are.",
    ),
    "precision": ("Precision", "When it says “yes”, or gives a value: how often that is right."),
    "recall": ("Recall", "The share of everything there is to find that it finds."),
    "contained_f1": (
        "F1, near enough",
        "F1 that also counts a value if it contains the right one or is a part of it, as “blue” of “navy blue”.",
    ),
    "contained_precision": ("Precision, near enough", "Precision counted in the same generous way."),
    "contained_recall": ("Recall, near enough", "Recall counted in the same generous way."),
    "typed": (
        "Typed values",
        "The share of the labelled numbers, dates, quantities and listed values that it gives, in any spelling.",
    ),
    "specificity": ("Specificity", "Of the rows where “no” is right: the share where it says “no”."),
    "negative_predictive_value": ("Negative predictive value", "When it says “no”: how often that is right."),
    "macro_f1": (
        "Macro F1",
        "F1 of each possible answer, averaged: rare answers count as much as frequent ones, so always giving the most "
        "frequent answer earns little.",
    ),
    "micro_f1": (
        "Micro F1",
        "F1 of all labels of all rows together: are the labels that it gives right, and does it give all right labels?",
    ),
    "exact": ("All right", "The share of rows whose labels are all right."),
    "none_f1": ("F1 of none", "F1 of the answer that no label fits."),
    "none_precision": ("Precision of none", "When it says that no label fits: how often that is right."),
    "none_recall": ("Recall of none", "Of the rows that fit no label: the share where it says so."),
    "mae": ("Mean error", "How far its score is from the right one on average, in levels. 0 is perfect."),
    "spearman": (
        "Spearman",
        "Does it put rows in the right order? 1 is the right order, 0 is none, -1 is its reverse.",
    ),
    "pearson": ("Pearson", "Do its scores rise with the right ones, in a straight line? From -1 to 1."),
    "hr_at_1": ("Hit rate at 1", "How often its first choice is the item that the customer really bought next."),
    "ndcg": (
        "NDCG",
        "How good the order is: 1 if the most relevant products come first. With lists of two to four products "
        "even a poor order earns much, so small differences matter.",
    ),
    "bertscore_f1": (
        "BERTScore F1",
        "How close its text is in meaning to the answer in the data, judged by another language model.",
    ),
    "rouge_l": ("ROUGE-L", "How many words its text shares, in the same order, with the answer in the data."),
}


def label(metric: str) -> str:
    """Return the report's name for a metric, such as `Macro F1` for macro_f1."""
    entry = METRICS.get(metric)
    return entry[0] if entry else cut(metric.replace("_", " "), 40)


def meaning(metric: str) -> str:
    """Return a metric's meaning in plain words, or "" for an unknown metric."""
    entry = METRICS.get(metric)
    return entry[1] if entry else ""


def title(task: str) -> str:
    """Return a task's name as a heading: `Product matching` for product_matching."""
    text = cut(task.replace("_", " "), 60)
    return text[:1].upper() + text[1:]


def summary(task: str) -> str:
    """Return a task's summary and its possible answers, or "" for a task that is not one of the ten."""
    entry = TASKS.get(task)
    return f"{entry.summary} Answers: {entry.answers}" if entry else ""
