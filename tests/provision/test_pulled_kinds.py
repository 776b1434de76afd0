"""Tests that `models pull` and `verify` work for each architecture, and for the name of a published model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ecellm_lite.models.store import Store, StoredModel
from ecellm_lite.provision import verification
from ecellm_lite.tasks.registry import TASKS
from tests.provision.test_pull import files, run
from tests.provision.test_verify import COMPARABLE
from tests.support import decoder_checkpoints, tiny_checkpoints
from tests.support.gemma_phi_checkpoints import GEMMA_PHI
from tests.support.hub import COMMIT, Hub

# Each test starts a process. transformers and torch warn of their own code.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

# In a context beyond the original one, llama.cpp takes Phi's factors for long texts, whatever a prompt's length.
CHANGES: Mapping[str, Mapping[str, Any]] = {
    "phi4": {"max_position_embeddings": 8192, "original_max_position_embeddings": 4096}
}


@pytest.fixture(autouse=True)
def _one_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `verify` compare the logits of one prompt only, because the vocabularies are large."""
    monkeypatch.setattr(verification, "TASKS", {"sentiment_analysis": TASKS["sentiment_analysis"]})


def write_checkpoint(folder: Path, kind: str) -> Path:
    if kind in decoder_checkpoints.CONFIGS:
        return decoder_checkpoints.write_checkpoint(folder, kind)
    return tiny_checkpoints.write_checkpoint(folder, kind, **CHANGES.get(kind, {}))


def pulled(home: Path, repository: str, base: Path, *arguments: str) -> StoredModel:
    """Pull the checkpoint `base` from a simulated hub, where it has the name `repository`. Return the stored model.

    The model is stored as F32. Quantization would change a model with random weights more than `verify` allows.
    """
    with Hub(repository, files(base)) as served:
        ran = run(home, served.endpoint, "models", "pull", *arguments, "--quant", "F32", "--quiet")
    assert ran.returncode == 0, ran.stderr
    [model] = Store(home / "store")
    return model


def checks(model: StoredModel, base: Path) -> dict[str, bool | None]:
    return {result.name: result.passed for result in verification.verify(model.path, str(base))}


@pytest.mark.parametrize("kind", [*decoder_checkpoints.CONFIGS, *GEMMA_PHI])
def test_a_pulled_model_of_each_architecture_is_its_original(kind: str, tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", kind)
    model = pulled(tmp_path, "shop/little", base, "shop/little", "--envelope", "alpaca")
    assert checks(model, base) == {"hash": True, "header": True, "tokens": True, "logits": COMPARABLE}


def test_a_catalogue_name_is_pulled_from_its_repository(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", "qwen3")
    model = pulled(tmp_path, "Qwen/Qwen3-0.6B", base, "qwen3-0.6b")
    manifest = model.manifest
    assert (manifest.name, manifest.envelope, manifest.licence) == ("Qwen3-0.6B:F32", "qwen3", "Apache-2.0")
    assert (manifest.details["repository"], manifest.details["revision"]) == ("Qwen/Qwen3-0.6B", COMMIT)
    assert checks(model, base) == {"hash": True, "header": True, "tokens": True, "logits": COMPARABLE}
