"""Tests the conversion of a checkpoint while it is downloaded.

- The GGUF file is the same as from a local checkpoint.
- The downloaded files take little space on the disk.
- After an interruption, finished shards are neither downloaded nor converted again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from ecellm_lite.convert.adapter import read_adapter
from ecellm_lite.convert.arrivals import staging_folder, write_arriving
from ecellm_lite.convert.arriving_checkpoint import ArrivingCheckpoint, ArrivingShard
from ecellm_lite.convert.blocks import NotFiniteError
from ecellm_lite.convert.conversion import prepare_conversion
from ecellm_lite.convert.merging import WeightedAdapter
from ecellm_lite.convert.pipeline import ConversionProgress, WrittenFile, unfinished_file
from ecellm_lite.convert.request import ConversionRequest
from ecellm_lite.convert.writer import UnfinishedFile, unfinished_paths
from ecellm_lite.errors import ModelError
from ecellm_lite.models.files import sha256_of
from tests.support import decoder_checkpoints, tiny_checkpoints
from tests.support.arriving import FolderFile, arriving, disk_used, resharded
from tests.support.conversions import converted, planned
from tests.support.refusals import refusal
from tests.support.small_checkpoints import blueprint, weights, write_adapter, write_checkpoint

LAYERS, SHARDS = 8, 6


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("arriving")
    whole = write_checkpoint(folder / "whole", weights(layers=LAYERS))
    return resharded(whole, folder / "shards", SHARDS)


@pytest.fixture(scope="module")
def expected(base: Path) -> bytes:
    target = base.parent / "expected.gguf"
    converted(base, target, drawn=blueprint(layers=LAYERS))
    return target.read_bytes()


def convert(
    folder: Path,
    files: Sequence[FolderFile],
    target: Path,
    progress: Callable[[ConversionProgress], None] | None = None,
    adapters: Sequence[Path] = (),
) -> WrittenFile:
    target.parent.mkdir(parents=True, exist_ok=True)
    weighted = [WeightedAdapter(read_adapter(path)) for path in adapters]
    source = ArrivingCheckpoint(folder, files, staging_folder(target))
    with source:
        plan = replace(planned(source, adapters=weighted, drawn=blueprint(layers=LAYERS)), block_weights=1 << 14)
        with unfinished_file(plan, source, target, resume=True) as file:
            written = write_arriving(plan, source, file, threads=2, progress=progress)
            file.finish(written.sha256)
            file.forget()
    return written


def test_converting_while_downloading_gives_the_same_bytes_and_no_other_files(
    base: Path, expected: bytes, tmp_path: Path
) -> None:
    target = tmp_path / "store" / "out.gguf"
    steps: list[ConversionProgress] = []
    written = convert(*arriving(base, tmp_path / "base"), target, steps.append)
    assert target.read_bytes() == expected
    assert written == WrittenFile(sha256_of(target), len(expected), 0)
    assert steps[-1].done == steps[-1].total == sum(path.stat().st_size for path in base.glob("*.safetensors"))
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("support", "kind"),
    [(support, kind) for support in (tiny_checkpoints, decoder_checkpoints) for kind in sorted(support.CONFIGS)],
)
def test_each_kind_of_checkpoint_gives_the_same_bytes(support: ModuleType, kind: str, tmp_path: Path) -> None:
    base = resharded(support.write_checkpoint(tmp_path / "whole", kind), tmp_path / "here" / "base", 3)
    folder, files = arriving(base, tmp_path / "hub" / "base")
    here = ConversionRequest(str(base), tmp_path / "here.gguf", envelope="alpaca")
    manifests = []
    for request in (here, replace(here, base=str(folder), target=tmp_path / "hub.gguf", weights=files)):
        with prepare_conversion(request) as conversion:
            manifests.append(conversion.run(threads=2, hash_inputs=True))
    assert (tmp_path / "here.gguf").read_bytes() == (tmp_path / "hub.gguf").read_bytes()
    hashes = [[(file["name"], file["size"], file["sha256"]) for file in one.details["inputs"]] for one in manifests]
    assert hashes[0] == hashes[1]


def test_a_tied_output_matrix_is_compared_before_its_download(tmp_path: Path) -> None:
    whole = tiny_checkpoints.write_checkpoint(tmp_path / "whole", "mistral", tie_word_embeddings=True)
    folder, files = arriving(whole, tmp_path / "hub")
    request = ConversionRequest(str(folder), tmp_path / "out.gguf", envelope="alpaca", weights=files)
    with refusal(ModelError, "lm_head.weight"), prepare_conversion(request):
        pass


def test_the_disk_never_holds_much_more_than_the_result_and_a_shard(
    base: Path, expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "store" / "out.gguf"
    folder, files = arriving(base, tmp_path / "base")
    used: list[int] = []
    write, note_part = UnfinishedFile.write, UnfinishedFile.note_part

    def look(*_: object) -> None:
        used.append(disk_used(target.parent))

    def watched(file: UnfinishedFile, data: memoryview | bytes, offset: int) -> None:
        write(file, data, offset)
        look()

    def noted(file: UnfinishedFile, name: str) -> None:
        until = time.monotonic() + 30
        while name == files[0].name and len(list(staging_folder(target).iterdir())) < 2:
            assert time.monotonic() < until, "the next shard is fetched while one is converted"
        note_part(file, name)

    monkeypatch.setattr(UnfinishedFile, "write", watched)
    monkeypatch.setattr(UnfinishedFile, "note_part", noted)
    convert(folder, files, target, look)
    largest = max(path.stat().st_size for path in base.glob("*.safetensors"))
    blocks = 4096 * (SHARDS + 4)  # a file's last block, the folders and the journal
    assert max(used) <= len(expected) + 1.2 * largest + blocks
    assert target.read_bytes() == expected


def test_an_interrupted_run_continues_and_fetches_nothing_twice(
    base: Path, expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "store" / "out.gguf"
    folder, files = arriving(base, tmp_path / "base")
    monkeypatch.setattr(FolderFile, "sent", 0)
    moments = random.Random(7)
    for _ in range(10):
        left = moments.randrange(1, 20)

        def stop(_: ConversionProgress) -> None:
            nonlocal left
            left -= 1
            if left <= 0:
                raise KeyboardInterrupt

        try:
            convert(folder, files, target, stop)
        except KeyboardInterrupt:
            assert not target.exists()
    if not target.exists():
        convert(folder, files, target)
    assert target.read_bytes() == expected
    assert FolderFile.sent == sum(file.size for file in files)


def test_a_killed_run_does_not_fetch_converted_shards_again(
    base: Path, expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process is killed after it has recorded a shard as converted, and before it deletes this shard."""
    target = tmp_path / "store" / "out.gguf"
    folder, files = arriving(base, tmp_path / "base")
    with monkeypatch.context() as patch:
        patch.setattr(ArrivingShard, "drop", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            convert(folder, files, target)
    sent = FolderFile.sent
    resumed = convert(folder, files, target).resumed
    assert 0 < resumed < len(expected)
    assert FolderFile.sent - sent <= sum(file.size for file in files[1:])
    assert target.read_bytes() == expected
    assert list(target.parent.iterdir()) == [target]


def test_a_run_ended_while_hashing_the_result_fetches_nothing_again(
    base: Path, expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "store" / "out.gguf"
    folder, files = arriving(base, tmp_path / "base")
    with monkeypatch.context() as patch:
        patch.setattr("ecellm_lite.convert.arrivals.FileStream", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            convert(folder, files, target)
    sent = FolderFile.sent
    convert(folder, files, target)
    assert FolderFile.sent == sent
    assert target.read_bytes() == expected


def test_a_shard_with_the_wrong_hash_is_fetched_again(base: Path, expected: bytes, tmp_path: Path) -> None:
    damaged = resharded(base, tmp_path / "damaged", SHARDS)
    target = tmp_path / "store" / "out.gguf"
    folder, files = arriving(base, tmp_path / "base")
    with (damaged / files[2].name).open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    broken = [replace(file, repository=str(damaged)) if file is files[2] else file for file in files]
    with refusal(ModelError, files[2].name, files[2].sha256):
        convert(folder, broken, target)
    assert not (staging_folder(target) / files[2].sha256).exists()
    assert convert(folder, files, target).resumed > 0
    assert target.read_bytes() == expected


def test_an_embedding_that_an_adapter_saved_is_compared_before_its_download(base: Path, tmp_path: Path) -> None:
    embedding = weights(layers=LAYERS)["model.embed_tokens.weight"]
    same = (embedding.astype(np.uint32) << 16).view(np.float32)
    adapters = [
        write_adapter(tmp_path / name, {"model.embed_tokens.weight": values}, modules_to_save=["embed_tokens"])
        for name, values in (("same", same), ("other", same + np.float32(1)))
    ]
    folder, files = arriving(base, tmp_path / "base")
    for adapter in adapters:
        converted(base, tmp_path / "two.gguf", drawn=blueprint(layers=LAYERS), adapters=[(adapter, 1.0)])
        convert(folder, files, tmp_path / f"{adapter.name}.gguf", adapters=[adapter])
        assert (tmp_path / f"{adapter.name}.gguf").read_bytes() == (tmp_path / "two.gguf").read_bytes()


def test_a_weight_that_is_not_finite_leaves_no_files(tmp_path: Path) -> None:
    tensors = weights(layers=LAYERS)
    tensors["model.layers.5.mlp.up_proj.weight"][3, 3] = 0x7F80  # infinity
    base = resharded(write_checkpoint(tmp_path / "whole", tensors), tmp_path / "shards", SHARDS)
    target = tmp_path / "store" / "out.gguf"
    with pytest.raises(NotFiniteError):
        convert(*arriving(base, tmp_path / "base"), target)
    assert not any(path.exists() for path in (target, staging_folder(target), *unfinished_paths(target)))


@pytest.mark.parametrize("sha256", ["", "../../" + "0" * 58])
def test_a_file_without_a_hash_is_refused_before_anything_is_fetched(sha256: str, base: Path, tmp_path: Path) -> None:
    folder, files = arriving(base, tmp_path / "base")
    sent = FolderFile.sent
    with refusal(ModelError, files[0].name):
        convert(folder, [replace(file, sha256=sha256) for file in files], tmp_path / "out.gguf")
    assert FolderFile.sent == sent
