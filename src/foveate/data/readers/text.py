"""Lines, rows and JSON of annotation files, with every fault named by its line.

Annotations come from spreadsheets and scripts of all kinds: with a byte order mark, with CRLF,
in UTF-16, with quoted commas, without a last line end. All of that is read; what cannot be read
is a fault of its own line and the other lines are read on.
"""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foveate.data.errors import DataError, Faults
from foveate.media import display_name

_MAX_BYTES = 512_000_000
_DELIMITERS = (",", ";", "\t")
# Python takes other scripts' digits, and 1_000, for numbers; tables do not mean them.
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|[+-]?(nan|inf(inity)?)")
_SPACE = re.compile(r"[ \t\r\n]*")
_WHOLE = re.compile("[0-9]{1,18}")


def lines(path: Path, faults: Faults, blank: bool = False) -> list[tuple[int, str]]:
    """Lines with their numbers from 1, spaces at the right taken off.

    Args:
        path: The file.
        faults: Takes what is wrong.
        blank: Whether to give blank lines too.

    Raises:
        DataError: The file cannot be read at all.
    """
    found = []
    for number, raw in enumerate(_bytes(path).splitlines(), 1):
        try:
            # A mark in the middle stays behind where files were joined.
            text = raw.decode("utf-8").lstrip("\ufeff").rstrip(" ")
        except UnicodeDecodeError as error:
            faults.add(
                at(path, number),
                f"not UTF-8 (byte 0x{raw[error.start]:02x} at position {error.start + 1})",
            )
            continue
        if "\0" in text:
            faults.add(at(path, number), "holds zero bytes")
        elif blank or text.strip():
            found.append((number, text))
    return found


def head(path: Path) -> str:
    """The first line that is not blank, "" if there is none or it cannot be read."""
    try:
        with path.open("rb") as file:
            start = file.read(8192)
    except OSError:
        return ""
    text = _plain(start).decode("utf-8", "replace")
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def fields(line: str, delimiter: str) -> list[str]:
    """One row of a CSV file, quotes undone, each field stripped.

    Raises:
        ValueError: A quote that does not close.
    """
    try:
        row = next(csv.reader([line], delimiter=delimiter, strict=True, skipinitialspace=True))
    except csv.Error:
        raise ValueError("a quote that does not close in its line, or text behind one") from None
    return [field.strip() for field in row]


def delimiter_of(line: str) -> str:
    """The delimiter that a line uses most, a comma if none."""
    return max(_DELIMITERS, key=line.count)


@dataclass(frozen=True)
class Table:
    """A CSV file with a header.

    Attributes:
        path: The file.
        columns: Names as in the header, lower case.
        rows: Line number and the fields by column.
    """

    path: Path
    columns: tuple[str, ...]
    rows: list[tuple[int, dict[str, str]]]


Repair = Callable[[tuple[str, ...], list[str], str], list[str] | None]


def table(path: Path, faults: Faults, repair: Repair | None = None) -> Table:
    """Read a CSV file with a header; rows with a wrong number of fields are faults.

    Args:
        path: The file.
        faults: Takes what is wrong.
        repair: Called with the columns, the pieces of a row that has too many, and the delimiter;
            returns the fields if it knows which delimiters are part of one.

    Raises:
        DataError: The file cannot be read, or has no header.
    """
    found = lines(path, faults)
    if not found:
        faults.check()
        raise DataError(f"{display_name(path)}: empty")
    number, first = found[0]
    delimiter = delimiter_of(first)
    try:
        columns = tuple(name.lower() for name in fields(first, delimiter))
    except ValueError as error:
        raise DataError(f"{at(path, number)}: {error}") from None
    named = [name for name in columns if name]  # spreadsheets leave columns without a name
    twice = next((name for name in named if named.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{at(path, number)}: two columns have the same name, {twice!r}")
    return Table(path, columns, list(_rows(path, found[1:], columns, delimiter, faults, repair)))


def _rows(
    path: Path,
    found: list[tuple[int, str]],
    columns: tuple[str, ...],
    delimiter: str,
    faults: Faults,
    repair: Repair | None,
) -> Iterator[tuple[int, dict[str, str]]]:
    for number, line in found:
        try:
            row = fields(line, delimiter)
            fault = None
        except ValueError as error:
            row, fault = [], str(error)
        _drop_empty(row, len(columns))
        if repair is not None and (fault or (len(row) > len(columns) and '"' not in line)):
            repaired = repair(columns, _drop_empty(line.split(delimiter), len(columns)), delimiter)
            row, fault = (repaired, None) if repaired else (row, fault)
        if fault:
            faults.add(at(path, number), fault)
            continue
        if len(row) != len(columns):
            faults.add(
                at(path, number), f"{len(row)} fields where the header has {len(columns)} columns"
            )
        elif any(row):
            yield number, {name: field for name, field in zip(columns, row, strict=True) if name}


def _drop_empty(row: list[str], count: int) -> list[str]:
    """A row without the empty fields at its end that are more than there are columns."""
    while len(row) > count and not row[-1].strip():
        row.pop()
    return row


def number(text: str, what: str, least: float = 0.0) -> float | None:
    """A number of seconds from a field; None where the field is empty.

    Raises:
        ValueError: With a line that says what is wrong with it.
    """
    if not text:
        return None
    if not _NUMBER.fullmatch(text.lower()):
        raise ValueError(f"{what} {text!r} is not a number")
    value = float(text)
    if not least <= value < float("inf"):
        raise ValueError(f"{what} {text} is not a number of at least {least:g}")
    return value


def whole(text: str) -> int | None:
    """The whole number that a field is; None for anything else.

    Superscripts, circled numbers and the digits of other scripts are no numbers here: `int` takes
    some of them, `str.isdigit` others.
    """
    return int(text) if _WHOLE.fullmatch(text) else None


def is_number(text: str) -> bool:
    """Whether a field is written as a number, of any sign and with any fraction."""
    return _NUMBER.fullmatch(text.lower()) is not None


def stretch(start: float | None, end: float | None) -> None:
    """Check that a stretch ends after it starts.

    Raises:
        ValueError: It does not.
    """
    if end is not None and end <= (start or 0.0):
        raise ValueError(f"ends at {end:g} s, not after its start at {start or 0:g} s")


class JsonFile:
    """A JSON file that can tell in which line an entry stands.

    Args:
        path: The file.
        faults: Takes the keys that are given twice.

    Attributes:
        value: What the file holds.

    Raises:
        DataError: It cannot be read, or is no JSON.
    """

    def __init__(self, path: Path, faults: Faults) -> None:
        self.path = path
        self._faults = faults
        data = _bytes(path)
        try:
            self._text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise DataError(f"{at(path, line)}: not UTF-8") from None
        self._from, self._line = 0, 1
        try:
            self.value: Any = json.loads(self._text, object_pairs_hook=self._object)
        except json.JSONDecodeError as error:
            raise DataError(f"{at(path, error.lineno)}: not JSON ({error.msg.lower()})") from None
        except RecursionError:
            raise DataError(f"{display_name(path)}: nested too deep") from None

    def where(self, text: str, what: str = "") -> str:
        """File and line where a string stands, searched onward from the last one asked for.

        Args:
            text: The string.
            what: What it is the name of; both are added then, as a file may have one line.
        """
        found = self._text.find(json.dumps(text, ensure_ascii=False), self._from)
        if found < 0:
            found = self._text.find(json.dumps(text), self._from)
        if found >= 0:
            self._line += self._text.count("\n", self._from, found)
            self._from = found
        line = at(self.path, self._line)
        return f"{line}: {what} {display_name(text)}" if what else line

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in made if names.count(name) > 1)
            self._faults.add(display_name(self.path.name), f"the key {twice!r} is given twice")
        return made


def json_lists(path: Path, faults: Faults) -> dict[str, list[tuple[int, Any]]]:
    """The lists of a JSON object by their key, each entry with the line that it begins in.

    Values that are no lists are left out.

    Args:
        path: The file.
        faults: Takes the keys that are given twice.

    Raises:
        DataError: It cannot be read, or is no JSON object.
    """
    data = _bytes(path)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        bad = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{at(path, bad)}: not UTF-8") from None
    found: dict[str, list[tuple[int, Any]]] = {}
    read, line, counted = json.JSONDecoder(), 1, 0

    def next_sign(start: int, signs: str) -> int:
        at_sign = _SPACE.match(text, start).end()  # type: ignore[union-attr]
        if text[at_sign : at_sign + 1] not in tuple(signs):
            raise json.JSONDecodeError(f"expected {' or '.join(signs)}", text, at_sign)
        return at_sign

    try:
        place, more = next_sign(0, "{") + 1, True
        while more:
            key, place = read.raw_decode(text, next_sign(place, '"'))
            place = _SPACE.match(text, next_sign(place, ":") + 1).end()  # type: ignore[union-attr]
            if text[place : place + 1] != "[":
                place = read.raw_decode(text, place)[1]
            else:
                if key in found:
                    faults.add(display_name(path.name), f"the key {key!r} is given twice")
                rows = found[key] = []
                place = _SPACE.match(text, place + 1).end()  # type: ignore[union-attr]
                while text[place : place + 1] != "]":
                    line, counted = line + text.count("\n", counted, place), place
                    value, place = read.raw_decode(text, place)
                    rows.append((line, value))
                    place = next_sign(place, ",]")
                    if text[place] == ",":
                        place = _SPACE.match(text, place + 1).end()  # type: ignore[union-attr]
                place += 1
            place = next_sign(place, ",}")
            more = text[place] == ","
            place += 1
    except json.JSONDecodeError as error:
        raise DataError(f"{at(path, error.lineno)}: not JSON ({error.msg.lower()})") from None
    except RecursionError:
        raise DataError(f"{display_name(path)}: nested too deep") from None
    return found


def only(files: Sequence[Path], path: Path, what: str) -> Path:
    """The one JSON file that a format is read from.

    Args:
        files: Those that were found.
        path: Where they were looked for.
        what: What such a file holds.

    Raises:
        DataError: There is none, or more than one.
    """
    if len(files) != 1:
        count = f"{len(files)} JSON files" if files else "no JSON file"
        raise DataError(f"{display_name(path)}: {count} with {what}")
    return files[0]


def at(path: Path, line: int) -> str:
    """File and line, as messages give them."""
    return f"{display_name(path.name)}:{line}"


def _bytes(path: Path) -> bytes:
    """The bytes of a file as UTF-8, as far as it can be made so."""
    name = display_name(path)
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise DataError(f"{name}: larger than {_MAX_BYTES} bytes, too large for an annotation")
        return _plain(path.read_bytes())
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DataError(f"{name}: cannot be read ({reason})") from None


def _plain(data: bytes) -> bytes:
    """The data without its byte order mark; UTF-16 and UTF-32 are turned into UTF-8."""
    if data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return data.decode("utf-32", "replace").encode("utf-8")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace").encode("utf-8")
    start = data[:200]
    for encoding, zeros, others in (("utf-16-le", start[1::2], start[::2]),
                                    ("utf-16-be", start[::2], start[1::2])):  # fmt: skip
        if len(start) > 3 and not any(zeros) and all(others):
            return data.decode(encoding, "replace").encode("utf-8")
    return data.removeprefix(codecs.BOM_UTF8)
