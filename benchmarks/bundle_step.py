"""One step of `bundle.py` in a separate process.

    python -m benchmarks.bundle_step write FILE BUNDLE    # writes a bundle that contains one file
    python -m benchmarks.bundle_step verify BUNDLE

Prints its seconds and peak memory as JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

from ecellm_lite.bundle.archive import open_archive
from ecellm_lite.bundle.index import FORMAT, Index
from ecellm_lite.bundle.keys import PublicKey, SecretKey
from ecellm_lite.bundle.writer import Source, write_bundle

# The benchmark's own key, which signs nothing else.
_SEED = bytes(32)


def main() -> None:
    """Write or verify a bundle, as the arguments say, and print the seconds and the peak memory."""
    key = _key()
    started = time.perf_counter()
    if sys.argv[1] == "write":
        source, target = map(Path, sys.argv[2:4])
        draft = Index(FORMAT, "large", 1, "", "large", "", None, None, [])
        write_bundle(target, draft, [Source("home/models/large/model.gguf", source)], key)
    else:
        with open_archive(Path(sys.argv[2]), [key.public]) as archive:
            archive.verify()
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "peak_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))


def _key() -> SecretKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    public = Ed25519PrivateKey.from_private_bytes(_SEED).public_key().public_bytes_raw()
    return SecretKey(PublicKey(bytes(8), public), _SEED)


if __name__ == "__main__":
    main()
