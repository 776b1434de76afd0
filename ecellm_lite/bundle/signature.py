"""Signs a file in minisign's format, so that `minisign -V` can check the signature too.

A signature file has two signatures and a comment, which minisign shows to the user. The first signature is made from
the file's BLAKE2b hash. The second is made from the first signature and the comment, so neither can be replaced alone.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence

from ecellm_lite.bundle.keys import PublicKey, SecretKey
from ecellm_lite.errors import ModelError

LARGEST = 1 << 12  # bytes
_PREHASHED = b"ED"
_TRUSTED = "trusted comment: "


def sign(data: bytes, key: SecretKey, comment: str) -> bytes:
    """Return the text of a signature file for `data`. `comment` is one line, which is signed too."""
    signature = key.sign(_hash(data))
    of_both = key.sign(signature + comment.encode("utf-8"))
    lines = (
        _untrusted(key.public),
        _base64(_PREHASHED + key.public.id + signature),
        f"{_TRUSTED}{comment}",
        _base64(of_both),
    )
    return "".join(f"{line}\n" for line in lines).encode("utf-8")


def verify(data: bytes, text: bytes, keys: Sequence[PublicKey], what: str) -> PublicKey:
    """Return the key that made the signature. Raises ModelError if it was not one of `keys`.

    `text`: the contents of the signature file. `what`: the name of `data` in error messages.
    """
    try:
        lines = text.decode("utf-8").splitlines()
        if len(text) > LARGEST or len(lines) != 4 or text != "".join(f"{line}\n" for line in lines).encode("utf-8"):
            raise ValueError
        signed, of_both = (base64.b64decode(lines[number], validate=True) for number in (1, 3))
        if (len(signed), len(of_both), signed[:2]) != (74, 64, _PREHASHED):
            raise ValueError
        # The first line is not signed, and base64 has spare bits: only what `sign` writes is accepted.
        identity, signature = signed[2:10], signed[10:]
        written = (_untrusted(PublicKey(identity, b"")), _base64(signed), _base64(of_both))
        if (lines[0], lines[1], lines[3]) != written or not lines[2].startswith(_TRUSTED):
            raise ValueError
    except (ValueError, binascii.Error):
        raise ModelError(f"The signature of {what} is damaged", step="get it again") from None
    candidates = [key for key in keys if key.id == identity]
    if not candidates:
        name = PublicKey(identity, b"").name
        trusted = ", ".join(key.name for key in keys) or "none"
        raise ModelError(
            f"{what} is signed with the key {name}, which is not trusted (trusted: {trusted})",
            step="check who made it, and give that person's public key",
            settings=("key",),
        )
    comment = lines[2].removeprefix(_TRUSTED).encode("utf-8")
    for key in candidates:
        if key.verifies(signature, _hash(data)) and key.verifies(of_both, signature + comment):
            return key
    raise ModelError(f"The signature of {what} is wrong: it was changed after it was signed", step="get it again")


def _untrusted(key: PublicKey) -> str:
    return f"untrusted comment: signature from ecellm-lite, key {key.name}"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _hash(data: bytes) -> bytes:
    return hashlib.blake2b(data).digest()
