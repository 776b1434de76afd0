"""Tests that own tasks are added to the store and removed, each with the files that it names and no others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ecellm_lite.cli.main import run_command
from ecellm_lite.errors import InputError, UsageError
from ecellm_lite.provision.own_tasks import add_task, remove_task
from ecellm_lite.tasks.custom import files_beside
from ecellm_lite.tasks.registry import get_task, own_files
from tests.support.refusals import refusal

TASK = """\
name = "NAME"
summary = "Say of what kind a product is."
instruction = "Write the kind of the product."
examples = { file = "NAME/examples.jsonl" }
[[fields]]
name = "product"
[answer]
type = "choice"
labels = { file = "./labels.txt" }
"""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ECELLM_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "tasks"


def write(folder: Path, name: str = "kind", labels: str = "Toys\nLamps\n") -> Path:
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "examples.jsonl").write_text('{"product": "A lamp", "output": "Lamps"}\n', "utf-8")
    (folder / "labels.txt").write_text(labels, "utf-8")
    path = folder / f"any {name}.toml"
    path.write_text(TASK.replace("NAME", name), "utf-8")
    return path


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_task_is_added_with_its_files_and_removed_with_them(store: Path, tmp_path: Path) -> None:
    task = add_task(write(tmp_path / "shop"))
    assert (task.name, task.source) == ("kind", store / "kind.toml")
    assert files(store) == {"kind.toml", "labels.txt", "kind/examples.jsonl"}
    assert get_task("kind").answers == task.answers
    assert add_task(tmp_path / "shop" / "any kind.toml").name == "kind"  # the same file again changes nothing
    add_task(write(tmp_path / "shop", "other"))
    remove_task("kind")
    assert files(store) == {"other.toml", "labels.txt", "other/examples.jsonl"}
    assert get_task("other").examples
    remove_task("other")
    assert files(store) == set()


def test_files_in_a_linked_folder_are_not_removed(store: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "shop")
    store.mkdir(parents=True)
    (store / "kind").symlink_to(tmp_path / "shop" / "kind")
    add_task(path)
    remove_task("kind")
    assert (tmp_path / "shop" / "kind" / "examples.jsonl").is_file()
    assert not (store / "kind.toml").exists()


def test_a_task_is_replaced_only_on_demand(store: Path, tmp_path: Path) -> None:
    add_task(write(tmp_path / "shop"))
    newer = write(tmp_path / "newer", labels="Toys\nLamps\nMugs\n")
    with refusal(UsageError, "labels.txt", settings=("replace",)):
        add_task(newer)
    assert (store / "labels.txt").read_text("utf-8") == "Toys\nLamps\n"
    add_task(newer, replace=True)
    assert (store / "labels.txt").read_text("utf-8") == "Toys\nLamps\nMugs\n"


def test_a_file_of_another_task_is_never_replaced(store: Path, tmp_path: Path) -> None:
    add_task(write(tmp_path / "shop"))
    with refusal(UsageError, "kind", "labels.txt"):
        add_task(write(tmp_path / "newer", "other", labels="Lamps\nMugs\n"), replace=True)
    assert files(store) == {"kind.toml", "labels.txt", "kind/examples.jsonl"}
    assert (store / "labels.txt").read_text("utf-8") == "Toys\nLamps\n"


def test_an_invalid_task_is_not_added_but_can_be_removed(store: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "shop")
    path.write_text(path.read_text("utf-8").replace("choice", "choise"), "utf-8")
    with pytest.raises(InputError) as raised:
        add_task(path)
    assert raised.value.field == "answer.type"
    assert not store.exists()
    add_task(write(tmp_path / "shop"))
    (store / "kind.toml").write_text("name = 3", "utf-8")
    assert remove_task("kind") == [store / "kind.toml"]
    for name in ("kind", "sentiment_analysis", "../shop/any kind"):
        with pytest.raises(UsageError):
            remove_task(name)


def test_a_field_named_file_is_no_file(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    task = 'name = "own"\nsummary = "S."\ninstruction = "I."\n[[fields]]\nname = "file"\n[answer]\ntype = "predicate"\n'
    path.write_text(task + '[[examples]]\ninput = { file = "a.txt" }\noutput = "yes"\n', "utf-8")
    assert files_beside(path) == []


def test_the_commands_add_list_and_remove(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(write(tmp_path / "shop"))
    assert run_command(["tasks", "add", path]) == 0
    capsys.readouterr()
    for arguments in (["kind", "--json"], ["--json", "kind"], ["list", "kind", "--json"], [path, "--json"]):
        assert run_command(["tasks", *arguments]) == 0
        assert json.loads(capsys.readouterr().out)["name"] == "kind"
    for arguments in ([], ["list"]):
        assert run_command(["tasks", *arguments]) == 0
        assert "kind" in capsys.readouterr().out
    write(tmp_path / "shop", labels="Mugs\nLamps\n")
    assert run_command(["tasks", "add", path]) == 2
    assert "--replace" in capsys.readouterr().err
    assert run_command(["tasks", "add", path, "--replace"]) == 0
    assert run_command(["tasks", "remove", "kind"]) == 0
    assert own_files() == {}
