"""Text on frames stays readable in any script, with outline fonts and with strokes only."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from made_up import HOSTILE

from foveate.viz import lettering


@pytest.fixture(params=["installed", "strokes"])
def fonts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """What this OpenCV has, and what every OpenCV has."""
    if request.param == "strokes":
        monkeypatch.setattr(lettering, "has_outlines", lambda: False)
    lettering._drawable.cache_clear()
    yield request.param
    lettering._drawable.cache_clear()


@pytest.mark.parametrize(
    ("text", "ascii_"),
    [
        ("Grüße", "Grusse"),
        ("Łódź Øre", "Lodz Ore"),
        ("Прыжок щё", "Pryzhok shchyo"),
        ("Ώρα", "Ora"),
        ("かな", "kana"),
        ("“a” – b…", '"a" - b...'),
        ("½", "1/2"),
        ("🏃", "[runner]"),
        ("手", "U+624B"),
    ],
)
def test_romanise(text: str, ascii_: str) -> None:
    assert "".join(lettering.romanise(character) for character in text) == ascii_


def test_no_character_is_lost_in_silence(fonts: str) -> None:
    for character in "éßжЯΩ手かな춤✂🏃हिไ\x07\u202e":
        spelled = lettering.spell(character)
        assert spelled != "?"
        assert spelled
        assert fonts != "strokes" or spelled.isascii()


def test_plain_ascii_is_left_alone(fonts: str) -> None:
    text = 'what? "a" (b), c-d'
    assert lettering.spell(text) == text


@pytest.mark.parametrize("size", [9, 16, 60])
def test_a_line_takes_the_width_that_was_measured(fonts: str, size: int) -> None:
    image = np.zeros((size * 2, size * 40, 3), np.uint8)
    text = lettering.fit("jumping into pool", size, image.shape[1])
    lettering.draw(image, text, (size, round(size * 1.5)), size)
    columns = np.flatnonzero(image.any(axis=(0, 2)))
    assert columns.size
    # The tail of a "j" reaches a little to the left of its line.
    slack = 2 + size // 20
    assert columns[0] >= size - slack
    assert columns[-1] <= size + lettering.width(text, size) + slack


def test_fit_cuts_long_and_keeps_short(fonts: str) -> None:
    assert lettering.fit("short", 20, 500) == "short"
    cut = lettering.fit(lettering.spell("very " * 2000), 20, 200)
    assert lettering.width(cut, 20) <= 200
    assert cut.startswith("very very")
    assert cut.endswith(("…", ".."))
    assert lettering.fit("short", 20, 2) == ""


def test_a_line_at_the_edge_does_not_wrap(fonts: str) -> None:
    image = np.zeros((100, 60, 3), np.uint8)
    lettering.draw(image, "far too long for this", (5, 20), 16)
    assert not image[40:].any()


def test_hostile_text_is_drawn_as_pictures_of_itself(fonts: str) -> None:
    image = np.zeros((40, 900, 3), np.uint8)
    lettering.draw(image, lettering.spell(HOSTILE), (2, 25), 16)
    assert image.any()
