from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support.prompt_variants import Kernels


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernels]:
    """Return the prompt kernels. Emulated kernels are compiled as programs, once for all processes of pytest."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "prompt-kernels"
    folder.mkdir(exist_ok=True)
    kernels = Kernels(folder)
    yield kernels
    kernels.close()
