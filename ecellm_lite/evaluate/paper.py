"""The paper's results, to compare ours with: Peng et al., eCeLLM, ICML 2024 (arXiv 2402.08831)."""

from __future__ import annotations

from collections.abc import Mapping

# The primary metric of each task, by our names; the paper's figure is shown only beside the same metric.
METRICS: Mapping[str, str] = {
    "AVE": "f1",
    "PRP": "macro_f1",
    "PM": "f1",
    "SA": "macro_f1",
    "SR": "hr_at_1",
    "MPC": "accuracy",
    "PSI": "f1",
    "QPR": "ndcg",
    "AP": "f1",
    "AG": "bertscore_f1",
}

_IN_DOMAIN = ("AVE", "PRP", "PM", "SA", "SR", "MPC", "PSI", "QPR", "AP", "AG")
_OUT_OF_DOMAIN = ("AVE", "PRP", "SA", "SR", "AP", "AG")


def _table(tasks: tuple[str, ...], rows: Mapping[str, tuple[float, ...]]) -> dict[str, dict[str, float]]:
    return {model: dict(zip(tasks, figures, strict=True)) for model, figures in rows.items()}


# model -> abbreviation -> figure, on the test rows of the domains that the models were trained on.
IN_DOMAIN: Mapping[str, Mapping[str, float]] = _table(
    _IN_DOMAIN,
    {
        "GPT-4 Turbo": (0.495, 0.326, 0.753, 0.516, 0.387, 0.611, 0.195, 0.875, 0.649, 0.858),
        "Gemini Pro": (0.396, 0.136, 0.867, 0.470, 0.269, 0.584, 0.248, 0.821, 0.506, 0.855),
        "Claude 2.1": (0.381, 0.275, 0.523, 0.415, 0.066, 0.655, 0.273, 0.821, 0.280, 0.841),
        "Llama-2 13B-chat": (0.002, 0.333, 0.434, 0.188, 0.056, 0.504, 0.252, 0.815, 0.623, 0.811),
        "Mistral-7B-Instruct-v0.2": (0.369, 0.324, 0.613, 0.470, 0.164, 0.529, 0.305, 0.842, 0.588, 0.853),
        "EcomGPT": (0.000, 0.091, 0.648, 0.188, 0.042, 0.540, 0.170, 0.000, 0.086, 0.669),
        "best task-specific model": (0.546, 0.588, 0.995, 0.573, 0.265, 0.703, 0.389, 0.859, 0.830, 0.858),
        "eCeLLM-L": (0.582, 0.611, 0.995, 0.648, 0.526, 0.684, 0.501, 0.870, 0.851, 0.841),
        "eCeLLM-M": (0.662, 0.558, 0.995, 0.639, 0.542, 0.696, 0.305, 0.876, 0.846, 0.842),
        "eCeLLM-S": (0.509, 0.518, 0.991, 0.596, 0.479, 0.650, 0.392, 0.870, 0.846, 0.842),
    },
)

# The same on product categories that they were not trained on.
OUT_OF_DOMAIN: Mapping[str, Mapping[str, float]] = _table(
    _OUT_OF_DOMAIN,
    {
        "GPT-4 Turbo": (0.397, 0.392, 0.510, 0.198, 0.680, 0.860),
        "eCeLLM-L": (0.335, 0.558, 0.629, 0.273, 0.867, 0.841),
        "eCeLLM-M": (0.367, 0.502, 0.640, 0.280, 0.878, 0.840),
        "eCeLLM-S": (0.302, 0.520, 0.565, 0.241, 0.879, 0.840),
    },
)


def in_paper(abbreviation: str) -> bool:
    """Return whether the paper has a task with this abbreviation. The result is False for a user's own task."""
    return abbreviation in METRICS


def paper_figures(abbreviation: str, metric: str, setting: str | None = None) -> dict[str, float]:
    """Return the paper's result on a task for each model, or an empty dictionary if the paper does not use this metric.

    If `setting` begins with OOD, the results are from the paper's out-of-domain table. For extractions, that table
    reports the metric `contained_f1` instead of `f1`.
    """
    outside = (setting or "").startswith("OOD")
    if metric != ("contained_f1" if outside and abbreviation == "AVE" else METRICS.get(abbreviation)):
        return {}
    table = OUT_OF_DOMAIN if outside else IN_DOMAIN
    return {model: figures[abbreviation] for model, figures in table.items() if abbreviation in figures}
