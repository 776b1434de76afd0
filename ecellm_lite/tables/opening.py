"""Opens a table of any file type. The first bytes decide the type; the file's name does not matter."""

from __future__ import annotations

from pathlib import Path

from ecellm_lite.errors import InputError, UsageError
from ecellm_lite.tables.row import Table, TableOptions
from ecellm_lite.tables.source import Source, open_source

_OTHERS = {
    b"%PDF": "a PDF file",
    b"\xd0\xcf\x11\xe0": "a spreadsheet of the old form (XLS), or one with a password",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ": "compressed with xz",
    b"7z\xbc\xaf": "a 7-Zip archive",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"GIF8": "a picture",
    b"SQLite format 3": "a SQLite database",
}
_FORMS = "CSV, XLSX, ODS, Parquet, Arrow or JSON Lines"


def open_table(path: Path | str, options: TableOptions | None = None) -> Table:
    """Open a table: a CSV, TSV, XLSX, ODS, Parquet, Arrow or JSON Lines file, or a product feed.

    The file may be compressed with gzip or zstd. The path `-` means standard input. Close the table after use, or use
    it in a `with` statement.

    Raises InputError if the file is not a table. Raises UsageError if an option does not apply to this type of file, or
    if a library is not installed.
    """
    source = open_source(path)
    try:
        return _opened(source, options or TableOptions())
    except BaseException:
        source.close()
        raise


def _opened(source: Source, options: TableOptions) -> Table:
    head = source.head
    if not head.strip():
        raise InputError(f"{source.name} is empty", step=f"give a table ({_FORMS})", file=source.name)
    if head.startswith(b"PK\x03\x04"):
        _refuse_other_options(options, "sheet", "header_row", source=source)
        return _zipped(source, options)
    if head.startswith((b"PAR1", b"ARROW1", b"\xff\xff\xff\xff")):
        from ecellm_lite.tables.parquet import open_arrow, open_parquet

        _refuse_other_options(options, source=source)
        return open_parquet(source) if head.startswith(b"PAR1") else open_arrow(source)
    for begin, form in _OTHERS.items():
        if head.startswith(begin):
            raise InputError(f"{source.name} is {form}", step=f"save it as {_FORMS}", file=source.name)
    return _text(source, options)


def _zipped(source: Source, options: TableOptions) -> Table:
    if b"xl/" in source.head or b"[Content_Types].xml" in source.head or b"opendocument.spreadsheet" in source.head:
        from ecellm_lite.tables.spreadsheet import open_spreadsheet

        return open_spreadsheet(source, options)
    raise InputError(f"{source.name} is a ZIP archive", step="unpack it, and give the table in it", file=source.name)


def _text(source: Source, options: TableOptions) -> Table:
    begin = source.head.removeprefix(b"\xef\xbb\xbf").lstrip()[:400]
    delimited = any(setting is not None for setting in (options.delimiter, options.quote, options.header_row))
    if not delimited:
        if begin.startswith(b"{"):
            from ecellm_lite.tables.json_lines import open_json_lines

            return open_json_lines(source)
        if begin.startswith(b"[") and begin[1:].lstrip()[:1] in {b"{", b"[", b'"', b"]"}:
            raise InputError(
                f"{source.name} is one JSON array", step="write one object per line (JSON Lines)", file=source.name
            )
        if begin[:9].lower() == b"<!doctype" or begin[:5].lower() == b"<html":
            raise InputError(f"{source.name} is a web page", step="download the table itself", file=source.name)
        if begin.startswith((b"<?xml", b"<rss", b"<feed")):
            from ecellm_lite.tables.feed import open_feed

            return open_feed(source)
    from ecellm_lite.tables.csv_file import open_csv

    _refuse_other_options(options, "encoding", "delimiter", "quote", "header_row", source=source)
    return open_csv(source, options)


def _refuse_other_options(options: TableOptions, *settings: str, source: Source) -> None:
    """Raise UsageError if the user set an option that does not apply to this type of file.

    `settings` are the names of the options that apply.
    """
    for setting in ("encoding", "delimiter", "quote", "header_row", "sheet"):
        if setting not in settings and getattr(options, setting) is not None:
            raise UsageError(
                f"A file like {source.name} has no {setting.replace('_', ' ')}",
                step="leave it out",
                settings=(setting,),
            )
