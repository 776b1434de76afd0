"""Checks that the packages import each other in one direction only."""

from __future__ import annotations

import ast
from importlib.metadata import version
from pathlib import Path

import pytest

from ecellm_lite import __version__

ROOT = Path(__file__).parent.parent

# A module may import rooms of a lower rank, and its own. Only the files named at the end may import llama_cpp.
RANKS = [
    {"deadlines", "errors", "exit_codes", "strict", "tensor_types", "version"},
    {"binding", "documents", "report"},
    {"backends"},
    {"envelopes", "ggml", "home"},
    {"answers", "devices", "ggml_quantizer"},
    {"kernels", "models", "tasks"},
    {"convert", "engine", "tables"},
    {"demo", "provision"},
    {"answerer", "loading", "option_checks", "prompts", "submission"},
    {"answer_policy", "frames", "read_ahead"},
    {"runtime"},
    {"pipe"},
    {"cascade"},
    {"bench", "doctor", "doctor_offload", "jobs", "training"},
    {"evaluate"},
    {"bundle", "serve"},
    {"cli"},
    {"__main__", "standalone"},
]
RANK = {room: rank for rank, rooms in enumerate(RANKS) for room in rooms}
BINDING = "ecellm_lite/binding.py"
LLAMA = {
    "ecellm_lite/backends.py",
    "ecellm_lite/ggml.py",
    "ecellm_lite/engine/adapters.py",
    "ecellm_lite/engine/batch.py",
    "ecellm_lite/engine/context.py",
    "ecellm_lite/engine/llama.py",
    "ecellm_lite/engine/vocabulary.py",
    "ecellm_lite/engine/weights.py",
}

FILES = sorted([*(ROOT / "ecellm_lite").rglob("*.py"), *(ROOT / "convert").rglob("*.py")])


def room_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[0] if parts[0] == "convert" else parts[1]


def imported(path: Path) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path: Path) -> None:
    room = room_of(path)
    if room == "__init__":
        return
    for name in imported(path):
        parts = name.split(".")
        assert parts[0] not in {"convert", "kernels"}, f"{path} imports {name} by its folder's name"
        if parts[0] == "ecellm_lite" and len(parts) > 1 and parts[1] != room:
            assert parts[1] in RANK, f"{path} imports {name} from the package's own __init__, which stands above {room}"
            assert RANK[parts[1]] < RANK[room], f"{path} imports {name}, which is not below {room}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_llama_cpp_is_imported_only_by_the_engine(path: Path) -> None:
    name, names = path.relative_to(ROOT).as_posix(), imported(path)
    if name != BINDING:
        assert not [one for one in names if one.split(".")[0] == "llama_cpp"]
    if name not in LLAMA:
        assert not [one for one in names if one.startswith("ecellm_lite.binding")]


def test_a_conversion_imports_no_torch_and_no_pickle() -> None:
    """Check the imports of convert/. The only exception is `verify`, which runs the original model in torch."""
    libraries = {"torch", "transformers", "peft", "pickle", "safetensors"}
    rooms = [path for path in FILES if room_of(path) == "convert"]
    heavy = {path.name: libraries & {name.split(".")[0] for name in imported(path)} for path in rooms}
    assert {name: names for name, names in heavy.items() if names} == {"original.py": {"torch", "transformers", "peft"}}


def test_every_package_has_a_place_in_the_import_order() -> None:
    rooms = {room_of(path) for path in FILES} - {"__init__"}
    assert rooms == set(RANK)


def test_no_package_shadows_kernels() -> None:
    assert not (ROOT / "kernels" / "__init__.py").exists()


def test_the_version_is_that_of_pyproject() -> None:
    assert __version__ == version("ecellm-lite")
