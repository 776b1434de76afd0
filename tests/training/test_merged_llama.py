"""Tests of training with a merged adapter: hidden states, gradients and loss curve are the same as with peft."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecellm_lite.training.lesson_batches import packed
from ecellm_lite.training.lessons import VALIDATION, Lesson, Lessons
from ecellm_lite.training.recipe import MATRICES, Recipe
from tests.support.tiny_models import write_tiny_model

torch = pytest.importorskip("torch", reason="learning needs torch (extra 'train')")
peft = pytest.importorskip("peft", reason="learning needs peft (extra 'train')")
pytest.importorskip("transformers", reason="learning needs transformers (extra 'train')")

from ecellm_lite.training import learning, merged_llama  # noqa: E402 - where torch is
from ecellm_lite.training.base import load_base  # noqa: E402
from ecellm_lite.training.merged_llama import MergedLlama  # noqa: E402

# peft still calls this by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
torch.set_num_threads(1)  # a tiny model has no work for more threads

BEGIN = [65, 66, 67, 68]
ALIKE = [
    Lesson("product_matching", [70, 71, 72, 73, 74], 2),
    Lesson("product_matching", [*BEGIN, 80, 81, 82], 1),
    Lesson("product_matching", [*BEGIN, 80, 90, 91, 92], 3),
    Lesson("product_matching", [*BEGIN, 80, 90, 91, 92], 3),  # the same again
    Lesson("product_matching", [*BEGIN, 80, 90], 1),  # shorter than what it shares
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "tiny.gguf", layers=2)


@pytest.fixture
def adapted(tiny: Path) -> Any:
    """Return a model with an adapter that changes it."""
    settings = peft.LoraConfig(r=4, lora_alpha=8, target_modules=list(MATRICES), task_type="CAUSAL_LM")
    model = peft.get_peft_model(load_base(tiny), settings)
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=random))
    return model


def peft_states(model: Any, lessons: Sequence[Lesson]) -> Any:
    llama = model.base_model.model.model
    states = [llama(torch.tensor([lesson.tokens])).last_hidden_state[0] for lesson in lessons]
    return torch.cat([one[-lesson.answer - 1 : -1] for one, lesson in zip(states, lessons, strict=True)])


def gradients(model: Any, states: Any) -> dict[str, Any]:
    """Return the gradients of the adapter's matrices.

    The loss is the sum of all numbers in `states`, each multiplied by a different random number.
    """
    random = torch.Generator().manual_seed(4)
    model.zero_grad()
    (states * torch.randn(states.shape, generator=random)).sum().backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("slow_mkl", [False, True])
def test_states_and_gradients_are_those_of_peft(slow_mkl: bool, adapted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merged_llama, "_is_slow_mkl", lambda: slow_mkl)
    merged = MergedLlama(adapted)
    merged.merge()
    expected, ours = peft_states(adapted, ALIKE), merged.answer_states(ALIKE)
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)
    of_peft, of_ours = gradients(adapted, expected), gradients(adapted, ours)
    assert len(of_ours) == 2 * len(MATRICES) * 2  # A and B of each matrix of two layers
    for name, gradient in of_peft.items():
        assert gradient.abs().max() > 0
        torch.testing.assert_close(of_ours[name], gradient, atol=1e-3 * float(gradient.abs().max()), rtol=1e-3)


def test_a_changed_adapter_is_merged_again(adapted: Any) -> None:
    merged = MergedLlama(adapted)
    merged.merge()
    before = merged.answer_states(ALIKE)
    with torch.no_grad():
        adapted.base_model.model.model.layers[1].mlp.down_proj.lora_B["default"].weight.mul_(3)
    merged.merge()
    after = merged.answer_states(ALIKE)
    assert (after - before).abs().max() > 1e-2
    torch.testing.assert_close(after, peft_states(adapted, ALIKE), atol=1e-4, rtol=1e-4)


def test_the_loss_curve_is_that_of_peft(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = Random(0)
    taught = []
    for turn, count in ((VALIDATION, 8), (0, 160)):
        for _ in range(count):
            gold = random.randrange(2)
            row = [*BEGIN, 97 + gold, *(random.randrange(97, 123) for _ in range(random.randint(3, 12)))]
            taught.append(Lesson("product_matching", [*row, 10, 48 + gold, 256], 2, (48, 49), gold, turn))
    monkeypatch.setattr(learning, "EVERY", 5)  # a point is the mean of so many steps
    curves = []
    for merges in (True, False):
        with monkeypatch.context() as patch:
            if not merges:
                patch.setattr(learning, "is_merged", lambda recipe, device: False)
            folder = tmp_path / str(merges)
            recipe = Recipe(rank=4, alpha=8, rate=5e-3, rows=8, seed=5, tokens=100)
            learning.Learning(load_base(tiny), Lessons(256, taught), recipe, folder).run(report=lambda line: None)
            curves.append(json.loads((folder / "curves.json").read_text()))
    ours, pefts = ([point["loss"] for point in curve["losses"]] for curve in curves)
    assert len(ours) == 4  # of 20 steps
    assert ours == pytest.approx(pefts, abs=1e-3)
    assert pefts[0] - pefts[-1] > 0.3
    [validation, other] = (curve["validations"][0]["tasks"]["product_matching"] for curve in curves)
    assert validation["loss"] == pytest.approx(other["loss"], abs=1e-3)


def test_only_trainings_without_dropout_on_a_cpu_are_merged() -> None:
    assert learning.is_merged(Recipe(), "cpu")
    assert learning.is_merged(Recipe(bfloat16=True), "cpu")
    assert not learning.is_merged(Recipe(), "cuda")
    assert not learning.is_merged(Recipe(dropout=0.1), "cpu")


@given(rows=st.lists(st.lists(st.integers(0, 2), min_size=2, max_size=6), min_size=1, max_size=8), data=st.data())
def test_packed_lessons_keep_every_token_and_repeat_no_beginning(rows: list[list[int]], data: st.DataObject) -> None:
    lessons = [Lesson("product_matching", row, data.draw(st.integers(1, len(row) - 1))) for row in sorted(rows)]
    packing = packed(lessons)
    assert [[packing.tokens[place] for place in row] for row in packing.rows] == [lesson.tokens for lesson in lessons]
    assert all([packing.positions[place] for place in row] == [*range(len(row))] for row in packing.rows)
    beginnings = {tuple(row[: end + 1]) for row in rows for end in range(len(row))}
    assert len(packing.tokens) == len(packing.positions) == len(beginnings)
    own = [place for row, shared in zip(packing.rows, packing.shared, strict=True) for place in row[shared:]]
    assert own == [*range(len(packing.tokens))]
    before = [place for row, one in zip(packing.rows, lessons, strict=True) for place in row[-one.answer - 1 : -1]]
    assert packing.answers == before


def test_a_lesson_shares_only_with_the_one_before_it() -> None:
    first, second = (replace(ALIKE[1], tokens=tokens) for tokens in ([1, 2, 3], [4, 5, 6]))
    assert packed([first, second, first]).shared == [0, 0, 0]
    assert packed([first, first, second]).shared == [0, 3, 0]
