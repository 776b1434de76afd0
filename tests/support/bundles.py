"""Small bundles for tests. Each has a tiny model, and a shell script in place of the program."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecellm_lite.bundle.contents import Contents, create
from ecellm_lite.bundle.index import Index
from ecellm_lite.bundle.keys import SecretKey, make_key
from ecellm_lite.models.store import Store
from tests.support.tiny_models import write_tiny_model

TASK = """\
name = "routing"
summary = "Send a mail to the right desk."
instruction = "Choose the desk that should answer the mail."
[[fields]]
name = "mail"
[answer]
type = "predicate"
"""


@dataclass(frozen=True, slots=True)
class Shop:
    """A folder with all that a bundle needs: a store with one tiny model, a task, and a program."""

    folder: Path
    store: Store
    key: SecretKey
    contents: Contents

    def bundle(self, name: str = "till.ecb", serial: int = 1, **options: Any) -> Path:
        target = self.folder / name
        self.index(target, serial, **options)
        return target

    def index(self, target: Path, serial: int = 1, **options: Any) -> Index:
        contents = options.pop("contents", self.contents)
        key = options.pop("key", self.key)
        return create(target, contents, self.store, name="till", serial=serial, key=key, **options)

    def say(self, words: str) -> None:
        """Make the bundle's program print these words, whatever its arguments are."""
        write_program(self.folder / "program", words)


def write_program(folder: Path, words: str) -> Path:
    (folder / "lib").mkdir(parents=True, exist_ok=True)
    (folder / "lib" / "data file.txt").write_text("data\n", "utf-8")
    program = folder / "ecellm-lite"
    program.write_text(f"#!/bin/sh\necho '{words}'\n", "utf-8")
    program.chmod(0o755)
    return folder


def make_shop(folder: Path) -> Shop:
    store = Store(folder / "store")
    model = store.add(write_tiny_model(folder / "tiny.gguf"), "tiny:F32", "alpaca", licence="CC0-1.0")
    (folder / "routing.toml").write_text(TASK, "utf-8")
    program = write_program(folder / "program", "one")
    return Shop(folder, store, make_key(), Contents(model, program=program, tasks=[folder / "routing.toml"]))
