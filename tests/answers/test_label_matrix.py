"""Tests the cache of label matrices (the tokens of sets of labels): what the cache drops, and thread safety."""

from __future__ import annotations

import threading

import pytest

from ecellm_lite.answers import label_matrix as module
from ecellm_lite.answers.candidates import Candidates
from ecellm_lite.answers.decoding import Scene
from ecellm_lite.engine.fake import FakeVocabulary
from tests.support.gated import PATIENCE


def matrix(digest: str, scene: Scene) -> Candidates:
    return module.label_matrix(digest, [f"{digest} 1", f"{digest} 2"], scene)


@pytest.mark.parametrize(("name", "number"), [("SETS", 2), ("LABELS", 4)])
def test_the_least_recently_used_matrix_is_forgotten(name: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, name, number)
    scene = Scene(FakeVocabulary(), 100)
    used, unused = matrix("a", scene), matrix("b", scene)
    assert matrix("a", scene) is used
    matrix("c", scene)
    assert matrix("a", scene) is used
    assert matrix("b", scene) is not unused


def test_a_single_set_may_have_more_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LABELS", 1)
    scene = Scene(FakeVocabulary(), 100)
    assert matrix("a", scene) is matrix("a", scene)


def test_threads_get_whole_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SETS", 1)
    scene = Scene(FakeVocabulary(), 100)
    sizes: list[int] = []

    def call() -> None:
        sizes.extend(len(matrix(str(number % 5), scene).order) for number in range(100))

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert sizes == [2] * 400
