"""Tests README.md and docs/: the targets of links exist, code blocks run, and tables equal the results files."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import click
import pytest

from benchmarks import pages as pages_module
from ecellm_lite.cli.main import COMMANDS, cli, run_command
from ecellm_lite.models.store import StoredModel
from tests.support.page_blocks import blocks_of, run_blocks
from tests.support.page_folders import home_of, prepared

ROOT = Path(__file__).parent.parent
OTHERS = ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "clients/README.md")
PAGES = [*pages_module.PAGES, *(ROOT / name for name in OTHERS)]
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text("utf-8") for page in pages_module.PAGES}

RUN = {**TEXTS, **{name: (ROOT / name).read_text("utf-8") for name in OTHERS}}


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_have_a_target(page: Path) -> None:
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
def test_tables_equal_the_results(page: Path) -> None:
    text = page.read_text("utf-8")
    assert pages_module.filled(text) == text
    assert len(re.findall(r"<!-- table: ", text)) == len(re.findall(r"<!-- end -->", text))


def test_every_page_is_linked_from_the_readme() -> None:
    linked = set(re.findall(r"\]\(docs/([^)#]+)", TEXTS["README.md"]))
    assert linked == {page.name for page in (ROOT / "docs").glob("*.md")}


def test_every_command_is_documented() -> None:
    everything = "".join(TEXTS.values())
    assert [name for name in COMMANDS if f"ecellm-lite {name}" not in everything] == []


def test_documented_options_exist() -> None:
    options = {"--help"}
    groups: list[click.Command] = [cli]
    while groups:
        command = groups.pop()
        options |= {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
        if isinstance(command, click.Group):
            context = click.Context(command)
            groups += [one for name in command.list_commands(context) if (one := command.get_command(context, name))]
    text = re.sub(r"<!-- table: .*?<!-- end -->|^```.*?^```", "", "".join(TEXTS.values()), flags=re.S | re.M)
    spoken = {option for code in re.findall(r"`([^`]+)`", text) for option in re.findall(r"(?<!\S)--[a-z0-9-]+", code)}
    assert len(spoken) > 20
    assert spoken - options == set()


@pytest.mark.parametrize("page", TEXTS)
def test_commands_in_blocks_that_are_not_run_exist(page: str) -> None:
    lines = "".join(block.code for block in blocks_of(TEXTS[page]) if block.reason).replace("\\\n", " ")
    for line in lines.splitlines():
        if line.startswith("ecellm-lite "):
            command: click.Command | None = cli
            words = shlex.split(line.removeprefix("ecellm-lite "), comments=True)
            while isinstance(command, click.Group):
                name, *words = words
                command = command.get_command(click.Context(command), name)
            assert command is not None, line
            command.make_parser(click.Context(command)).parse_args(words)  # raises for an option that it has not


@pytest.mark.parametrize("page", RUN)
def test_json_blocks_are_valid(page: str) -> None:
    for block in re.findall(r"^```json\n(.*?)^```", RUN[page], re.S | re.M):
        rest = block
        while rest := rest.lstrip():
            _, end = json.JSONDecoder().raw_decode(rest)
            rest = rest[end:]


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in RUN if any(block.reason is None for block in blocks_of(RUN[page]))])
def test_code_blocks_run(page: str, demo_model: StoredModel, tmp_path: Path) -> None:
    """The code blocks of each page run in order, with a separate store and the files that a reader would have."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("ecellm_lite", "benchmarks", "clients"):
        (folder / name).symlink_to(ROOT / name)
    home = home_of(folder)
    demo = home / "models" / "demo"
    shutil.copytree(demo_model.path.parent, demo, ignore=shutil.ignore_patterns(demo_model.path.name))
    (demo / demo_model.path.name).symlink_to(demo_model.path)
    blocks = [block for block in blocks_of(RUN[page]) if block.reason is None]
    missing = {name for block in blocks for name in block.missing}
    with prepared(page, folder) as settings:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "NO_COLOR": "1", "ECELLM_HOME": str(home), **settings}
        run_blocks([block for block in blocks if not block.missing], folder, environment)
    if missing:
        pytest.skip(f"not installed: {', '.join(sorted(missing))}; the blocks that need none of them ran")


def test_every_listed_task_is_in_the_readme(capsys: pytest.CaptureFixture[str]) -> None:
    run_command(["tasks", "--json"])
    for task in json.loads(capsys.readouterr().out):
        assert f"| {task['name']} | {task['abbreviation']} |" in TEXTS["README.md"]


def test_the_picture_needs_no_network() -> None:
    picture = (ROOT / "benchmarks" / "figures" / "answer.svg").read_text("utf-8")
    assert not re.search(r"url\(|href=|<image|@font-face", picture.replace("url(#", ""))
