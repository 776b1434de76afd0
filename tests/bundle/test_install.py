"""Tests that an ordinary user can install several versions of a bundle, and can go back to an earlier one."""

from __future__ import annotations

import json
import subprocess
import zipfile
from pathlib import Path

import pytest

from ecellm_lite.bundle import pointer
from ecellm_lite.bundle.contents import Contents
from ecellm_lite.bundle.install import install
from ecellm_lite.bundle.installation import Installation, find_installation
from ecellm_lite.bundle.launcher import HOME, write_command
from ecellm_lite.cli.main import run_command
from ecellm_lite.errors import ModelError, UsageError
from ecellm_lite.models.store import Store
from tests.support.bundles import TASK, Shop, write_program
from tests.support.commands import answered, refused
from tests.support.refusals import refusal


def said(command: Path) -> str:
    return subprocess.run([command], capture_output=True, text=True, check=True).stdout.strip()


def test_versions_are_installed_in_turn_and_rolled_back(shop: Shop, base: Path) -> None:
    trusted = [shop.key.public]
    command = base / "bundles" / "till" / "current" / "ecellm-lite"
    for serial, words in ((1, "one"), (2, "two"), (3, "three")):
        shop.say(words)
        installed = install(shop.bundle(f"{serial}.ecb", serial), trusted)
        assert (installed.command, installed.version.index.serial, said(command)) == (command, serial, words)
    installation = find_installation(None)
    assert [version.index.serial for version in installation.versions()] == [2, 3]
    assert installation.rollback().index.serial == 2
    assert said(command) == "two"
    with refusal(ModelError, "till"):
        installation.rollback()
    install(shop.folder / "3.ecb", trusted)
    assert said(command) == "three"
    with refusal(ModelError, "2", "3"):
        install(shop.folder / "2.ecb", trusted)
    shop.say("another three")
    with refusal(ModelError, "3"):
        install(shop.bundle("other.ecb", 3), trusted)
    assert said(command) == "three"


def test_the_version_has_its_own_store(shop: Shop) -> None:
    version = install(shop.bundle(), [shop.key.public]).version
    store = Store(version.folder / HOME)
    assert store.load("tiny:F32").manifest.sha256 == shop.contents.model.manifest.sha256
    assert (version.folder / HOME / "tasks" / "routing.toml").is_file()
    version.check()


def test_a_delta_needs_its_base(shop: Shop, base: Path) -> None:
    trusted = [shop.key.public]
    old = shop.bundle("old.ecb", 1)
    shop.say("two")
    delta = shop.bundle("delta.ecb", 2, since=old)
    with refusal(ModelError, "delta.ecb"):
        install(delta, trusted)
    installed = install(old, trusted).version
    install(delta, trusted)
    assert said(base / "bundles" / "till" / "current" / "ecellm-lite") == "two"
    find_installation("till").current().check()  # type: ignore[union-attr]

    find_installation("till").rollback()
    (base / "bundles" / "till" / "newest.json").unlink()
    shop.say("three")
    damaged = installed.folder / HOME / "models" / "tiny--F32" / "model.gguf"
    data = bytearray(damaged.read_bytes())
    data[-1] ^= 1
    damaged.write_bytes(data)
    with refusal(ModelError, "model.gguf"):
        install(shop.bundle("delta2.ecb", 4, since=old), trusted)
    assert said(base / "bundles" / "till" / "current" / "ecellm-lite") == "one"


def test_a_program_that_does_not_start_is_not_installed(shop: Shop, base: Path) -> None:
    install(shop.bundle(), [shop.key.public])
    (shop.folder / "program" / "ecellm-lite").write_text("#!/bin/sh\necho no >&2\nexit 3\n", "utf-8")
    with refusal(ModelError, "no"):
        install(shop.bundle("bad.ecb", 2), [shop.key.public])
    report = json.dumps({"checks": [{"name": "llama.cpp", "state": "bad", "finding": "no code for this processor"}]})
    (shop.folder / "program" / "ecellm-lite").write_text(f"#!/bin/sh\necho '{report}'\nexit 1\n", "utf-8")
    with refusal(ModelError, "no code for this processor"):
        install(shop.bundle("worse.ecb", 3), [shop.key.public])
    assert said(base / "bundles" / "till" / "current" / "ecellm-lite") == "one"
    assert [path.name for path in (base / "bundles" / "till" / "versions").glob(".*")] == []


def test_a_version_that_no_longer_starts_is_not_rolled_back_to(shop: Shop, base: Path, tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.touch()
    (shop.folder / "program" / "ecellm-lite").write_text(f"#!/bin/sh\ntest -e '{library}' || exit 3\n", "utf-8")
    old = shop.bundle("1.ecb", 1)
    first = install(old, [shop.key.public]).version
    shop.say("two")
    second = install(shop.bundle("2.ecb", 2), [shop.key.public]).version
    library.unlink()
    installation = find_installation(None)
    with refusal(ModelError, "3"):
        installation.rollback()
    assert installation.current() == second
    library.touch()
    assert installation.rollback() == first


def test_a_program_for_another_machine_is_refused(shop: Shop, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = shop.bundle()
    monkeypatch.setattr("ecellm_lite.bundle.contents.machine.machine", lambda: "sparc")
    with refusal(ModelError, "sparc"):
        install(path, [shop.key.public])
    assert not base.exists()


def test_a_damaged_version_is_replaced(shop: Shop, base: Path) -> None:
    path, trusted = shop.bundle(), [shop.key.public]
    first = install(path, trusted).version
    (first.folder / "program" / "lib" / "data file.txt").write_text("date\n", "utf-8")
    second = install(path, trusted).version
    assert second.folder != first.folder
    second.check()
    assert [version.folder for version in find_installation("till").versions()] == [second.folder]


def test_the_bundles_script_starts_its_installer(shop: Shop, base: Path, tmp_path: Path) -> None:
    program = shop.folder / "program" / "ecellm-lite"
    program.write_text('#!/bin/sh\ncat "${0%/*}/lib/data file.txt"\nprintf "%s|" "$@"\n', "utf-8")
    path = shop.bundle("my till.ecb")
    ended = subprocess.run(["sh", path.name, "--key", "a b.pub"], cwd=path.parent, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, f"data\nbundle|install|{path}|--key|a b.pub|"), ended.stderr
    data = bytearray(path.read_bytes())
    data[data.rindex(b"data\n")] ^= 1
    path.write_bytes(data)
    ended = subprocess.run(["sh", path, "--key", "shop.pub"], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (4, "")
    program.write_text("#!/bin/sh\nexit 7\n", "utf-8")
    assert subprocess.run(["sh", shop.bundle("bad.ecb")], check=False).returncode == 7


@pytest.mark.parametrize("kind", ["model alone", "delta"])
def test_the_script_of_a_bundle_that_cannot_install_itself_ends_with_a_sentence(kind: str, shop: Shop) -> None:
    contents = Contents(shop.contents.model)
    path = shop.bundle(contents=contents) if kind == "model alone" else shop.bundle("2.ecb", 2, since=shop.bundle())
    ended = subprocess.run(["sh", path, "--key", "shop.pub"], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, len(ended.stderr.splitlines())) == (2, "", 1)
    assert str(path) in ended.stderr
    assert zipfile.ZipFile(path).testzip() is None


def test_a_bundle_without_a_script_is_installed(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Older bundles that have only a model begin with the archive. There is no script in front of it."""
    monkeypatch.setattr("ecellm_lite.bundle.writer.starter_of", lambda index, offsets: b"")
    path = shop.bundle(contents=Contents(shop.contents.model))
    assert path.read_bytes().startswith(b"PK")
    assert install(path, [shop.key.public]).version.index.starter is None


def test_the_commands_create_verify_and_install_a_bundle(
    shop: Shop, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, model = str(tmp_path / "till.ecb"), str(shop.contents.model.path)
    assert run_command(["bundle", "keygen", str(tmp_path / "shop")]) == 0
    secret, public = str(tmp_path / "shop.key"), str(tmp_path / "shop.pub")
    create = ["bundle", "create", "--output", path, "--model", "tiny:F32", "--sign", secret, "--serial", "7"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ECELLM_HOME", str(shop.store.root))
        assert run_command(create) == 0
    assert model
    capsys.readouterr()
    assert "--key" in refused(capsys, 4, "bundle", "verify", path)
    assert "--key" in refused(capsys, 4, "bundle", "install", path)
    facts = answered(capsys, "bundle", "verify", path, "--key", public, "--json")
    assert (facts["name"], facts["serial"], facts["model"]) == ("till", 7, "tiny:F32")
    assert run_command(["bundle", "install", path, "--key", public]) == 0
    assert run_command(["bundle", "verify", path]) == 0  # the key is trusted now
    capsys.readouterr()
    refused(capsys, 4, "bundle", "rollback")
    refused(capsys, 2, "bundle", "rollback", "other")
    refused(capsys, 4, "bundle", "verify", str(tmp_path / "absent.ecb"))


def test_own_tasks_of_the_store_go_along(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ECELLM_HOME", str(shop.store.root))
    tasks = shop.store.root / "tasks"
    tasks.mkdir()
    for name in ("desk", "kind"):
        (tasks / f"{name}.toml").write_text(TASK.replace("routing", name), "utf-8")
    create = ["bundle", "create", "--model", "tiny:F32", "--name", "till"]

    def named(file: str, *options: str) -> list[str]:
        path = str(shop.folder / file)
        assert run_command([*create, "--output", path, *options]) == 0
        assert "kind" in capsys.readouterr().out
        facts = answered(capsys, "bundle", "verify", path, "--unsigned", "--json")
        assert run_command(["bundle", "install", path, "--unsigned"]) == 0
        installed = find_installation("till").current()
        assert installed
        assert sorted(path.stem for path in (installed.folder / "home/tasks").iterdir()) == facts["own_tasks"]
        capsys.readouterr()
        return list(facts["own_tasks"])

    assert named("one.ecb", "--serial", "1") == ["desk", "kind"]
    (tasks / "later.toml").write_text(TASK.replace("routing", "later"), "utf-8")
    since = ["--serial", "2", "--since", str(shop.folder / "one.ecb")]
    assert named("two.ecb", *since) == ["desk", "kind", "later"]
    chosen = ["--task", "kind", "--task", str(shop.folder / "routing.toml"), "--task", "sentiment_analysis"]
    assert named("three.ecb", "--serial", "3", *chosen) == ["kind", "routing"]
    (shop.folder / "kind.toml").write_text(TASK.replace("routing", "kind") + "# another\n", "utf-8")
    clash = ["--task", "kind", "--task", str(shop.folder / "kind.toml")]
    refused(capsys, 2, *create, "--output", str(shop.folder / "four.ecb"), *clash)
    (tasks / "later.toml").write_text("name = 3", "utf-8")
    refused(capsys, 3, *create, "--output", str(shop.folder / "four.ecb"))


def test_unsigned_bundles_need_the_option_unsigned(shop: Shop, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(shop.bundle(key=None))
    assert "--unsigned" in refused(capsys, 4, "bundle", "verify", path)
    assert "--unsigned" in refused(capsys, 4, "bundle", "install", path)
    assert run_command(["bundle", "verify", path, "--unsigned"]) == 0
    assert run_command(["bundle", "install", path, "--unsigned"]) == 0


def test_choosing_without_an_installed_bundle_is_refused(shop: Shop) -> None:
    with pytest.raises(UsageError):
        find_installation(None)


def test_the_pointer_file_for_windows_works(tmp_path: Path, shop: Shop) -> None:
    """The code for Windows runs here on a Unix file system. It was never run on Windows."""
    assert pointer.read_file(tmp_path) is None
    for name in ("1-aaaaaaaaaaaa", "2-bbbbbbbbbbbb"):
        pointer.write_file(tmp_path, name)
        assert pointer.read_file(tmp_path) == name
    (tmp_path / pointer.FILE).write_text("../other", "utf-8")
    assert pointer.read_file(tmp_path) is None
    script = write_command(tmp_path, tmp_path).read_bytes()
    assert b"current.txt" in script
    assert script.count(b"\r\n") == script.count(b"\n")


def test_a_damaged_file_of_the_newest_serial_is_refused(shop: Shop, base: Path) -> None:
    install(shop.bundle(), [shop.key.public])
    newest = base / "bundles" / "till" / "newest.json"
    assert json.loads(newest.read_text("utf-8"))["serial"] == 1
    newest.write_text("{}", "utf-8")
    with refusal(ModelError, "newest.json"):
        install(shop.bundle("two.ecb", 2), [shop.key.public])


def test_a_bundle_of_a_model_alone_is_installed(shop: Shop, base: Path) -> None:
    version = install(shop.bundle(contents=Contents(shop.contents.model)), [shop.key.public]).version
    assert Installation("till").current() == version


def test_a_bundle_without_a_program_starts_the_one_that_installed_it(
    shop: Shop, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = Contents(shop.contents.model)
    bare = {"PATH": "/usr/bin:/bin"}

    def start(command: Path, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        path = bare if folder is None else {"PATH": f"{folder}:/usr/bin:/bin"}
        return subprocess.run(
            [command, "models", "list", "--json"], env=path, capture_output=True, text=True, timeout=60
        )

    command = install(shop.bundle(contents=contents), [shop.key.public]).command
    assert [model["name"] for model in json.loads(start(command).stdout)["store"]] == ["tiny:F32"]
    monkeypatch.setattr("sys.executable", str(tmp_path / "it's gone"))
    command = install(shop.bundle("two.ecb", 2, contents=contents), [shop.key.public]).command
    ended = start(command)
    assert (ended.returncode, ended.stdout, len(ended.stderr.splitlines())) == (127, "", 1)
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "ecellm-lite").symlink_to(command)
    assert start(tmp_path / "links" / "ecellm-lite", tmp_path / "links").returncode == 127
    on_path = write_program(tmp_path / "on path", "it starts")
    assert start(command, on_path).stdout == "it starts\n"
    monkeypatch.undo()
    monkeypatch.setenv("ECELLM_BUNDLES", str(base))
    monkeypatch.setattr("ecellm_lite.bundle.launcher.__file__", str(tmp_path / "uninstalled.py"))
    command = install(shop.bundle("three.ecb", 3, contents=contents), [shop.key.public]).command
    assert start(command, on_path).stdout == "it starts\n"
