"""Faults of a data set: collected, each with its file and line, and raised together."""

from __future__ import annotations

from collections.abc import Sequence

from foveate.core import FoveateError

CAP = 50


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
        cure: str | None = None,
        faults: Sequence[str] = (),
        count: int | None = None,
    ) -> None:
        super().__init__(cause, cure)
        self.faults = tuple(faults) or (str(self),)
        self.count = len(self.faults) if count is None else count


class Faults:
    """Collects faults; keeps the first `CAP` and counts the rest.

    Args:
        name: What the data set is called in messages.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: list[str] = []
        self.count = 0

    def __bool__(self) -> bool:
        return self.count > 0

    def add(self, where: str, what: str) -> None:
        """Note one fault.

        Args:
            where: File and line, such as `clips.csv:12`.
            what: One line that says what is wrong.
        """
        self.count += 1
        if len(self.lines) < CAP:
            self.lines.append(" ".join(f"{where}: {what}".split()))

    def check(self) -> None:
        """Raise what was collected.

        Raises:
            DataError: There is at least one fault.
        """
        if not self.count:
            return
        first = self.lines[0]
        if self.count > 1:
            first = f"{self.name}: {self.count} faults, the first is {first}"
        raise DataError(first, faults=self.lines, count=self.count)
