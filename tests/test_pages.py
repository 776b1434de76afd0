"""README.md and docs/: links resolve, commands run, and tables match the results."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest

from benchmarks import pages as pages_module
from ecellm_lite.cli.main import COMMANDS, cli, run_command
from ecellm_lite.models.store import StoredModel
from tests.support.labelled_rows import row, write_lines
from tests.support.small_checkpoints import write_adapter
from tests.support.tiny_checkpoints import write_checkpoint

ROOT = Path(__file__).parent.parent
OTHERS = ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "clients/README.md")
PAGES = [*pages_module.PAGES, *(ROOT / name for name in OTHERS)]
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text("utf-8") for page in pages_module.PAGES}

_BLOCK = re.compile(
    r"^(<!-- not run: (?P<reason>[^\n]+) -->\n)?```(?P<language>sh|python)\n(?P<code>.*?)^```", re.S | re.M
)


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if target.startswith("http"):
            continue
        file, _, anchor = target.partition("#")
        place = page.parent / file if file else page
        assert place.exists(), target
        assert not anchor or anchor in anchors(place.read_text("utf-8")), target


def test_the_readme_is_short() -> None:
    assert TEXTS["README.md"].count("\n") <= 250


@pytest.mark.parametrize("page", pages_module.PAGES, ids=lambda page: page.name)
def test_tables_are_those_of_the_results(page: Path) -> None:
    text = page.read_text("utf-8")
    assert pages_module.filled(text) == text
    assert len(re.findall(r"<!-- table: ", text)) == len(re.findall(r"<!-- end -->", text))


def test_every_page_is_linked_from_the_readme() -> None:
    linked = set(re.findall(r"\]\(docs/([^)#]+)", TEXTS["README.md"]))
    assert linked == {page.name for page in (ROOT / "docs").glob("*.md")}


def test_every_command_is_spoken_of() -> None:
    everything = "".join(TEXTS.values())
    assert [name for name in COMMANDS if f"ecellm-lite {name}" not in everything] == []


def test_the_options_that_are_spoken_of_are_there() -> None:
    options = {"--help"}
    groups: list[click.Command] = [cli]
    while groups:
        command = groups.pop()
        options |= {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
        if isinstance(command, click.Group):
            context = click.Context(command)
            groups += [one for name in command.list_commands(context) if (one := command.get_command(context, name))]
    text = re.sub(r"<!-- table: .*?<!-- end -->|^```.*?^```", "", "".join(TEXTS.values()), flags=re.S | re.M)
    spoken = {option for code in re.findall(r"`([^`]+)`", text) for option in re.findall(r"(?<!\S)--[a-z-]+", code)}
    assert len(spoken) > 20
    assert spoken - options == set()


@pytest.mark.parametrize("page", TEXTS)
def test_commands_that_are_not_run_are_there(page: str) -> None:
    lines = "".join(block["code"] for block in _BLOCK.finditer(TEXTS[page]) if block["reason"]).replace("\\\n", " ")
    for line in lines.splitlines():
        if line.startswith("ecellm-lite "):
            command: click.Command | None = cli
            words = shlex.split(line.removeprefix("ecellm-lite "), comments=True)
            while isinstance(command, click.Group):
                name, *words = words
                command = command.get_command(click.Context(command), name)
            assert command is not None, line
            command.make_parser(click.Context(command)).parse_args(words)  # raises for an option that it has not


@pytest.mark.slow
@pytest.mark.parametrize("page", TEXTS)
def test_code_runs_as_it_stands(page: str, demo_model: StoredModel, tmp_path: Path) -> None:
    """Runs each page's code blocks in order, in a folder with what a reader would have."""
    blocks = [block for block in _BLOCK.finditer(TEXTS[page]) if not block["reason"]]
    if not blocks:
        pytest.skip("it has no code that can be run here")
    for name in ("ecellm_lite", "benchmarks"):
        (tmp_path / name).symlink_to(ROOT / name)
    if page == "docs/models.md":
        _fine_tune(tmp_path)
    if page in {"docs/evaluate.md", "docs/calibrate.md"}:
        _labelled(tmp_path)
    if page == "docs/jobs.md":
        _pairs(tmp_path)
    if page == "docs/train.md":
        pytest.importorskip("torch", reason="torch and peft are installed by those who train")
        _reviews(tmp_path / "rows" / "sentiment_analysis")
    scripts = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}", "NO_COLOR": "1"}
    for block in blocks:
        command = [sys.executable, "-c", block["code"]]
        if block["language"] == "sh":
            command = ["bash", "-euo", "pipefail", "-c", block["code"]]
        ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, f"{block['code']}\n{ended.stdout}\n{ended.stderr}"


def test_the_tasks_are_those_that_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    run_command(["tasks", "--json"])
    for task in json.loads(capsys.readouterr().out):
        assert f"| {task['name']} | {task['abbreviation']} |" in TEXTS["README.md"]


def test_the_picture_needs_no_network() -> None:
    picture = (ROOT / "benchmarks" / "figures" / "answer.svg").read_text("utf-8")
    assert not re.search(r"url\(|href=|<image|@font-face", picture.replace("url(#", ""))


def _fine_tune(folder: Path) -> None:
    """A small checkpoint and an adapter for it."""
    model = write_checkpoint(folder / "my-model", "smollm")
    config = json.loads((model / "config.json").read_text("utf-8"))
    width, rank = config["hidden_size"], 2
    query = "model.layers.0.self_attn.q_proj.lora_"
    tensors = {
        f"{query}A.weight": np.full((rank, width), 0.01, np.float32),
        f"{query}B.weight": np.full((width, rank), 0.01, np.float32),
    }
    write_adapter(folder / "my-adapter", tensors, r=rank, lora_alpha=rank)


def _labelled(folder: Path) -> None:
    for place in ("rows", "held-out"):
        for task in ("sentiment_analysis", "product_matching"):
            (folder / place / task).mkdir(parents=True)
            write_lines(folder / place / task / "test.jsonl", [row(task, number) for number in range(8)])


def _pairs(folder: Path) -> None:
    """Labelled pairs that are easy to tell, and a table of such pairs."""
    pairs = [(f"oak table model {number}", f"oak table model {number}", "yes") for number in range(30)]
    pairs += [(f"oak table model {number}", f"garden hose {number} ft", "no") for number in range(30)]
    labelled = [
        {"input": {"product_1": {"title": one}, "product_2": {"title": other}}, "output": answer}
        for one, other, answer in pairs
    ]
    write_lines(folder / "pairs.jsonl", labelled)
    lines = [f"{one},{other}\n" for one, other, _ in pairs[::5]]
    (folder / "pairs.csv").write_text("product_1.title,product_2.title\n" + "".join(lines), "utf-8")


def _reviews(folder: Path) -> None:
    """Enough reviews to learn from, to hold some out, and to measure with."""
    folder.mkdir(parents=True)
    texts = {"A: very positive": "I love it", "E: very negative": "It broke on the first day"}
    rows = [
        {"input": {"review": f"{text}. Order {number}."}, "output": answer}
        for number in range(12)
        for answer, text in texts.items()
    ]
    write_lines(folder / "train.jsonl", rows[:20])
    write_lines(folder / "test.jsonl", rows[20:])
