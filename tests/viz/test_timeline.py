"""The timeline is well-formed, true to its segments, and bounded in size."""

from __future__ import annotations

import re
import time
from xml.etree import ElementTree

import made_up
import pytest
from made_up import HOSTILE, segment

from foveate.core import Result, Segment, Trace, TraceStep
from foveate.viz.palette import COLOURS, NONE, OTHER
from foveate.viz.timeline import nice_step, timeline_svg

SPACE = "{http://www.w3.org/2000/svg}"


def of(*segments: Segment, duration: float | None = None, frames: tuple[float, ...] = ()) -> Result:
    trace = Trace(size=[10, 10], steps=[TraceStep(time=0, frames=list(frames))]) if frames else None
    return Result(source="a", model="m", segments=list(segments), duration=duration, trace=trace)


def bars(svg: str) -> list[ElementTree.Element]:
    """The bars, each of which says its segment in a title."""
    root = ElementTree.fromstring(svg)
    return [rect for rect in root.findall(f"{SPACE}rect") if rect.find(f"{SPACE}title") is not None]


def words(svg: str) -> str:
    return " | ".join(ElementTree.fromstring(svg).itertext())


def number(element: ElementTree.Element, name: str) -> float:
    return float(element.attrib[name])


def test_bars_stand_where_their_segments_are_and_as_high_as_their_scores() -> None:
    first, second = bars(
        timeline_svg(of(segment(0, 2, "a", 1.0), segment(2, 8, "b", 0.5), duration=8))
    )
    assert number(second, "width") == pytest.approx(3 * number(first, "width"), rel=0.02)
    assert number(second, "x") == pytest.approx(
        number(first, "x") + number(first, "width") + 1, abs=0.2
    )
    assert number(second, "height") == pytest.approx(number(first, "height") / 2, abs=0.2)
    assert number(first, "y") < number(second, "y")
    assert first.find(f"{SPACE}title").text == "a, 100.0 %, 0:00.0–0:02.0"


def test_colours_follow_labels_and_none_is_grey() -> None:
    drawn = bars(timeline_svg(of(segment(0, 1, "a"), segment(1, 2, "none"), segment(2, 4, "a"))))
    assert [bar.attrib["fill"] for bar in drawn] == [COLOURS[0], NONE, COLOURS[0]]


def test_more_labels_than_colours_share_one_and_the_key_says_so() -> None:
    count = len(COLOURS) + 3
    svg = timeline_svg(of(*(segment(k, k + 1, f"label {k}") for k in range(count))))
    assert [bar.attrib["fill"] for bar in bars(svg)].count(OTHER) == 3
    assert "3 other labels" in words(svg)


@pytest.mark.parametrize("duration", [None, 0.0, -3.0])
def test_any_duration_or_none_gives_a_drawing(duration: float | None) -> None:
    answer = of(segment(0, 3), frames=(1.0,)).model_copy(update={"duration": duration})
    assert "| 3.0 s |" in words(timeline_svg(answer))


def test_segments_without_length_are_still_visible() -> None:
    (bar,) = bars(timeline_svg(of(segment(0, 0), duration=0)))
    assert number(bar, "width") >= 1
    assert not re.search("nan|inf", timeline_svg(of(segment(0, 0), duration=0)))


def test_an_empty_result_gives_an_empty_axis() -> None:
    for answer in (of(), made_up.failed()):
        svg = timeline_svg(answer)
        assert bars(svg) == []
        assert "nan" not in svg


def test_scores_that_are_no_share_are_drawn_inside() -> None:
    svg = timeline_svg(of(*(segment(k, k + 1, "a", s) for k, s in enumerate((9, -1)))))
    heights = [number(bar, "height") for bar in bars(svg)]
    assert heights[0] <= 64
    assert min(heights) > 0


def test_bars_and_text_stay_inside_the_drawing() -> None:
    svg = timeline_svg(made_up.result(segments=60), width=500)
    root = ElementTree.fromstring(svg)
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for rect in root.iter(f"{SPACE}rect"):
        assert 0 <= number(rect, "x") <= number(rect, "x") + number(rect, "width") <= width + 0.1
        assert 0 <= number(rect, "y") <= number(rect, "y") + number(rect, "height") <= height + 0.1
    for text in root.iter(f"{SPACE}text"):
        assert 0 <= number(text, "x") <= width
        assert 0 <= number(text, "y") <= height


def test_hostile_labels_are_text_and_the_xml_stays_whole() -> None:
    # Surrogates cannot be in a Result, whose strings are Unicode.
    hostile = HOSTILE.replace("\ud800", "")
    steps = [TraceStep(time=0, frames=[0.0], exit=hostile, modalities=[hostile])]
    answer = of(segment(0, 9, hostile)).model_copy(
        update={"trace": Trace(size=[1, 1], steps=steps)}
    )
    svg = timeline_svg(answer)
    root = ElementTree.fromstring(svg)
    assert {element.tag.removeprefix(SPACE) for element in root.iter()} <= {
        "svg", "g", "rect", "path", "text", "tspan", "title"
    }  # fmt: skip
    assert "<script>alert('x')</script>" in words(svg)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\ufffe]", svg)


def test_very_long_labels_are_cut() -> None:
    assert len(timeline_svg(of(segment(0, 5, "very " * 5000)))) < 4000


def test_five_thousand_segments_are_drawn_in_columns() -> None:
    many = made_up.result(length=7200.0, segments=5000)
    started = time.process_time()
    svg = timeline_svg(many)
    assert time.process_time() - started < 2
    assert len(svg) < 300_000
    drawn = bars(svg)
    assert 100 < len(drawn) <= 940
    hovers = [re.search(r"\((\d+) segments here\)", "".join(bar.itertext())) for bar in drawn]
    counted = sum(int(found.group(1)) if found else 1 for found in hovers)
    assert counted == pytest.approx(5000, rel=0.05)


def test_columns_show_what_covers_most_of_them() -> None:
    # Between every two long segments of one label hides a short one of another.
    pieces = []
    for k in range(1000):
        pieces += [segment(k, k + 0.9, "long", 0.7), segment(k + 0.9, k + 1, "short", 0.7)]
    drawn = bars(timeline_svg(of(*pieces)))
    assert {bar.attrib["fill"] for bar in drawn} == {COLOURS[0]}
    assert len(drawn) == 1


def test_every_look_is_a_tick_and_far_too_many_are_one_path() -> None:
    few = timeline_svg(of(frames=(0.0, 1.0, 2.0), duration=4))
    assert len(re.findall("<title>looked at", few)) == 3
    assert "<title>looked at" not in timeline_svg(of(frames=(0.0, 1.0), duration=4), detail=False)
    many = timeline_svg(of(frames=tuple(k / 100 for k in range(50_000)), duration=500))
    assert "50,000 frames looked at" in words(many)
    assert len(many) < 40_000


@pytest.mark.parametrize(
    ("span", "step"),
    [(42, 5), (9, 1), (0.4, 0.05), (3600, 600), (300, 30), (7 * 86400, 86400), (1e9, 1e8)],
)
def test_ticks_are_at_round_times(span: float, step: float) -> None:
    assert nice_step(span, 10) == pytest.approx(step)


@pytest.mark.parametrize("span", [1e-9, 0.003, 1.0, 59.9, 1e5, 1e12, 1e300])
def test_any_span_has_a_few_ticks(span: float) -> None:
    root = ElementTree.fromstring(timeline_svg(of(duration=span)))
    assert 2 <= len(root.findall(f".//{SPACE}g/{SPACE}text")) <= 14


def test_the_drawing_is_described_in_words_too() -> None:
    label = ElementTree.fromstring(timeline_svg(made_up.result())).attrib["aria-label"]
    assert "9 segments" in label
    assert "42 frames looked at" in label
