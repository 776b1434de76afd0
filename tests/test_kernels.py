"""The native kernels and their numpy equals give the same bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ecellm_lite import kernels
from ecellm_lite.errors import EcellmError

EVERY = np.arange(1 << 16, dtype=np.uint16)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    kernels.library.cache_clear()


def test_native_and_numpy_agree_on_every_value(monkeypatch: pytest.MonkeyPatch) -> None:
    if kernels.library() is None:
        pytest.skip("installed without a C compiler")
    native = kernels.widen_bf16(EVERY)
    assert kernels.name() == "native"
    monkeypatch.setattr(kernels, "library", lambda: None)
    assert kernels.name() == "numpy"
    assert kernels.widen_bf16(EVERY).tobytes() == native.tobytes()


def test_bf16_is_the_upper_half_of_float32() -> None:
    widened = kernels.widen_bf16(np.array([[0x3F80, 0xC000], [0x0001, 0x8000]], dtype=np.uint16))
    assert widened.shape == (2, 2)
    assert widened.tolist()[0] == [1.0, -2.0]
    assert (widened.view(np.uint32) == np.array([[0x3F800000, 0xC0000000], [0x10000, 0x80000000]])).all()


def test_any_layout_is_taken() -> None:
    strided = EVERY[::3]
    assert (kernels.widen_bf16(strided).view(np.uint32) >> 16 == strided).all()
    assert kernels.widen_bf16(EVERY[:0]).shape == (0,)


def test_null_is_refused_by_the_library_itself() -> None:
    native = kernels.library()
    if native is None:
        pytest.skip("installed without a C compiler")
    assert native.ecellm_widen_bf16(None, None, 4) == 1
    assert native.ecellm_widen_bf16(None, None, 0) == 0


def test_a_library_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    if kernels.library() is None:
        pytest.skip("installed without a C compiler")
    kernels.library.cache_clear()
    monkeypatch.setattr(kernels, "VERSION", 999)
    with pytest.raises(EcellmError, match="install ecellm-lite again"):
        kernels.library()
    kernels.library.cache_clear()


def test_the_header_and_python_name_one_version() -> None:
    header = (Path(__file__).parent.parent / "kernels" / "ecellm_kernels.h").read_text()
    assert f"#define ECELLM_KERNELS_VERSION {kernels.VERSION}\n" in header
