"""Metrics of free text (AG): ROUGE-L and, if its package and weights are on this machine, BERTScore.

ROUGE-L is computed by rouge-score: the F1 of the longest common subsequence of words (Lin, 2004). Words are in lower
case and not stemmed. BERTScore (Zhang et al., 2020) uses layer 17 of roberta-large, which its authors recommend for
English. The weights are never downloaded. A row without an answer counts as 0 in the metrics `all`, and is left out of
the metrics `paper` (see measured.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ecellm_lite.errors import UsageError
from ecellm_lite.evaluate.metrics.measured import Measured, Metric, Numbers, Pair, ratio

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer

_BERT = "roberta-large"
_BERT_LAYER = 17  # bert-score's default for roberta-large


def measure_texts(pairs: Sequence[Pair]) -> Measured:
    """Measure free texts. As in the paper, the primary metric is BERTScore's F1. Without BERTScore, it is ROUGE-L.

    `columns` of the result has these numbers for each row: 1 (to count the rows), whether there is an answer,
    BERTScore if available, and ROUGE-L. Raises UsageError if rouge-score is not installed.
    """
    answered = [pair.text is not None for pair in pairs]
    rouge = rouge_l(pairs)
    scores = {"rouge_l": rouge}
    notes: tuple[str, ...] = ()
    weights = _bert_weights()
    if weights:
        scores = {"bertscore_f1": _bert_scores(pairs, weights), **scores}
    else:
        notes = (
            f"BERTScore, the paper's metric, needs `pip install bert-score` and {_BERT} in the hub's cache: "
            "only ROUGE-L is measured.",
        )
    return Measured(
        columns=np.array([np.ones(len(pairs)), answered, *scores.values()], dtype=np.float64).T,
        primary=next(iter(scores)),
        paper={name: _mean(column, 1) for column, name in enumerate(scores, start=2)},
        all={name: _mean(column, 0) for column, name in enumerate(scores, start=2)},
        scores=next(iter(scores.values())),
        answered=answered,
        notes=notes,
    )


def rouge_l(pairs: Sequence[Pair]) -> list[float]:
    """Return each pair's ROUGE-L F1. It is 0 for a row without an answer."""
    scorer = rouge_scorer()
    return [
        0.0 if pair.text is None else float(scorer.score(pair.gold, pair.text)["rougeL"].fmeasure) for pair in pairs
    ]


def rouge_scorer() -> RougeScorer:
    """Return the scorer of ROUGE-L. Raises UsageError if rouge-score is not installed."""
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError:
        raise UsageError("Measuring texts needs rouge-score", step="run `pip install 'ecellm-lite[eval]'`") from None
    return RougeScorer(["rougeL"])


def _mean(column: int, whole: int) -> Metric:
    def metric(sums: Numbers) -> Numbers:
        return ratio(sums[..., column], sums[..., whole])

    return metric


def _bert_weights() -> Path | None:
    """Return the folder of roberta-large in the hub's cache, or None if it is not there."""
    if find_spec("bert_score") is None:
        return None
    from huggingface_hub import try_to_load_from_cache

    paths = [try_to_load_from_cache(_BERT, name) for name in ("config.json", "vocab.json", "merges.txt")]
    weights = [try_to_load_from_cache(_BERT, name) for name in ("model.safetensors", "pytorch_model.bin")]
    if not all(isinstance(path, str) for path in paths) or not any(isinstance(path, str) for path in weights):
        return None
    return Path(str(paths[0])).parent


def _bert_scores(pairs: Sequence[Pair], weights: Path) -> list[float]:
    from bert_score import score

    rows = [row for row, pair in enumerate(pairs) if pair.text is not None]
    scores = [0.0] * len(pairs)
    if rows:
        # By its folder, so that nothing is requested from the hub.
        _, _, f1 = score(
            [str(pairs[row].text) for row in rows],
            [pairs[row].gold for row in rows],
            model_type=str(weights),
            num_layers=_BERT_LAYER,
        )
        for row, value in zip(rows, f1.tolist(), strict=True):
            scores[row] = float(value)
    return scores
