"""Text on frames, drawn by Pillow.

Pillow ships one small font, which has ASCII. Text that needs more is set in the first installed
font that has all of its characters; Pillow finds fonts in the system's own folders. What no font
has is spelled out in ASCII, so that a label never turns into empty boxes: Latin letters without
their accents, everything else as its code point (`U+624B`).
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from PIL import ImageDraw, ImageFont

from foveate.core.text import visible

Colour = tuple[int, int, int]

# Fonts with wide coverage that Linux, Windows and macOS install; None is the one in Pillow.
_FONTS = (
    None,
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "arial.ttf",
    "Arial Unicode.ttf",
    "NotoSansCJK-Regular.ttc",
    "msyh.ttc",
    "NotoSansDevanagari-Regular.ttf",
    "Nirmala.ttf",
)
_SCALE = 1.1  # Pillow's font is small for its size
# Thickens the strokes, as shares of the size: the fonts come in one weight only.
_STROKE, _BOLD_STROKE = 0.013, 0.028
_LATIN = re.compile(r"LATIN (SMALL|CAPITAL) LETTER (?:\w+ )?([A-Z]{1,2})(?: WITH .*)?")


def spell(text: str) -> str:
    """The text with every character that no installed font has written in ASCII."""
    shown = unicodedata.normalize("NFC", visible(text))
    if shown.isascii():
        return shown
    name = _font_name(shown)
    return "".join(c if _has(name, c) else _in_ascii(c) for c in shown)


def width(text: str, size: int, bold: bool = False) -> int:
    """Pixels that one line of text takes."""
    return round(_font(_font_name(text), size).getlength(text) + 2 * _stroke(size, bold))


def fit(text: str, size: int, most: int, bold: bool = False) -> str:
    """The text, cut with an ellipsis to at most `most` pixels; empty if nothing fits."""
    if width(text, size, bold) <= most:
        return text
    low, high = 0, len(text)
    # Bisects for the longest prefix that fits: a label may have thousands of characters.
    while low < high:
        middle = (low + high + 1) // 2
        if width(text[:middle].rstrip() + "…", size, bold) <= most:
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip() + "…" if low else ""


def draw(
    canvas: ImageDraw.ImageDraw,
    text: str,
    at: tuple[int, int],
    size: int,
    colour: Colour = (255, 255, 255),
    bold: bool = False,
) -> None:
    """Draw one line of text.

    Args:
        canvas: Of the image to draw into.
        text: As returned by `spell`.
        at: `(x, y)` of the left end of the baseline.
        size: Height of the line in pixels.
        colour: RGB, 0..255.
        bold: Whether to use thicker strokes.
    """
    font = _font(_font_name(text), size)
    canvas.text(at, text, colour, font, anchor="ls", stroke_width=_stroke(size, bold))


def _stroke(size: int, bold: bool) -> float:
    return size * (_BOLD_STROKE if bold else _STROKE)


@lru_cache(maxsize=64)
def _font(name: str | None, size: int) -> ImageFont.FreeTypeFont:
    if name is None:
        font = ImageFont.load_default(_SCALE * size)
        assert isinstance(font, ImageFont.FreeTypeFont)
        return font
    return ImageFont.truetype(name, size)


@lru_cache(maxsize=1)
def _installed() -> tuple[str | None, ...]:
    """Those of `_FONTS` that this machine has, in their order."""
    found = []
    for name in _FONTS:
        try:
            _font(name, 16)
        except OSError:
            continue
        found.append(name)
    return tuple(found)


@lru_cache(maxsize=1024)
def _font_name(text: str) -> str | None:
    """The first font that has the most characters of the text."""
    if text.isascii():
        return None
    return max(_installed(), key=lambda name: sum(_has(name, character) for character in text))


@lru_cache(maxsize=8192)
def _has(name: str | None, character: str) -> bool:
    """Whether a font has a glyph: Pillow does not say, but all missing ones look the same."""
    # Without shaping, which would add a dotted circle below a lone combining mark.
    font = _font(name, 16).font_variant(layout_engine=ImageFont.Layout.BASIC)
    masks = [font.getmask(one) for one in (character, "\U0010ffff")]
    return masks[0].size != masks[1].size or bytes(masks[0]) != bytes(masks[1])


def _in_ascii(character: str) -> str:
    """One character in ASCII: `é` becomes `e`, `½` becomes `1/2`, `手` becomes `U+624B`."""
    parts = unicodedata.normalize("NFKD", character).replace("\N{FRACTION SLASH}", "/")
    base = "".join(part for part in parts if not unicodedata.combining(part))
    if base.isascii() and base:
        return base
    if letter := _LATIN.fullmatch(unicodedata.name(character, "")):
        return letter[2].capitalize() if letter[1] == "CAPITAL" else letter[2].lower()
    # Joiners and variation selectors have no shape of their own.
    return "" if unicodedata.category(character) in ("Cf", "Mn") else f"U+{ord(character):04X}"
