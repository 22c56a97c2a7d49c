"""Which classes a mirror exchanges."""

from __future__ import annotations

from foveate.data.transforms import mirror_labels, mirrored_by_words


def test_words_find_the_mirror_image() -> None:
    classes = ("turn_left", "turn right", "Left-Hook", "right hook", "run", "kick left")
    mirror = mirrored_by_words(classes, {"left": "right"})
    assert mirror == (1, 0, 3, 2, 4, None)
    assert mirror_labels((0, 4), mirror) == (1, 4)
    assert mirror_labels((4, 5), mirror) is None


def test_words_inside_words_are_left_alone() -> None:
    assert mirrored_by_words(("leftovers", "brightness"), {"left": "right"}) == (0, 1)
