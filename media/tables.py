"""Reading tables of text: CSV, JSON lines and JSON, with the line where something is wrong.

Rows end where `datasets` and pandas end them: at line feeds. Other characters that Unicode calls
line ends (U+2028, U+0085) may stand inside a value. Files are UTF-8, with or without a byte order
mark; anything else is refused with the line rather than guessed.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from media.errors import UnreadableTableError


class Row(NamedTuple):
    """A row of a table: either its values or what is wrong with it."""

    line: int  # from 1, where the row ends
    values: dict[str, Any]
    problem: str = ""


def read_text(path: str | Path) -> str:
    """A UTF-8 file's text, without its byte order mark.

    Raises:
        UnreadableTableError: the file is missing, can't be read, or is not UTF-8; the message
            names the line.
    """
    path = Path(path)
    if path.exists() and not path.is_file():  # a pipe would be waited for, a device never ends
        raise UnreadableTableError(f"{path}: is not a regular file")
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise UnreadableTableError(f"{path}: the file does not exist") from error
    except OSError as error:
        raise UnreadableTableError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UnreadableTableError(
            f"{path}:{line}: not UTF-8 (byte 0x{error.object[error.start]:02x}); save the file as "
            "UTF-8"
        ) from error


def read_json(path: str | Path) -> Any:
    """The value that a JSON file holds.

    Raises:
        UnreadableTableError: as `read_text`, or it is not JSON; the message names the line.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UnreadableTableError(
            f"{path}:{error.lineno}: not valid JSON ({error.msg})"
        ) from error
    except RecursionError as error:
        raise UnreadableTableError(f"{path}: nested too deeply") from error


def read_table(
    path: str | Path, kind: Literal["csv", "jsonl"], needed: Sequence[str] = ()
) -> Iterator[Row]:
    """Rows of a CSV file with a header, or of a JSON lines file.

    Args:
        needed: columns that a CSV must have. Where they are found between semicolons or tabs
            instead of commas, as spreadsheet programs write them, those separate.

    Yields:
        Rows in the order of the file; a row that can't be read has a `problem` instead of values.

    Raises:
        UnreadableTableError: as `read_text`, or the header is unusable.
    """
    text = read_text(path)
    return _json_lines(text) if kind == "jsonl" else _csv_rows(text, Path(path), needed)


def _json_lines(text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            yield Row(number, {}, f"not valid JSON ({error.msg})")
        except RecursionError:
            yield Row(number, {}, "nested too deeply")
        else:
            if isinstance(value, dict):
                yield Row(number, value)
            else:
                yield Row(number, {}, f"a line is an object, not a {type(value).__name__}")


def _csv_rows(text: str, path: Path, needed: Sequence[str]) -> Iterator[Row]:
    delimiter = next((d for d in ",;\t" if set(needed) <= set(_header(text, d))), ",")
    header = _header(text, delimiter)
    if missing := [name for name in needed if name not in header]:
        raise UnreadableTableError(
            f"{path}:1: has no column {', '.join(map(repr, missing))}; "
            f"its columns are {', '.join(map(repr, header)) or 'none'}"
        )
    if twice := [name for name in dict.fromkeys(header) if header.count(name) > 1]:
        raise UnreadableTableError(
            f"{path}:1: has the column {', '.join(map(repr, twice))} more than once; rename one"
        )
    return _csv_body(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))


def _header(text: str, delimiter: str) -> list[str]:
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        return next((row for row in reader if row), [])
    except csv.Error:
        return []  # said again, with its line, when the rows are read


def _csv_body(reader: Any) -> Iterator[Row]:
    header: list[str] | None = None
    try:
        for cells in reader:
            if not cells:
                continue
            if header is None:
                header = cells
            elif len(cells) != len(header):
                yield Row(reader.line_num, {}, "has another number of columns than the header")
            else:
                yield Row(reader.line_num, dict(zip(header, cells, strict=True)))
    except csv.Error as error:
        yield Row(reader.line_num, {}, f"not valid CSV ({error})")
