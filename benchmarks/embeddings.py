"""Measures whether the model's own embeddings find a product's label among thousands, as BM25 does for a shortlist.

    python -m benchmarks.embeddings

The labels and the products are those of benchmarks/shortlist.py. A text's embedding is the mean of its tokens'
hidden states after the last layer. Labels are ordered by the cosine of their embedding and the product's. The raw
embeddings of a language model all point in nearly the same direction. So the comparison is also made after whitening:
the labels' embeddings are reduced to 128 principal components of equal variance, and the products' embeddings are
transformed in the same way.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
from llama_cpp import LLAMA_POOLING_TYPE_MEAN, Llama
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.preprocessing import normalize

from benchmarks.facts import write_results
from benchmarks.labels import made_up
from benchmarks.shortlist import made_up_products
from ecellm_lite.demo.build import ensure_demo
from ecellm_lite.models.store import Store
from ecellm_lite.tasks.nearest import Nearest

COMPONENTS = 128
WINDOW = 256  # tokens; the texts are shorter

Matrix = NDArray[np.float32]


@click.command()
@click.option("--products", type=click.IntRange(1), default=200, show_default=True)
@click.option("--shortlist", type=click.IntRange(1, 100), default=20, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/embeddings.json"))
def main(products: int, shortlist: int, threads: int, output: Path) -> None:
    """Order the labels for each product in several ways, and write how often the right one is among the first."""
    labels = made_up()
    rows = made_up_products(labels, products)
    texts = [row["product"] for row in rows]
    right = np.array([labels.index(row["label"]) for row in rows])
    model = Llama(
        str(ensure_demo(Store()).path), embedding=True, pooling_type=LLAMA_POOLING_TYPE_MEAN, n_ctx=WINDOW,
        n_batch=WINDOW, n_ubatch=WINDOW, n_threads=threads, n_threads_batch=threads, verbose=False,
    )  # fmt: skip
    label_states, text_states = embedded(model, labels), embedded(model, texts)
    whitening = PCA(COMPONENTS, whiten=True).fit(label_states)
    nearest = Nearest(labels)
    figures = {
        "labels": len(labels),
        "products": products,
        "shortlist": shortlist,
        "label_in_shortlist": {
            "BM25": share([right[place] in nearest.find(text, shortlist) for place, text in enumerate(texts)]),
            "embeddings": share(among_first(text_states, label_states, right, shortlist)),
            "whitened embeddings": share(
                among_first(whitening.transform(text_states), whitening.transform(label_states), right, shortlist)
            ),
        },
    }
    click.echo(json.dumps(figures, indent=2), err=True)
    write_results(output, "embeddings", figures)


def embedded(model: Llama, texts: Sequence[str]) -> Matrix:
    """Return the embeddings of texts, in the shape (texts, numbers in an embedding)."""
    return np.array(model.embed(list(texts)), dtype=np.float32)


def among_first(queries: Matrix, labels: Matrix, right: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    """Return for each query whether its right label is among the `count` labels with the largest cosines."""
    cosines = normalize(queries) @ normalize(labels).T
    of_the_right = cosines[np.arange(len(right)), right]
    return np.asarray((cosines > of_the_right[:, None]).sum(axis=1) < count)


def share(hits: Sequence[bool] | NDArray[np.bool_]) -> float:
    """Return the fraction of hits, rounded."""
    return round(float(np.mean(hits)), 3)


if __name__ == "__main__":
    main()
