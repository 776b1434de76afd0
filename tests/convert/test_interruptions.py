"""Tests that a conversion can be interrupted at any moment and resumed.

The resulting file must have the same bytes as without the interruption.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ecellm_lite.convert.checkpoint import Checkpoint
from ecellm_lite.convert.pipeline import ConversionProgress, WrittenFile, unfinished_file, write_file
from ecellm_lite.convert.plan import Plan
from ecellm_lite.convert.writer import NotResumableError, unfinished_paths
from ecellm_lite.errors import ModelError
from ecellm_lite.models.files import sha256_of
from tests.support.conversions import carry_out, converted, planned
from tests.support.fuzz import times
from tests.support.refusals import refusal
from tests.support.small_checkpoints import weights, write_checkpoint


def named_only(plan: Plan, source: Checkpoint, target: Path) -> WrittenFile:
    """Write the files that remain if a conversion stops after renaming its output and before writing the manifest."""
    with unfinished_file(plan, source, target) as file:
        written = write_file(plan, source, file)
        file.finish(written.sha256)
    return written


def test_an_interrupted_run_is_resumed(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", weights())
    converted(base, tmp_path / "whole.gguf")
    target = tmp_path / "out.gguf"
    with Checkpoint(base) as source:
        plan = replace(planned(source), block_weights=1 << 13)
        for after in (3, 20, 60):
            seen: list[ConversionProgress] = []

            def stop(progress: ConversionProgress, after: int = after, seen: list[ConversionProgress] = seen) -> None:
                seen.append(progress)
                if len(seen) == after:
                    raise KeyboardInterrupt

            with pytest.raises(KeyboardInterrupt):
                carry_out(plan, source, target, resume=True, progress=stop)
            assert not target.exists()
        assert unfinished_paths(target)[0].stat().st_size == plan.size
        with refusal(NotResumableError, file=str(unfinished_paths(target)[0])):
            carry_out(planned(source, "Q8_0"), source, target, resume=True)
        seen.clear()
        written = carry_out(replace(plan, block_weights=777), source, target, resume=True, progress=seen.append)
    assert 0 < written.resumed < written.size
    assert seen[0].total > seen[0].done > 0
    assert seen[-1].done == seen[-1].total
    assert target.read_bytes() == (tmp_path / "whole.gguf").read_bytes()
    assert written.sha256 == sha256_of(target)
    assert not any(path.exists() for path in unfinished_paths(target))


def test_a_damaged_journal_starts_over(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", weights())
    converted(base, tmp_path / "whole.gguf")
    target = tmp_path / "out.gguf"
    unfinished, journal = unfinished_paths(target)
    for text in (b"", b"\xff\xfe", b"[" * 100_000, b'{"done": 5}\n', b'{"facts": 3', b"17\nnull\n"):
        journal.write_bytes(text)
        unfinished.write_bytes(b"x")
        with Checkpoint(base) as source:
            assert carry_out(planned(source), source, target, resume=True).resumed == 0
        assert target.read_bytes() == (tmp_path / "whole.gguf").read_bytes()


def test_a_run_ended_before_its_manifest_is_completed(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", weights())
    target = tmp_path / "out.gguf"

    with Checkpoint(base) as source:
        plan = planned(source)
        before = named_only(plan, source, target)
        assert all(path.exists() for path in unfinished_paths(target)[1:])
        written = carry_out(plan, source, target, resume=True)
    assert written.resumed == written.size
    assert written.sha256 == before.sha256 == sha256_of(target)
    assert not any(path.exists() for path in unfinished_paths(target))


def test_a_finished_file_is_hashed_before_it_is_trusted(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", weights())
    target = tmp_path / "out.gguf"

    with Checkpoint(base) as source:
        plan = planned(source)
        named_only(plan, source, target)
        whole = target.read_bytes()
        target.write_bytes(bytes(len(whole)))
        written = carry_out(plan, source, target, resume=True)
    assert written.resumed == 0
    assert target.read_bytes() == whole


# A test run started in the background inherits that interrupts are ignored.
SLOWLY = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from dataclasses import replace
from pathlib import Path
from ecellm_lite.convert.checkpoint import Checkpoint
from ecellm_lite.convert.merging import attach_adapters
from ecellm_lite.convert.plan import draw_plan
from ecellm_lite.convert import stream
from tests.support.conversions import carry_out
from tests.support.small_checkpoints import blueprint

stream._FLUSH_BYTES = 1 << 14
with Checkpoint(Path(sys.argv[1])) as source:
    plan = replace(draw_plan(attach_adapters(blueprint(), source), source, "Q4_K_M"), block_weights=1 << 13)
    print("ready", flush=True)
    written = carry_out(plan, source, Path(sys.argv[2]), resume=True, progress=lambda _: time.sleep(float(sys.argv[3])))
    print("resumed", written.resumed, flush=True)
"""


def slowly(base: Path, target: Path, seconds: float) -> subprocess.Popen[str]:
    root = Path(__file__).parent.parent.parent
    arguments = [sys.executable, "-c", SLOWLY, str(base), str(target), str(seconds)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root)


@pytest.mark.slow
def test_a_run_killed_at_any_moment_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", weights())
    converted(base, tmp_path / "whole.gguf")
    target = tmp_path / "out.gguf"
    moments = random.Random(5)
    for _ in range(times(5, 20) // 5):
        for _ in range(5):
            process = slowly(base, target, 0.03)
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            time.sleep(moments.uniform(0.0, 0.5))
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=30)
            assert not target.exists()
        process = slowly(base, target, 0)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert int(output.split()[-1]) > 0
        assert target.read_bytes() == (tmp_path / "whole.gguf").read_bytes()
        target.unlink()


def test_an_interrupt_signal_leaves_a_resumable_state(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", weights())
    converted(base, tmp_path / "whole.gguf")
    target = tmp_path / "out.gguf"
    process = slowly(base, target, 0.03)
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=30)
    assert "KeyboardInterrupt" in complaint
    assert not target.exists()
    output, _ = slowly(base, target, 0).communicate(timeout=60)
    assert int(output.split()[-1]) > 0
    assert target.read_bytes() == (tmp_path / "whole.gguf").read_bytes()


@pytest.mark.parametrize("change", ["shrinks", "changes"])
def test_an_input_that_changes_during_the_run_gives_no_file(change: str, tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", weights())
    target = tmp_path / "out.gguf"
    weights_file = base / "model.safetensors"
    done: list[ConversionProgress] = []

    def spoil(progress: ConversionProgress) -> None:
        if not done:
            if change == "shrinks":
                os.truncate(weights_file, 20_000)
            else:
                os.utime(weights_file, ns=(1, 1))
        done.append(progress)

    with Checkpoint(base) as source:
        plan = replace(planned(source), block_weights=1 << 13)
        with refusal(ModelError, file=str(weights_file)):
            carry_out(plan, source, target, progress=spoil)
    assert not target.exists()
