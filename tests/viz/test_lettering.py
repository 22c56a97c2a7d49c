"""Text on frames stays readable with the fonts of this machine and with Pillow's own only."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from made_up import HOSTILE
from PIL import Image, ImageDraw

from foveate.viz import lettering


@pytest.fixture(params=["installed", "bundled"])
def fonts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The fonts of this machine, and a machine that has none."""
    if request.param == "bundled":
        monkeypatch.setattr(lettering, "_installed", lambda: (None,))
    lettering._font_name.cache_clear()
    yield request.param
    lettering._font_name.cache_clear()


def drawn(text: str, size: int, extent: tuple[int, int], at: tuple[int, int]) -> np.ndarray:
    """A black image of `(width, height)` with the text on it, as (H, W, 3)."""
    image = Image.new("RGB", extent)
    lettering.draw(ImageDraw.Draw(image), text, at, size)
    return np.asarray(image)


@pytest.mark.parametrize(
    ("text", "ascii_"),
    [
        ("Grüße", "Gruse"),
        ("Łódź Øre Æ", "Lodz Ore Ae"),
        ("e\N{COMBINING ACUTE ACCENT}", "e"),
        ("½", "1/2"),
        ("手x", "U+624Bx"),
        ("🏃\N{VARIATION SELECTOR-16}", "U+1F3C3"),
    ],
)
def test_what_no_font_has_is_spelled_out(text: str, ascii_: str, monkeypatch) -> None:
    monkeypatch.setattr(lettering, "_has", lambda _name, character: character.isascii())
    lettering._font_name.cache_clear()
    assert lettering.spell(text) == ascii_


def test_no_character_becomes_an_empty_box(fonts: str) -> None:
    for text in ("é", "ß", "ж", "Я", "Ω", "手", "か", "춤", "✂", "🏃", "हि", "\x07", "\u202e"):
        spelled = lettering.spell(text)
        assert spelled
        assert "?" not in spelled
        name = lettering._font_name(spelled)
        assert all(lettering._has(name, character) for character in spelled), text
        assert fonts != "bundled" or name is None


def test_a_missing_glyph_is_noticed(fonts: str) -> None:
    assert lettering._has(None, "a")
    assert lettering._has(None, " ")
    assert not lettering._has(None, "手")
    assert not lettering._has(None, "\N{DEVANAGARI VOWEL SIGN I}")


def test_plain_ascii_is_left_alone(fonts: str) -> None:
    text = 'what? "a" (b), c-d'
    assert lettering.spell(text) == text


@pytest.mark.parametrize("size", [9, 16, 60])
def test_a_line_takes_the_width_that_was_measured(fonts: str, size: int) -> None:
    extent = (size * 40, size * 2)
    text = lettering.fit("jumping into pool", size, extent[0])
    columns = np.flatnonzero(drawn(text, size, extent, (size, size * 3 // 2)).any(axis=(0, 2)))
    assert columns.size
    # The tail of a "j" reaches a little to the left of its line.
    slack = 2 + size // 20
    assert columns[0] >= size - slack
    assert size + lettering.width(text, size) - 2 * slack <= columns[-1]
    assert columns[-1] <= size + lettering.width(text, size) + slack


def test_fit_cuts_long_and_keeps_short(fonts: str) -> None:
    assert lettering.fit("short", 20, 500) == "short"
    cut = lettering.fit(lettering.spell("very " * 2000), 20, 200)
    assert lettering.width(cut, 20) <= 200
    assert cut.startswith("very very")
    assert cut.endswith("…")
    assert lettering.fit("short", 20, 2) == ""


def test_bold_text_is_heavier_and_its_width_is_measured() -> None:
    image = Image.new("RGB", (300, 60))
    lettering.draw(ImageDraw.Draw(image), "label", (10, 40), 30, bold=True)
    assert np.asarray(image).sum() > 1.1 * drawn("label", 30, (300, 60), (10, 40)).sum()
    assert lettering.width("label", 30, bold=True) > lettering.width("label", 30)


def test_a_line_at_the_edge_does_not_wrap(fonts: str) -> None:
    assert not drawn("far too long for this", 16, (60, 100), (5, 20))[40:].any()


def test_hostile_text_is_drawn_as_visible_characters(fonts: str) -> None:
    assert drawn(lettering.spell(HOSTILE), 16, (900, 40), (2, 25)).any()
