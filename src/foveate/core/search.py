"""How a study may vary a setting: an annotation of the fields of typed settings."""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Search:
    """How a study may vary a field; an annotation beside the field's bounds.

    >>> Search.int(4, 16, step=4)
    Search(low=4, high=16, step=4, log=False, choices=None, integer=True)

    Attributes:
        low: Least value, None with `choices`.
        high: Greatest value, None with `choices`.
        step: Distance of values, None for continuous ones.
        log: Draw on a logarithmic scale.
        choices: The values, None for a range.
        integer: Whether values are whole numbers.
    """

    low: builtins.float | None = None
    high: builtins.float | None = None
    step: builtins.float | None = None
    log: bool = False
    choices: tuple[Any, ...] | None = None
    integer: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn from.

        Raises:
            ValueError: An empty range or no choices, or a logarithm of what is not positive.
        """
        if self.choices is not None:
            if not self.choices:
                raise ValueError("Search: no choices")
            return
        if self.low is None or self.high is None or self.low > self.high:
            raise ValueError(f"Search: from {self.low} to {self.high} is no range")
        if self.log and self.low <= 0:
            raise ValueError(f"Search: a logarithmic scale cannot begin at {self.low}")

    @classmethod
    def int(
        cls, low: builtins.int, high: builtins.int, step: builtins.int = 1, log: bool = False
    ) -> Search:
        """Whole numbers from `low` to `high`, both included."""
        return cls(low, high, step, log, integer=True)

    @classmethod
    def float(cls, low: builtins.float, high: builtins.float, log: bool = False) -> Search:
        """Numbers from `low` to `high`."""
        return cls(low, high, log=log)

    @classmethod
    def choice(cls, *values: Any) -> Search:
        """One of these values."""
        return cls(choices=values)
