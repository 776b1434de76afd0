"""Tests that if two processes write the same model to the store, the second gets an error and nothing is lost."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

import pytest

from ecellm_lite.errors import BusyError, ModelError, UsageError
from ecellm_lite.models import files
from ecellm_lite.models import store as store_room
from ecellm_lite.models.files import copy_file, sha256_of
from ecellm_lite.models.store import Store
from ecellm_lite.models.tuning import Tuning, keep_tuning, read_tuning, this_machine, tuning_path
from tests.support.refusals import refusal
from tests.support.tiny_models import write_tiny_model


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "tiny.gguf")


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "other.gguf", seed=1)


def test_a_second_writer_is_refused(store: Store, gguf: Path, other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = Event(), Event()

    def slow(source: Path, target: Path) -> str:
        begun.set()
        go_on.wait(timeout=30)
        return copy_file(source, target)

    monkeypatch.setattr(files, "copy_file", slow)
    first = Thread(target=store.add, args=(gguf, "shop", "alpaca"))
    first.start()
    begun.wait(timeout=30)
    monkeypatch.setattr(files, "copy_file", copy_file)
    with refusal(BusyError, "'shop'", exit_code=4):
        store.add(other, "shop", "alpaca")
    store.add(other, "another", "alpaca")  # another name is free
    monkeypatch.setattr(store_room, "_PATIENCE", 0.0)
    with pytest.raises(BusyError):
        store.remove("shop")
    go_on.set()
    first.join()
    assert store.load("shop").manifest.sha256 == sha256_of(gguf)
    with refusal(UsageError, "'shop'", settings=("name",)):
        store.add(other, "shop", "alpaca")


@pytest.mark.slow
def test_only_one_of_many_processes_stores_a_model(store: Store, tmp_path: Path) -> None:
    """One process stores a complete model. The other processes get an error."""
    program = """
import sys
from pathlib import Path
from ecellm_lite.cli.main import run_command
sys.exit(run_command(["models", "add", sys.argv[1], "--name", "shop", "--envelope", "alpaca"]))
"""
    files = [write_tiny_model(tmp_path / f"{seed}.gguf", seed=seed) for seed in range(5)]
    environment = {"ECELLM_HOME": str(store.root), "PATH": ""}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(path)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for path in files
    ]
    codes = []
    for process in processes:
        process.communicate(timeout=120)
        codes.append(process.returncode)
    assert sorted(codes)[0] == 0
    assert set(sorted(codes)[1:]) <= {2, 4}, "the name is taken, or about to be"
    assert store.load("shop").manifest.sha256 == sha256_of(files[codes.index(0)])


def test_a_process_that_is_killed_leaves_no_lock(store: Store, gguf: Path) -> None:
    program = """
import sys, time
from pathlib import Path
from ecellm_lite.models.store import Store
with Store(Path(sys.argv[1])).placing("shop"):
    print("locked", flush=True)
    time.sleep(600)
"""
    holding = subprocess.Popen([sys.executable, "-c", program, str(store.root)], stdout=subprocess.PIPE, text=True)
    assert holding.stdout
    assert holding.stdout.readline() == "locked\n"
    with pytest.raises(BusyError):
        store.add(gguf, "shop", "alpaca")
    holding.send_signal(signal.SIGKILL)
    holding.communicate(timeout=30)
    assert store.add(gguf, "shop", "alpaca").path.is_file()


@pytest.mark.parametrize("change", [lambda store, other: None, lambda store, other: store.add(other, "shop", "alpaca")])
def test_measurements_of_a_removed_model_are_not_stored(
    change: Callable[[Store, Path], None], store: Store, gguf: Path, other: Path
) -> None:
    model = store.add(gguf, "shop", "alpaca")
    tuning = Tuning(model.manifest.sha256, this_machine(1), "auto", {"threads": 1})
    keep_tuning(store, model, tuning)
    assert read_tuning(tuning_path(store, model)) == tuning
    store.remove("shop")
    change(store, other)
    with refusal(ModelError, "'shop'"):
        keep_tuning(store, model, tuning)
    assert not tuning_path(store, model).exists()


def test_an_unwritable_store_is_an_error(tmp_path: Path, gguf: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with refusal(ModelError, tmp_path / "file"):
        Store(tmp_path / "file").add(gguf, "shop", "alpaca")
