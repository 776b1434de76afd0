"""Tests that the package's own error messages mention no command-line options, and that the command line adds them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ecellm_lite.cli.main import cli, run_command
from ecellm_lite.cli.wording import command_of, options_of, worded
from ecellm_lite.errors import ContextError, InputError, UsageError

ROOT = Path(__file__).parent.parent.parent
OPTION = re.compile(r"[^-]--[a-z][a-z-]+")
# These start pip, PyInstaller or this program itself, with options of those.
STARTERS = {f"ecellm_lite/bundle/{name}.py" for name in ("engine", "program", "start", "starter", "wheels")}


def test_only_the_command_line_names_options() -> None:
    files = [*(ROOT / "ecellm_lite").rglob("*.py"), *(ROOT / "convert").rglob("*.py")]
    named = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in files
        if ROOT / "ecellm_lite" / "cli" not in path.parents
        if path.relative_to(ROOT).as_posix() not in STARTERS
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if OPTION.search(line)
    ]
    assert named == []


@pytest.mark.parametrize(
    ("arguments", "step"),
    [
        (["run"], "shorten the row (--shorten, --context)"),
        (["bench"], "shorten the row (--context)"),
        (["models", "pull"], "shorten the row"),
        (["tasks"], "shorten the row"),
    ],
)
def test_an_error_names_the_options_that_its_command_has(arguments: list[str], step: str) -> None:
    error = ContextError("The prompt is too long", step="shorten the row", settings=("shorten", "context"))
    assert worded(error, options_of(command_of(cli, arguments))) == f"The prompt is too long: {step}."


def test_an_error_without_a_step_is_unchanged() -> None:
    error = UsageError("The whole sentence.", settings=("context",))
    assert worded(error, {"context": "--context"}) == "The whole sentence."


def test_each_setting_has_its_option() -> None:
    options = options_of(command_of(cli, ["run", "--task", "SA"]))
    assert options["gpu_layers"] == "--gpu-layers"
    assert options["task"] == "--task"
    assert options["prefix_files"] == "--prefix-files"


def test_a_failing_command_names_its_option(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run_command(["run", "-t", "SA", "--rows", "-", "-o", str(tmp_path / "none" / "answers.jsonl")]) == 3
    assert capsys.readouterr().err.endswith("(--output).\n")


def test_an_option_has_the_value_that_the_error_has_for_it() -> None:
    error = InputError("Nothing in 'Title'", step="use other rows", settings={"only_where": "Title (de)"})
    assert worded(error, {"only_where": "--only-where"}).endswith("(--only-where 'Title (de)').")
    assert "Title (de)" not in worded(error, {})
    assert error.step == "use other rows"
