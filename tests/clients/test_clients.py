"""Tests the clients in languages other than Python, each with a pipe to the fake engine.

If a language is not installed, its tests are skipped.
"""

from __future__ import annotations

import io
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ecellm_lite import Answer, InputError
from ecellm_lite.pipe import child_runtime
from tests.pipe.host import FAKE_PIPE, PATIENCE, ROOT
from tests.support import dotnet

CLIENTS = ROOT / "clients"
CHECKS = ROOT / "tests" / "clients"
LANGUAGES: list[Any] = ["node", "java", "c", pytest.param("csharp", marks=pytest.mark.slow)]

Command = list[str | Path]


def run(
    command: Command, *, cwd: Path = ROOT, env: dict[str, str] | None = None, text: str = ""
) -> subprocess.CompletedProcess[str]:
    ended = subprocess.run(
        command, cwd=cwd, env={**os.environ, **(env or {})}, input=text, capture_output=True, text=True,
        encoding="utf-8", timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr[-5000:]}"
    return ended


def tool(name: str) -> str:
    path = shutil.which(name)
    if not path:
        pytest.skip(f"{name} is not installed")
    return path


def compile_c(folder: Path, source: Path, *options: str) -> Path:
    program = folder / source.stem
    warnings = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-g", *options]
    run([tool("gcc"), *warnings, "-I", CLIENTS / "c", source, CLIENTS / "c" / "ecellm_lite.c", "-o", program])
    return program


def compile_java(folder: Path, *sources: Path) -> Path:
    files = [*sorted((CLIENTS / "java" / "ecellmlite").glob("*.java")), *sources]
    run([tool("javac"), "-Xlint:all", "-Werror", "-d", folder, *files])
    return folder


def compile_csharp(folder: Path, source: Path) -> Command:
    """Compile a C# program together with the client, and return the command that runs the program.

    The compiler's options match the client's project files. In addition, every warning is an error.
    """
    if not dotnet.DOTNET.exists():
        pytest.skip("python tests/support/dotnet.py has not put a compiler of C# into build/dotnet")
    program = folder / f"{source.stem}.dll"
    options = ["/target:exe", f"/out:{program}", f"/doc:{program.with_suffix('.xml')}", "/langversion:12"]
    warnings = ["/nullable:enable", "/warn:8", "/warnaserror"]
    sources = sorted((CLIENTS / "csharp" / "EcellmLite").glob("*.cs"))
    run([sys.executable, dotnet.__file__, *options, *warnings, *sources, source])
    return [dotnet.DOTNET, program]


@pytest.fixture(scope="module", params=LANGUAGES)
def language(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def check(language: str, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """Return the command that tests the client of this language."""
    if language == "node":
        return [tool("node"), CHECKS / "check.mjs"]
    folder = tmp_path_factory.mktemp(language)
    if language == "java":
        return [tool("java"), "-cp", compile_java(folder, CHECKS / "Check.java"), "ecellmlite.Check"]
    if language == "csharp":
        return compile_csharp(folder, CHECKS / "Check.cs")
    return [compile_c(folder, CHECKS / "check.c", "-fsanitize=address,undefined")]


@pytest.mark.parametrize(
    "scenario", ["talk", *(pytest.param(name, marks=pytest.mark.slow) for name in ("die", "start"))]
)
def test_a_client_gets_answers_and_survives_faults_of_its_child(language: str, check: Command, scenario: str) -> None:
    run([*check, scenario, *([shlex.join(FAKE_PIPE)] if language == "c" else FAKE_PIPE)])


@pytest.mark.slow
@pytest.mark.parametrize("language", ["csharp"], indirect=True)
def test_csharps_client_keeps_time_limits_tokens_and_the_order_of_its_rows(check: Command) -> None:
    run([*check, "wait", *FAKE_PIPE])


def test_nodes_client_survives_a_restart_that_the_system_refuses() -> None:
    few_files = ["sh", "-c", 'ulimit -n 128; exec "$@"', "sh"]
    run([*few_files, tool("node"), CHECKS / "check.mjs", "refuse", *FAKE_PIPE])


def test_the_till_in_c_reads_whole_lines(tmp_path: Path) -> None:
    till = compile_c(tmp_path, CLIENTS / "c" / "example_till.c", "-fsanitize=address,undefined")
    ended = run([till, shlex.join(FAKE_PIPE)], text=f"{'long ' * 2000}\r\n\nshort")
    answers = [line.startswith("no answer (input)") for line in ended.stdout.splitlines()]
    assert answers == [False, True, False]


def test_a_till_without_its_program_ends_with_one_message(language: str, tmp_path: Path) -> None:
    if language == "node":
        command: Command = [tool("node"), CLIENTS / "node" / "example-till.js"]
    elif language == "java":
        command = [tool("java"), "-cp", compile_java(tmp_path), "ecellmlite.ExampleTill"]
    elif language == "csharp":
        command = compile_csharp(tmp_path, CLIENTS / "csharp" / "ExampleTill" / "Program.cs")
    else:
        command = [compile_c(tmp_path, CLIENTS / "c" / "example_till.c", "-fsanitize=address,undefined")]
    ended = subprocess.run(
        [*command, "/nonsense/ecellm-lite"], input="good", capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert ended.returncode == 1
    assert not ended.stdout
    lines = ended.stderr.splitlines()
    assert len(lines) == (2 if language == "c" else 1)  # sh has a message of its own
    assert "PATH" in lines[-1]


def test_the_till_in_python_reads_lines_of_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[Any] = []

    class Till:
        def __enter__(self) -> Till:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def answer(self, _: str, row: Any, **options: Any) -> Answer:
            rows.append(row)
            raise InputError("It has no answer")

    monkeypatch.setattr(child_runtime, "ChildRuntime", Till)
    monkeypatch.setattr(sys, "argv", ["example_till.py"])
    monkeypatch.setattr(sys, "stdin", io.StringIO("good\r\nbad\n"))
    runpy.run_path(str(CLIENTS / "python" / "example_till.py"), run_name="__main__")
    assert rows == [{"review": "good"}, {"review": "bad"}]


def test_json_is_read_and_written(language: str, check: Command) -> None:
    if language in ("node", "csharp"):
        pytest.skip(f"{language} has JSON itself")
    run([*check, "json"])


@pytest.fixture
def bin_folder(tmp_path: Path) -> Path:
    """Return a folder to put on PATH. It has a program `ecellm-lite` whose command `pipe` uses the fake engine."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "ecellm-lite"
    script.write_text(f'#!/bin/sh\n[ "$1" = pipe ] && cd {shlex.quote(str(ROOT))} && exec {shlex.join(FAKE_PIPE)}\n')
    script.chmod(0o755)
    return folder


@pytest.mark.slow
def test_the_readmes_code_runs(language: str, bin_folder: Path, tmp_path: Path) -> None:
    """The README's code for each language runs in a folder that has only a copy of the client."""
    marks = {"node": "js", "java": "java", "c": "c", "csharp": "csharp"}
    readme = (CLIENTS / "README.md").read_text("utf-8")
    blocks = re.findall(rf"^```{marks[language]}\n(.*?)^```", readme, re.S | re.M)
    lines = {"node": [3, 2], "java": [3, 2], "c": [3], "csharp": [3, 2]}[language]  # that each block prints
    path = {"PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"}
    if language == "node":
        modules = tmp_path / "node_modules"
        modules.mkdir()
        shutil.copytree(CLIENTS / "node", modules / "ecellm-lite-client")
    for block, count in zip(blocks, lines, strict=True):
        if language == "node":
            program = tmp_path / "program.mjs"
            program.write_text(block, "utf-8")
            command: Command = [tool("node"), program]
        elif language == "java":
            [name] = re.findall(r"^public final class (\w+)", block, re.M)
            program = tmp_path / f"{name}.java"
            program.write_text(block, "utf-8")
            command = [tool("java"), "-cp", compile_java(tmp_path / "classes", program), name]
        elif language == "csharp":
            program = tmp_path / "Shop.cs"
            program.write_text(block, "utf-8")
            command = compile_csharp(tmp_path, program)
        else:
            program = tmp_path / "shop.c"
            program.write_text(block, "utf-8")
            command = [compile_c(tmp_path, program)]
        assert len(run(command, cwd=tmp_path, env=path).stdout.splitlines()) == count


def test_the_client_for_c_compiles_for_windows(tmp_path: Path) -> None:
    sources = [CLIENTS / "c" / "example_till.c", CLIENTS / "c" / "ecellm_lite.c"]
    options: list[str | Path] = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-I", CLIENTS / "c"]
    run([tool("x86_64-w64-mingw32-gcc"), *options, *sources, "-o", tmp_path / "till.exe"])


@pytest.mark.slow
def test_the_type_declarations_fit_the_client(tmp_path: Path) -> None:
    program = tmp_path / "program.mts"
    program.write_text(
        f"""
        import {{ Client, EcellmError, type Answer, type Options }} from {str(CLIENTS / "node" / "index.js")!r};
        const options: Options = {{ deadline_ms: 500, priority: "urgent", calibration: false }};
        const client: Client = await Client.start({{ command: ["ecellm-lite", "pipe"], stderr: "ignore" }});
        const answer: Answer = await client.ask("sentiment_analysis", {{ review: "" }}, {{ options, timeout: 1 }});
        const sure: boolean = answer.probability !== null && answer.probability > 0.8;
        for await (const result of client.askMany("product_matching", [{{}}])) {{
          const text: string | null = result.error ? result.error.code : result.answer.text;
        }}
        // @ts-expect-error: there is no such option
        await client.ask("sentiment_analysis", {{}}, {{ options: {{ priority: "never" }} }});
        await client.close();
        """,
        "utf-8",
    )
    options = ["--noEmit", "--strict", "--target", "es2022", "--module", "nodenext", "--lib", "es2022,dom"]
    run([tool("tsc"), *options, program])
