"""Tests that a command ends with an exit code and a sentence if a standard stream is closed, full or not read."""

from __future__ import annotations

import errno
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ecellm_lite.models.store import StoredModel


def test_a_reader_that_closes_the_pipe_causes_no_error(demo_model: StoredModel, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"review": "x"}\n' * 40)
    program = f"{sys.executable} -c 'from ecellm_lite.cli.main import main; main()'"
    for command in ("tasks", f"run -t SA --rows {rows}"):
        script = f"set -o pipefail; {program} {command} | head -n 1"
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="this machine has no device that is always full")
def test_a_full_disk_is_reported_in_one_sentence() -> None:
    program = [sys.executable, "-c", "from ecellm_lite.cli.main import main; main()", "tasks"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(program, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 3
    [sentence] = done.stderr.strip().splitlines()
    assert sentence.startswith("ecellm-lite: ")
    assert os.strerror(errno.ENOSPC) in sentence


def test_a_limit_on_the_size_of_files_is_reported_in_one_sentence(tmp_path: Path) -> None:
    program = shlex.join([sys.executable, "-c", "from ecellm_lite.cli.main import main; main()", "tasks"])
    script = f"ulimit -f 0; {program} >{shlex.quote(str(tmp_path / 'out'))}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    [sentence] = done.stderr.strip().splitlines()
    assert os.strerror(errno.EFBIG) in sentence


# A command that writes a line and then reports failed rows.
FAILING = """
import click
from ecellm_lite.cli import main
from ecellm_lite.errors import JobError

@click.command()
def tasks():
    click.echo("a line")
    raise JobError("1 of 1 rows failed.")

main.LazyGroup.get_command = lambda *_: tasks
main.main()
"""


def buffered(code: str, shell: str) -> subprocess.CompletedProcess[str]:
    """Run Python code with buffered output, which is Python's default.

    `shell`: the program's arguments and redirections, as a shell reads them.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    script = f"set -o pipefail; {shlex.join([sys.executable, '-c', code])} {shell}"
    return subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=60, env=environment, check=False
    )


def test_an_output_that_is_too_large_for_its_file_system_is_reported_in_one_sentence(tmp_path: Path) -> None:
    code = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))\n"
    output = shlex.quote(str(tmp_path / "tasks.json"))
    done = buffered(f"{code}from ecellm_lite.cli.main import main; main()", f"tasks --json > {output}")
    assert done.returncode == 3
    [sentence] = done.stderr.strip().splitlines()
    assert os.strerror(errno.EFBIG) in sentence


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="this machine has no device that is always full")
@pytest.mark.parametrize(
    ("shell", "code"), [("tasks", 5), ("tasks >/dev/full", 3), ("tasks | true", 0), ("tasks >&-", 5)]
)
def test_an_output_that_cannot_be_written_decides_the_exit_code(shell: str, code: int) -> None:
    done = buffered(FAILING, shell)
    assert done.returncode == code, done.stderr
    assert "Exception ignored" not in done.stderr
    assert done.stderr.count("\n") == (code > 0)


def test_closed_input_and_output_are_handled(tmp_path: Path) -> None:
    program = "from ecellm_lite.cli.main import main; main()"
    assert buffered(program, "tasks >&-").returncode == 0
    done = buffered(program, "run -t SA --rows - <&-")
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
    missing = buffered(program, f"run -t SA --rows {tmp_path}/none.jsonl <&-")
    assert missing.returncode == 3
    assert f"{tmp_path}/none.jsonl" in missing.stderr
