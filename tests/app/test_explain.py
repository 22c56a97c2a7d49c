"""`foveate explain` as a user types it, and what it draws."""

import numpy as np
import pytest
from typer.testing import CliRunner

from clips import encode
from foveate.app.main import app
from foveate.core import FoveateError
from foveate.media import Video
from foveate.viz.why import Reason, describe, draw_reason, heat_picture, strip, with_footer
from foveate.viz.why_page import Explained, conclusion, reasons_page

SIZE = (128, 96)


def run(*words):
    return CliRunner().invoke(app, ["explain", *map(str, words)])


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "a clip.mp4"
    path.write_bytes(encode(frames=60, size=SIZE))
    return path


def test_explain_writes_a_video_and_a_page(clip, tmp_path) -> None:
    video, page = tmp_path / "why.mp4", tmp_path / "why.html"
    done = run(clip, "--video", video, "--report", page)
    assert done.exit_code == 0, done.output
    assert "frames looked at, motion from vectors" in done.output
    with Video(video) as drawn:
        info = drawn.info
        assert info.width == 2 * SIZE[0]
        assert info.height > SIZE[1]
        assert info.duration == pytest.approx(2.4, abs=0.1)
    text = page.read_text("utf-8")
    assert text.count("<figure>") == 12
    assert "Motion from vectors." in text
    assert "One window for the whole video" in text or "One window per shot" in text
    assert "<script" not in text


def test_explain_says_where_flow_stands_in(tmp_path) -> None:
    path = tmp_path / "web.webm"
    path.write_bytes(encode("matroska", "libvpx-vp9", 30, size=SIZE))
    done = run(path)
    assert done.exit_code == 0
    assert "motion from flow" in done.output
    assert "vp9 video gives no motion vectors" in done.output


def test_explain_refuses_what_it_cannot_do(clip, tmp_path) -> None:
    assert run(clip, "--look", "uniform").exit_code == 2
    assert run(clip, "--look", "motion-pach").exit_code == 2
    assert run(clip, "--set", "look.motion=flow_afine").exit_code == 2
    assert run(clip, clip.with_name("b.mp4"), "--video", tmp_path / "x.mp4").exit_code == 2
    assert run(clip, "--video", clip).exit_code == 2
    (tmp_path / "text.mp4").write_text("no video")
    assert run(tmp_path / "text.mp4").exit_code == 1


def test_reason_is_drawn_beside_its_map() -> None:
    frame = np.full((96, 128, 3), 90, np.uint8)
    heat = np.zeros((12, 16), np.float32)
    heat[2:4, 10:12] = 1
    reason = Reason(1.0, (64.0, 0.0, 112.0, 48.0), 0.8, False, heat, "vectors")
    picture = draw_reason(frame, reason, SIZE, [reason])
    assert picture.shape == (96, 256, 3)
    assert with_footer(picture, reason).shape[0] > 96
    right = picture[:96, 128:].astype(int).sum(-1)
    assert right[20:28, 84:92].mean() > 5 * max(right[60:90, 10:50].mean(), 1)
    assert tuple(picture[0, 80]) == (255, 204, 77)
    assert np.array_equal(frame, np.full((96, 128, 3), 90, np.uint8))
    assert not heat_picture(None, SIZE).any()
    assert not heat_picture(np.zeros((3, 3), np.float32), SIZE).any()
    assert strip([picture, picture]).shape[1] == 2 * 256 + 6
    with pytest.raises(FoveateError):
        draw_reason(frame[..., 0], reason, SIZE)


def test_words_and_page_say_what_happened_and_escape_names() -> None:
    fallback = Reason(2.0, None, 0.0, True, None, "flow")
    assert "fallback" in describe(fallback)
    assert "whole view" in describe(Reason(0.0, None))
    page = reasons_page([Explained("<b>.mp4", [fallback], [(fallback, b"jpg")], ["a <note>"])])
    assert "&lt;b&gt;.mp4" in page
    assert "a &lt;note&gt;" in page
    assert "No window: the network sees each frame as a whole (1 frame)." in page
    assert "(fallback) in 1 of 1 frame." in page
    assert "data:image/jpeg;base64,anBn" in page


def test_the_conclusion_says_what_the_window_did() -> None:
    def said(*boxes, **rest):
        reasons = [Reason(0.2 * k, box, 0.5) for k, box in enumerate(boxes)]
        return conclusion(Explained("a", reasons, [], size=SIZE, **rest))

    first, second = (0.0, 0.0, 64.0, 48.0), (64.0, 48.0, 128.0, 96.0)
    assert said(first, first, hold=2.0) == "One window for the whole video, 25.0 % of the frame."
    assert said(first, second, hold=2.0).startswith(
        "One window per shot, for at most 2.00 s: 2 windows"
    )
    assert said(first, second, first).startswith("The window moves: 3 places in 3 frames")
