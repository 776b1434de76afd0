"""Tests the manifest that a conversion writes, and the requests that it refuses."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ecellm_lite.convert.checkpoint import Checkpoint
from ecellm_lite.convert.conversion import prepare_conversion
from ecellm_lite.convert.imatrix import Imatrix
from ecellm_lite.convert.record import record
from ecellm_lite.convert.request import ConversionRequest
from ecellm_lite.convert.source import InputFile
from ecellm_lite.errors import ModelError, UsageError
from ecellm_lite.models.files import sha256_of
from ecellm_lite.models.manifest import read_manifest
from tests.support.conversions import QUERY, carry_out, planned
from tests.support.refusals import refusal
from tests.support.small_checkpoints import WIDTH, blueprint, factors, weights, write_adapter, write_checkpoint


def small(base: Path, target: Path, **options: Any) -> Any:
    request = ConversionRequest(str(base), target, "Q4_0", envelope="alpaca", **options)
    return prepare_conversion(request, lambda _: blueprint())


@pytest.fixture
def _unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecellm_lite.convert.conversion.check_model", lambda _: None)


@pytest.mark.usefixtures("_unchecked")
def test_a_failed_conversion_leaves_the_old_file_and_manifest(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", weights())
    target, place = tmp_path / "out.gguf", tmp_path / "out.gguf.manifest.json"
    with small(base, target) as conversion:
        conversion.run()
        before = target.read_bytes(), place.read_bytes()
    with small(base, target, overrides=(("ffn_up", "Q8_0"),)) as conversion:
        os.utime(base / "config.json", ns=(1, 1))
        with refusal(ModelError, file=str(base / "config.json")):
            conversion.run(hash_inputs=True)
    assert (target.read_bytes(), place.read_bytes()) == before
    # If the manifest cannot be written there is none, not the previous file's.
    with small(base, target, overrides=(("ffn_up", "Q8_0"),)) as conversion:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("ecellm_lite.models.manifest.replacing", refuses)
            with refusal(ModelError, os.strerror(errno.ENOSPC), file=str(place)):
                conversion.run()
        assert not place.exists()
        conversion.run(resume=True)
    assert read_manifest(place).sha256 == sha256_of(target)
    assert target.read_bytes() != before[0]


def refuses(_: Path, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.usefixtures("_unchecked")
def test_the_manifest_names_the_inputs(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", weights())
    (base / "tokenizer.json").write_text("{}")
    with small(base, tmp_path / "out.gguf", source="by hand", licence="MIT", details={"more": 1}) as conversion:
        manifest = conversion.run(hash_inputs=True)
    assert {one["name"]: one["sha256"] for one in manifest.details["configuration"]} == {
        name: sha256_of(base / name) for name in ("config.json", "tokenizer.json")
    }
    assert (manifest.source, manifest.licence, manifest.details["more"]) == ("by hand", "MIT", 1)


@pytest.mark.usefixtures("_unchecked")
def test_a_published_model_keeps_its_licence_by_its_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = write_checkpoint(tmp_path / "0123", weights())
    monkeypatch.setattr("ecellm_lite.convert.request.cached", lambda _: base)
    request = ConversionRequest("NingLab/eCeLLM-L", tmp_path / "out.gguf", "Q4_0")
    with prepare_conversion(request, lambda _: blueprint()) as conversion:
        manifest = conversion.run()
    assert (manifest.licence, manifest.envelope, manifest.source) == ("CC-BY-4.0", "alpaca", "NingLab/eCeLLM-L as Q4_0")


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.usefixtures("_unchecked")
def test_the_manifest_has_the_etags_of_the_hubs_cache(shared: bool, tmp_path: Path) -> None:
    cache, repository = tmp_path / "hub", tmp_path / "hub" / "models--x--y"
    snapshot = write_checkpoint(repository / "snapshots" / "0", weights())
    (repository / "blobs").mkdir()
    place = cache / "blobs" / "ab" / f"ab{'0' * 62}" if shared else repository / "blobs" / "etag"
    place.parent.mkdir(parents=True, exist_ok=True)
    (snapshot / "model.safetensors").rename(place)
    if shared:
        (repository / "blobs" / "etag").symlink_to(f"../../blobs/ab/{place.name}")
    (snapshot / "model.safetensors").symlink_to("../../blobs/etag")
    with small(snapshot, tmp_path / "out.gguf") as conversion:
        manifest = conversion.run()
    assert [one["etag"] for one in manifest.details["inputs"]] == ["etag"]
    assert not any("etag" in one for one in manifest.details["configuration"])


@pytest.mark.usefixtures("_unchecked")
def test_an_input_is_never_overwritten(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", weights())
    adapter = write_adapter(tmp_path / "lora", factors(QUERY, WIDTH, WIDTH))
    for target in (adapter / "adapter_model.safetensors", adapter / "adapter_config.json", base / "config.json"):
        before = target.read_bytes()
        with (
            small(base, target, adapters=((adapter, 1.0),)) as conversion,
            refusal(UsageError, settings=("target",)),
        ):
            conversion.run()
        assert target.read_bytes() == before
    matrix = tmp_path / "imatrix.gguf"
    matrix.write_bytes(b"GGUF")
    with small(base, matrix) as conversion, refusal(UsageError, settings=("target",)):
        replace(conversion, imatrix=Imatrix(matrix, "", {})).run()
    assert matrix.read_bytes() == b"GGUF"


def test_file_times_beyond_the_calendar_are_recorded(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", weights())
    with Checkpoint(base) as source:
        plan = planned(source)
        written = carry_out(plan, source, tmp_path / "out.gguf")
    far = InputFile(base / "config.json", 1, 10**21)
    manifest = record(
        plan, written, tmp_path / "out.gguf", name="x", envelope="alpaca", base="x", inputs=[far], options={}, seconds=1
    )
    assert manifest.details["inputs"][0]["changed"] == "1000000000000 s since 1970"


@pytest.mark.parametrize("which", ["base", "adapter", "imatrix", "target"])
def test_impossible_file_names_are_errors(which: str, tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", weights())
    long = tmp_path / ("x" * 300)
    choices: dict[str, dict[str, Any]] = {"adapter": {"adapters": ((long, 1.0),)}, "imatrix": {"imatrix": long}}
    options = choices.get(which, {})
    arguments = (long if which == "base" else base, long if which == "target" else tmp_path / "out.gguf")
    with refusal(ModelError, os.strerror(errno.ENAMETOOLONG)), small(*arguments, **options):
        pass
    with refusal(UsageError, r"a\x00b"), small(base, tmp_path / "a\0b"):
        pass
