"""A checkpoint and its adapters become a file: every byte is what its definition says, however it was interrupted."""

from __future__ import annotations

import errno
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ecellm_lite.convert.adapter import read_adapter
from ecellm_lite.convert.blueprint import Blueprint
from ecellm_lite.convert.checkpoint import Checkpoint, widened
from ecellm_lite.convert.conversion import Request, prepared
from ecellm_lite.convert.imatrix import Imatrix
from ecellm_lite.convert.merging import Weighted, hang
from ecellm_lite.convert.mixture import DEFAULTS
from ecellm_lite.convert.pipeline import Progress, carry_out
from ecellm_lite.convert.plan import Plan, check_room, draw_plan
from ecellm_lite.convert.record import record
from ecellm_lite.convert.source import Input
from ecellm_lite.convert.writer import BusyError, UnfinishedFile, unfinished_paths
from numpy.typing import NDArray

from ecellm_lite import ggml
from ecellm_lite.demo import build
from ecellm_lite.errors import ModelError, UsageError
from ecellm_lite.models.files import sha256_of
from ecellm_lite.models.gguf_header import Header, read_header
from ecellm_lite.models.manifest import Manifest, read_manifest
from ecellm_lite.models.store import Store, StoredModel
from tests.small_checkpoints import (
    HEADS,
    KV_HEADS,
    WIDTH,
    blueprint,
    factors,
    rotated,
    shapes,
    weights,
    write_adapter,
    write_checkpoint,
)

QUERY = "model.layers.1.self_attn.q_proj"


def planned(source: Checkpoint, file_type: str = "Q4_K_M", adapters: Sequence[Weighted] = (), **options: Any) -> Plan:
    drawn: Blueprint = options.pop("drawn", None) or blueprint()
    return draw_plan(drawn, hang(drawn, source, adapters), source, file_type, **options)


def converted(folder: Path, target: Path, file_type: str = "Q4_K_M", **options: Any) -> Header:
    weighted = [Weighted(read_adapter(path), weight) for path, weight in options.pop("adapters", ())]
    block = options.pop("block_weights", 1 << 14)
    with Checkpoint(folder) as source:
        plan = replace(planned(source, file_type, weighted, **options), block_weights=block)
        written = carry_out(plan, source, target, threads=2)
    assert written.sha256 == sha256_of(target)
    header = read_header(target)
    assert header.file_size == written.size == plan.size
    assert [(one.name, one.offset) for one in header.tensors] == [(one.name, one.offset) for one in plan.tensors]
    return header


def held(header: Header) -> dict[str, bytes]:
    data = header.path.read_bytes()
    return {one.name: data[one.offset : one.offset + one.size] for one in header.tensors}


def floats(tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
    """By the file's names, in the file's order of rows."""
    found = {}
    for source, values in tensors.items():
        wide = widened(values, {"uint16": "BF16", "float16": "F16", "float32": "F32"}[values.dtype.name])
        name = shapes()[source][0]
        heads = {"attn_q.weight": HEADS, "attn_k.weight": KV_HEADS}.get(name.split(".", 2)[-1])
        found[name] = wide[rotated(heads, len(wide))] if heads else wide
    return found


@pytest.mark.parametrize("file_type", list(DEFAULTS))
def test_every_tensor_is_its_source_quantized(file_type: str, tmp_path: Path) -> None:
    kind = {"F16": "F16", "F32": "F32"}.get(file_type, "BF16")
    tensors = weights(kind)
    header = converted(write_checkpoint(tmp_path / "base", tensors), tmp_path / "out.gguf", file_type)
    found, wanted = held(header), floats(tensors)
    assert found.keys() == wanted.keys()
    for one in header.tensors:
        values = wanted[one.name].reshape(-1, one.shape[0])
        assert found[one.name] == ggml.quantize_chunk(values, one.type).tobytes(), one.name
    assert header.metadata["general.file_type"] == ggml.FILE_TYPES[file_type]
    assert header.metadata["general.quantization_version"] == 2
    assert header.metadata["general.name"] == "small"


@pytest.mark.parametrize("block_weights", [1, 3 * WIDTH, 1 << 22])
def test_the_bytes_do_not_hang_on_the_blocks(block_weights: int, tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", weights())
    adapter = write_adapter(tmp_path / "lora", factors(QUERY, WIDTH, WIDTH))
    converted(base, tmp_path / "one.gguf", adapters=[(adapter, 1.0)])
    converted(base, tmp_path / "two.gguf", adapters=[(adapter, 1.0)], block_weights=block_weights)
    assert (tmp_path / "one.gguf").read_bytes() == (tmp_path / "two.gguf").read_bytes()


def test_adapters_are_added_as_they_are_defined(tmp_path: Path) -> None:
    tensors = weights()
    base = write_checkpoint(tmp_path / "base", tensors)
    down = "model.layers.0.mlp.down_proj"
    first = factors(QUERY, WIDTH, WIDTH, seed=1)
    second = factors(QUERY, WIDTH, WIDTH, seed=2, rank=300) | factors(down, WIDTH, 512)
    adapters = [
        (write_adapter(tmp_path / "one", first), 1.0),
        (write_adapter(tmp_path / "two", second, r=4, rank_pattern={"q_proj": 300}), -0.5),
    ]
    header = converted(base, tmp_path / "out.gguf", "F32", adapters=adapters)
    exact = {name: widened(values, "BF16").astype(np.float64) for name, values in tensors.items()}
    for said, scale in ((first, 8 / 4), (second, -0.5 * 8 / 300)):
        exact[f"{QUERY}.weight"] += scale * (
            said[f"{QUERY}.lora_B.weight"].astype(np.float64) @ said[f"{QUERY}.lora_A.weight"]
        )
    exact[f"{down}.weight"] += (
        -0.5 * 8 / 4 * (second[f"{down}.lora_B.weight"].astype(np.float64) @ second[f"{down}.lora_A.weight"])
    )
    exact[f"{QUERY}.weight"] = exact[f"{QUERY}.weight"][rotated(HEADS, WIDTH)]
    exact["model.layers.0.self_attn.q_proj.weight"] = exact["model.layers.0.self_attn.q_proj.weight"][
        rotated(HEADS, WIDTH)
    ]
    found = held(header)
    for source in (QUERY, down, "model.layers.0.self_attn.q_proj"):
        name, shape = shapes()[f"{source}.weight"]
        values = np.frombuffer(found[name], dtype=np.float32).reshape(shape)
        close(values, exact[f"{source}.weight"])


def close(found: NDArray[np.float32], exact: NDArray[np.float64]) -> None:
    difference = found - exact
    assert np.linalg.norm(difference) <= 1e-6 * np.linalg.norm(exact)
    assert np.abs(difference).max() <= 1e-6 * np.abs(exact).max()


def test_dora_scales_rows_before_they_are_ordered(tmp_path: Path) -> None:
    tensors = weights("F32")
    base = write_checkpoint(tmp_path / "base", tensors)
    said = factors(QUERY, WIDTH, WIDTH)
    said[f"{QUERY}.lora_magnitude_vector"] = np.random.default_rng(3).uniform(0.5, 2, WIDTH).astype(np.float32)
    adapter = write_adapter(tmp_path / "dora", said, use_dora=True)
    header = converted(base, tmp_path / "out.gguf", "F32", adapters=[(adapter, 1.0)], block_weights=WIDTH * 7)
    merged = tensors[f"{QUERY}.weight"].astype(np.float64)
    merged += 2.0 * said[f"{QUERY}.lora_B.weight"].astype(np.float64) @ said[f"{QUERY}.lora_A.weight"]
    merged *= (said[f"{QUERY}.lora_magnitude_vector"] / np.linalg.norm(merged, axis=1))[:, None]
    values = np.frombuffer(held(header)["blk.1.attn_q.weight"], dtype=np.float32).reshape(WIDTH, WIDTH)
    close(values, merged[rotated(HEADS, WIDTH)])


@pytest.mark.parametrize("target", ["lm_head", "model.embed_tokens"])
def test_a_tied_model_is_untied_where_one_of_its_two_uses_changes(target: str, tmp_path: Path) -> None:
    tensors = weights("F32", tied=True)
    base = write_checkpoint(tmp_path / "base", tensors)
    embedding = tensors["model.embed_tokens.weight"]
    said = factors("x", len(embedding), WIDTH)
    a, b = said["x.lora_A.weight"], said["x.lora_B.weight"]
    if target == "lm_head":
        keys = {f"{target}.lora_A.weight": a, f"{target}.lora_B.weight": b}
    else:
        keys = {f"{target}.lora_embedding_A": b.T.copy(), f"{target}.lora_embedding_B": a.T.copy()}
    if target == "lm_head":
        keys["lm_head.base_layer.weight"] = embedding
    adapter = write_adapter(tmp_path / "lora", keys)
    drawn = blueprint(tied=True)
    plain = converted(base, tmp_path / "plain.gguf", "F32", drawn=drawn)
    assert "output.weight" not in held(plain)
    found = held(converted(base, tmp_path / "out.gguf", "F32", adapters=[(adapter, 1.0)], drawn=drawn))
    changed = embedding.astype(np.float64) + 2.0 * (b.astype(np.float64) @ a)
    names = ("output.weight", "token_embd.weight")
    new, old = names if target == "lm_head" else reversed(names)
    close(np.frombuffer(found[new], dtype=np.float32).reshape(embedding.shape), changed)
    assert found[old] == embedding.tobytes()


def test_whole_tensors_take_their_place(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", weights("F32"))
    other = weights("F32", seed=9)
    saved = {
        "lm_head.modules_to_save.weight": other["lm_head.weight"],
        f"{QUERY}.weight": other[f"{QUERY}.weight"],
        "model.norm.weight": other["model.norm.weight"],
    }
    adapter = write_adapter(tmp_path / "lora", saved)
    found = held(converted(base, tmp_path / "out.gguf", "F32", adapters=[(adapter, 1.0)], block_weights=WIDTH * 5))
    assert found["output.weight"] == other["lm_head.weight"].tobytes()
    assert found["output_norm.weight"] == other["model.norm.weight"].tobytes()
    assert found["blk.1.attn_q.weight"] == other[f"{QUERY}.weight"][rotated(HEADS, WIDTH)].tobytes()
    with pytest.raises(UsageError, match=r"cannot be weighted"):
        converted(base, tmp_path / "out.gguf", adapters=[(adapter, 0.5)])
    with pytest.raises(UsageError, match="another adapter"):
        converted(base, tmp_path / "out.gguf", adapters=[(adapter, 1.0), (adapter, 1.0)])


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        (factors("model.layers.7.self_attn.q_proj", WIDTH, WIDTH), r"model\.layers\.7\.self_attn\.q_proj.*not have"),
        (factors(QUERY, WIDTH, WIDTH + 1), "other shapes.*257"),
        (factors(QUERY, WIDTH - 1, WIDTH), "other shapes.*255"),
        ({"model.other.weight": np.ones((2, 2), np.float32)}, r"model\.other\.weight"),
        ({"lm_head.weight": np.ones((2, WIDTH), np.float32)}, "other shapes"),
        (
            factors(QUERY, WIDTH, WIDTH) | {f"{QUERY}.base_layer.weight": np.ones((WIDTH, WIDTH), np.float32)},
            "another base",
        ),
        (factors(QUERY, WIDTH, WIDTH) | {f"{QUERY}.weight": np.ones((WIDTH, WIDTH), np.float32)}, "whole tensor"),
        ({name: each * np.float32(np.nan) for name, each in factors(QUERY, WIDTH, WIDTH).items()}, "not a number"),
    ],
)
def test_an_adapter_that_fits_in_part_is_refused(tensors: Any, said: str, tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", weights())
    good = factors("model.layers.0.mlp.up_proj", 512, WIDTH)
    adapter = write_adapter(tmp_path / "lora", {**good, **tensors})
    with pytest.raises(ModelError, match=said):
        converted(base, tmp_path / "out.gguf", adapters=[(adapter, 1.0)])
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []


def test_dora_goes_alone(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", weights())
    said = factors(QUERY, WIDTH, WIDTH) | {f"{QUERY}.lora_magnitude_vector.weight": np.ones(WIDTH, np.float32)}
    dora = write_adapter(tmp_path / "dora", said, use_dora=True)
    lora = write_adapter(tmp_path / "lora", factors(QUERY, WIDTH, WIDTH))
    for adapters in ([(dora, 0.5)], [(dora, 1.0), (lora, 1.0)]):
        with pytest.raises(UsageError, match="alone"):
            converted(base, tmp_path / "out.gguf", adapters=adapters)
    for weight in (0.0, float("nan")):
        with pytest.raises(UsageError, match="not 0"):
            converted(base, tmp_path / "out.gguf", adapters=[(lora, weight)])


def test_a_weight_that_is_not_finite_is_named(tmp_path: Path) -> None:
    tensors = weights()
    tensors["model.layers.1.mlp.up_proj.weight"][300, 7] = 0x7F80
    with pytest.raises(ModelError, match=r"blk\.1\.ffn_up\.weight, rows from 256: .*row 44, column 7"):
        converted(write_checkpoint(tmp_path / "base", tensors), tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()
    # Going on would end at the same weight.
    assert not any(path.exists() for path in unfinished_paths(tmp_path / "out.gguf"))


def test_overrides_and_what_the_plan_says(tmp_path: Path) -> None:
    with Checkpoint(write_checkpoint(tmp_path / "base", weights())) as source:
        plan = planned(source, overrides=[("ffn_down", "q8_0"), (r"blk\.0\..*_up", "F16")])
        assert plan.types == {"Q4_K": 11, "F32": 5, "Q8_0": 2, "Q6_K": 2, "F16": 1}
        assert plan.read_bytes == sum(values.nbytes for values in weights().values())
        with pytest.raises(UsageError, match="memory at least"):
            planned(source, max_memory=1 << 20)
        small = planned(source, max_memory=plan.memory - (64 << 20))
        assert small.block_weights < plan.block_weights
        assert small.identity == planned(source).identity
        with pytest.raises(ModelError, match="GB free"):
            check_room(replace(plan, size=1 << 60), tmp_path / "out.gguf")
        with pytest.raises(ModelError, match="memory"):
            check_room(replace(plan, memory=1 << 60), tmp_path / "out.gguf")
        with pytest.raises(UsageError, match="what is read"):
            carry_out(plan, source, tmp_path / "base" / "model.safetensors")


def test_the_identity_changes_with_what_decides_the_bytes(tmp_path: Path) -> None:
    one, two = (
        Weighted(read_adapter(write_adapter(tmp_path / str(seed), factors(QUERY, WIDTH, WIDTH, seed=seed))))
        for seed in (1, 2)
    )
    with Checkpoint(write_checkpoint(tmp_path / "base", weights())) as source:
        plans = [
            planned(source),
            planned(source, "Q4_K_S"),
            planned(source, adapters=[one]),
            planned(source, adapters=[two]),
            planned(source, adapters=[replace(one, weight=0.5)]),
            planned(source, overrides=[("ffn_up", "Q8_0")]),
            planned(source, importance={"blk.0.ffn_up.weight": np.ones(WIDTH, np.float32)}),
            planned(source, drawn=blueprint(metadata={"general.name": ("STRING", "other")})),
        ]
    assert len({plan.identity for plan in plans}) == len(plans)


class Stop(Exception):  # noqa: N818 - it is no error
    pass


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", weights())
    converted(base, tmp_path / "whole.gguf")
    target = tmp_path / "out.gguf"
    with Checkpoint(base) as source:
        plan = replace(planned(source), block_weights=1 << 13)
        for after in (3, 20, 60):
            seen: list[Progress] = []

            def stop(progress: Progress, after: int = after, seen: list[Progress] = seen) -> None:
                seen.append(progress)
                if len(seen) == after:
                    raise KeyboardInterrupt

            with pytest.raises(KeyboardInterrupt):
                carry_out(plan, source, target, resume=True, progress=stop)
            assert not target.exists()
        assert unfinished_paths(target)[0].stat().st_size == plan.size
        with pytest.raises(ModelError, match=r"another conversion \(another plan\)"):
            carry_out(planned(source, "Q8_0"), source, target, resume=True)
        seen.clear()
        written = carry_out(replace(plan, block_weights=777), source, target, resume=True, progress=seen.append)
    assert 0 < written.resumed < written.size
    assert seen[0].total > seen[0].done > 0
    assert seen[-1].done == seen[-1].total
    assert target.read_bytes() == (tmp_path / "whole.gguf").read_bytes()
    assert written.sha256 == sha256_of(target)
    assert not any(path.exists() for path in unfinished_paths(target))


def test_a_damaged_journal_begins_again(tmp_path: Path) -> None:
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


def test_what_ended_between_name_and_manifest_is_finished(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", weights())
    target = tmp_path / "out.gguf"

    def fails(_: Any) -> None:
        raise Stop

    with Checkpoint(base) as source:
        plan = planned(source)
        with pytest.raises(Stop):
            carry_out(plan, source, target, finished=fails)
        seen: list[Any] = []
        written = carry_out(plan, source, target, resume=True, finished=seen.append)
    assert seen == [written]
    assert written.sha256 == sha256_of(target)
    assert not any(path.exists() for path in unfinished_paths(target))


# A run that was started in the background, as a test run may be, has inherited that interrupts are ignored.
SLOWLY = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from dataclasses import replace
from pathlib import Path
from ecellm_lite.convert.checkpoint import Checkpoint
from ecellm_lite.convert.merging import hang
from ecellm_lite.convert.pipeline import carry_out
from ecellm_lite.convert.plan import draw_plan
from ecellm_lite.convert import pipeline
from tests.small_checkpoints import blueprint

pipeline._FLUSH_BYTES = 1 << 14
with Checkpoint(Path(sys.argv[1])) as source:
    drawn = blueprint()
    plan = replace(draw_plan(drawn, hang(drawn, source), source, "Q4_K_M"), block_weights=1 << 13)
    print("ready", flush=True)
    written = carry_out(plan, source, Path(sys.argv[2]), resume=True, progress=lambda _: time.sleep(float(sys.argv[3])))
    print("resumed", written.resumed, flush=True)
"""


def slowly(base: Path, target: Path, seconds: float) -> subprocess.Popen[str]:
    root = Path(__file__).parent.parent
    arguments = [sys.executable, "-c", SLOWLY, str(base), str(target), str(seconds)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root)


def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", weights())
    converted(base, tmp_path / "whole.gguf")
    target = tmp_path / "out.gguf"
    moments = random.Random(5)
    for _ in range(5):
        process = slowly(base, target, 0.03)
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        time.sleep(moments.uniform(0.0, 0.5))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
        assert not target.exists()
    process = slowly(base, target, 0)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert int(said.split()[-1]) > 0
    assert target.read_bytes() == (tmp_path / "whole.gguf").read_bytes()


def test_an_interrupt_leaves_a_state_to_go_on_from(tmp_path: Path) -> None:
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
    said, _ = slowly(base, target, 0).communicate(timeout=60)
    assert int(said.split()[-1]) > 0
    assert target.read_bytes() == (tmp_path / "whole.gguf").read_bytes()


def test_two_conversions_to_one_target(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", weights())
    target = tmp_path / "out.gguf"
    inside, go_on = threading.Event(), threading.Event()

    def wait(_: Progress) -> None:
        inside.set()
        go_on.wait(30)

    def first() -> None:
        with Checkpoint(base) as source:
            carry_out(planned(source), source, target, progress=wait)

    thread = threading.Thread(target=first)
    thread.start()
    try:
        assert inside.wait(30)
        for resume in (False, True):
            with Checkpoint(base) as source, pytest.raises(ModelError, match="Another conversion is writing"):
                carry_out(planned(source), source, target, resume=resume)
    finally:
        go_on.set()
        thread.join()
    assert read_header(target).file_size == target.stat().st_size


@pytest.mark.parametrize("change", ["shrinks", "changes"])
def test_an_input_that_changes_meanwhile_gives_no_file(change: str, tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", weights())
    target = tmp_path / "out.gguf"
    weights_file = base / "model.safetensors"
    done: list[Progress] = []

    def spoil(progress: Progress) -> None:
        if not done:
            if change == "shrinks":
                os.truncate(weights_file, 20_000)
            else:
                os.utime(weights_file, ns=(1, 1))
        done.append(progress)

    with Checkpoint(base) as source:
        plan = replace(planned(source), block_weights=1 << 13)
        with pytest.raises(ModelError, match=r"shorter|changed"):
            carry_out(plan, source, target, progress=spoil)
    assert not target.exists()


def test_a_full_disk_is_a_sentence_and_can_be_gone_on_from(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", weights())
    converted(base, tmp_path / "whole.gguf")
    target = tmp_path / "out.gguf"
    with Checkpoint(base) as source:
        plan = replace(planned(source), block_weights=1 << 13)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        refused = full(plan.size // 2)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "pwrite", refused)
            with pytest.raises(ModelError, match=r"No space left on device.*make room, and go on with --resume"):
                carry_out(plan, source, target)
        resource.setrlimit(resource.RLIMIT_FSIZE, (plan.size // 2, hard))
        try:
            with pytest.raises(ModelError, match=r"File too large.*make room"):
                carry_out(plan, source, tmp_path / "limited.gguf")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert not target.exists()
        written = carry_out(plan, source, target, resume=True)
    assert written.resumed > 0
    assert target.read_bytes() == (tmp_path / "whole.gguf").read_bytes()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with half a megabyte of room, where tests may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("only root may mount")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_fills_meanwhile(small_disk: Path, tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", weights())
    converted(base, tmp_path / "whole.gguf")
    target = small_disk / "out.gguf"
    with Checkpoint(base) as source:
        plan = replace(planned(source), block_weights=1 << 13)
        with pytest.raises(ModelError, match="GB free"):
            check_room(plan, target)
        with pytest.raises(ModelError, match=r"No space left on device.*make room, and go on with --resume"):
            carry_out(plan, source, target)
        assert not target.exists()
        subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
        check_room(plan, target)
        carry_out(plan, source, target, resume=True)
    assert target.read_bytes() == (tmp_path / "whole.gguf").read_bytes()


def full(size: int) -> Any:
    pwrite = os.pwrite

    def write(descriptor: int, data: Any, offset: int) -> int:
        if offset + len(data) > size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return pwrite(descriptor, data, offset)

    return write


def test_targets_that_cannot_be_written(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", weights())
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder.gguf").mkdir()
    places = [(tmp_path / "file" / "out.gguf", "could not be written"), (tmp_path / "folder.gguf", "is a folder")]
    if os.geteuid():
        (tmp_path / "closed").mkdir(mode=0o500)
        places.append((tmp_path / "closed" / "out.gguf", "check the folder's rights"))
    (tmp_path / ".link.gguf.unfinished").symlink_to(tmp_path / "elsewhere")
    places.append((tmp_path / "link.gguf", "could not be written"))
    for target, said in places:
        with Checkpoint(base) as source, pytest.raises(ModelError, match=said):
            carry_out(planned(source), source, target)
    assert not (tmp_path / "elsewhere").exists()


def test_nobody_else_begins_before_all_is_done(tmp_path: Path) -> None:
    target = tmp_path / "out.gguf"
    with UnfinishedFile(target, 4, {}) as file:
        file.write(b"GGUF", 0)
        file.flush(4)
        file.finish("0")
        # Its manifest is written now: the file has its name, and the one of the unfinished file is free.
        for resume in (False, True):
            with pytest.raises(BusyError, match="Another conversion is writing"):
                UnfinishedFile(target, 4, {}, resume=resume)
        file.forget()
        with UnfinishedFile(target, 4, {"other": 1}) as second:
            file.forget()
            file.close()
            assert all(path.exists() for path in unfinished_paths(target))
            second.write(b"MORE", 0)
            second.flush(4)
            second.finish("1")
            second.forget()
    assert target.read_bytes() == b"MORE"
    assert list(tmp_path.iterdir()) == [target]


def test_only_its_own_file_gets_the_name(tmp_path: Path) -> None:
    target = tmp_path / "out.gguf"
    unfinished, journal = unfinished_paths(target)
    with UnfinishedFile(target, 4, {}) as file:
        unfinished.unlink()
        unfinished.write_bytes(b"another's")
        with pytest.raises(ModelError, match="replaced by another file"):
            file.finish("0")
        file.forget()
    assert not target.exists()
    assert not journal.exists()
    assert unfinished.read_bytes() == b"another's"


def test_a_file_that_has_its_name_is_hashed_before_it_is_trusted(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", weights())
    target = tmp_path / "out.gguf"

    def fails(_: Any) -> None:
        raise Stop

    with Checkpoint(base) as source:
        plan = planned(source)
        with pytest.raises(Stop):
            carry_out(plan, source, target, finished=fails)
        whole = target.read_bytes()
        target.write_bytes(bytes(len(whole)))
        written = carry_out(plan, source, target, resume=True)
    assert written.resumed == 0
    assert target.read_bytes() == whole


def small(base: Path, target: Path, **options: Any) -> Any:
    request = Request(str(base), target, "Q4_0", envelope="alpaca", **options)
    return prepared(request, lambda _: blueprint())


@pytest.fixture
def _unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecellm_lite.convert.conversion.check_model", lambda _: None)


@pytest.mark.usefixtures("_unchecked")
def test_what_may_go_wrong_does_before_the_file_has_its_name(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", weights())
    target, place = tmp_path / "out.gguf", tmp_path / "out.gguf.manifest.json"
    with small(base, target) as conversion:
        conversion.run()
        before = target.read_bytes(), place.read_bytes()
    with small(base, target, overrides=(("ffn_up", "Q8_0"),)) as conversion:
        os.utime(base / "config.json", ns=(1, 1))
        with pytest.raises(ModelError, match=r"config\.json was changed"):
            conversion.run(hash_inputs=True)
    assert (target.read_bytes(), place.read_bytes()) == before
    # A manifest that cannot be written leaves none, rather than that of the file before.
    with small(base, target, overrides=(("ffn_up", "Q8_0"),)) as conversion:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("ecellm_lite.models.manifest.replacing", refuses)
            with pytest.raises(ModelError, match=r"manifest\.json could not be written \(No space.*--resume"):
                conversion.run()
        assert not place.exists()
        conversion.run(resume=True)
    assert read_manifest(place).sha256 == sha256_of(target)
    assert target.read_bytes() != before[0]


def refuses(_: Path) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.usefixtures("_unchecked")
def test_the_manifest_names_what_describes_the_weights(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", weights())
    (base / "tokenizer.json").write_text("{}")
    with small(base, tmp_path / "out.gguf", source="by hand", licence="MIT", details={"more": 1}) as conversion:
        made = conversion.run(hash_inputs=True)
    assert {one["name"]: one["sha256"] for one in made.details["configuration"]} == {
        name: sha256_of(base / name) for name in ("config.json", "tokenizer.json")
    }
    assert (made.source, made.licence, made.details["more"]) == ("by hand", "MIT", 1)


@pytest.mark.usefixtures("_unchecked")
def test_nothing_that_is_read_is_written_over(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", weights())
    adapter = write_adapter(tmp_path / "lora", factors(QUERY, WIDTH, WIDTH))
    for target in (adapter / "adapter_model.safetensors", adapter / "adapter_config.json", base / "config.json"):
        held_before = target.read_bytes()
        with (
            small(base, target, adapters=((adapter, 1.0),)) as conversion,
            pytest.raises(UsageError, match="is what is read"),
        ):
            conversion.run()
        assert target.read_bytes() == held_before
    matrix = tmp_path / "imatrix.gguf"
    matrix.write_bytes(b"GGUF")
    with small(base, matrix) as conversion, pytest.raises(UsageError, match="is what is read"):
        replace(conversion, imatrix=Imatrix(matrix, "", {})).run()
    assert matrix.read_bytes() == b"GGUF"


def test_times_beyond_the_calendar(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", weights())
    with Checkpoint(base) as source:
        plan = planned(source)
        written = carry_out(plan, source, tmp_path / "out.gguf")
    far = Input(base / "config.json", 1, 10**21)
    made = record(
        plan, written, tmp_path / "out.gguf", name="x", envelope="alpaca", base="x", inputs=[far], options={}, seconds=1
    )
    assert made.details["inputs"][0]["changed"] == "1000000000000 s since 1970"


@pytest.mark.parametrize("which", ["base", "adapter", "imatrix", "target"])
def test_names_that_cannot_be_are_sentences(which: str, tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", weights())
    long = tmp_path / ("x" * 300)
    choices: dict[str, dict[str, Any]] = {"adapter": {"adapters": ((long, 1.0),)}, "imatrix": {"imatrix": long}}
    options = choices.get(which, {})
    arguments = (long if which == "base" else base, long if which == "target" else tmp_path / "out.gguf")
    with pytest.raises(ModelError, match=r"cannot be reached .*name too long"), small(*arguments, **options):
        pass
    with pytest.raises(UsageError, match="zero byte"), small(base, tmp_path / "a\0b"):
        pass


def test_the_demo_waits_for_another_process_that_makes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, calls = Store(tmp_path), []
    folder = store.folder("demo")
    made = Manifest("demo", "model.gguf", 4, "0", "alpaca", build.RECIPE)

    def busy(_: Store, threads: int) -> StoredModel:
        calls.append(threads)
        if len(calls) == 2:
            folder.mkdir(parents=True)
            (folder / "model.gguf").write_bytes(b"GGUF")
            made.write(folder / "manifest.json")
        raise BusyError("Another conversion is writing it.")

    monkeypatch.setattr(build, "_made", busy)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    assert build.ensure_demo(store).manifest == made
    assert len(calls) == 2
    monkeypatch.setattr(build, "PATIENCE", 0.0)
    with pytest.raises(BusyError):
        build.ensure_demo(Store(tmp_path / "other"))
