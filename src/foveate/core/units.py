"""Numbers formatted for people; all rounding for display is done here.

A number that is not finite is shown as a dash.
"""

from __future__ import annotations

import math

UNKNOWN = "–"

_PREFIXES = ("", "k", "M", "G", "T", "P", "E")


def si(value: float) -> str:
    """Three digits and a decimal prefix: `49_700_000` becomes `49.7 M`.

    Integers below a thousand are exact. Beyond the last prefix, scientific notation is used.
    """
    if not math.isfinite(value):
        return UNKNOWN
    if abs(value) < 1000 and float(value).is_integer():
        return str(int(value))
    step = 0
    scaled = float(value)
    # 999.5 would be printed as "1000" of this prefix, so it belongs to the next.
    while abs(scaled) >= 999.5 and step < len(_PREFIXES) - 1:
        scaled /= 1000
        step += 1
    if abs(scaled) >= 999.5:
        return f"{value:.2e}"
    return f"{_three(scaled)} {_PREFIXES[step]}".rstrip()


def macs(value: float) -> str:
    """Multiply-adds with their unit: `49.7 M MACs`."""
    return f"{si(value)} MACs"


def size(value: float) -> str:
    """Bytes with decimal prefixes: `12.3 MB`, `512 B`."""
    text = si(value)
    if text == UNKNOWN:
        return text
    return f"{text}B" if text[-1].isalpha() else f"{text} B"


def count(value: int) -> str:
    """An integer with thousands separators: `1,204`."""
    return f"{value:,}"


def percent(score: float) -> str:
    """A fraction as a percentage: `0.873` becomes `87.3 %`. A small one is never shown as zero."""
    if not math.isfinite(score):
        return UNKNOWN
    if 0 < score < 0.0005:
        return "<0.1 %"
    # Only exactly 1 is shown as 100 %.
    shown = min(score, 0.999) if score < 1 else score
    return f"{shown * 100:.1f} %"


def seconds(value: float) -> str:
    """A duration: `420 µs`, `12.3 ms`, `1.23 s`, `2 min 05 s`, `1 h 02 min`."""
    if not math.isfinite(value):
        return UNKNOWN
    if value == 0:
        return "0 s"
    if abs(value) < 0.9995e-3:
        return f"{_three(value * 1e6)} µs"
    if abs(value) < 0.9995:
        return f"{_three(value * 1e3)} ms"
    if abs(value) < 59.95:
        return f"{_three(value)} s"
    whole = round(abs(value))
    sign = "-" if value < 0 else ""
    if whole < 3600:
        return f"{sign}{whole // 60} min {whole % 60:02d} s"
    minutes = round(abs(value) / 60)
    return f"{sign}{count(minutes // 60)} h {minutes % 60:02d} min"


def clock(value: float, digits: int = 0) -> str:
    """A time in a video: `0:05`, `1:02:03`, with `digits` after the second (`0:05.2`)."""
    if not math.isfinite(value):
        return UNKNOWN
    unit = 10**digits
    ticks = round(abs(value) * unit)
    whole, part = divmod(ticks, unit)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
    if digits:
        text += f".{part:0{digits}d}"
    return f"-{text}" if value < 0 and ticks else text


def share(score: float) -> float:
    """A score clamped to 0..1, as the length of a bar; 0 if it is not finite."""
    return min(1.0, max(0.0, score)) if math.isfinite(score) else 0.0


def _three(value: float) -> str:
    """Three significant digits without an exponent."""
    size_ = abs(value)
    digits = 2 if size_ < 9.995 else 1 if size_ < 99.95 else 0
    return f"{value:.{digits}f}"
