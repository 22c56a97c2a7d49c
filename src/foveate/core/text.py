"""Make untrusted text safe to print: labels and file names come from anywhere.

Control characters would break XML and control a terminal; direction overrides would disguise file
names. Both are replaced by visible characters instead of being removed.
"""

from __future__ import annotations

import difflib
import html
from collections.abc import Iterable

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_PICTURES = 0x2400

# Line separators, and all characters that change the writing direction.
_DIRECTIONS = (
    0x061C,
    0x200E,
    0x200F,
    0x2028,
    0x2029,
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
)
# Lone surrogates stand for bytes of a file name that are not UTF-8.
_SURROGATES = range(0xD800, 0xE000)

_VISIBLE: dict[int, str] = {
    **{code: chr(_PICTURES + code) for code in range(0x20)},
    0x7F: "\N{SYMBOL FOR DELETE}",
    **dict.fromkeys(
        (*range(0x80, 0xA0), *_DIRECTIONS, *_SURROGATES, 0xFEFF, 0xFFFE, 0xFFFF), _REPLACEMENT
    ),
}


def visible(text: str) -> str:
    """The text with control characters replaced by visible symbols; always one line."""
    # Nearly all text is printable, and nothing printable is in the table.
    return text if text.isprintable() else text.translate(_VISIBLE)


def escape(text: str) -> str:
    """Text for HTML and XML, in content and in quoted attributes."""
    return html.escape(visible(text), quote=True)


def shorten(text: str, most: int) -> str:
    """Truncate the end to at most `most` characters, with an ellipsis."""
    if len(text) <= most:
        return text
    return text[: max(0, most - 1)].rstrip() + "…" if most > 0 else ""


def shorten_name(name: str, most: int) -> str:
    """Truncate the middle of a file name to `most` characters; names mostly differ at the end."""
    if len(name) <= most:
        return name
    if most < 8:
        return shorten(name, most)
    tail = (most - 1) * 2 // 3
    return name[: most - 1 - tail] + "…" + name[-tail:]


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """A hint with the known word that is most similar, None if no word is known."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.0)
    return f"did you mean {near[0]!r}?" if near else None


def plural(number: int, noun: str) -> str:
    """`1 frame`, `1,204 frames`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
