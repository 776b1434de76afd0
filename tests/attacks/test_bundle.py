"""Tests that a bundle changed by accident or by an attacker is refused, and that nothing of it is installed."""

from __future__ import annotations

import json
import zipfile
import zlib
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecellm_lite.bundle.archive import open_archive
from ecellm_lite.bundle.index import FORMAT, BundleFile, Index, read_index
from ecellm_lite.bundle.install import install
from ecellm_lite.bundle.keys import SecretKey, make_key
from ecellm_lite.bundle.layout import Entry, header_size, layout
from ecellm_lite.bundle.paths import check_path, check_paths
from ecellm_lite.bundle.signature import sign
from ecellm_lite.errors import ModelError
from tests.support.bundles import Shop, make_shop

pytest.importorskip("cryptography", reason="the extra 'bundle' is not installed")

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
FILE = BundleFile("home/x", 0, EMPTY, "00000000", 0o644)
INDEX = Index(FORMAT, "till", 1, "now", "tiny", "", None, None, [FILE])


@dataclass(frozen=True, slots=True)
class Original:
    """A valid bundle: its path, its bytes, the shop that made it, and its index."""

    path: Path
    data: bytes
    shop: Shop
    index: Index

    @property
    def key(self) -> SecretKey:
        return self.shop.key


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Original:
    shop = make_shop(tmp_path_factory.mktemp("shop"))
    path = shop.bundle()
    with open_archive(path, [shop.key.public]) as archive:
        return Original(path, path.read_bytes(), shop, archive.index)


def refuse(original: Original, data: bytes, folder: Path, key: SecretKey | None = None) -> None:
    """Check that a bundle with these bytes can be neither verified nor installed, and leaves no files behind."""
    path = folder / "attack.ecb"
    path.write_bytes(data)
    trusted = [(key or original.key).public]
    with pytest.raises(ModelError), open_archive(path, trusted) as archive:
        archive.verify()
    with pytest.raises(ModelError):
        install(path, trusted, base=folder / "till")
    assert [
        one for one in (folder / "till").rglob("*") if one.name not in {"bundles", "till", "versions", "lock"}
    ] == []


def regions(original: Original) -> list[tuple[int, int]]:
    """Return the byte range (start, end) of each part of the bundle, such as a header, the index or a file."""
    with zipfile.ZipFile(original.path) as archive:
        starts = [one.header_offset for one in archive.infolist()]
        data = [one.header_offset + header_size(one.filename) for one in archive.infolist()]
        edges = sorted({0, *starts, *data, archive.start_dir, len(original.data)})
    return [(start, end) for start, end in pairwise(edges)]


@given(data=st.data())
def test_a_flipped_bit_anywhere_is_refused(data: st.DataObject, original: Original, tmp_path_factory: Any) -> None:
    first, end = data.draw(st.sampled_from(regions(original)))
    place, bit = data.draw(st.integers(first, end - 1)), data.draw(st.integers(0, 7))
    changed = bytearray(original.data)
    changed[place] ^= 1 << bit
    refuse(original, bytes(changed), tmp_path_factory.mktemp("bit"))


@given(data=st.data())
def test_bytes_added_or_removed_anywhere_are_refused(
    data: st.DataObject, original: Original, tmp_path_factory: Any
) -> None:
    first, end = data.draw(st.sampled_from(regions(original)))
    place = data.draw(st.sampled_from([first, end, data.draw(st.integers(first, end))]))
    added = data.draw(st.binary(min_size=1, max_size=8))
    for changed in (original.data[:place] + added + original.data[place:], original.data[:place]):
        if changed != original.data:
            refuse(original, changed, tmp_path_factory.mktemp("cut"))


@dataclass(frozen=True, slots=True)
class Change:
    """A change to an archive, as another ZIP program might make it. The index and its signature stay valid."""

    skipped: str = ""
    renamed: str = ""
    added: str = ""
    content: bytes = b"x"
    method: int = zipfile.ZIP_STORED

    def made(self, path: Path) -> bytes:
        target = path.with_suffix(".new")
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
            for one in old.infolist():
                if one.filename != self.skipped:
                    name = "home/other" if one.filename == self.renamed else one.filename
                    new.writestr(name, old.read(one.filename), self.method)
            if self.added:
                new.writestr(self.added, self.content, self.method)
        return target.read_bytes()


TASK = "home/tasks/routing.toml"
CHANGES = {
    "the same, written by another program": Change(),
    "a file added": Change(added="home/added"),
    "a file removed": Change(skipped=TASK),
    "a file renamed": Change(renamed=TASK),
    "a file twice": Change(added=TASK),
    "a path out of it": Change(added="../evil"),
    "compressed": Change(method=zipfile.ZIP_DEFLATED),
    "a bomb": Change(added="home/bomb", content=bytes(1 << 24), method=zipfile.ZIP_DEFLATED),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives_written_by_another_program_are_refused(change: Change, original: Original, tmp_path: Path) -> None:
    refuse(original, change.made(original.path), tmp_path)


def test_a_signature_by_another_key_is_refused(original: Original, tmp_path: Path) -> None:
    other = make_key()
    refuse(original, original.data, tmp_path, other)
    refuse(original, original.data, tmp_path, replace(other, public=replace(other.public, id=original.key.public.id)))


def test_the_signature_of_another_bundle_is_refused(original: Original, tmp_path: Path) -> None:
    other = original.shop.bundle("other.ecb", 2)
    with zipfile.ZipFile(original.path) as one, zipfile.ZipFile(other) as two:
        old, new = (archive.read("index.json.minisig") for archive in (one, two))
    assert len(old) == len(new)
    refuse(original, original.data.replace(old, new), tmp_path)


def test_a_removed_signature_is_refused(original: Original, tmp_path: Path) -> None:
    unsigned = original.shop.bundle("unsigned.ecb", key=None)
    refuse(original, unsigned.read_bytes(), tmp_path)


# Bundles that a signer made: a key that was stolen gives nobody a path out of the folder either.


def signed(index: bytes, key: SecretKey, entries: list[Entry]) -> bytes:
    signature = sign(index, key, "attack")
    own = [("index.json", index), ("index.json.minisig", signature)]
    places = layout([*(Entry(name, len(data), zlib.crc32(data), 0o644) for name, data in own), *entries], 0)
    parts = [header for _, header in places.headers]
    return parts[0] + index + parts[1] + signature + b"".join(parts[2:]) + places.tail[1]


PATHS = (
    "../evil", "home/../../evil", "/etc/evil", "home//x", "home/./x", "home\\..\\evil", "C:/evil", "home/x:stream",
    "home/con", "home/NUL.txt", "home/x.", "home/x ", "home/ x", "home/\x00", "home/\n", "", "evil", "index.json",
    "ecellm-lite", "venv/bin/python", "home/a\u0308", "home/" + "x" * 500, "home/" + "a/" * 20 + "x",
)  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_unsafe_paths_are_refused_even_when_signed(path: str, original: Original, tmp_path: Path) -> None:
    index = replace(INDEX, files=[replace(FILE, path=path)])
    refuse(original, signed(index.encode(), original.key, [Entry(path, 0, 0, 0o644)]), tmp_path)


@pytest.mark.parametrize(
    "files",
    [
        [FILE, FILE],
        [FILE, replace(FILE, path="home/X")],
        [replace(FILE, path="home/ß"), replace(FILE, path="home/SS")],
        [FILE, replace(FILE, path="home/x/y")],
        [replace(FILE, mode=0o120777)],
        [replace(FILE, mode=0o4755)],
        [replace(FILE, size=-1)],
        [replace(FILE, size=1 << 60)],
        [replace(FILE, sha256="0" * 64, size=0)],
        [replace(FILE, crc32="0")],
        [replace(FILE, included=False)],
    ],
    ids=lambda files: f"{files[-1].path} {files[-1].mode:o} {files[-1].size}",
)
def test_invalid_indexes_are_refused_even_when_signed(
    files: list[BundleFile], original: Original, tmp_path: Path
) -> None:
    index = replace(INDEX, files=files)
    entries = [Entry(file.path, 0, 0, file.mode & 0xFFFF) for file in files if file.included]
    refuse(original, signed(index.encode(), original.key, entries), tmp_path)


@given(
    st.sampled_from(["format", "name", "serial", "created", "model", "platform", "starter", "base", "files"]),
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers(), max_size=2),
)
def test_an_index_with_a_changed_value_is_read_or_refused(key: str, value: Any) -> None:
    facts = json.loads(INDEX.encode())
    facts[key] = value
    try:
        index = read_index(
            json.dumps(facts, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass") + b"\n"
        )
    except ValueError:
        return
    assert json.loads(index.encode()) == facts


@given(st.text(max_size=40))
def test_an_accepted_path_stays_inside_its_folder(path: str) -> None:
    try:
        check_path(path)
    except ValueError:
        return
    folder = Path("/folder")
    assert (folder / path).resolve().is_relative_to(folder)
    assert path == "/".join(Path(path).parts)


@given(st.lists(st.text("aAßsS/é\u0301.", min_size=1, max_size=4), max_size=6))
def test_paths_that_differ_only_in_case_are_refused(paths: list[str]) -> None:
    try:
        check_paths(paths)
    except ValueError:
        return
    assert len({path.casefold() for path in paths}) == len(paths)


def test_an_older_index_is_refused(original: Original, tmp_path: Path) -> None:
    trusted = [original.key.public]
    newer = original.shop.bundle("newer.ecb", 5)
    install(newer, trusted, base=tmp_path / "till")
    with pytest.raises(ModelError):
        install(original.path, trusted, base=tmp_path / "till")


def test_nothing_is_written_through_a_link_among_the_versions(original: Original, tmp_path: Path) -> None:
    """An attacker has put a symbolic link into the folder of versions."""
    versions = tmp_path / "till" / "bundles" / "till" / "versions"
    versions.mkdir(parents=True)
    outside = tmp_path / "outside"
    outside.mkdir()
    (versions / ".new-link").symlink_to(outside)
    install(original.path, [original.key.public], base=tmp_path / "till")
    assert list(outside.iterdir()) == []
