"""Text on frames, in whatever OpenCV is installed.

OpenCV 5 carries its own outline fonts for most scripts. OpenCV 4 has stroke fonts for ASCII only
and draws `?` for all else. A label must not turn into question marks in silence, so a character
without a glyph is spelled out: romanised, or named by its code point.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from foveate.core.text import visible

Pixels = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

_STROKES = cv2.FONT_HERSHEY_SIMPLEX
_CAPITALS = 0.7  # height of a capital letter as a share of the size

_ROMAN: dict[str, str] = {
    "ё": "yo",
    "ж": "zh",
    "х": "kh",
    "ц": "ts",
    "ч": "ch",
    "ш": "sh",
    "щ": "shch",
    "ю": "yu",
    "я": "ya",
    "ї": "yi",
    "є": "ye",
    "θ": "th",
    "χ": "ch",
    "ψ": "ps",
    "ß": "ss",
    "æ": "ae",
    "œ": "oe",
    "þ": "th",
    "…": "...",
    **dict(zip("абвгдезийклмнопрстуфъыьэіґ", "abvgdeziyklmnoprstuf'y'eig", strict=True)),
    **dict(zip("αβγδεζηικλμµνξοπρσςτυφω", "avgdeziiklmmnxoprsstyfo", strict=True)),
    **dict(zip("øłđðı‘’“”–—·•⁄", "olddi''\"\"----/", strict=True)),
}
# Scripts whose code points are named by their sound.
_SPOKEN = ("HIRAGANA LETTER ", "KATAKANA LETTER ", "HANGUL SYLLABLE ")


def has_outlines() -> bool:
    """Whether this OpenCV has fonts beyond the strokes of ASCII (version 5 on)."""
    return hasattr(cv2, "FontFace")


def spell(text: str) -> str:
    """The text with every character that cannot be drawn written out in ASCII."""
    shown = visible(text)
    if shown.isascii():
        return shown
    return "".join(c if _drawable(c) else romanise(c) for c in unicodedata.normalize("NFC", shown))


def romanise(character: str) -> str:
    """One character in ASCII: `é` → `e`, `ж` → `zh`, `か` → `ka`, `手` → `U+624B`."""
    if character.isascii():
        return character
    if character.lower() in _ROMAN:
        return _letter(character)
    parts = unicodedata.normalize("NFKD", character)
    base = "".join(_letter(part) for part in parts if not unicodedata.combining(part))
    if base.isascii() and parts != character:
        return base
    name = unicodedata.name(character, "")
    for script in _SPOKEN:
        if name.startswith(script):
            return name.removeprefix(script).split()[-1].lower()
    if unicodedata.category(character) in ("So", "Sm", "Sc") and name:
        return f"[{name.lower()}]"
    # Joiners and variation marks have nothing to show.
    if unicodedata.category(character) in ("Cf", "Mn"):
        return ""
    return f"U+{ord(character):04X}"


def _letter(character: str) -> str:
    roman = _ROMAN.get(character.lower(), character)
    return roman if character == character.lower() else roman.capitalize()


@lru_cache(maxsize=4096)
def _drawable(character: str) -> bool:
    """Whether the fonts have a glyph; OpenCV does not tell, but its stand-in is always `?`."""
    if character.isascii():
        return True
    if not has_outlines():
        return False
    return not np.array_equal(_specimen(character), _specimen("?"))


def _specimen(text: str) -> Pixels:
    image = np.zeros((32, 48, 3), np.uint8)
    draw(image, text, (4, 24), 20)
    return image


def width(text: str, size: int, bold: bool = False) -> int:
    """Pixels that the text takes in a row."""
    if not text:
        return 0
    if has_outlines():
        box: Any = cv2.getTextSize(
            (1, 1), text, (0, 0), _face(), size, _weight(bold), wrap=(0, 1 << 20)
        )
        return int(box[0] + box[2])
    scale, thick = _strokes(size, bold)
    return int(cv2.getTextSize(text, _STROKES, scale, thick)[0][0])


def fit(text: str, size: int, most: int, bold: bool = False) -> str:
    """The text, cut with an ellipsis to at most `most` pixels; empty if nothing fits."""
    if width(text, size, bold) <= most:
        return text
    mark = "…" if has_outlines() else ".."
    low, high = 0, len(text)
    # The longest prefix that fits, by halving: a label may have thousands of characters.
    while low < high:
        middle = (low + high + 1) // 2
        if width(text[:middle].rstrip() + mark, size, bold) <= most:
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip() + mark if low else ""


def draw(
    image: Pixels,
    text: str,
    at: tuple[int, int],
    size: int,
    colour: Colour = (255, 255, 255),
    bold: bool = False,
) -> None:
    """Draw one line into `image` (H, W, 3), in place.

    Args:
        image: (H, W, 3) uint8, contiguous.
        text: What `spell` gave.
        at: `(x, y)` of the left end of the base line.
        size: Height of the line in pixels.
        colour: In the order of the image's channels.
        bold: Whether it stands out.
    """
    if not text:
        return
    if has_outlines():
        # The wide wrap keeps a line that touches the edge on one line.
        cv2.putText(image, text, at, colour, _face(), size, _weight(bold), wrap=(0, 1 << 20))
        return
    scale, thick = _strokes(size, bold)
    cv2.putText(image, text, at, _STROKES, scale, colour, thick, cv2.LINE_AA)


def _face() -> Any:
    return cv2.FontFace("sans")


def _weight(bold: bool) -> int:
    return 650 if bold else 500


def _strokes(size: int, bold: bool) -> tuple[float, int]:
    thick = max(1, round(size / (12 if bold else 18)))
    capital = max(5, round(size * _CAPITALS))
    return float(cv2.getFontScaleFromHeight(_STROKES, capital, thick)), thick
