"""Prepares what the reader of a documentation page is supposed to have: some files and a simulated hub."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from ecellm_lite.models.store import Store
from tests.support.hub import Hub
from tests.support.labelled_rows import dataset_row, row, write_lines
from tests.support.shop_adapters import write_base, write_shop
from tests.support.small_checkpoints import write_adapter
from tests.support.tiny_checkpoints import write_checkpoint
from tests.support.tiny_models import write_tiny_model

Environment = Mapping[str, str]

SETTING = "OOD_Diverse_Instruction"  # of ECInstruct: rows of kinds of products that were not trained on


def home_of(folder: Path) -> Path:
    """Return the store's folder inside the folder that a page's example runs in."""
    return folder.with_name("home")


@contextmanager
def prepared(page: str, folder: Path) -> Iterator[Environment]:
    """Write to `folder` the files that a page mentions.

    Yield the environment variables that the page's code blocks need.
    """
    with ExitStack() as open_things:
        prepare = _PREPARATIONS.get(page)
        yield prepare(folder, open_things) if prepare else {}


def _calibrate(folder: Path, _: ExitStack) -> Environment:
    for place in ("rows", "held-out"):
        for task in ("sentiment_analysis", "product_matching"):
            write_lines(folder / place / task / "test.jsonl", [row(task, number) for number in range(8)])
    return {}


def _evaluate(folder: Path, open_things: ExitStack) -> Environment:
    """Write labelled rows, and a file in ECInstruct's own format."""
    task = "attribute_value_extraction"
    rows = [dataset_row(task, number, setting=SETTING) for number in range(4)]
    rows += [dataset_row(task, 4), dataset_row("sentiment_analysis", 0, setting=SETTING)]
    (folder / "dataset.json").write_text(json.dumps(rows), "utf-8")
    return _calibrate(folder, open_things)


def _jobs(folder: Path, _: ExitStack) -> Environment:
    """Write labelled pairs of products, either the same or clearly different, and a table of some of them."""
    pairs = [(f"oak table model {number}", f"oak table model {number}", "yes") for number in range(30)]
    pairs += [(f"oak table model {number}", f"garden hose {number} ft", "no") for number in range(30)]
    labelled = [
        {"input": {"product_1": {"title": one}, "product_2": {"title": other}}, "output": answer}
        for one, other, answer in pairs
    ]
    write_lines(folder / "pairs.jsonl", labelled)
    lines = [f"{one},{other}\n" for one, other, _ in pairs[::5]]
    (folder / "pairs.csv").write_text("product_1.title,product_2.title\n" + "".join(lines), "utf-8")
    return {}


def _models(folder: Path, open_things: ExitStack) -> Environment:
    """Start a simulated hub with a small checkpoint named eCeLLM-M. Return the environment variables that select it.

    Also write a small GGUF file, a small checkpoint and an adapter into `folder`.
    """
    published = write_checkpoint(folder / "published", "mistral")
    hub = open_things.enter_context(
        Hub("NingLab/eCeLLM-M", {path.name: path.read_bytes() for path in published.iterdir()})
    )
    write_tiny_model(folder / "eCeLLM-M.Q4_K_M.gguf", context=2048)
    model = write_checkpoint(folder / "my-model", "smollm")
    config = json.loads((model / "config.json").read_text("utf-8"))
    width, rank = config["hidden_size"], 2
    query = "model.layers.0.self_attn.q_proj.lora_"
    tensors = {
        f"{query}A.weight": np.full((rank, width), 0.01, np.float32),
        f"{query}B.weight": np.full((width, rank), 0.01, np.float32),
    }
    write_adapter(folder / "my-adapter", tensors, r=rank, lora_alpha=rank)
    return {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(folder / "hub"), "HF_HUB_DISABLE_XET": "1"}


def _performance(folder: Path, _: ExitStack) -> Environment:
    """Write a small model, and make it the default model, so that tuning it takes only minutes."""
    model = write_tiny_model(folder / "small.gguf", context=4096, metadata={"ecellm.envelope": "alpaca"})
    return {"ECELLM_MODEL": str(model)}


def _scale(folder: Path, _: ExitStack) -> Environment:
    """Write a table of reviews, as JSON Lines and as Parquet."""
    from pyarrow import Table, parquet

    reviews = [{"id": number, "review": f"Works, but it is loud. Order {number}."} for number in range(8)]
    write_lines(folder / "rows.jsonl", reviews)
    parquet.write_table(Table.from_pylist(reviews), folder / "rows.parquet")
    return {"RAY_USAGE_STATS_ENABLED": "0"}


def _serve(folder: Path, _: ExitStack) -> Environment:
    """Write a small model as my-own.gguf, and add it to the store as eCeLLM-M:Q4_K_M."""
    model = write_tiny_model(folder / "my-own.gguf", context=2048, metadata={"ecellm.envelope": "alpaca"})
    Store(home_of(folder)).add(model, "eCeLLM-M:Q4_K_M", "mistral")
    return {}


def _train(folder: Path, _: ExitStack) -> Environment:
    """Write labelled reviews: enough for training, validation and a measurement afterwards."""
    texts = {"A: very positive": "I love it", "E: very negative": "It broke on the first day"}
    reviews = [
        {
            "input": {"review": f"{text}. Order {number}."},
            "output": answer,
            "source": f"shop/{['shoes', 'hats'][number % 2]}",
        }
        for number in range(12)
        for answer, text in texts.items()
    ]
    write_lines(folder / "rows" / "sentiment_analysis" / "train.jsonl", reviews[:20])
    write_lines(folder / "rows" / "sentiment_analysis" / "test.jsonl", reviews[20:])
    return {}


def _adapters(folder: Path, _: ExitStack) -> Environment:
    """Write a base model and the adapters of two shops (PEFT's format). The base's metadata have an envelope's name."""
    write_base(folder / "base.gguf", metadata={"ecellm.envelope": "alpaca"})
    for seed, name in enumerate(("shop-a", "shop-b"), start=1):
        write_shop(folder / name, seed)
    return {}


_PREPARATIONS: Mapping[str, Callable[[Path, ExitStack], Environment]] = {
    "docs/adapters.md": _adapters,
    "docs/calibrate.md": _calibrate,
    "docs/evaluate.md": _evaluate,
    "docs/jobs.md": _jobs,
    "docs/models.md": _models,
    "docs/performance.md": _performance,
    "docs/scale.md": _scale,
    "docs/serve.md": _serve,
    "docs/train.md": _train,
}
