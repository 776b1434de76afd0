"""Draws the README's picture: the demo's answer to the sentiment example, as in a terminal.

python benchmarks/picture.py --output benchmarks/figures/answer.svg
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import click
from rich.console import Console

from ecellm_lite import Runtime
from ecellm_lite.cli.show import show_answer
from ecellm_lite.tasks.registry import TASKS

COMMAND = "ecellm-lite run --task sentiment_analysis --input ecellm_lite/tasks/examples/sentiment_analysis.json"


@click.command()
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/figures/answer.svg"))
def main(output: Path) -> None:
    """Answer the example of sentiment analysis, and save the answer as a terminal would show it."""
    task = TASKS["sentiment_analysis"]
    with Path(os.devnull).open("w") as nowhere, Runtime("demo") as runtime:
        console = Console(record=True, width=106, file=nowhere, force_terminal=True, color_system="truecolor")
        console.print(f"[dim]$[/dim] {COMMAND}\n")
        answer = runtime.answer(task, task.example(), calibration=False)
        show_answer(answer, task.question(task.example()).space, console)
    drawn = console.export_svg(title="ecellm-lite")
    # rich loads fonts from a server, but the picture must look the same without a network.
    output.write_text(re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL), "utf-8")


if __name__ == "__main__":
    main()
