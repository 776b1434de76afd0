"""Detects the encoding of a text file from its first bytes.

If the file has a byte-order mark, the mark decides. White space before a UTF-8 mark is ignored, because some plugins
print it.

Without a mark, UTF-8, UTF-16 and Japanese text in cp932 (Shift_JIS) are recognized by their bytes, and European
languages in Latin script by their alphabets. For other text, the library charset-normalizer judges which encoding fits
the lines that are not ASCII. If several encodings fit equally well, the one that shop software uses most often is
chosen.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass

from ecellm_lite.errors import InputError, UsageError
from ecellm_lite.tables.alphabets import european_encoding
from ecellm_lite.tables.extras import library

INVALID = "\udcff"
"""Replaces invalid bytes. No valid bytes decode to it, so it occurs nowhere else."""

INVALID_BYTES = "ecellm-invalid"
"""The name of the error handler that replaces invalid bytes with INVALID."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, because this mark begins with that of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SPACE = b" \t\r\n"
_SAMPLE = 1 << 16  # bytes that are examined

# If several encodings fit equally well, the first of these is chosen.
_CANDIDATES = (
    "cp1252", "cp932", "cp1250", "cp1251", "gb18030", "euc_jp", "cp949", "big5", "cp1254", "cp1253", "cp1255",
    "cp1256", "iso8859_2", "iso8859_15", "mac_roman", "koi8_r", "cp850", "cp437",
)  # fmt: skip
_LABELS = {
    "utf-8": "UTF-8", "utf-16-le": "UTF-16", "utf-16-be": "UTF-16", "utf-32-le": "UTF-32", "utf-32-be": "UTF-32",
    "ascii": "ASCII", "cp932": "Shift_JIS (cp932)", "mac_roman": "Mac Roman", "gb18030": "GB 18030", "big5": "Big5",
    "euc_jp": "EUC-JP", "cp949": "EUC-KR (cp949)",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Encoding:
    """A file's encoding.

    `codec`: Python's name of the encoding.
    `skip`: the size in bytes of the byte-order mark and of any white space before it.
    `mark`: whether the file has a byte-order mark.
    """

    codec: str
    skip: int = 0
    mark: bool = False

    @property
    def plain(self) -> bool:
        """Whether the file is ASCII, or UTF-8 without a byte-order mark. If not, it is probably from a spreadsheet."""
        return not self.mark and self.codec in {"utf-8", "ascii"}

    @property
    def label(self) -> str:
        """The encoding's name for people, such as `Windows-1252` or `UTF-8 with a byte-order mark`."""
        name = _LABELS.get(self.codec, self.codec.replace("cp12", "Windows-12") if "cp12" in self.codec else self.codec)
        return f"{name} with a byte-order mark" if self.mark else name


def find_encoding(head: bytes, *, whole: bool, encoding: str | None = None, name: str = "the file") -> Encoding:
    """Return the encoding of a file that begins with the bytes `head`.

    `whole`: whether `head` is the whole file. `encoding` overrides the detection.

    Raises UsageError if Python does not know `encoding`, or if charset-normalizer is needed but not installed. Raises
    InputError for bytes that are not text.
    """
    marked = _marked(head)
    if encoding is not None:
        codec = _codec(encoding)
        same = marked and (marked.codec == codec or marked.codec.startswith(f"{codec}-"))
        return marked if marked and same else Encoding(codec)
    if marked:
        return marked
    begin = head[:4096]
    if begin.count(b"\0") > len(begin) // 50:
        if wide := _wide(begin):
            return Encoding(wide)
        raise InputError(
            f"{name} is neither a text nor a table", step="give a CSV, XLSX, ODS, Parquet or JSON Lines file"
        )
    sample = head if whole else head[: head.rfind(b"\n") + 1] or head[:-4]
    if sample.isascii() or _is_utf8(sample):
        return Encoding("utf-8")
    if _is_japanese(sample):
        return Encoding("cp932")
    lines = _lines_beyond_ascii(sample)
    return Encoding(european_encoding(lines) or _guess(lines))


def _marked(head: bytes) -> Encoding | None:
    for mark, codec in _MARKS:
        if head.startswith(mark):
            return Encoding(codec, len(mark), True)
    blank = len(head) - len(head.lstrip(_SPACE))
    if head.startswith(codecs.BOM_UTF8, blank):
        return Encoding("utf-8", blank + len(codecs.BOM_UTF8), True)
    return None


def _codec(encoding: str) -> str:
    try:
        info = codecs.lookup(encoding)
        "".encode(info.name)  # base64 and similar codecs are not text encodings
    except (LookupError, ValueError):
        raise UsageError(
            f"There is no encoding {encoding!r}",
            step="use utf-8, cp1252, cp932, mac_roman or another that Python knows",
            settings=("encoding",),
        ) from None
    # Real files that claim these encodings contain characters of their supersets.
    return {"iso8859-1": "cp1252", "shift_jis": "cp932", "euc_kr": "cp949", "gb2312": "gb18030", "gbk": "gb18030"}.get(
        info.name, info.name
    )


def _wide(head: bytes) -> str | None:
    """Return the UTF-16 codec if nearly every second byte is zero, or else None."""
    pairs = len(head) // 2
    if head[1::2].count(0) > 0.4 * pairs and head[0::2].count(0) < 0.1 * pairs:
        return "utf-16-le"
    if head[0::2].count(0) > 0.4 * pairs and head[1::2].count(0) < 0.1 * pairs:
        return "utf-16-be"
    return None


def _is_utf8(sample: bytes) -> bool:
    """Return whether a sample is UTF-8, apart from a few damaged lines.

    Only lines with non-ASCII bytes count. At most 1% of these lines may be damaged, but one damaged line is always
    allowed. At least one of these lines must be valid UTF-8.
    """
    try:
        sample.decode("utf-8")
    except UnicodeDecodeError:
        lines = [line for line in sample.split(b"\n") if not line.isascii()]
        valid = sum(1 for line in lines if _decodes(line))
        return valid > 0 and len(lines) - valid <= max(1, len(lines) // 100)
    return True


def _decodes(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _is_japanese(sample: bytes) -> bool:
    """Return whether a sample has many kana if it is decoded as cp932. Text in another encoding would have few."""
    text = sample[:_SAMPLE].decode("cp932", "replace")
    kana = sum(1 for character in text if "\u3041" <= character <= "\u30fc")
    return kana > 1 and kana > 0.2 * sum(1 for character in text if character > "\x7f")


def _lines_beyond_ascii(sample: bytes) -> bytes:
    lines: list[bytes] = []
    size = 0
    for line in sample.split(b"\n"):
        if size < _SAMPLE and not line.isascii():
            lines.append(line[: _SAMPLE - size])
            size += len(line)
    return b"\n".join(lines)


def _guess(sample: bytes) -> str:
    normalizer = library("charset_normalizer", "A file that is not UTF-8")
    matches = normalizer.from_bytes(sample, cp_isolation=list(_CANDIDATES))
    best = matches.best()
    if best is None:
        return "cp1252"
    equal = [
        name
        for match in matches
        if match.chaos <= best.chaos + 0.01 and match.coherence >= best.coherence - 0.1
        for name in (match.encoding, *match.could_be_from_charset)
    ]
    return _preferred(equal) or str(best.encoding)


def _preferred(names: Sequence[str]) -> str | None:
    return next((name for name in _CANDIDATES if name in names), None)


def _put_invalid(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return INVALID, error.end


codecs.register_error(INVALID_BYTES, _put_invalid)
