"""Tests that the quantization kernels give the same bytes as ggml, for any rows, type and processor."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ecellm_lite import kernels
from ecellm_lite.errors import EcellmError, ModelError, UsageError
from ecellm_lite.ggml_quantizer import dequantize, quantize_chunk
from ecellm_lite.kernels import Block, Factors, choice, native, plain
from ecellm_lite.kernels.finite import first_not_finite
from ecellm_lite.tensor_types import CONVERTED, K_QUANTS, SHORT_QUANTS
from tests.support.refusals import refusal
from tests.support.weights import KINDS, weights_of

VARIANTS = native.variants()
NEEDS_NATIVE = pytest.mark.skipif(not VARIANTS, reason="installed without a C++ compiler")

# Only there is ggml's own library built without contracted multiply-adds, so that bytes can be compared.
REFERENCE = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="ggml may fuse a*b+c here")


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    yield
    for cached in (native.library, choice._chosen, choice.is_exact):
        cached.cache_clear()


@pytest.mark.skipif("CXX" in os.environ or not shutil.which("c++"), reason="there is no compiler, or it is hidden")
def test_the_kernels_were_compiled() -> None:
    assert VARIANTS, "the kernels did not compile, and the install went on without them"


@NEEDS_NATIVE
@REFERENCE
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", [*SHORT_QUANTS, *K_QUANTS])
@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=12),
    blocks=st.integers(1, 24),
    importance=st.sampled_from([None, *KINDS]),
    signed=st.booleans(),
)
def test_every_variant_gives_the_bytes_of_ggml(
    variant: str, kind: str, seed: int, kinds: list[str], blocks: int, importance: str | None, signed: bool
) -> None:
    generator = np.random.default_rng(seed)
    columns = 32 * blocks if CONVERTED[kind].block == 32 else 256 * -(-blocks // 8)
    weights = np.stack([weights_of(each, columns, generator) for each in kinds])
    weighting = None if importance is None else weights_of(importance, columns, generator)
    if weighting is not None and not signed:
        weighting = np.where(generator.random(weighting.shape) < 0.3, np.float32(0), np.abs(weighting))
    packed = native.convert(Block(weights, "F32", kind, importance=weighting), variant=variant)
    assert packed.tobytes() == quantize_chunk(weights, CONVERTED[kind], weighting).tobytes()


@NEEDS_NATIVE
@settings(deadline=None, max_examples=150)
@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_a_converted_block_equals_numpys(data: st.DataObject, seed: int) -> None:
    conversion = drawn(data, np.random.default_rng(seed))
    variant = data.draw(st.sampled_from(VARIANTS))
    packed = native.convert(conversion, variant=variant, threads=data.draw(st.integers(1, 4)))
    assert packed.tobytes() == plain.convert(conversion, threads=2).tobytes()


def drawn(data: st.DataObject, generator: np.random.Generator) -> Block:
    source_type = data.draw(st.sampled_from(list(CONVERTED)))
    target_type = data.draw(st.sampled_from(list(CONVERTED)))
    rows, columns = data.draw(st.integers(1, 40)), 256 * data.draw(st.integers(1, 3))
    if {CONVERTED[each].block for each in (source_type, target_type)} == {1}:
        columns -= data.draw(st.integers(0, 60))
    weights = generator.normal(size=(rows, columns)).astype(np.float32)
    source: NDArray[Any] = quantize_chunk(weights, CONVERTED[source_type])
    source = source.view({"F32": np.float32, "F16": np.float16, "BF16": np.uint16}.get(source_type, np.uint8))
    if data.draw(st.booleans()):
        wide = np.zeros((rows, source.shape[1] + 8), dtype=source.dtype)
        wide[:, : source.shape[1]] = source
        source = wide[:, : source.shape[1]]
    adapters = tuple(
        Factors(
            generator.normal(0, 1 / 16, (rank, columns)).astype(np.float32),
            generator.normal(0, 1 / 16, (rows, rank)).astype(np.float32),
            0.7,
        )
        for rank in data.draw(st.lists(st.sampled_from([1, 8, 16, 33, 256]), max_size=2))
    )
    return Block(
        source,
        source_type,
        target_type,
        adapters,
        magnitudes=generator.random(rows, dtype=np.float32) + 1 if data.draw(st.booleans()) else None,
        order=generator.permutation(rows) if data.draw(st.booleans()) else None,
        importance=generator.random(columns, dtype=np.float32) if data.draw(st.booleans()) else None,
    )


@pytest.mark.parametrize("variant", kernels.variants())
def test_merged_weights_are_those_of_numpy(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECELLM_KERNELS", variant)
    generator = np.random.default_rng(1)
    rows, columns = 50, 300
    weights = generator.normal(size=(rows, columns)).astype(np.float32)
    adapters = [
        Factors(
            generator.normal(size=(rank, columns)).astype(np.float32),
            generator.normal(size=(rows, rank)).astype(np.float32),
            scale,
        )
        for rank, scale in ((16, 2.0), (3, -0.25))
    ]
    magnitudes = generator.random(rows).astype(np.float32) + 1
    exact = weights.astype(np.float64)
    for each in adapters:
        exact += each.scale * each.b.astype(np.float64) @ each.a
    merged = kernels.convert(Block(weights, "F32", "F32", tuple(adapters))).view(np.float32)
    # 19 products are summed, each rounded to half a unit of the last place of the largest sum on the way.
    limit = (
        2
        * 20
        * np.finfo(np.float32).eps
        * (np.abs(weights) + sum(abs(a.scale) * np.abs(a.b) @ np.abs(a.a) for a in adapters))
    )
    assert (np.abs(merged - exact) <= limit).all()
    exact *= magnitudes[:, None] / np.linalg.norm(exact, axis=1, keepdims=True)
    scaled = kernels.convert(Block(weights, "F32", "F32", tuple(adapters), magnitudes=magnitudes))
    np.testing.assert_allclose(scaled.view(np.float32), exact, rtol=1e-5, atol=1e-5)
    order = generator.permutation(rows)
    turned = kernels.convert(Block(weights, "F32", "F32", tuple(adapters), order=order)).view(np.float32)
    assert (turned == merged[order]).all()


@pytest.mark.parametrize("variant", kernels.variants())
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_a_weight_that_is_not_finite_is_refused_with_its_place(
    variant: str, bad: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECELLM_KERNELS", variant)
    weights = np.ones((2000, 256), dtype=np.float32)
    weights[1503, 77] = weights[1900, 3] = bad
    for kind in ("Q4_K", "Q8_0", "Q4_1", "F16"):
        with refusal(ModelError, "1,503", 77):
            kernels.quantize(weights, kind, threads=3)
    with pytest.raises(ModelError, match="imatrix"):
        kernels.quantize(weights[:1], "Q4_K", np.full(256, bad, dtype=np.float32))


# The largest weights that each type has a scale for are a little below these.
TOO_LARGE = {
    "F16": 7e4, "BF16": 3.4e38, "Q4_0": 1e6, "Q4_1": 2e6, "Q5_0": 2e6, "Q5_1": 4e6, "Q8_0": 1e7, "Q2_K": 1e7,
    "Q3_K": 1e8, "Q4_K": 1e9, "Q5_K": 1e9, "Q6_K": 1e9,
}  # fmt: skip


@pytest.mark.parametrize("variant", kernels.variants())
@pytest.mark.parametrize("kind", TOO_LARGE)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_weight_too_large_for_its_type_is_refused_with_its_place(
    variant: str, kind: str, sign: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECELLM_KERNELS", variant)
    weights = np.random.default_rng(4).normal(size=(300, 512)).astype(np.float32)
    weights[203, 300] = weights[204, 3] = sign * TOO_LARGE[kind]
    column = 300 // CONVERTED[kind].block * CONVERTED[kind].block
    with refusal(ModelError, 203, column, kind):
        kernels.quantize(weights, kind, threads=3)
    assert kernels.quantize(weights[:203], kind).tobytes() == quantize_chunk(weights[:203], CONVERTED[kind]).tobytes()
    assert kernels.quantize(weights, "F32").tobytes() == weights.tobytes()


@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_scales_that_are_not_finite_are_found_where_ggml_reads_them(data: st.DataObject, seed: int) -> None:
    kind = CONVERTED[data.draw(st.sampled_from(list(TOO_LARGE)))]
    generator = np.random.default_rng(seed)
    rows = generator.integers(0, 256, (5, kind.row_bytes(512)), dtype=np.uint8)
    if data.draw(st.booleans()):
        rows &= 0x3B  # no exponent is the largest one, in any field
    wide = dequantize(rows, kind, 512)
    blocks = np.isfinite(wide).reshape(5, -1, kind.block).all(axis=2)
    place = first_not_finite(rows, kind)
    assert (place is None) == blocks.all()
    if place:
        row, block = np.unravel_index(int(np.argmin(blocks)), blocks.shape)
        assert place == (int(row), int(block) * kind.block)


def test_an_imatrix_that_is_too_large_is_refused() -> None:
    weights = np.random.default_rng(5).normal(size=(2, 256)).astype(np.float32)
    for kind in ("Q4_0", "Q2_K", "Q4_K"):
        with refusal(ModelError, "row 0", "column 0", "imatrix", kind):
            kernels.quantize(weights, kind, np.full(256, 3e38, dtype=np.float32))


@pytest.mark.parametrize("variant", kernels.variants())
def test_bf16_and_f16_are_widened_exactly(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECELLM_KERNELS", variant)
    bits = np.arange(1 << 16, dtype=np.uint16)
    bits = bits[(bits & 0x7F80) != 0x7F80][None, :]
    widened = kernels.convert(Block(bits, "BF16", "F32")).view(np.uint32)
    assert (widened == bits.astype(np.uint32) << 16).all()
    assert (kernels.convert(Block(bits, "BF16", "BF16")).view(np.uint16) == bits).all()
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)][None, :]
    assert kernels.convert(Block(halves, "F16", "F32")).view(np.float32).tobytes() == halves.astype("f4").tobytes()
    assert kernels.convert(Block(halves, "F16", "F16")).tobytes() == halves.tobytes()


@NEEDS_NATIVE
@pytest.mark.skipif(platform.machine() != "x86_64", reason="sets a flag of x86")
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_process_that_flushes_denormals_gets_the_same_bytes(variant: str, tmp_path: Path) -> None:
    (tmp_path / "flush.c").write_text("#include <xmmintrin.h>\nvoid flush(void) { _mm_setcsr(0x9fc0); }\n")
    if not shutil.which("cc"):
        pytest.skip("there is no compiler")
    library = tmp_path / "flush.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(tmp_path / "flush.c")], check=True)
    tiny = weights_of("denormal", 512, np.random.default_rng(2)).reshape(2, 256)
    halves = np.arange(1, 257, dtype=np.uint16).view(np.float16)[None, :]
    code = (
        "import ctypes, sys, numpy as np\nfrom ecellm_lite.kernels import Block, native\n"
        "tiny, halves = (np.load(path) for path in sys.argv[2:4])\nctypes.CDLL(sys.argv[1]).flush()\n"
        "for rows, kinds in ((tiny, ('F32', 'Q4_1', 'Q4_K', 'Q6_K')), (halves, ('F32',))):\n"
        "    for kind in kinds:\n"
        "        source = 'F32' if rows.dtype == np.float32 else 'F16'\n"
        "        blocks = native.convert(Block(rows, source, kind), variant=sys.argv[4], threads=2)\n"
        "        print(blocks.tobytes().hex())\n"
    )
    np.save(tmp_path / "tiny.npy", tiny)
    np.save(tmp_path / "halves.npy", halves)
    arguments = [str(library), str(tmp_path / "tiny.npy"), str(tmp_path / "halves.npy"), variant]
    ran = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    expected = [plain.convert(Block(tiny, "F32", kind)) for kind in ("F32", "Q4_1", "Q4_K", "Q6_K")]
    expected.append(plain.convert(Block(halves, "F16", "F32")))
    assert ran.stdout.split() == [blocks.tobytes().hex() for blocks in expected]


@NEEDS_NATIVE
@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=1, max_size=50))
def test_floats_are_rounded_to_f16_and_bf16_as_ggml_does(values: list[float]) -> None:
    weights = np.array([values], dtype=np.float32)
    for kind in ("F16", "BF16"):
        packed = native.convert(Block(weights, "F32", kind), variant=VARIANTS[0])
        assert packed.tobytes() == quantize_chunk(weights, CONVERTED[kind]).tobytes()


@NEEDS_NATIVE
def test_the_kernels_are_chosen_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ECELLM_KERNELS", raising=False)
    assert kernels.name() == VARIANTS[0]
    for variant in kernels.variants():
        monkeypatch.setenv("ECELLM_KERNELS", variant)
        assert kernels.name() == variant
    monkeypatch.setenv("ECELLM_KERNELS", "abacus")
    with pytest.raises(UsageError, match="abacus"):
        kernels.name()


@REFERENCE
@pytest.mark.parametrize("variant", kernels.variants())
def test_the_recorded_hash_is_that_of_ggml(variant: str) -> None:
    assert choice.result_hash(variant) == choice._EXPECTED


@NEEDS_NATIVE
def test_kernels_with_wrong_results_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ECELLM_KERNELS", raising=False)
    monkeypatch.setattr(choice, "is_exact", lambda variant: variant != VARIANTS[0])
    assert kernels.name() == kernels.variants()[1]
    monkeypatch.setenv("ECELLM_KERNELS", VARIANTS[0])
    choice._chosen.cache_clear()
    with refusal(EcellmError, VARIANTS[0], "ECELLM_KERNELS"):
        kernels.name()


def test_without_native_kernels_the_bytes_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = np.random.default_rng(3).normal(size=(9, 512)).astype(np.float32)
    before = {kind: kernels.quantize(weights, kind, threads=2).tobytes() for kind in CONVERTED}
    monkeypatch.delenv("ECELLM_KERNELS", raising=False)
    monkeypatch.setattr(native, "library", lambda: None)
    choice._chosen.cache_clear()
    assert kernels.name() == "ggml"
    assert {kind: kernels.quantize(weights, kind, threads=2).tobytes() for kind in CONVERTED} == before
    monkeypatch.undo()  # before the caches are cleared, which the stand-in does not have


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        ({"source_type": "Q9"}, "'Q9'"),
        ({"target_type": "Q9"}, "'Q9'"),
        ({"source": np.zeros(256, np.float32)}, "shape"),
        ({"source": np.zeros((2, 256))}, "float32"),
        ({"source": np.zeros((2, 300), np.float32)}, "300"),
        ({"source": np.zeros((2, 0), np.float32)}, " 0 "),
        ({"source": np.zeros((2, 35), np.uint8), "source_type": "Q8_0"}, "35"),
        ({"magnitudes": np.zeros(3, np.float32)}, "magnitudes"),
        ({"importance": np.zeros(3, np.float32)}, "imatrix"),
        ({"order": np.array([0, 2])}, "order"),
        ({"order": np.array([0, -1])}, "order"),
        ({"order": np.array([0.0, 1.0])}, "order"),
        ({"order": np.array([0])}, "order"),
        ({"adapters": (Factors(np.zeros((2, 256), np.float32), np.zeros((2, 3), np.float32)),)}, "factors"),
        ({"adapters": (Factors(np.zeros((300, 256), np.float32), np.zeros((2, 300), np.float32)),)}, "rank"),
        ({"adapters": (Factors(np.zeros((1, 256), np.float32), np.zeros((2, 1), np.float32)),) * 65}, "65"),
    ],
)
def test_invalid_blocks_are_refused(arguments: dict[str, Any], value: str) -> None:
    fields = {"source": np.zeros((2, 256), np.float32), "source_type": "F32", "target_type": "Q4_K", **arguments}
    with refusal(UsageError, value):
        Block(**fields)


def test_zero_rows_give_zero_bytes() -> None:
    assert kernels.quantize(np.zeros((0, 256), np.float32), "Q4_K").shape == (0, 144)


@NEEDS_NATIVE
def test_a_library_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    native.library.cache_clear()
    monkeypatch.setattr(native, "VERSION", 999)
    with refusal(EcellmError, 999):
        native.library()


def test_the_c_header_and_python_have_the_same_constants() -> None:
    header = (Path(__file__).parent.parent.parent / "kernels" / "ecellm_kernels.h").read_text()
    assert f"#define ECELLM_KERNELS_VERSION {native.VERSION}\n" in header
    assert f"#define ECELLM_MOST_RANK {kernels.block.MOST_RANK}\n" in header
    assert f"#define ECELLM_MOST_ADAPTERS {kernels.block.MOST_ADAPTERS}\n" in header
    for name in ["F32", "F16", "BF16", *SHORT_QUANTS, *K_QUANTS]:
        assert f"    ECELLM_{name} = {CONVERTED[name].number},\n" in header
