"""Tests the blend of two adapters: a new adapter whose weights lie between those of the two."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

from benchmarks.demo_rows.blend import CONFIG, WEIGHTS, main


def write_adapter(folder: Path, value: float, width: int = 3) -> Path:
    folder.mkdir()
    save_file({"a": np.full((2, width), value, np.float16)}, folder / WEIGHTS)
    (folder / CONFIG).write_text("{}")
    return folder


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1.0), (0.25, 2.0), (1.0, 5.0)])
def test_the_weights_lie_between(share: float, expected: float, tmp_path: Path) -> None:
    adapters = [str(write_adapter(tmp_path / name, value)) for name, value in (("first", 1), ("second", 5))]
    arguments = [*adapters, "--share", str(share), "-o", str(tmp_path / "out")]
    assert CliRunner().invoke(main, arguments, catch_exceptions=False).exit_code == 0
    blended = load_file(tmp_path / "out" / WEIGHTS)["a"]
    assert blended.dtype == np.float16
    assert (blended == expected).all()
    assert (tmp_path / "out" / CONFIG).read_text() == "{}"


def test_adapters_of_different_shapes_are_refused(tmp_path: Path) -> None:
    adapters = [str(write_adapter(tmp_path / str(width), 1, width)) for width in (3, 4)]
    assert CliRunner().invoke(main, [*adapters, "-o", str(tmp_path / "out")]).exit_code == 1
    assert not (tmp_path / "out").exists()
