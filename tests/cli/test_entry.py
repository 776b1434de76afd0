"""Tests that an interrupt during the start, or a closed standard stream, never causes a traceback."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and shells of POSIX")

# Interrupts its own process while a module is being imported.
INTERRUPTING = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background has inherited another
from ecellm_lite.cli import entry

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
sys.argv = ["ecellm-lite", "tasks"]
entry.main()
"""

# A command that does something when it is called.
CALLING = """
import os, signal, sys, time
signal.signal(signal.SIGINT, {handler})
from ecellm_lite.cli import entry, main
import click

@click.command()
def tasks():
    {body}

main.LazyGroup.get_command = lambda *_: tasks
sys.argv = ["ecellm-lite", "tasks"]
entry.main()
"""
INTERRUPT = "os.kill(os.getpid(), signal.SIGINT)"


def ran(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    "module", ["ecellm_lite.cli.main", "click", "ecellm_lite.cli.tasks", "ecellm_lite.tasks.registry"]
)
def test_an_interruption_during_an_import_ends_the_process(module: str) -> None:
    done = ran(INTERRUPTING.format(module=module))
    assert (done.returncode, done.stderr) == (130, "ecellm-lite: Interrupted.\n")


@pytest.mark.parametrize(
    "body",
    [
        f"{INTERRUPT}; time.sleep(60)",
        # The second interrupt comes while the first is being handled.
        f"\n    try: {INTERRUPT}; time.sleep(60)\n    finally: {INTERRUPT}; time.sleep(60)",
    ],
)
def test_an_interrupted_command_exits_with_130(body: str) -> None:
    done = ran(CALLING.format(handler="signal.default_int_handler", body=body))
    assert (done.returncode, done.stderr.lstrip()) == (130, "ecellm-lite: Interrupted.\n")


def test_an_ignored_interrupt_signal_stays_ignored() -> None:
    done = ran(CALLING.format(handler="signal.SIG_IGN", body=f"{INTERRUPT}; click.echo('done')"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_an_interruption_while_llama_cpp_logs_is_raised_later() -> None:
    """ctypes prints and drops an exception that is raised in a callback, so the exception must be raised later."""
    body = """
    from ecellm_lite import ggml
    log = ggml._note
    def trace(frame, event, argument):
        if event == "call" and frame.f_code.co_name == "_note_error":
            sys.settrace(None)
            os.kill(os.getpid(), signal.SIGINT)
    sys.settrace(trace)
    log(4, b"an error", None)
    ggml.check_interrupt()
    time.sleep(60)
"""
    done = ran(CALLING.format(handler="signal.default_int_handler", body=body))
    assert (done.returncode, done.stderr.lstrip()) == (130, "ecellm-lite: Interrupted.\n")


ROW = 'run -t SA --input \'{"review": "x"}\''


@pytest.mark.parametrize(
    ("command", "codes"),
    [
        # with the input, the output, or standard error closed, or all three
        ("tasks SA", (0, 0, 0, 0)),
        ("nonsense", (2, 2, 2, 2)),
        (ROW, (0, 3, 0, 3)),
        ("run -t SA --rows -", (3, 3, 0, 3)),
        *(
            pytest.param(command, codes, marks=pytest.mark.slow)
            for command, codes in (
                ("tasks", (0, 0, 0, 0)),
                ("--help", (0, 0, 0, 0)),
                ("--version", (0, 0, 0, 0)),
                ("models list", (0, 0, 0, 0)),
                ("nonsense --debug", (2, 2, 2, 2)),
                ("", (2, 2, 2, 2)),
                (f"{ROW} --show-prompt --envelope alpaca", (0, 3, 0, 3)),
                ("run -t SA --input -", (3, 3, 0, 3)),
                ("run -t SA --rows - --output {folder}/answers.jsonl", (3, 0, 0, 3)),
                ("run -t SA --rows {folder}/rows.jsonl --output {folder}/answers.jsonl", (0, 0, 0, 0)),
                ("run -t SA --rows {folder}/rows.jsonl --preview 1 --envelope alpaca", (0, 3, 0, 3)),
                ("run -t XX --rows {folder}/rows.jsonl", (2, 2, 2, 2)),
                ("eval -t SA --data {folder}/labelled.jsonl --output {folder}/results.json", (0, 0, 0, 0)),
                ("pipe", (3, 3, 0, 3)),
            )
        ),
    ],
)
@pytest.mark.usefixtures("demo_model")
def test_commands_run_with_closed_streams(command: str, codes: tuple[int, ...], tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"review": "x"}\n')
    (tmp_path / "labelled.jsonl").write_text('{"task": "SA", "input": {"review": "x"}, "output": "B: positive"}\n')
    program = shlex.join([sys.executable, "-c", "from ecellm_lite.cli.entry import main; main()"])
    command = command.replace("{folder}", str(tmp_path))
    for closing, code in zip(("<&-", ">&-", "2>&-", "<&- >&- 2>&-"), codes, strict=True):
        feed = "" if "<&-" in closing else f"< {tmp_path}/rows.jsonl"
        done = subprocess.run(
            ["bash", "-c", f"{program} {command} {feed} {closing}"], capture_output=True, text=True, timeout=120
        )
        assert done.returncode == code, f"{closing}: {done.stderr}"
        for text in (done.stdout, done.stderr):
            assert "Traceback" not in text, closing
            assert "A bug in ecellm-lite" not in text, closing
            assert "Exception ignored" not in text, closing


def test_no_opened_file_gets_the_number_of_a_closed_stream() -> None:
    program = """
import os
from ecellm_lite.cli import entry
entry.occupy_closed_streams()
file = os.open(os.devnull, os.O_RDONLY)
assert file > 2, file
"""
    for closing in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
        script = f"{shlex.join([sys.executable, '-c', program])} {closing}"
        assert subprocess.run(["bash", "-c", script], check=False).returncode == 0
