"""Every source: frames, times and refusals alike; new classes are found by themselves."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import foveate.media
from clips import encode, number_of, picture
from data.labelled import pictures
from foveate.core import MediaError, Sample
from foveate.media import open_source
from foveate.media.mask import MaskedSample

FRAMES, FPS = 12, 10.0
METHODS = {"info", "frames", "keyframes", "motion", "next_time", "audio", "close"}
PICTURES = np.stack([picture(n) for n in range(FRAMES)])

# A source of twelve numbered frames at ten a second, by the name of its class.
EXAMPLES: dict[str, Callable[[Path], Any]] = {
    "Video": lambda folder: open_source(encode(frames=FRAMES, rate=10)),
    "ArrayVideo": lambda folder: open_source(PICTURES, fps=FPS),
    "FrameStream": lambda folder: open_source((p, i / FPS) for i, p in enumerate(PICTURES)),
    # A mask in a corner that no assertion looks at.
    "MaskedSample": lambda folder: MaskedSample(
        open_source(PICTURES, fps=FPS), (((0.98, 0.98), (1.0, 0.98), (1.0, 1.0)),)
    ),
    "FrameFolder": lambda folder: open_source(pictures(folder / "frames", FRAMES), fps=FPS),
}


def classes() -> set[str]:
    """Names of the public classes below `foveate.media` with the methods of a source."""
    found = set()
    for module in pkgutil.walk_packages(foveate.media.__path__, "foveate.media."):
        for name, one in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            own = one.__module__.startswith("foveate.media") and not name.startswith("_")
            if own and all(hasattr(one, method) for method in METHODS):
                found.add(name)
    return found


def test_every_source_has_an_example() -> None:
    assert classes() == set(EXAMPLES)


@pytest.fixture(params=sorted(EXAMPLES))
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    sample = EXAMPLES[request.param](tmp_path)
    assert type(sample).__name__ == request.param
    yield sample
    sample.close()
    sample.close()  # twice is safe


def test_it_has_the_interface_of_a_sample(source: Any) -> None:
    assert isinstance(source, Sample)
    assert (source.info.width, source.info.height) == (64, 48)


def test_frames_are_those_shown_at_the_times(source: Any) -> None:
    times = [0.0, 0.25, 0.5, 1.15]
    clip = source.frames(times)
    assert clip.pixels.shape == (4, 48, 64, 3)
    assert clip.pixels.dtype == np.uint8
    assert list(clip.times) == pytest.approx([0.0, 0.2, 0.5, 1.1])
    if type(source).__name__ != "FrameFolder":  # its pictures are plain
        assert [number_of(p) for p in clip.pixels] == [0, 2, 5, 11]


def test_frames_come_in_the_size_asked_for_and_not_beyond_the_end(source: Any) -> None:
    assert source.frames([0.3], (32, 24)).pixels.shape == (1, 24, 32, 3)
    assert len(source.frames([5.0])) == 0


def test_the_next_time_leads_through_all_frames(source: Any) -> None:
    times, at = [0.0], 0.0
    while (later := source.next_time(at)) is not None:
        assert later > at
        times.append(at := later)
    assert times == pytest.approx([i / FPS for i in range(FRAMES)])
    assert set(np.round(source.keyframes(), 6)) <= set(np.round(times, 6))


def test_a_source_without_sound_says_so(source: Any) -> None:
    with pytest.raises(MediaError, match="no sound"):
        source.audio()
