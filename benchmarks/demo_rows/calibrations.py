"""Makes the demo's shipped calibrations, fitted to rows that its adapter did not learn.

    python -m benchmarks.demo_rows.calibrations --data ../shared/data

All of these rows were held out from training. They come from the folder of `--data` (here called DATA), and from the
folder DATA/more. By default, half of a task's calibration rows are from each of the two, if enough rows of DATA/more
were held out. With `--others 0.25`, there is one row from DATA/more for every four from DATA. The rows from DATA/more
are needed because they are more like a shop's rows, and a model is most overconfident on them. There are two
exceptions:

- For extraction, only a fifth of the rows are from DATA/more, because most answers to such rows are wrong. With more of
  them, the calibration would lower all probabilities too far.
- If fewer than 80 rows of DATA were held out, all rows of DATA/more that were held out are added.

In some tasks, the possible answers are the same for all rows. If at least 80 rows of DATA were held out in such a task,
its rows from DATA/more are sampled so that each answer is as frequent as among all rows of DATA.

The demo is weak at two tasks, product_substitute_identification and multiclass_product_classification. So for these
tasks, an answer also comes with a set of plausible answers. The calibrations of these tasks also have thresholds for
`--review-below auto`: a person should check an answer whose probability is below its threshold.

The rows are written to build/calibration-rows. `ecellm-lite calibrate` fits calibrations to them in a temporary store.
The new calibrations are copied to ecellm_lite/demo/calibrations/. If a task's calibration is not good enough to keep,
its old file there is deleted.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import click

from benchmarks.demo_rows.held_out import SEED, divided
from ecellm_lite.cli.main import run_command
from ecellm_lite.demo.build import ensure_demo
from ecellm_lite.demo.calibrations import MODEL_SHA256, SHIPPED
from ecellm_lite.models.calibration_files import calibration_folder
from ecellm_lite.models.store import Store
from ecellm_lite.tasks.registry import get_task
from ecellm_lite.training.rows import Row, write_rows
from ecellm_lite.training.validation import LEAST_ROWS

# Tasks with few possible answers, the same for every row.
SHARED = frozenset(
    (
        "product_matching",
        "sentiment_analysis",
        "multiclass_product_classification",
        "product_substitute_identification",
        "answerability_prediction",
    )
)


WEAK = ("product_substitute_identification", "multiclass_product_classification")
# Nine in ten sets of plausible answers have the right one; four in five answers above a threshold are right.
UNSURE = ("--coverage-guarantee", "0.9", "--target-precision", "0.8")


@click.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), default=Path("../shared/data"), show_default=True)
@click.option("--task", default="all", show_default=True, help="The task to calibrate.")
@click.option("--others", default=1.0, show_default=True, help="Rows of DATA/more for each row of DATA.")
@click.option("--rows", type=click.Path(path_type=Path), default=Path("build/calibration-rows"), show_default=True)
def main(data: Path, task: str, others: float, rows: Path) -> None:
    """Fit the demo's calibrations and copy them into the package."""
    labelled = calibration_rows(data, others)
    write_rows(rows, labelled)
    tasks = list(labelled) if task == "all" else [get_task(task).name]
    with TemporaryDirectory() as home:
        os.environ["ECELLM_HOME"] = home
        store = Store()
        model = ensure_demo(store)
        if model.manifest.sha256 != MODEL_SHA256:
            raise SystemExit(f"The demo's sha256 is {model.manifest.sha256}; update it in demo/calibrations.py first.")
        folder = calibration_folder(store, model)
        shutil.rmtree(folder, ignore_errors=True)
        for name in tasks:
            options = UNSURE if name in WEAK else ()
            if code := run_command(["calibrate", "--task", name, "--data", str(rows), "--model", "demo", *options]):
                raise SystemExit(code)
            (SHIPPED / f"{name}.json").unlink(missing_ok=True)
        for path in folder.glob("*.json"):
            shutil.copy(path, SHIPPED / path.name)


def calibration_rows(data: Path, ratio: float = 1.0) -> dict[str, list[Row]]:
    """Return, for each task, the rows that its calibration is fitted to.

    They are the task's held-out rows of the folders `data` and `data`/more. `ratio`: how many rows of `data`/more there
    are for each row of `data`. The module's docstring lists the exceptions. The task that writes free text is left
    out, because its answers have no probabilities.
    """
    (learned, held_out), (_, others) = divided(data), divided(data / "more")
    random = Random(SEED)
    rows = {}
    for task, own in held_out.items():
        candidates = others.get(task, [])
        if len(own) >= LEAST_ROWS:
            candidates = with_shares(candidates, [*learned[task], *own], random)
            count = len(own) // 4 if task == "attribute_value_extraction" else int(len(own) * ratio)
            candidates = random.sample(candidates, min(count, len(candidates)))
        rows[task] = own + candidates
    del rows["answer_generation"]
    return rows


def with_shares(rows: Sequence[Row], labelled: Sequence[Row], random: Random) -> list[Row]:
    """Return a random sample of `rows` in which each answer has the same share as in the `labelled` rows.

    The sample is as large as possible. If a task's possible answers differ from row to row, return all rows.
    """
    if labelled[0]["task"] not in SHARED:
        return list(rows)
    shares = Counter(row["output"] for row in labelled)
    by_answer = {answer: [row for row in rows if row["output"] == answer] for answer in shares}
    scale = min(len(by_answer[answer]) / count for answer, count in shares.items())
    return [row for answer, count in shares.items() for row in random.sample(by_answer[answer], int(scale * count))]


if __name__ == "__main__":
    main()
