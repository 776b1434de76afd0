"""Tests of bundles that contain wheels, which are installed without a network.

Each installed version of the bundle gets a virtual environment of its own for the wheels.
"""

from __future__ import annotations

import ensurepip
import json
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from ecellm_lite.bundle.contents import Contents
from ecellm_lite.bundle.install import install
from ecellm_lite.bundle.installation import find_installation
from ecellm_lite.bundle.wheels import environment_python, project_of
from ecellm_lite.errors import ModelError, UsageError
from tests.support.bundles import Shop
from tests.support.refusals import refusal

PROGRAM = """\
import sys
print("|".join(sys.argv[1:]))
"""


def write_wheel(
    folder: Path, project: str, *, version: str = "1.0", tag: str = "py3-none-any", needs: str = ""
) -> Path:
    folder.mkdir(exist_ok=True)
    module = project.replace("-", "_")
    path = folder / f"{module}-{version}-{tag}.whl"
    information = f"{module}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.4\nName: {project}\nVersion: {version}\nLicense-Expression: 0BSD\n"
    files = {
        f"{module}/__init__.py": "",
        f"{module}/__main__.py": PROGRAM,
        f"{information}/METADATA": metadata + (f"Requires-Dist: {needs}\n" if needs else ""),
        f"{information}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
        f"{information}/licenses/LICENSE": "Do what you like.\n",
    }
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
        wheel.writestr(f"{information}/RECORD", "".join(f"{name},,\n" for name in [*files, f"{information}/RECORD"]))
    return path


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """Return a folder with small wheels, and with the wheel of pip that Python ships."""
    folder = tmp_path / "wheels"
    places = [Path(ensurepip.__file__).parent / "_bundled", Path("/usr/share/python-wheels")]
    pips = [path for place in places for path in place.glob("pip-*.whl")]
    if not pips:
        pytest.skip("this Python has no wheel of pip")
    folder.mkdir()
    shutil.copy(pips[0], folder)
    write_wheel(folder, "ecellm-lite", needs="cryptography")
    write_wheel(folder, "cryptography")
    return folder


@pytest.mark.slow
def test_wheels_are_installed_without_a_network(
    shop: Shop, wheels: Path, base: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # where nothing listens
    monkeypatch.setenv("PIP_CACHE_DIR", str(tmp_path / "cache"))
    path = shop.bundle(contents=Contents(shop.contents.model, wheels=wheels))
    installed = install(path, [shop.key.public])
    ended = subprocess.run([installed.command, "a b", "c"], capture_output=True, text=True, check=True)
    assert ended.stdout == "a b|c\n"
    assert not (tmp_path / "cache").exists()
    # The script in front installs the wheels too, and starts their program, which prints what it gets.
    ended = subprocess.run(["sh", path, "--unsigned"], capture_output=True, text=True, check=True)
    assert ended.stdout == f"bundle|install|{path}|--unsigned\n"


@pytest.mark.slow
def test_a_version_whose_python_is_gone_is_replaced(shop: Shop, wheels: Path) -> None:
    path = shop.bundle(contents=Contents(shop.contents.model, wheels=wheels))
    first = install(path, [shop.key.public]).version
    install(shop.bundle("two.ecb", 2), [shop.key.public])
    python = environment_python(first.folder / "venv")
    python.unlink()
    python.symlink_to("/nowhere/python3")  # as after an update of the system's Python
    with refusal(ModelError):
        find_installation("till").rollback()
    find_installation("till").switch(first.folder)
    (find_installation("till").newest).unlink()
    assert install(path, [shop.key.public]).version.folder != first.folder


@pytest.mark.slow
def test_incompatible_wheels_are_refused(shop: Shop, wheels: Path, base: Path) -> None:
    install(shop.bundle(contents=Contents(shop.contents.model)), [shop.key.public])
    write_wheel(wheels, "cryptography", tag="cp27-none-any").replace(wheels / "cryptography-1.0-py3-none-any.whl")
    (wheels / "cryptography-1.0-py3-none-any.whl").rename(wheels / "cryptography-1.0-cp27-none-any.whl")
    with refusal(ModelError, "cryptography"):
        install(shop.bundle("two.ecb", 2, contents=Contents(shop.contents.model, wheels=wheels)), [shop.key.public])
    assert [path.name for path in (base / "bundles" / "till" / "versions").glob(".*")] == []
    assert (base / "bundles" / "till" / "current").resolve().name.startswith("1-")


def test_the_wheels_are_listed_with_their_licences(shop: Shop, wheels: Path) -> None:
    path = shop.bundle(contents=Contents(shop.contents.model, wheels=wheels))
    with zipfile.ZipFile(path) as archive:
        listed = json.loads(archive.read("licences/list.cdx.json"))["components"]
        assert archive.read("licences/cryptography-1.0-py3-none-any/licenses/LICENSE") == b"Do what you like.\n"
    packages = {one["name"]: one for one in listed if one["type"] == "library"}
    assert set(packages) == {"ecellm-lite", "cryptography", "pip"}
    assert packages["cryptography"]["licenses"] == [{"license": {"name": "0BSD"}}]
    assert packages["ecellm-lite"]["purl"] == "pkg:pypi/ecellm-lite@1.0"


def test_a_programs_packages_are_listed_with_their_licences(shop: Shop) -> None:
    information = shop.folder / "program" / "lib" / "Some_Thing-2.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Name: Some_Thing\nVersion: 2.0\nLicense: MIT\n", "utf-8")
    (information / "LICENSE").write_text("MIT\n", "utf-8")
    with zipfile.ZipFile(shop.bundle()) as archive:
        listed = json.loads(archive.read("licences/list.cdx.json"))["components"]
        assert archive.read("licences/Some_Thing-2.0/LICENSE") == b"MIT\n"
    assert [(one["name"], one["version"]) for one in listed[1:]] == [("some-thing", "2.0")]


def test_invalid_wheels_are_refused(wheels: Path, shop: Shop) -> None:
    assert (
        project_of("ruamel.yaml_x-1.0-2-cp311-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64.whl") == "ruamel-yaml-x"
    )
    with pytest.raises(UsageError):
        project_of("x.whl")
    (wheels / "cryptography-1.0-py3-none-any.whl").write_bytes(b"PK")
    with refusal(UsageError, "cryptography-1.0"):
        shop.bundle(contents=Contents(shop.contents.model, wheels=wheels))
    for project in ("cryptography", "pip"):
        [path] = wheels.glob(f"{project}-*")
        path.unlink()
        with refusal(UsageError, project, settings=("wheels",)):
            shop.bundle(contents=Contents(shop.contents.model, wheels=wheels))
        write_wheel(wheels, project)
