"""Tests the training of a tiny model in torch: its logits equal those of llama.cpp, and training lowers the loss."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ecellm_lite.cli.main import run_command
from ecellm_lite.engine.interface import Chunk
from ecellm_lite.engine.llama import LlamaBackend
from ecellm_lite.engine.settings import Settings
from ecellm_lite.errors import ModelError, UsageError
from ecellm_lite.training import lesson_batches
from ecellm_lite.training.lesson_batches import parts, shared_tokens
from ecellm_lite.training.lessons import VALIDATION, Lesson, Lessons
from ecellm_lite.training.recipe import MATRICES, Recipe
from tests.convert.test_gguf_base_adapter import converted
from tests.support.refusals import refusal
from tests.support.tiny_checkpoints import write_checkpoint
from tests.support.tiny_models import write_tiny_model
from tests.support.tiny_trainings import LATER_ROWS, RECIPE, STEPS, curves, quiet, weights

torch = pytest.importorskip("torch", reason="learning needs torch (extra 'train')")
peft = pytest.importorskip("peft", reason="learning needs peft (extra 'train')")
transformers = pytest.importorskip("transformers", reason="learning needs transformers (extra 'train')")

from ecellm_lite.training import learning as module  # noqa: E402 - where torch is
from ecellm_lite.training.base import load_base  # noqa: E402
from ecellm_lite.training.learning import Learning  # noqa: E402

# peft still calls this by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
torch.set_num_threads(1)  # a tiny model has no work for more threads


@pytest.fixture(autouse=True)
def _every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVERY", 1)


def llama_logits(path: Path, tokens: list[int]) -> NDArray[np.float32]:
    backend = LlamaBackend(path, Settings(context=256, kv_type="f32", gpu_layers=0, flash_attention="off"))
    [logits] = backend.decode([Chunk(0, 0, tokens, len(tokens))])
    backend.close()
    return logits


def torch_logits(model: Any, tokens: list[int]) -> NDArray[np.float32]:
    with torch.inference_mode():
        logits: NDArray[np.float32] = model.eval()(torch.tensor([tokens])).logits[0].float().numpy()
    return logits


@pytest.mark.slow
def test_the_base_computes_what_llama_cpp_computes(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "smollm", "smollm")
    path = converted(folder, tmp_path / "smollm.gguf")
    tokens = [1, 17, 423, 9000, 48000, 17, 5, 260, 33]
    ours = torch_logits(load_base(path), tokens)
    np.testing.assert_allclose(ours, llama_logits(path, tokens), atol=1e-4)
    original = transformers.LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    np.testing.assert_allclose(ours, torch_logits(original, tokens), atol=1e-5)


def test_a_model_with_other_tensors_is_refused(tmp_path: Path) -> None:
    untied = write_tiny_model(tmp_path / "untied.gguf", tied=False)
    with refusal(ModelError, untied):
        load_base(untied)
    more = write_tiny_model(tmp_path / "more.gguf", tensors={"blk.0.attn_q.bias": np.ones(32, dtype=np.float32)})
    with refusal(ModelError, more, "blk.0.attn_q.bias"):
        load_base(more)
    less = write_tiny_model(tmp_path / "less.gguf", tensors={"blk.0.attn_q.weight": None})
    with refusal(ModelError, less, "q_proj.weight"):
        load_base(less)
    unnamed = write_tiny_model(tmp_path / "unnamed.gguf", tensors={"token_embd.weight": None})
    with refusal(ModelError, unnamed, "token_embd.weight"):
        load_base(unnamed)


def test_a_file_that_is_not_a_model_is_refused(tmp_path: Path) -> None:
    with refusal(ModelError, "nothing.gguf"):
        load_base(tmp_path / "nothing.gguf")
    for name, data in (("empty.gguf", b""), ("text.gguf", b"Not a model, but some words.")):
        (tmp_path / name).write_bytes(data)
        with refusal(ModelError, name):
            load_base(tmp_path / name)


def test_the_same_seed_gives_the_same_curve(tiny: Path, lessons: Lessons, trained: Path, tmp_path: Path) -> None:
    Learning(load_base(tiny), lessons, RECIPE, tmp_path).run(report=quiet)
    assert curves(tmp_path) == curves(trained)
    assert len(curves(trained)["losses"]) == STEPS
    assert weights(tmp_path) == weights(trained)


def test_training_lowers_the_loss(trained: Path) -> None:
    losses = [point["loss"] for point in curves(trained)["losses"]]
    assert sum(losses[-4:]) < 0.5 * sum(losses[:4])
    first, last = (one["tasks"]["product_matching"] for one in curves(trained)["validations"])
    assert last["loss"] < first["loss"] < losses[0]
    assert last["accuracy"] >= 0.9  # a coin has 0.5


def test_the_size_of_a_part_does_not_change_the_loss(tiny: Path, lessons: Lessons, tmp_path: Path) -> None:
    for tokens in (20, 10_000):
        recipe = Recipe(rank=4, alpha=8, rate=1e-3, rows=8, tokens=tokens)
        Learning(load_base(tiny), lessons, recipe, tmp_path / str(tokens)).run(until=4, report=quiet)
    one, other = ([point["loss"] for point in curves(tmp_path / name)["losses"]] for name in ("20", "10000"))
    assert one == pytest.approx(other, abs=2e-5)


def test_16_bits_give_nearly_the_same_losses(tiny: Path, lessons: Lessons, tmp_path: Path) -> None:
    for bfloat16 in (True, False):
        recipe = replace(RECIPE, bfloat16=bfloat16)
        Learning(load_base(tiny), lessons, recipe, tmp_path / str(bfloat16)).run(until=10, report=quiet)
    one, other = ([point["loss"] for point in curves(tmp_path / name)["losses"]] for name in ("True", "False"))
    assert one == pytest.approx(other, rel=0.02)
    assert torch.get_float32_matmul_precision() == "highest"  # the later training's


def test_a_long_answer_counts_less_with_a_length_penalty(
    tiny: Path, lessons: Lessons, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = lessons.of(0)[0]
    long = replace(lessons.of(0)[1], tokens=[*range(97, 117)], answer=16)
    seen: list[Any] = []
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda learned, most: seen.append(flat(learned)))

    def gradient(*batch: Lesson, penalty: float) -> Any:
        recipe = replace(RECIPE, rows=len(batch), length_penalty=penalty)
        Learning(load_base(tiny), Lessons(256, [*batch]), recipe, tmp_path).run(until=1, report=quiet)
        return seen.pop()

    for penalty in (0.0, 0.5, 1.0):
        both = gradient(short, long, penalty=penalty)
        of_short, of_long = (gradient(lesson, penalty=0.0) / lesson.answer**penalty for lesson in (short, long))
        torch.testing.assert_close(both, (of_short + of_long) / 2, atol=1e-5, rtol=1e-3)


def flat(parameters: Iterable[Any]) -> Any:
    return torch.cat([parameter.grad.flatten() for parameter in parameters])


def test_rows_that_begin_alike_learn_the_same_as_apart(
    tiny: Path, lessons: Lessons, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instruction = [*range(97, 117)]
    begun = [replace(lesson, tokens=[*instruction, *lesson.tokens]) for lesson in lessons.lessons]
    assert shared_tokens(begun[:8]) == len(instruction)
    assert shared_tokens(lessons.lessons[:8]) == shared_tokens(begun[:1]) == 0
    monkeypatch.setattr(module, "is_merged", lambda recipe, device: False)
    for least in (1, 1000):
        monkeypatch.setattr(lesson_batches, "LEAST_SHARED", least)
        recipe = replace(RECIPE, tokens=1000)
        Learning(load_base(tiny), Lessons(256, begun), recipe, tmp_path / str(least)).run(until=6, report=quiet)
    one, other = ([point["loss"] for point in curves(tmp_path / name)["losses"]] for name in ("1", "1000"))
    assert one == pytest.approx(other, abs=2e-4)


def test_the_adapter_is_small_and_merges_into_what_was_trained(tiny: Path, trained: Path, tmp_path: Path) -> None:
    tensors = peft.load_peft_weights(str(trained / "adapter"), device="cpu")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    assert len(tensors) == 2 * len(MATRICES) * 2  # A and B of each matrix of two layers, and no embedding
    model = peft.PeftModel.from_pretrained(load_base(tiny), trained / "adapter")
    path = converted(tiny, tmp_path / "merged.gguf", "F32", trained / "adapter")
    for first in (65, 66):
        tokens = [first, 104, 101, 108, 108, 111, 10]
        ours = torch_logits(model, tokens)
        np.testing.assert_allclose(llama_logits(path, tokens), ours, atol=2e-4)
        assert np.abs(ours - torch_logits(load_base(tiny), tokens)).max() > 1


def test_training_can_start_from_an_adapter(tiny: Path, lessons: Lessons, trained: Path, tmp_path: Path) -> None:
    recipe = Recipe(rank=4, alpha=8, rate=1e-9, rows=8, seed=6)
    later = Learning(load_base(tiny), lessons, recipe, tmp_path, first_pass=1)
    assert later.steps == LATER_ROWS // 8
    later.start_from(trained / "adapter")
    later.run(report=quiet)
    assert (curves(tmp_path)["first_pass"], curves(tmp_path)["passes"]) == (2, 1)
    # At such a rate nothing is learned, so the figures are those of the given adapter.
    start, last = curves(tmp_path)["validations"]
    best = max(curves(trained)["validations"], key=lambda one: one["score"])
    assert (start["step"], last["step"]) == (0, LATER_ROWS // 8)
    assert start["score"] == pytest.approx(best["score"], abs=2e-3)
    assert last["score"] == pytest.approx(best["score"], abs=2e-3)
    assert curves(tmp_path)["losses"][0]["loss"] < 0.5 * curves(trained)["losses"][0]["loss"]


def test_an_adapter_that_gets_worse_is_not_kept(tiny: Path, lessons: Lessons, trained: Path, tmp_path: Path) -> None:
    wrong = [replace(lesson, tokens=[*lesson.tokens[:-2], 97, 256]) for lesson in lessons.of(1)]
    later = Learning(load_base(tiny), Lessons(256, [*lessons.of(VALIDATION), *wrong]), RECIPE, tmp_path, first_pass=1)
    later.start_from(trained / "adapter")
    later.run(report=quiet)
    start, last = curves(tmp_path)["validations"]
    assert last["score"] < start["score"]
    assert weights(tmp_path) == weights(trained)


def test_an_adapter_of_another_shape_cannot_be_started_from(
    tiny: Path, lessons: Lessons, trained: Path, tmp_path: Path
) -> None:
    learning = Learning(load_base(tiny), lessons, Recipe(rank=2, alpha=8), tmp_path)
    with refusal(ModelError, "rank 4", "alpha 8", settings=("rank", "alpha")):
        learning.start_from(trained / "adapter")
    with refusal(ModelError, tmp_path):
        learning.start_from(tmp_path)


def test_more_passes_than_the_lessons_have_are_refused(tiny: Path, lessons: Lessons, tmp_path: Path) -> None:
    for first, passes, number in ((0, 3, 3), (1, 2, 3), (2, None, 3)):
        with refusal(UsageError, 2, number, settings=("passes", "first_pass")):
            Learning(load_base(tiny), lessons, RECIPE, tmp_path, first_pass=first, passes=passes)


def test_without_held_out_rows_the_last_adapter_is_kept(tiny: Path, lessons: Lessons, tmp_path: Path) -> None:
    few = Lessons(256, lessons.of(0)[:16])
    Learning(load_base(tiny), few, RECIPE, tmp_path).run(report=quiet)
    assert len(weights(tmp_path)) > 1000
    assert curves(tmp_path)["validations"] == []


def test_the_command_trains_in_two_sittings(
    tiny: Path, lessons: Lessons, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lessons.write(tmp_path / "lessons.npz")
    call = ["train", "learn", str(tmp_path / "lessons.npz"), "--model", str(tiny)]
    call += ["--rank", "4", "--alpha", "8", "--rows", "8"]
    assert run_command([*call, "--passes", "1", "-o", str(tmp_path / "first")]) == 0
    capsys.readouterr()
    later = ["--from", str(tmp_path / "first" / "adapter"), "--first-pass", "2", "--seed", "8"]
    assert run_command([*call, *later, "-o", str(tmp_path / "second")]) == 0
    assert "6 steps" in capsys.readouterr().err
    assert curves(tmp_path / "second")["recipe"]["seed"] == 8
    assert weights(tmp_path / "first") != weights(tmp_path / "second")
    assert run_command([*call, "-o", str(tmp_path / "second")]) == 2
    assert run_command([*call, "--rate", "1", "--resume", "-o", str(tmp_path / "second")]) == 2
    assert capsys.readouterr().err.count("\n") == 2


@pytest.mark.parametrize("held_out", [True, False])
def test_an_adapter_with_infinite_weights_is_not_kept(
    held_out: bool, tiny: Path, lessons: Lessons, tmp_path: Path
) -> None:
    taught = [lesson for lesson in lessons.lessons if held_out or lesson.turn != VALIDATION]
    learning = Learning(load_base(tiny), Lessons(256, taught), replace(RECIPE, rate=1e6), tmp_path)
    with refusal(UsageError, settings=("rate",)):
        learning.run(report=quiet)
    assert not [*tmp_path.iterdir()]


def test_an_output_inside_a_file_is_refused_before_the_first_step(
    tiny: Path, lessons: Lessons, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lessons.write(tmp_path / "lessons.npz")
    call = [
        "train",
        "learn",
        str(tmp_path / "lessons.npz"),
        "--model",
        str(tiny),
        "-o",
        str(tmp_path / "lessons.npz/x"),
    ]
    assert run_command(call) == 2
    [sentence] = capsys.readouterr().err.splitlines()
    assert "lessons.npz/x" in sentence


@pytest.mark.parametrize("seed", ["999999999999999999999", "-1"])
def test_a_seed_that_torch_cannot_use_is_refused(seed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "lessons.npz").touch()
    call = ["train", "learn", str(tmp_path / "lessons.npz"), "-o", str(tmp_path / "out"), "--seed", seed]
    assert run_command(call) == 2
    assert "--seed" in capsys.readouterr().err


@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=40), tokens=st.integers(1, 300))
def test_parts_contain_every_row_and_fit_the_memory(lengths: list[int], tokens: int) -> None:
    batch = [Lesson("product_matching", [0] * length, 1) for length in lengths]
    split = parts(batch, tokens)
    assert [lesson for part in split for lesson in part] == batch
    assert all(len(part) == 1 or len(part) * max(len(lesson.tokens) for lesson in part) <= tokens for part in split)
