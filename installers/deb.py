"""Packs the standalone program into a Debian package: `python installers/deb.py PROGRAM-FOLDER OUTPUT.deb`.

    /usr/lib/ecellm-lite             the program, as `ecellm-lite bundle program` made it
    /usr/bin/ecellm-lite             a link to it
    /etc/ecellm-lite                 the service's settings; an upgrade keeps changes to them
    /var/lib/ecellm-lite             the models and other data of the service; a purge deletes this folder

Building the package needs dpkg-deb, but no administrator rights.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).parent
ROOT = HERE.parent
FILES = HERE / "debian"
NAME = "ecellm-lite"
MAINTAINER = f"{NAME} maintainers <packages@{NAME}.invalid>"

_GLIBC = re.compile(rb"GLIBC_2\.(\d+)\0")
_LIBRARY = re.compile(r"\.so(\.\d+)*$")


def main() -> None:
    """Build the package OUTPUT.deb from the folder PROGRAM-FOLDER; both are arguments of the command line."""
    if len(sys.argv) != 3:
        sys.exit("The package needs the program's folder: make deb PROGRAM=FOLDER, or deb.py FOLDER OUTPUT.deb.")
    program, output = map(Path, sys.argv[1:])
    if not (program / NAME).is_file():
        sys.exit(f"{program} has no program {NAME}: make it with `ecellm-lite bundle program`.")
    with TemporaryDirectory() as place:
        tree = Path(place) / NAME
        lay_out(program, tree)
        write_control(tree)
        # xz would take minutes for a few per cent, and lintian does not know zstd.
        subprocess.run(["dpkg-deb", "--root-owner-group", "-Zgzip", "-z6", "--build", tree, output], check=True)


def lay_out(program: Path, tree: Path) -> None:
    """Copy the program and the package's other files into `tree`, in the folders where they will be installed."""
    library = tree / "usr/lib" / NAME
    shutil.copytree(program, library, symlinks=True)
    for path in library.rglob("*"):
        if not path.is_symlink():
            executable = path.is_dir() or path == library / NAME
            path.chmod(0o755 if executable else 0o644)
    library.chmod(0o755)
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "usr/bin" / NAME).symlink_to(f"../lib/{NAME}/{NAME}")
    place(FILES / "ecellm-lite.service", tree / "lib/systemd/system/ecellm-lite.service")
    place(FILES / "ecellm-lite.conf", tree / "etc/ecellm-lite/ecellm-lite.conf")
    place(FILES / "lintian-overrides", tree / "usr/share/lintian/overrides" / NAME)
    documents = tree / "usr/share/doc" / NAME
    documents.mkdir(parents=True)
    for source, name in (("CHANGELOG.md", "changelog.gz"), ("README.md", "README.gz")):
        (documents / name).write_bytes(gzip.compress((ROOT / source).read_bytes(), 9, mtime=0))
    (documents / "copyright").write_text(copyright_of(library), "utf-8")


def place(source: Path, target: Path) -> None:
    """Copy a file, and make the target's folders if they are missing."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def copyright_of(library: Path) -> str:
    """Return the text of the package's copyright file. It lists the program's parts and says where their licences are.

    `library`: the folder with the program.
    """
    parts = sorted(path.parent.name.removesuffix(".dist-info") for path in library.rglob("*.dist-info/METADATA"))
    return (
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n"
        f"Upstream-Name: {NAME}\n\nFiles: *\nCopyright: 2026 the ecellm-lite maintainers, and those of its parts\n"
        "License: Apache-2.0\n On Debian systems the licence is in /usr/share/common-licenses/Apache-2.0.\n"
        f" .\n Parts, with their licences in /usr/lib/{NAME}/_internal/*.dist-info:\n"
        + "".join(f"  {part}\n" for part in parts)
    )


def write_control(tree: Path) -> None:
    """Write what dpkg itself reads: the control file, the scripts, the checksums, and a list of the settings files."""
    control = tree / "DEBIAN"
    control.mkdir()
    files = sorted(path for path in tree.rglob("*") if path.is_file() and not path.is_symlink())
    fields = {
        "version": version(),
        "architecture": subprocess.check_output(["dpkg", "--print-architecture"], text=True).strip(),
        "maintainer": MAINTAINER,
        "size": sum(path.stat().st_size for path in files) // 1024,
        "glibc": glibc_of(files),
    }
    (control / "control").write_text((FILES / "control").read_text("utf-8").format(**fields), "utf-8")
    for name in ("postinst", "prerm", "postrm"):
        place(FILES / name, control / name)
        (control / name).chmod(0o755)
    (control / "conffiles").write_text("/etc/ecellm-lite/ecellm-lite.conf\n", "ascii")
    sums = [f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(tree)}\n" for path in files]
    (control / "md5sums").write_text("".join(sums), "utf-8")
    for folder, _, _ in os.walk(tree):
        Path(folder).chmod(0o755)


def version() -> str:
    """Return this project's version."""
    [number] = re.findall(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    return str(number)


def glibc_of(files: list[Path]) -> str:
    """Return the newest version of the C library that a program or library among the files needs."""
    libraries = [path for path in files if _LIBRARY.search(path.name) or path.name == NAME]
    return f"2.{max(int(number) for path in libraries for number in _GLIBC.findall(path.read_bytes()))}"


if __name__ == "__main__":
    main()
