"""Tests that tuned settings are used only on the machine that was measured, and that a damaged file does no harm."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ecellm_lite import Runtime, doctor
from ecellm_lite.bench import tuner
from ecellm_lite.bench.tuner import MARGIN, ROUNDS, Trial, tune
from ecellm_lite.engine.settings import Settings, available_cores
from ecellm_lite.engine.tuned import tuned_settings
from ecellm_lite.errors import EcellmError, ModelError
from ecellm_lite.kernels import prompt
from ecellm_lite.models.manifest import Manifest
from ecellm_lite.models.store import Store, StoredModel
from ecellm_lite.models.tuning import LARGEST, Tuning, read_tuning, this_machine, tuning_path
from tests.support.refusals import refusal
from tests.support.tiny_models import write_tiny_model

SHA256 = "5" * 64
WINNER: dict[str, int | str] = {"threads": 1, "micro_batch": 128, "flash_attention": "off", "kv_type": "f32"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def model(store: Store) -> StoredModel:
    return StoredModel(store.folder("shop") / "model.gguf", Manifest("shop", "model.gguf", 1, SHA256, "alpaca", ""))


@pytest.fixture
def tuning(store: Store, model: StoredModel) -> Tuning:
    tuning = Tuning(SHA256, this_machine(available_cores()), "auto", WINNER, ({"setting": "threads"},))
    tuning.write(tuning_path(store, model))
    return tuning


def test_a_tuning_survives_a_round_trip(store: Store, model: StoredModel, tuning: Tuning) -> None:
    assert tuning_path(store, model) == store.root / "models" / "shop" / "tuning.json"
    assert read_tuning(tuning_path(store, model)) == tuning


def test_a_file_outside_the_store_has_its_tuning_under_its_hash(store: Store, tmp_path: Path) -> None:
    manifest = Manifest("x.gguf", "x.gguf", 1, SHA256, "alpaca", "")
    assert tuning_path(store, StoredModel(tmp_path / "x.gguf", manifest)) == store.root / "tuning" / f"{SHA256}.json"


def test_without_a_tuning_the_defaults_are_used(store: Store, model: StoredModel) -> None:
    assert read_tuning(tuning_path(store, model)) is None
    assert tuned_settings(store, model) == Settings()


@pytest.mark.usefixtures("tuning")
def test_the_tuning_is_used_unless_a_setting_is_passed(store: Store, model: StoredModel) -> None:
    assert tuned_settings(store, model, threads=None, context=512) == Settings(context=512, **WINNER)  # type: ignore[arg-type]
    assert tuned_settings(store, model, threads=2).threads == 2
    assert tuned_settings(store, model, micro_batch=256).kv_type == "f32"


def test_tuned_prompt_kernels_are_used_unless_others_are_chosen(
    store: Store, model: StoredModel, tuning: Tuning, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace(tuning, settings={"prompt_kernels": "off"}).write(tuning_path(store, model))
    monkeypatch.delenv("ECELLM_PROMPT_KERNELS", raising=False)
    assert tuned_settings(store, model).prompt_kernels == "off"
    assert tuned_settings(store, model, prompt_kernels="auto").prompt_kernels == "off"
    assert tuned_settings(store, model, prompt_kernels="avx2").prompt_kernels == "avx2"
    assert tuned_settings(store, model, prompt_kernels="auto", deterministic=True).prompt_kernels == "auto"
    monkeypatch.setenv("ECELLM_PROMPT_KERNELS", "avx2")
    assert tuned_settings(store, model).prompt_kernels == "auto"
    assert tuned_settings(store, model, prompt_kernels="auto").prompt_kernels == "auto"


@pytest.mark.usefixtures("tuning")
def test_a_tuning_sets_flash_attention_and_kv_type_only_together(store: Store, model: StoredModel) -> None:
    # With a tuning of flash attention off, an 8-bit memory would be refused, and the caller could not see why.
    assert tuned_settings(store, model, kv_type="q8_0") == Settings(threads=1, micro_batch=128, kv_type="q8_0")
    assert tuned_settings(store, model, flash_attention="on").kv_type == "f16"


@pytest.mark.usefixtures("tuning")
def test_deterministic_runs_ignore_the_tuning(store: Store, model: StoredModel) -> None:
    assert tuned_settings(store, model, deterministic=True) == Settings(deterministic=True)


@pytest.mark.usefixtures("tuning")
def test_a_tuning_for_other_gpu_layers_is_ignored(store: Store, model: StoredModel) -> None:
    assert tuned_settings(store, model, gpu_layers=7) == Settings(gpu_layers=7)


@pytest.mark.parametrize(
    "change", [{"cores": 99}, {"devices": ("CPU: another",)}, {"llama_cpp_python": "0.3.0"}, {"ecellm_lite": "0.0.9"}]
)
def test_a_tuning_of_another_machine_or_version_is_ignored(
    change: dict[str, Any], store: Store, model: StoredModel, tuning: Tuning
) -> None:
    replace(tuning, machine=replace(tuning.machine, **change)).write(tuning_path(store, model))
    assert tuned_settings(store, model) == Settings()
    [check] = [check for check in doctor.examine(store) if check.name == "tuning shop"]
    assert check.state == "note"
    assert "shop" in check.advice
    assert "ecellm-lite bench" in check.advice


def test_a_tuning_of_another_file_is_ignored(store: Store, model: StoredModel, tuning: Tuning) -> None:
    replace(tuning, model="6" * 64).write(tuning_path(store, model))
    assert tuned_settings(store, model) == Settings()


GOOD: dict[str, Any] = {
    "model": SHA256,
    "machine": {"cores": 2, "devices": ["CPU: x"], "llama_cpp_python": "0.3.36", "ecellm_lite": "0.1.0"},
    "gpu_layers": "auto",
    "settings": {"threads": 1},
    "trials": [],
    "format": 1,
}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "\0",
        "[" * 100_000,
        "{}",
        json.dumps({**GOOD, "format": 2}),
        json.dumps({**GOOD, "machine": None}),
        json.dumps({**GOOD, "machine": {"cores": 2}}),
        json.dumps({**GOOD, "machine": {**GOOD["machine"], "devices": 7}}),
        json.dumps({**GOOD, "settings": []}),
        json.dumps({**GOOD, "settings": {"gpu_layers": 3}}),
        json.dumps({**GOOD, "settings": {"threads": 0}}),
        json.dumps({**GOOD, "settings": {"threads": True}}),
        json.dumps({**GOOD, "settings": {"threads": 1.0}}),
        json.dumps({**GOOD, "settings": {"threads": 1 << 40}}),
        json.dumps({**GOOD, "settings": {"micro_batch": 1 << 30}}),
        json.dumps({**GOOD, "settings": {"kv_type": "q4_0"}}),
        json.dumps({**GOOD, "settings": {"kv_type": ["f16"]}}),
        json.dumps({**GOOD, "settings": {"prompt_kernels": "mmx"}}),
        json.dumps({**GOOD, "settings": {"kv_type": "q8_0", "flash_attention": "off"}}),
        json.dumps({**GOOD, "trials": 3}),
        json.dumps({key: value for key, value in GOOD.items() if key != "model"}),
        json.dumps({**GOOD, "more": "x" * LARGEST}),
    ],
)
def test_a_damaged_tuning_is_reported_and_not_used(text: str, store: Store, model: StoredModel) -> None:
    path = tuning_path(store, model)
    path.parent.mkdir(parents=True)
    path.write_text(text, "utf-8")
    with refusal(ModelError, file=str(path)):
        read_tuning(path)
    assert tuned_settings(store, model) == Settings()
    [check] = [check for check in doctor.examine(store) if check.name == "tuning shop"]
    assert check.state == "note"
    assert str(path) in check.finding


def test_a_valid_tuning_is_read(store: Store, model: StoredModel) -> None:
    path = tuning_path(store, model)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(GOOD), "utf-8")
    read = read_tuning(path)
    assert read is not None
    assert read.settings == {"threads": 1}


def test_doctor_reports_the_tuning_in_use(store: Store, model: StoredModel, tuning: Tuning, tmp_path: Path) -> None:
    replace(tuning, settings={}).write(tuning_path(store, replace(model, path=tmp_path / "x.gguf")))
    checks = {check.name: check for check in doctor.examine(store) if check.name.startswith("tuning")}
    assert checks["tuning shop"].finding == "threads 1, micro_batch 128, flash_attention off, kv_type f32"
    assert "threads" not in checks[f"tuning {SHA256[:8]}"].finding
    assert {check.state for check in checks.values()} == {"ok"}


def test_a_runtime_is_loaded_with_the_tuning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No call of the engine has more tokens than the tuned micro-batch."""
    monkeypatch.setenv("ECELLM_HOME", str(tmp_path / "home"))
    path = write_tiny_model(tmp_path / "tiny.gguf")
    with Runtime(path, envelope="alpaca") as runtime:
        sha256 = runtime.model.sha256
        assert runtime._backend.batch == Settings().micro_batch
    store = Store()
    stored = StoredModel(path, Manifest(path.name, path.name, 1, sha256, "alpaca", ""))
    machine = this_machine(available_cores())
    Tuning(sha256, machine, "auto", {"micro_batch": 128}).write(tuning_path(store, stored))
    with Runtime(path, envelope="alpaca") as runtime:
        assert runtime._backend.batch == 128
    with Runtime(path, envelope="alpaca", micro_batch=256) as runtime:
        assert runtime._backend.batch == 256
    with Runtime(path, envelope="alpaca", deterministic=True) as runtime:
        assert runtime._backend.batch == Settings().micro_batch


class Scripted:
    """A simulated machine.

    Each setting multiplies the machine's speed by a factor, and each measurement has some noise.
    """

    def __init__(self, factors: Mapping[tuple[str, int | str], float], noise: float = 0.0) -> None:
        self.factors = factors
        self.noise = noise
        self.calls = 0

    def __call__(self, settings: Settings) -> float:
        self.calls += 1
        rate = 10.0 * (1 + self.noise * (1 if self.calls // 2 % 2 else -1))
        for (setting, value), factor in self.factors.items():
            if getattr(settings, setting) == value:
                rate *= factor
        return rate


def tried(trials: list[Trial]) -> set[tuple[str, int | str]]:
    return {(trial.setting, trial.value) for trial in trials}


def test_a_clear_gain_is_kept_while_the_next_setting_is_tried() -> None:
    machine = Scripted({("threads", 2): 1.5, ("micro_batch", 512): 1.2, ("flash_attention", "off"): 0.7})
    shown: list[Trial] = []
    settings, trials = tune(Settings(threads=4), machine, show=shown.append)
    assert settings == {"threads": 2, "micro_batch": 512}
    assert shown == trials
    [winner] = [trial for trial in trials if trial.setting == "micro_batch" and trial.wins]
    assert winner.readings == pytest.approx([18.0] * ROUNDS)
    assert winner.baseline == pytest.approx([15.0] * ROUNDS)


def test_a_gain_below_the_margin_or_within_the_noise_is_not_kept() -> None:
    assert tune(Settings(threads=1), Scripted({("micro_batch", 512): 1 + MARGIN / 2}), show=lambda _: None)[0] == {}
    noisy = Scripted({("micro_batch", 512): 1.1}, noise=0.1)
    assert tune(Settings(threads=1), noisy, show=lambda _: None)[0] == {}


def test_a_setting_that_clearly_loses_is_dropped_after_two_readings() -> None:
    machine = Scripted({("micro_batch", 512): 0.5})
    _, trials = tune(Settings(threads=1), machine, show=lambda _: None)
    assert all(len(trial.readings) == len(trial.baseline) == 1 for trial in trials)
    assert machine.calls == 2 * len(trials)


def test_only_free_settings_that_keep_accuracy_are_tried() -> None:
    flat = Scripted({})
    _, trials = tune(Settings(threads=8, context=512), flat, fixed={"threads"}, show=lambda _: None)
    assert tried(trials) == {
        ("micro_batch", 128), ("micro_batch", 512), ("flash_attention", "on"), ("flash_attention", "off"),
        ("kv_type", "f32"),
    }  # fmt: skip
    _, trials = tune(Settings(threads=8), flat, lossy=True, show=lambda _: None)
    assert {("kv_type", "q8_0"), ("threads", 7), ("threads", 6), ("threads", 4), ("micro_batch", 1024)} <= tried(trials)


def test_prompt_kernels_are_tried_first_and_kept_if_they_are_faster() -> None:
    machine = Scripted({("prompt_kernels", "avx512"): 1.2, ("prompt_kernels", "off"): 1.1, ("threads", 1): 1.1})
    settings, trials = tune(Settings(threads=2), machine, kernels=["avx2", "avx512", "off"], show=lambda _: None)
    assert settings == {"prompt_kernels": "avx512", "threads": 1}
    assert [trial.value for trial in trials[:4]] == ["avx2", "avx512", "off", 1]
    assert [trial.wins for trial in trials[:4]] == [False, True, False, True]
    fixed, _ = tune(Settings(threads=2), machine, fixed={"prompt_kernels"}, kernels=["avx512"], show=lambda _: None)
    assert fixed == {"threads": 1}


def test_all_prompt_kernels_that_work_are_tried_but_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ECELLM_PROMPT_KERNELS", raising=False)
    monkeypatch.setattr(prompt, "runnable", lambda: ("avx2", "avx512", "neon", "off"))
    monkeypatch.setattr(prompt, "start", lambda name: prompt.State("" if name == "neon" else name))
    monkeypatch.setattr(prompt, "automatic", lambda: "avx2")
    assert tuner._kernels() == ["avx512", "off"]
    monkeypatch.setattr(prompt, "automatic", lambda: "off")
    assert tuner._kernels() == ["avx2", "avx512"]
    monkeypatch.setenv("ECELLM_PROMPT_KERNELS", "off")
    assert tuner._kernels() == []


def test_incompatible_settings_are_skipped() -> None:
    machine = Scripted({("flash_attention", "off"): 2.0})
    settings, trials = tune(Settings(threads=1), machine, lossy=True, show=lambda _: None)
    assert settings == {"flash_attention": "off"}
    assert ("kv_type", "q8_0") not in tried(trials)


def test_settings_that_fail_on_this_machine_lose() -> None:
    def machine(settings: Settings) -> float:
        if settings.kv_type == "f32":
            raise EcellmError("No room.")
        return 1.0

    settings, trials = tune(Settings(threads=1), machine, show=lambda _: None)
    assert settings == {}
    assert trials[-1].error == "No room."
