"""The shared cases: files that public bug reports describe, and what is right for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from foveate.media import Video

pytestmark = pytest.mark.shared


@pytest.mark.parametrize("name", ["b0.mp4", "b2.mp4"])
def test_no_key_frame_is_lost(shared: Path, name: str) -> None:
    with Video(shared / "cases" / "last-key-frame" / name) as video:
        keys = video.keyframes()
        assert keys == pytest.approx([i * 12 / 25 for i in range(10)])
        for key in keys[1:]:
            before = video.meter.packets, video.meter.frames
            assert video.frames([key]).times == (key,)
            assert (video.meter.packets - before[0], video.meter.frames - before[1]) == (1, 1)
