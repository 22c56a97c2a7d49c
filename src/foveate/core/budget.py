"""Parse budgets such as `100MMAC/s`."""

from __future__ import annotations

import re

from foveate.core.errors import ConfigError

_PREFIXES = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
_BUDGET = re.compile(
    r"\s*([0-9.]+(?:e[0-9]+)?)\s*([kmgt]?)(macs?/s|ms/frame|fps|macs?|ms)\s*", re.I
)
_FIELDS = {
    "mac/s": "macs_per_second",
    "macs/s": "macs_per_second",
    "ms/frame": "ms_per_frame",
    "fps": "frames_per_second",
    "mac": "macs_per_answer",
    "macs": "macs_per_answer",
    "ms": "ms_per_answer",
}


def parse_budget(text: str) -> dict[str, float]:
    """Read budgets such as `100MMAC/s`, `2ms/frame` or `3fps`, or several separated by commas.

    `5GMAC` and `20ms` are per result, on average; only models with calibrated exits accept them.

    Returns:
        The given fields of `Budget` by name.

    Raises:
        ConfigError: An unknown unit, or a number that is not positive.
    """
    budget: dict[str, float] = {}
    for part in text.split(","):
        match = _BUDGET.fullmatch(part)
        if match is None:
            raise ConfigError(
                f"budget {text}: not understood",
                "use 100MMAC/s, 2ms/frame or 3fps; with calibrated exits 5GMAC or 20ms",
            )
        number, prefix, unit = match.groups()
        try:
            value = float(number) * _PREFIXES[prefix.lower()]
        except ValueError:
            raise ConfigError(f"budget {text}: {number} is not a number") from None
        if value <= 0:
            raise ConfigError(f"budget {text}: must be positive")
        budget[_FIELDS[unit.lower()]] = value
    return budget
