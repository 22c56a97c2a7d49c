"""Files that name classes, one a line: with or without numbers, as text or JSON."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from foveate.data.errors import DataError, Faults
from foveate.data.readers import text
from foveate.data.readers.request import composed
from foveate.media import display_name

_FRONT = re.compile(r"([0-9]{1,18})(?:\s*[,;:\t]\s*|[.)]?\s+)(\S.*)")
_BACK = re.compile(r"(.*\S)(?:\s*[,;\t]\s*|\s+)([0-9]{1,18})")
_NUMBERS = frozenset(["id", "index", "idx", "number", "class_id", "label_id", "class_index"])
_NAMES = frozenset(
    ["name", "label", "class", "class_name", "label_name", "category", "display_name"]
)
_QUOTES = re.compile(r'"(.*)"')


@dataclass(frozen=True)
class ClassNames:
    """Names of classes in order.

    Attributes:
        names: None of them empty, none twice.
        first: Number of the first one, 0 or 1.
    """

    names: tuple[str, ...]
    first: int = 0

    def __getitem__(self, number: int) -> str | None:
        """The name of a number, None where there is none."""
        at = number - self.first
        return self.names[at] if 0 <= at < len(self.names) else None


def class_names(path: Path, faults: Faults) -> ClassNames:
    """Read names of classes from lines "name", "number name" or "name number", or from JSON.

    A byte order mark, any kind of line end, a header such as `id,name`, and empty lines at the
    end are accepted. JSON is a list of names, or an object of numbers and names either way round.

    Args:
        path: The file.
        faults: Takes empty and repeated names, and of numbers with a gap, by line.

    Raises:
        DataError: The file cannot be read at all.
    """
    if path.suffix.lower() == ".json":
        found, first = _from_json(path, faults)
    else:
        rows = [(line, _cleaned(row)) for line, row in text.lines(path, faults, blank=True)]
        while rows and not rows[-1][1]:
            rows.pop()
        found, first = _in_order(path, rows[_has_header(rows) :], faults)
    if not found:
        raise DataError(f"{display_name(path.name)}: contains no class names")
    seen: dict[str, int] = {}
    for line, name in found:
        if not name:
            faults.add(text.at(path, line), "an empty name: every line is a class")
        elif name.startswith("# "):
            faults.add(text.at(path, line), "a comment: every line is a class")
        elif name in seen:
            faults.add(
                text.at(path, line), f"the class {name!r} is named twice (also line {seen[name]})"
            )
        seen.setdefault(name, line)
    return ClassNames(tuple(name for _, name in found), first)


def _cleaned(row: str) -> str:
    row = row.strip().strip("\ufeff").strip()
    quoted = _QUOTES.fullmatch(row)
    return composed(quoted[1].strip() if quoted and '"' not in quoted[1] else row)


def _has_header(rows: Sequence[tuple[int, str]]) -> bool:
    words = set(re.split(r"[\s,;]+", rows[0][1].lower())) if rows else set()
    return len(words) == 2 and bool(words & _NUMBERS) and bool(words & _NAMES)


Named = tuple[int, int, str]  # number, line, name


def _in_order(
    path: Path, rows: list[tuple[int, str]], faults: Faults
) -> tuple[list[tuple[int, str]], int]:
    """The names by their numbers, where all have one, and the number of the first."""
    filled = [row for row in rows if row[1]]
    for pattern, at in ((_FRONT, 1), (_BACK, 2)):
        named = [
            (int(match[at]), line, _cleaned(match[3 - at]))
            for line, name in filled
            if (match := pattern.fullmatch(name))
        ]
        # A name may end with a number, or begin with one: only all of them in a row are numbers.
        gapless = _first(named) is not None
        if named and len(named) == len(filled) and (gapless or (at == 1 and len(named) > 1)):
            empty = [(rows[-1][0], line, "") for line, name in rows if not name]
            return _by_number(path, named, faults, empty)
    return rows, 0


def _first(named: list[Named]) -> int | None:
    """The lowest of some numbers if it is 0 or 1 and none is missing after it."""
    numbers = sorted(number for number, *_ in named)
    for first in (0, 1):
        if numbers == list(range(first, first + len(numbers))):
            return first
    return None


def _by_number(
    path: Path, named: list[Named], faults: Faults, empty: list[Named]
) -> tuple[list[tuple[int, str]], int]:
    """Names in the order of their numbers; numbers given twice or beyond a gap are faults."""
    first = _first(named)
    seen: dict[int, int] = {}
    for number, line, _ in named if first is None else ():
        if number in seen:
            faults.add(text.at(path, line), f"the number {number} is also in line {seen[number]}")
        elif number > len(named):
            faults.add(
                text.at(path, line), f"the number {number} is out of place in {len(named)} classes"
            )
        seen.setdefault(number, line)
    if first is None and not faults:
        low = min(seen)
        missing = next(number for number in range(low, low + len(seen) + 1) if number not in seen)
        faults.add(display_name(path.name), f"the number {missing} is missing")
    return [(line, name) for _, line, name in [*sorted(named), *empty]], first or 0


def _from_json(path: Path, faults: Faults) -> tuple[list[tuple[int, str]], int]:
    """Names of a JSON file in order, with the line of each, and the number of the first."""
    found = text.JsonFile(path, faults)
    value = found.value
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return [(_line(found, name), _cleaned(name)) for name in value], 0
    named: list[Named] = []
    for key, other in value.items() if isinstance(value, dict) else ():
        by_number = text.whole(key) is not None and isinstance(other, str)
        number, name = (key, other) if by_number else (str(other), key)
        if text.whole(number) is not None:
            named.append((int(number), _line(found, key), _cleaned(name)))
    if not named or len(named) < len(value):
        raise DataError(f"{display_name(path.name)}: neither a list of names nor names by number")
    return _by_number(path, named, faults, [])


def _line(found: text.JsonFile, name: str) -> int:
    return int(found.where(name).rpartition(":")[2])


def read_class_names(path: Path) -> tuple[str, ...]:
    """The names of classes alone.

    Raises:
        DataError: The file cannot be read, or has any fault.
    """
    faults = Faults(display_name(path.name))
    try:
        found = class_names(path, faults)
    except DataError:
        faults.check()
        raise
    faults.check()
    return found.names
