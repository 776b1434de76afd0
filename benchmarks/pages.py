"""Fills the tables of README.md and docs/ from the results.

    python -m benchmarks.pages            # make docs
    python -m benchmarks.pages --check    # make lint: exits with 1 if a page is stale

The text between `<!-- table: NAME -->` and `<!-- end -->` is generated. Each table is a function of the same name in
page_tables/.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import click

from benchmarks.page_tables import catalogues, conversion, own_tasks, programs, quality, speed

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

TABLES: Mapping[str, Callable[[], str]] = {
    name: function
    for module in (catalogues, conversion, own_tasks, programs, quality, speed)
    for name, function in inspect.getmembers(module, inspect.isfunction)
    if function.__module__ == module.__name__
}


def filled(text: str) -> str:
    """Return a page's text with its tables generated from the results."""
    return _MARKED.sub(lambda match: f"{match[1]}{TABLES[match[2]]()}\n{match[3]}", text)


@click.command()
@click.option("--check", is_flag=True, help="Change nothing; exit with 1 if a page is stale.")
def main(check: bool) -> None:
    """Write the tables of README.md and docs/ from benchmarks/results/."""
    stale = []
    for page in PAGES:
        text = page.read_text("utf-8")
        if (new := filled(text)) != text:
            stale.append(page.relative_to(ROOT).as_posix())
            if not check:
                page.write_text(new, "utf-8")
    if check and stale:
        click.echo(f"Stale: {', '.join(stale)}. Run `make docs` to update them.", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
