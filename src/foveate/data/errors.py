"""Faults of a data set: collected, each with its file and line, and raised together."""

from __future__ import annotations

import heapq
import re
from collections.abc import Sequence

from foveate.core import FoveateError

CAP = 50
_PLACE = re.compile(r"(.+?):([0-9]{1,18})(?:: .*)?", re.DOTALL)
_LONGEST = 600  # letters of a line


class DataError(FoveateError):
    """A data set that cannot be used as it is.

    Attributes:
        faults: One line per fault, at most `CAP` of them, each beginning with where it is.
        count: How many faults there are in all.
    """

    kind = "data"

    def __init__(
        self,
        cause: str,
        hint: str | None = None,
        faults: Sequence[str] = (),
        count: int | None = None,
    ) -> None:
        super().__init__(cause, hint)
        self.faults = tuple(faults) or (str(self),)
        self.count = len(self.faults) if count is None else count


class Faults:
    """Collects faults; keeps the first `CAP` by file and line and counts the rest.

    Args:
        name: What the data set is called in messages.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0
        self._files: dict[str, int] = {}
        self._kept: list[tuple[int, int, int, str]] = []  # a heap, the last line on top

    def __bool__(self) -> bool:
        return self.count > 0

    @property
    def lines(self) -> list[str]:
        """The kept faults: files in the order in which they were met, lines ascending."""
        return [line for *_, line in sorted(self._kept, reverse=True)]

    def add(self, where: str, what: str) -> None:
        """Add one fault.

        Args:
            where: File and line, such as `clips.csv:12`.
            what: One line that says what is wrong.
        """
        self.count += 1
        file, line = place(where)
        at = self._files.setdefault(file, len(self._files))
        said = " ".join(f"{where}: {what}".split())
        if len(said) > _LONGEST:
            said = f"{said[: _LONGEST // 2]}…{said[-_LONGEST // 2 :]}"
        entry = (-at, -line, -self.count, said)
        if len(self._kept) < CAP:
            heapq.heappush(self._kept, entry)
        else:
            heapq.heappushpop(self._kept, entry)

    def check(self) -> None:
        """Raise the collected faults.

        Raises:
            DataError: There is at least one fault.
        """
        if not self.count:
            return
        lines = self.lines
        first = lines[0]
        if self.count > 1:
            first = f"{self.count} faults, the first is {first}"
            if not lines[0].startswith(f"{self.name}:"):
                first = f"{self.name}: {first}"
        raise DataError(first, faults=lines, count=self.count)


def place(where: str) -> tuple[str, int]:
    """File and line of `clips.csv:12` or `a.json:3: video x`; line 0 of what names none."""
    found = _PLACE.fullmatch(where)
    return (found[1], int(found[2])) if found else (where, 0)
