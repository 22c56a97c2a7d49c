"""Foreign text made fit to show: labels and file names come from anywhere.

Control characters would break XML and steer a terminal; direction overrides would show a file
name that is not the file's. Both are made visible instead of being dropped.
"""

from __future__ import annotations

import html

_LOST = "\N{REPLACEMENT CHARACTER}"
_PICTURES = 0x2400

# Line separators and every character that turns the direction of what follows.
_TURNS = (0x061C, 0x200E, 0x200F, 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
# Half characters stand for bytes of a file name that are not UTF-8.
_HALVES = range(0xD800, 0xE000)

_VISIBLE: dict[int, str] = {
    **{code: chr(_PICTURES + code) for code in range(0x20)},
    0x7F: "\N{SYMBOL FOR DELETE}",
    **dict.fromkeys((*range(0x80, 0xA0), *_TURNS, *_HALVES, 0xFEFF, 0xFFFE, 0xFFFF), _LOST),
}


def visible(text: str) -> str:
    """The text with every control character replaced by a picture of it; always one line."""
    # Nothing printable is in the table, and nearly every text is printable.
    return text if text.isprintable() else text.translate(_VISIBLE)


def escape(text: str) -> str:
    """Text for HTML and XML, in content and in quoted attributes."""
    return html.escape(visible(text), quote=True)


def shorten(text: str, most: int) -> str:
    """At most `most` characters, the end given up for an ellipsis."""
    if len(text) <= most:
        return text
    return text[: max(0, most - 1)].rstrip() + "…" if most > 0 else ""


def shorten_name(name: str, most: int) -> str:
    """At most `most` characters of a file name: its end is kept, for that is where files differ."""
    if len(name) <= most:
        return name
    if most < 8:
        return shorten(name, most)
    tail = (most - 1) * 2 // 3
    return name[: most - 1 - tail] + "…" + name[-tail:]


def plural(number: int, noun: str) -> str:
    """`1 frame`, `1,204 frames`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
