"""Ed25519 keys in minisign's format: a secret key to sign with, and the public keys that this user trusts.

https://jedisct1.github.io/minisign describes the format. Secret keys are stored unencrypted, readable by their owner
alone. The command `minisign -G -W` also writes such keys. Trusted public keys are in the folder `keys` beside the
installed bundles.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ecellm_lite.documents import regular_opener
from ecellm_lite.errors import ModelError, UsageError
from ecellm_lite.home import bundle_home
from ecellm_lite.models.files import replacing

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

LARGEST = 1 << 12  # bytes, of a file with a key
_ALGORITHM = b"Ed"
_PUBLIC_SIZE = 42  # bytes of a public key's line: the algorithm, the id and the key
_NO_ENCRYPTION = b"\0\0" + b"B2" + bytes(48)  # no function for a passphrase, checksum by BLAKE2b, no salt and limits


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key: its id of 8 bytes, and the key itself of 32 bytes."""

    id: bytes
    key: bytes

    @property
    def name(self) -> str:
        """The key's id as minisign writes it: 16 hexadecimal digits."""
        return self.id[::-1].hex().upper()

    def encode(self) -> str:
        """Return the key as one line of base64."""
        return base64.b64encode(_ALGORITHM + self.id + self.key).decode()

    def write(self, path: Path) -> None:
        """Write the key to a file in minisign's format."""
        with replacing(path) as temporary:
            temporary.write_text(f"untrusted comment: minisign public key {self.name}\n{self.encode()}\n", "utf-8")

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Return whether the signature (64 bytes) was made from `data` with the secret key that belongs to this key."""
        from cryptography.exceptions import InvalidSignature

        try:
            _ed25519_public(self.key).verify(signature, data)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True, repr=False)
class SecretKey:
    """A secret key. `seed` has 32 bytes, from which the key pair is computed."""

    public: PublicKey
    seed: bytes

    def sign(self, data: bytes) -> bytes:
        """Sign `data`, and return the signature (64 bytes)."""
        return _ed25519_secret(self.seed).sign(data)

    def write(self, path: Path) -> None:
        """Write the key to a new file in minisign's format, unencrypted and readable by the user alone.

        Raises UsageError if the file exists.
        """
        if path.exists():
            raise UsageError(f"{path} exists, and a key that is overwritten is lost", step="choose another name")
        body = self.public.id + self.seed + self.public.key
        checksum = hashlib.blake2b(_ALGORITHM + body, digest_size=32).digest()
        text = base64.b64encode(_ALGORITHM + _NO_ENCRYPTION + body + checksum).decode()
        with replacing(path, private=True) as temporary:
            temporary.write_text(f"untrusted comment: minisign secret key {self.public.name}\n{text}\n", "utf-8")


def make_key() -> SecretKey:
    """Return a new secret key."""
    seed = secrets.token_bytes(32)
    return SecretKey(PublicKey(secrets.token_bytes(8), _public_bytes(seed)), seed)


def read_public_key(path: Path) -> PublicKey:
    """Return the public key in a file. Raises ModelError if the file has no key."""
    return parse_public_key(_text(path), str(path))


def parse_public_key(text: str, place: str) -> PublicKey:
    """Return the public key in `text`: either a whole key file, or only the key file's line of base64.

    `place`: where the text comes from, for the error message. Raises ModelError if the text is not a key.
    """
    data = _decoded(text)
    if len(data) != _PUBLIC_SIZE or data[:2] != _ALGORITHM:
        raise ModelError(f"{place[:200]} is not a public key", step="give a file that `bundle keygen` wrote")
    return PublicKey(data[2:10], data[10:])


def read_secret_key(path: Path) -> SecretKey:
    """Return the secret key in a file. Raises ModelError if it is damaged, encrypted, or readable by others."""
    data = _decoded(_text(path))
    if len(data) == _PUBLIC_SIZE and data[:2] == _ALGORITHM:
        raise ModelError(f"{path} is the public key", step="give the secret key, whose name ends in .key")
    if len(data) != 158 or data[:2] != _ALGORITHM:
        raise ModelError(f"{path} is not a secret key", step="give a file that `bundle keygen` wrote")
    if os.name == "posix" and (mode := stat.S_IMODE(path.stat().st_mode)) & 0o077:
        raise ModelError(f"Others may read the secret key {path} (mode {mode:o})", step=f"chmod 600 {path}")
    if data[2:4] != _NO_ENCRYPTION[:2]:
        raise ModelError(f"The secret key {path} is encrypted", step="make one with `bundle keygen`")
    body, checksum = data[54:126], data[126:]
    secret = SecretKey(PublicKey(body[:8], body[40:]), body[8:40])
    right = hashlib.blake2b(_ALGORITHM + body, digest_size=32).digest()
    if checksum != right or _public_bytes(secret.seed) != secret.public.key:
        raise ModelError(f"The secret key {path} is damaged", step="use a copy of it")
    return secret


def trusted_keys(base: Path | None = None) -> Sequence[PublicKey]:
    """Return the public keys that the user trusts, from the folder keys/ in `base`.

    The default for `base` is the folder for bundles.
    """
    return [read_public_key(path) for path in sorted(_folder(base).glob("*.pub"))]


def keys_for(path: Path | None, base: Path | None = None) -> Sequence[PublicKey]:
    """Return the public key in the file at `path`. If `path` is None, return all keys that the user trusts.

    `base`: the folder whose subfolder keys/ has the trusted keys. By default, the folder for bundles.
    """
    return [read_public_key(path)] if path else trusted_keys(base)


def trust(key: PublicKey, base: Path | None = None) -> Path:
    """Add a key to the keys that the user trusts. Return the path of its new file, which is under `base`."""
    path = _folder(base) / f"{key.name}.pub"
    key.write(path)
    return path


def _folder(base: Path | None) -> Path:
    return (base or bundle_home()) / "keys"


def _text(path: Path) -> str:
    try:
        with open(path, "rb", opener=regular_opener) as file:
            return file.read(LARGEST).decode("utf-8", "replace")
    except OSError as error:
        raise ModelError(f"The key {path} cannot be read ({error.strerror})", step="check its path") from None


def _decoded(text: str) -> bytes:
    """Decode the last line of `text` as base64. Return empty bytes if it is not base64."""
    lines = text.strip().splitlines()
    try:
        return base64.b64decode(lines[-1].strip(), validate=True) if lines else b""
    except (binascii.Error, ValueError):
        return b""


def _public_bytes(seed: bytes) -> bytes:
    return _ed25519_secret(seed).public_key().public_bytes_raw()


def _ed25519_secret(seed: bytes) -> Ed25519PrivateKey:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError:
        raise _missing() from None
    return Ed25519PrivateKey.from_private_bytes(seed)


def _ed25519_public(key: bytes) -> Ed25519PublicKey:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        raise _missing() from None
    return Ed25519PublicKey.from_public_bytes(key)


def _missing() -> UsageError:
    return UsageError("Signatures need the package cryptography", step="pip install 'ecellm-lite[bundle]'")
