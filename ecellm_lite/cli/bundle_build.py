"""`ecellm-lite bundle engine` and `bundle program`: build the parts that a bundle is made from."""

from __future__ import annotations

from pathlib import Path

import click

from ecellm_lite.cli.options import debug_option

_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.option("-o", "--output", type=_FOLDER, required=True, help="The folder for the wheel.")
@click.option(
    "--source",
    type=click.Path(path_type=Path),
    help="llama-cpp-python's source distribution.  [default: pip downloads it]",
)
@debug_option
def engine(output: Path, source: Path | None) -> None:
    """Compile llama-cpp-python so that it runs on all processors, not only on this machine's.

    This takes up to an hour.
    """
    from ecellm_lite import ggml
    from ecellm_lite.bundle.engine import build_engine, variants_in
    from ecellm_lite.cli.progress import waiting

    with waiting("compiling", hidden=False) as show:
        wheel = build_engine(
            output, ggml.version(), source=source, progress=lambda done, of: show(f"compiling {done} of {of}")
        )
    click.echo(f"{wheel}: for {', '.join(variants_in(wheel))}")
    click.echo(f"Install it with pip install --force-reinstall --no-deps {wheel}")


@click.command()
@click.option("-o", "--output", "folder", type=_FOLDER, required=True, help="The folder to make for the program.")
@click.option("--native", is_flag=True, help="Accept a llama.cpp that was compiled for this machine's processor.")
@debug_option
def program(folder: Path, native: bool) -> None:
    """Pack this installation into one folder that runs without Python."""
    from ecellm_lite.bundle.program import build_program
    from ecellm_lite.cli.progress import waiting

    with waiting("packing", hidden=False):
        executable = build_program(folder, native=native)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    click.echo(f"{executable}, {size / 2**20:,.0f} MiB in its folder")
