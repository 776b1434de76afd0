"""The shell script in front of a bundle's archive.

The script installs the bundle on a machine without ecellm-lite. The user calls `sh BUNDLE --key KEY`. The script copies
the standalone program or the wheels to a temporary folder, and checks their sha256. Then it starts the program, or
installs the wheels there and starts ecellm-lite from them. ecellm-lite checks the bundle's signature and installs the
bundle. The script needs a POSIX shell with tail, head, mktemp and sha256sum (or shasum). Wheels also need Python.
The script of a bundle with neither program nor wheels, or of a delta, only says how to install the bundle.

No signature protects the script or the program that it starts. So the first installation trusts whoever brought the
file (docs/offline.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from ecellm_lite.bundle.archive import STARTER_STEP
from ecellm_lite.bundle.index import BundleFile, Index
from ecellm_lite.bundle.wheels import PIP, PIP_OPTIONS, WHEELS, installed_projects, project_of

PROGRAM = "program/ecellm-lite"

_SCRIPT = """\
#!/bin/sh
# Installs the bundle {name}, serial number {serial}: sh THIS-FILE --key KEY.pub
# Its options are those of `ecellm-lite bundle install`. A ZIP archive with all files begins behind this script.
set -eu
case $0 in /*) bundle=$0 ;; *) bundle=$PWD/$0 ;; esac
folder=$(mktemp -d "${{TMPDIR:-/tmp}}/ecellm-lite.XXXXXX")
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' HUP INT TERM
while read -r sha256 mode offset size path; do
  mkdir -p "$folder/${{path%/*}}"
  tail -c +$(({start} + offset + 1)) "$bundle" 2> /dev/null | head -c "$size" > "$folder/$path"
  chmod "$mode" "$folder/$path"
  echo "$sha256  $path" >> "$folder/sums"
done << 'FILES'
{table}
FILES
if command -v sha256sum > /dev/null; then check=sha256sum; else check='shasum -a 256'; fi
(cd "$folder" && $check -c sums > /dev/null 2>&1) || {{ echo "$bundle is damaged: copy it again." >&2; exit 4; }}
{start_program} bundle install "$bundle" "$@" || exit $?
exit 0
"""

_WITHOUT_PROGRAM = """\
#!/bin/sh
# The bundle {name}, serial number {serial}. A ZIP archive with all files begins behind this script.
echo "The bundle {name} cannot install itself: run ecellm-lite bundle install '$0' --key KEY.pub" >&2
exit 2
"""

_WITH_WHEELS = """\
python3 -m venv --without-pip "$folder/venv" || {{ echo "Python 3 is needed (apt install python3)." >&2; exit 1; }}
"$folder/venv/bin/python" -I "$folder/wheels/{pip}/pip" {options} \\
  --find-links "$folder/wheels" {projects}
"$folder/venv/bin/python" -I -m ecellm_lite"""


def starter_of(index: Index, offsets: Sequence[int]) -> bytes:
    """Return the script that installs a bundle, padded to a multiple of STARTER_STEP bytes.

    `offsets`: where the data of each included file begins, in bytes from the archive's start.

    If the bundle has neither a program nor wheels, the script ends with an error that says how to install it. So does
    the script of a delta: an older version of the bundle is already installed, and its program installs the delta.
    """
    paths = {file.path for file in index.files}
    folder = "program" if PROGRAM in paths else WHEELS
    needed = [(file, place) for file, place in zip(index.included, offsets, strict=True) if _is_in(file, folder)]
    if not needed or index.base:
        advice = _WITHOUT_PROGRAM.format(name=index.name, serial=index.serial).encode("utf-8")
        return advice.ljust(_whole_steps(advice), b"\n")
    start_program = f'"$folder/{PROGRAM}"'
    if folder == WHEELS:
        names = sorted(PurePosixPath(file.path).name for file, _ in needed)
        [*_, pip] = (name for name in names if project_of(name) == PIP)
        start_program = _WITH_WHEELS.format(pip=pip, options=PIP_OPTIONS, projects=" ".join(installed_projects(names)))
    table = "\n".join(f"{file.sha256} {file.mode:o} {place} {file.size} {file.path}" for file, place in needed)

    def script(start: int) -> bytes:
        return _SCRIPT.format(
            name=index.name, serial=index.serial, start=start, table=table, start_program=start_program
        ).encode("utf-8")

    size = _whole_steps(script(10**9))  # the longest that it can be
    return script(size).ljust(size, b"\n")


def _whole_steps(script: bytes) -> int:
    return -(-len(script) // STARTER_STEP) * STARTER_STEP


def _is_in(file: BundleFile, folder: str) -> bool:
    return file.path.startswith(f"{folder}/")
