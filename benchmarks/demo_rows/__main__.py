r"""Makes the lessons (training examples) of the demo's adapter.

    python -m benchmarks.demo_rows --data ../shared/data --data ../shared/data/more --passes 8 --seed 7 \
        --leave-out wdc_pave --leave-out wdc_lspc_medium/watches --held-out held-out -o lessons.npz

The options and the lessons are those of `ecellm-lite train lessons`. In addition, there are synthetic rows:
rows of tasks with little data, and hard cases. The adapter's card (ecellm_lite/demo/adapter/README.md) says which
options were used for the demo.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from benchmarks.demo_rows.layout import demo_layout
from ecellm_lite.cli.train import lesson_options, limits, write_lessons


@click.command()
@lesson_options
def main(most: Sequence[tuple[str | None, int]], **options: Any) -> None:
    """Make the demo's lessons."""
    write_lessons(demo_layout(limits(most)), **options)


if __name__ == "__main__":
    main()
