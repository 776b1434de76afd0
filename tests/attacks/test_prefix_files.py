"""Tests that a file of a saved prefix is not loaded if it is unsafe.

A file is unsafe if it is damaged, truncated, from another model, or writable by others. The prefix is computed again,
and a new file is written.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ecellm_lite import Runtime
from ecellm_lite.answers.text import Text
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.engine.prefix_files import _HEAD, MAGIC, PrefixFiles
from ecellm_lite.engine.request import Request
from ecellm_lite.engine.scheduler import Scheduler
from ecellm_lite.models.store import Store, StoredModel
from tests.engine.test_scheduler import PREFIX, finish, prompts

TOKENS = list(range(40))
STATE = bytes(range(256)) * 20


@pytest.fixture
def files(tmp_path: Path) -> PrefixFiles:
    folder = PrefixFiles(tmp_path / "prefixes", "a model", "here")
    folder.write(TOKENS, STATE)
    return folder


@pytest.fixture
def path(files: PrefixFiles, tmp_path: Path) -> Path:
    [path] = (tmp_path / "prefixes").rglob("*.prefix")
    return path


def test_a_state_survives_a_round_trip(files: PrefixFiles, path: Path, tmp_path: Path) -> None:
    assert files.read(TOKENS) == STATE
    assert files.read(TOKENS[1:]) is None
    assert PrefixFiles(tmp_path / "prefixes", "another model", "here").read(TOKENS) is None
    assert PrefixFiles(tmp_path / "prefixes", "a model", "there").read(TOKENS) is None
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("place", [0, 8, 40, 72, _HEAD.size, -1])
def test_a_flipped_bit_is_refused_and_removed(files: PrefixFiles, path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    assert files.read(TOKENS) is None
    assert not path.exists()


@pytest.mark.parametrize("length", [0, 1, _HEAD.size - 1, _HEAD.size, 1000])
def test_a_cut_file_is_refused_and_removed(files: PrefixFiles, path: Path, length: int) -> None:
    path.write_bytes(path.read_bytes()[:length])
    assert files.read(TOKENS) is None
    assert not path.exists()


def test_a_file_that_grew_is_refused(files: PrefixFiles, path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")
    assert files.read(TOKENS) is None


def test_a_huge_declared_length_allocates_no_memory(files: PrefixFiles, path: Path) -> None:
    key = path.read_bytes()[8:40]
    path.write_bytes(_HEAD.pack(MAGIC, key, hashlib.sha256(b"").digest(), 1 << 60))
    assert files.read(TOKENS) is None


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="this system has no modes")
@pytest.mark.parametrize("mode", [0o602, 0o620, 0o666])
def test_a_file_that_others_may_write_is_refused(files: PrefixFiles, path: Path, mode: int) -> None:
    path.chmod(mode)
    assert files.read(TOKENS) is None
    assert not path.exists()
    files.write(TOKENS, STATE)
    path.parent.chmod(0o777)
    assert files.read(TOKENS) is None
    files.write(TOKENS[1:], STATE)
    assert len(list(path.parent.iterdir())) == 1, "nothing is written where others may write"


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="this system has no links")
def test_a_link_is_not_followed(files: PrefixFiles, path: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    assert files.read(TOKENS) is None
    assert not path.is_symlink()
    assert elsewhere.exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_a_pipe_does_not_block_reading(files: PrefixFiles, path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)
    assert files.read(TOKENS) is None


def test_the_folder_has_a_size_limit(tmp_path: Path) -> None:
    files = PrefixFiles(tmp_path, "a model", "here", most_bytes=3 * (_HEAD.size + len(STATE)))
    tmp_path.chmod(0o700)
    for number in range(4):
        files.write([number], STATE)
        for path in tmp_path.rglob("*.prefix"):
            os.utime(path, ns=(0, path.stat().st_mtime_ns - 10**9))
        files.read([0])
    assert [files.read([number]) is not None for number in range(4)] == [True, False, True, True]
    files.write([9], STATE * 9)
    assert files.read([9]) is None, "what can never fit is not written"


def test_an_unwritable_folder_is_not_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    files = PrefixFiles(tmp_path / "file" / "prefixes", "a model", "here")
    files.write(TOKENS, STATE)
    assert files.read(TOKENS) is None


def test_a_saved_instruction_is_not_computed_again(tmp_path: Path) -> None:
    files = PrefixFiles(tmp_path / "prefixes", "the fake", "here")
    computed = []
    outcomes = []
    for _ in range(3):
        backend = FakeBackend()
        request = Request(prompts([30])[0], len(PREFIX), Text(4), storable=True)
        finish(Scheduler(backend, files=files), [request])
        computed.append(backend.decoded)
        outcomes.append(request.outcome)
        assert request.cached == (0 if len(computed) == 1 else len(PREFIX))
    assert computed[1] == computed[2] == computed[0] - len(PREFIX)
    assert outcomes[0] == outcomes[1] == outcomes[2]


def test_a_state_that_cannot_be_loaded_is_computed_again(tmp_path: Path) -> None:
    files = PrefixFiles(tmp_path / "prefixes", "the fake", "here")
    files.write(PREFIX, b"123")  # complete and ours, but not a state of this backend
    request = Request(prompts([30])[0], len(PREFIX), Text(4), storable=True)
    finish(Scheduler(FakeBackend(), files=files), [request])
    assert request.outcome
    assert request.cached == 0
    assert files.read(PREFIX) != b"123"


def test_customers_texts_never_reach_the_disk(tmp_path: Path) -> None:
    secret = b"my name is on this order"
    rows = [[*PREFIX, *secret, *b" and more of it %d" % n] for n in range(20)]
    files = PrefixFiles(tmp_path / "prefixes", "the fake", "here")
    finish(Scheduler(FakeBackend(), files=files), [Request(row, len(PREFIX), Text(4), storable=True) for row in rows])
    [path] = (tmp_path / "prefixes").rglob("*.prefix")
    state = path.read_bytes()[_HEAD.size :]
    assert bytes(state[::4]) == bytes(PREFIX)


def test_an_instruction_from_a_row_never_reaches_the_disk(tmp_path: Path) -> None:
    rows = [
        {
            "instruction": f"Order {n} of Ann Example: how does she feel about it, and why so?",
            "input": "fine",
            "options": None,
        }
        for n in range(3)
    ]
    files = PrefixFiles(tmp_path / "prefixes", "the fake", "here")
    with Runtime.over(FakeBackend(), files=files) as runtime:
        answers = list(runtime.answers("answer_generation", rows))
        assert not any(answer.error for answer in answers)
        assert not (tmp_path / "prefixes").exists()
        runtime.answer("answer_generation", {"question": "Is it?", "documents": ["It is."]})
    assert len(list((tmp_path / "prefixes").rglob("*.prefix"))) == 1


SCRIPT = """
import json, sys
from ecellm_lite import Runtime
with Runtime("demo", deterministic=True) as runtime:
    for _ in range(3):
        answer = runtime.answer("product_matching", {"product_1": {"title": "a"}, "product_2": {"title": "b"}})
print(json.dumps(answer.as_dict()))
"""


@pytest.mark.slow
def test_concurrent_processes_never_load_a_damaged_state(demo_model: StoredModel) -> None:
    """Four processes with the real engine use the same file, which holds the saved state of an instruction."""

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, text=True)

    def end(process: subprocess.Popen[str]) -> str:
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0
        return output

    def paths() -> list[Path]:
        return sorted(Store().states.rglob("*.prefix"))

    for path in paths():
        path.unlink()
    answers = {end(process) for process in [start() for _ in range(4)]}
    [path] = paths()
    whole = path.read_bytes()
    for damaged in (whole[:-1000], whole[: len(whole) // 2] + bytes(64) + whole[len(whole) // 2 + 64 :], b""):
        path.write_bytes(damaged)
        answers.add(end(start()))
        assert paths() == [path]
        assert path.read_bytes() == whole, "it was made anew, the same to the byte"
    assert len(answers) == 1


def test_the_real_engine_reads_its_saved_instruction(demo_model: StoredModel) -> None:
    row = {"query": "rain jacket", "title": "umbrella"}
    seen = []
    for _ in range(2):
        with Runtime(demo_model.path, envelope="alpaca") as runtime:
            answer = runtime.answer("product_substitute_identification", row)
            assert answer.usage is not None
            seen.append((answer.usage.cached_tokens, round(answer.probability or 0, 3)))
    assert (seen[1][0] or 0) > 40
    assert seen[0][1] == seen[1][1]
