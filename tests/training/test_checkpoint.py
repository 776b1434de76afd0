"""Tests that an interrupted training continues from its own checkpoint, and from no other one."""

from __future__ import annotations

import errno
import io
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecellm_lite.cli.main import run_command
from ecellm_lite.errors import ModelError, UsageError
from ecellm_lite.training.lessons import Lesson, Lessons
from ecellm_lite.training.recipe import Recipe
from tests.support.refusals import refusal
from tests.support.tiny_models import write_tiny_model
from tests.support.tiny_trainings import LATER_ROWS, RECIPE, ROWS, curves, quiet, weights

torch = pytest.importorskip("torch", reason="learning needs torch (extra 'train')")
pytest.importorskip("peft", reason="learning needs peft (extra 'train')")
pytest.importorskip("transformers", reason="learning needs transformers (extra 'train')")

from ecellm_lite.training import learning as module  # noqa: E402 - where torch is
from ecellm_lite.training.base import load_base  # noqa: E402
from ecellm_lite.training.learning import Learning  # noqa: E402

# peft still calls this by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
torch.set_num_threads(1)  # a tiny model has no work for more threads


@pytest.fixture(autouse=True)
def _every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVERY", 1)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_resuming_from_a_checkpoint_gives_the_same_result(
    dropout: float, tiny: Path, lessons: Lessons, tmp_path: Path
) -> None:
    recipe = Recipe(rank=4, alpha=8, rate=2e-2, rows=8, seed=5, dropout=dropout)
    Learning(load_base(tiny), lessons, recipe, tmp_path / "whole").run(report=quiet)
    Learning(load_base(tiny), lessons, recipe, tmp_path / "parts").run(until=7, report=quiet)
    assert len(curves(tmp_path / "parts")["losses"]) == 7
    later = Learning(load_base(tiny), lessons, recipe, tmp_path / "parts")
    later.resume()
    later.run(report=quiet)
    assert curves(tmp_path / "parts") == curves(tmp_path / "whole")
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")


@pytest.mark.parametrize("changed", [{"rate": 1e-3}, {"seed": 6}, {"rows": 4}])
def test_a_checkpoint_of_another_training_is_refused(
    changed: dict[str, Any], tiny: Path, lessons: Lessons, trained: Path
) -> None:
    settings = {"rank": 4, "alpha": 8, "rate": 2e-2, "rows": 8, "seed": 5, "tokens": 100} | changed
    with refusal(UsageError, trained):
        Learning(load_base(tiny), lessons, Recipe(**settings), trained).resume()


def test_a_checkpoint_of_other_lessons_is_refused(tiny: Path, lessons: Lessons, trained: Path) -> None:
    [changed, *others] = lessons.lessons[-LATER_ROWS:]
    other = Lesson(changed.task, [66, *changed.tokens[1:]], changed.answer, changed.choices, changed.gold, changed.turn)
    with refusal(UsageError, trained):
        Learning(
            load_base(tiny), Lessons(256, [*lessons.lessons[:-LATER_ROWS], other, *others]), RECIPE, trained
        ).resume()


def test_a_checkpoint_of_another_base_is_refused(tiny: Path, lessons: Lessons, tmp_path: Path) -> None:
    lessons.write(tmp_path / "lessons.npz")
    call = ["train", "learn", str(tmp_path / "lessons.npz"), "--rank", "4", "--rows", "8"]
    call += ["-o", str(tmp_path / "out")]
    other = write_tiny_model(
        tmp_path / "other.gguf", layers=2, tensors={"output_norm.weight": np.full(32, 2, np.float32)}
    )
    assert run_command([*call, "--model", str(tiny), "--until", "2"]) == 0
    before = curves(tmp_path / "out")
    assert run_command([*call, "--model", str(other), "--resume"]) == 2
    assert curves(tmp_path / "out") == before
    assert run_command([*call, "--model", str(tiny), "--until", "3", "--resume"]) == 0


def test_a_checkpoint_that_does_not_name_its_base_is_resumed(tiny: Path, lessons: Lessons, tmp_path: Path) -> None:
    Learning(load_base(tiny), lessons, RECIPE, tmp_path).run(until=2, report=quiet)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    del state["curves"]["base"], state["curves"]["start"]
    torch.save(state, tmp_path / "checkpoint.pt")
    later = Learning(load_base(tiny), lessons, RECIPE, tmp_path, base_sha256="ab")
    later.resume()
    assert later.step == 2


def test_a_resumed_training_starts_from_no_other_adapter(
    tiny: Path, lessons: Lessons, trained: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    Learning(load_base(tiny), lessons, RECIPE, other).run(until=ROWS // 8, report=quiet)
    folder = tmp_path / "out"

    def learning(start: Path | None) -> Learning:
        one = Learning(load_base(tiny), lessons, RECIPE, folder)
        if start:
            one.start_from(start / "adapter")
        return one

    learning(trained).run(until=2, report=quiet)
    with refusal(UsageError, folder, settings=("start",)):
        learning(other).resume()
    for number, start in enumerate((trained, None, trained), 3):
        later = learning(start)
        later.resume()
        later.run(until=number, report=quiet)
        assert [point["step"] for point in curves(folder)["losses"]] == [*range(1, number + 1)]
    with refusal(UsageError, other, settings=("start",)):
        later = Learning(load_base(tiny), lessons, RECIPE, other)
        later.start_from(trained / "adapter")
        later.resume()


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def saved(state: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def without(key: str) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        state = torch.load(io.BytesIO(data), weights_only=True)
        return saved({name: value for name, value in state.items() if name != key})

    return change


@pytest.mark.parametrize(
    "damage",
    [
        cut,
        lambda data: b"",
        lambda data: b"some words",
        lambda data: saved({}),
        lambda data: saved([1]),
        *map(without, ("curves", "adapter", "optimizer", "step", "best")),
    ],
)
def test_a_damaged_checkpoint_is_refused(
    damage: Callable[[bytes], bytes], tiny: Path, lessons: Lessons, trained: Path, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(damage((trained / "checkpoint.pt").read_bytes()))
    with refusal(ModelError, file=str(path)):
        Learning(load_base(tiny), lessons, RECIPE, tmp_path).resume()


@pytest.mark.parametrize(("size", "every", "kind"), [(60_000, 1, OSError), (8_000, 100, ModelError)])
def test_a_full_disk_keeps_the_checkpoint(
    size: int,
    every: int,
    kind: type[Exception],
    tiny: Path,
    lessons: Lessons,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "EVERY", every)
    folder = tmp_path / "out"
    shutil.copytree(trained, folder)
    adapter, checkpoint = weights(folder), (folder / "checkpoint.pt").read_bytes()
    assert len(adapter) > 8_000
    assert len(checkpoint) > 60_000
    learning = Learning(load_base(tiny), lessons, RECIPE, folder)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        with pytest.raises(kind, match=os.strerror(errno.EFBIG)):
            learning.run(until=ROWS // 8, report=quiet)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (folder / "checkpoint.pt").read_bytes() == checkpoint
    assert weights(folder) == adapter
