"""A tiny base model, lessons for it, and a training run on them."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from ecellm_lite.training.lessons import VALIDATION, Lesson, Lessons
from tests.support.tiny_models import write_tiny_model
from tests.support.tiny_trainings import LATER_ROWS, RECIPE, ROWS, quiet


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "tiny.gguf", layers=2)


@pytest.fixture(scope="session")
def lessons() -> Lessons:
    """Return lessons whose answer depends on the row's first token: 0 for the token 65, and 1 for the token 66."""
    random = Random(0)
    taught = []
    for turn, count in ((VALIDATION, 16), (0, ROWS), (1, LATER_ROWS)):
        for _ in range(count):
            gold = random.randrange(2)
            row = [65 + gold, *(random.randrange(97, 123) for _ in range(random.randint(3, 12)))]
            taught.append(Lesson("product_matching", [*row, 10, 48 + gold, 256], 2, (48, 49), gold, turn))
    return Lessons(256, taught)


@pytest.fixture(scope="session")
def trained(tiny: Path, lessons: Lessons, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a complete training run."""
    from ecellm_lite.training import learning as module
    from ecellm_lite.training.base import load_base

    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "EVERY", 1)
        module.Learning(load_base(tiny), lessons, RECIPE, folder).run(report=quiet)
    return folder
