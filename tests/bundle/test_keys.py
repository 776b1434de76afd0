"""Tests that the keys for signing bundles are written and read.

A damaged key file is refused, and so is a secret key file that other users may read.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from ecellm_lite.bundle import keys
from ecellm_lite.bundle.signature import sign, verify
from ecellm_lite.cli.main import run_command
from ecellm_lite.errors import ModelError, UsageError
from tests.support.commands import refused
from tests.support.refusals import refusal

pytest.importorskip("cryptography", reason="the extra 'bundle' is not installed")


def test_keys_survive_a_round_trip(tmp_path: Path) -> None:
    secret = keys.make_key()
    secret.write(tmp_path / "a.key")
    secret.public.write(tmp_path / "a.pub")
    assert stat.S_IMODE((tmp_path / "a.key").stat().st_mode) == 0o600
    assert keys.read_secret_key(tmp_path / "a.key") == secret
    assert keys.read_public_key(tmp_path / "a.pub") == secret.public
    with refusal(UsageError, "a.key"):
        secret.write(tmp_path / "a.key")


def test_invalid_keys_are_refused(tmp_path: Path) -> None:
    secret = keys.make_key()
    path = tmp_path / "a.key"
    secret.write(path)
    text = path.read_text("utf-8")
    path.chmod(0o640)
    with refusal(ModelError, "640"):
        keys.read_secret_key(path)
    path.chmod(0o600)
    secret.public.write(tmp_path / "a.pub")
    with refusal(ModelError, "a.pub", ".key"):
        keys.read_secret_key(tmp_path / "a.pub")
    (tmp_path / "a.pub").unlink()
    for position in range(len(text) - 60, len(text) - 1, 7):  # in the secret's and the checksum's bytes
        letter = "A" if text[position] != "A" else "B"
        path.write_text(text[:position] + letter + text[position + 1 :], "utf-8")
        with pytest.raises(ModelError):
            keys.read_secret_key(path)
    for name in ("a.key", "absent.pub"):
        with pytest.raises(ModelError):
            keys.read_public_key(tmp_path / name)


def test_a_signature_covers_the_data_and_the_comment() -> None:
    secret, other = keys.make_key(), keys.make_key()
    text = sign(b"data", secret, "serial 1")
    assert verify(b"data", text, [other.public, secret.public], "x") == secret.public
    for data, signature, trusted in (
        (b"date", text, [secret.public]),
        (b"data", text.replace(b"serial 1", b"serial 2"), [secret.public]),
        (b"data", text, [other.public]),
        (b"data", text, []),
        (b"data", text, [keys.PublicKey(secret.public.id, other.public.key)]),
        (b"data", text + b"\n", [secret.public]),
    ):
        with pytest.raises(ModelError):
            verify(data, signature, trusted, "x")


def test_trusted_keys_are_kept(tmp_path: Path) -> None:
    secret = keys.make_key()
    assert keys.trusted_keys(tmp_path) == []
    keys.trust(secret.public, tmp_path)
    assert keys.trusted_keys(tmp_path) == [secret.public]


@pytest.mark.parametrize("kind", [keys.SecretKey, keys.PublicKey])
def test_a_pair_that_could_not_be_written_is_made_again(kind: type, tmp_path: Path) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "write", full)
        assert run_command(["bundle", "keygen", str(tmp_path / "a")]) == 3
    assert not (tmp_path / "a.key").exists()
    assert run_command(["bundle", "keygen", str(tmp_path / "a")]) == 0
    secret = keys.read_secret_key(tmp_path / "a.key")
    assert keys.read_public_key(tmp_path / "a.pub") == secret.public
    assert run_command(["bundle", "keygen", str(tmp_path / "a")]) == 2
    assert keys.read_public_key(tmp_path / "a.pub") == secret.public


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_keys_need_a_name(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert repr(name or ".") in refused(capsys, 2, "bundle", "keygen", name)


def test_keys_that_cannot_be_written_are_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    assert "file/shop" in refused(capsys, 3, "bundle", "keygen", str(tmp_path / "file" / "shop"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipes_are_neither_keys_nor_bundles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody writes into the pipe, so reading from it would not end."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    keys.make_key().public.write(tmp_path / "a.pub")
    assert str(pipe) in refused(capsys, 4, "bundle", "verify", str(pipe), "--unsigned")
    assert str(pipe) in refused(capsys, 4, "bundle", "verify", str(tmp_path / "a.ecb"), "--key", str(pipe))
    with refusal(ModelError, pipe):
        keys.read_secret_key(pipe)
