"""Drawings of an evaluation are well-formed and true to their numbers, whatever the names."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from made_up import HOSTILE

from foveate.evaluate.figures import Point, confusion_svg, cost_svg, front, reliability_svg

SPACE = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> list[str]:
    return [text for text in ElementTree.fromstring(svg).itertext() if text.strip()]


def test_a_confusion_matrix_shades_each_cell_by_its_share_of_the_row() -> None:
    svg = confusion_svg(["a", "b"], ["a", "b"], [[3, 1], [0, 0]])
    cells = {
        cell.find(f"{SPACE}title").text: float(cell.attrib["fill-opacity"])
        for cell in ElementTree.fromstring(svg).iter(f"{SPACE}rect")
    }
    # An empty cell is drawn on the diagonal only.
    assert cells == {
        "a → a: 3 of 4": pytest.approx(0.8),
        "a → b: 1 of 4": pytest.approx(0.4),
        "b → b: 0 of 0": pytest.approx(0.06),
    }
    assert "3 of 4 correct" in svg


@pytest.mark.parametrize("count", [0, 1, 27, 400])
def test_a_confusion_matrix_of_any_size_is_well_formed(count: int) -> None:
    names = [f"{HOSTILE} {k}" for k in range(count)]
    counts = [[k == j for j in range(count)] for k in range(count)]
    svg = confusion_svg(names, names, [[int(c) for c in line] for line in counts])
    assert len(list(ElementTree.fromstring(svg).iter(f"{SPACE}rect"))) == count
    assert "<script" not in svg


def test_a_reliability_plot_has_a_bar_for_every_bin_with_videos() -> None:
    bins = [
        {"n": 0, "accuracy": None, "confidence": None},
        {"n": 4, "accuracy": 0.5, "confidence": 0.75},
    ]
    svg = reliability_svg(bins)
    assert "confidence 75.0 %: 50.0 % correct, 4 videos" in texts(svg)
    (bar,) = ElementTree.fromstring(svg).findall(f"{SPACE}rect[@fill-opacity]")
    assert float(bar.attrib["height"]) == pytest.approx(130)
    ElementTree.fromstring(reliability_svg([]))


def test_accuracy_against_cost_shows_every_point_that_has_a_cost() -> None:
    points = [
        Point("a", 1e9, 0.8, 0.7, 0.9),
        Point(HOSTILE, 1e8, 0.7, math.nan, math.nan),
        Point("free", 0.0, 0.9, 0.9, 0.9),
        Point("none", 1e9, math.nan, 0.0, 0.0),
    ]
    svg = cost_svg(points, "MACs", "top1")
    assert len(list(ElementTree.fromstring(svg).iter(f"{SPACE}circle"))) == 2
    assert "a: 80.0 % at 1.00 G" in texts(svg)
    assert "<script" not in svg
    ElementTree.fromstring(cost_svg([], "MACs", "top1"))


def test_the_front_leaves_out_what_another_beats() -> None:
    points = [Point(name, cost, value, 0, 1) for name, cost, value in
              [("a", 3, 0.8), ("b", 1, 0.5), ("c", 2, 0.5), ("d", 4, 0.7)]]  # fmt: skip
    assert [point.name for point in front(points)] == ["b", "a"]


def test_the_bars_of_a_reliability_plot_stay_inside_its_axes() -> None:
    ends = [{"n": 9, "accuracy": share, "confidence": share} for share in (0.0, 1.0)]
    svg = ElementTree.fromstring(reliability_svg(ends))
    axes, *bars = (
        (float(box.attrib["x"]), float(box.attrib["x"]) + float(box.attrib["width"]))
        for box in svg.iter(f"{SPACE}rect")
    )
    assert len(bars) == 2
    assert all(axes[0] <= left < right <= axes[1] for left, right in bars)


def test_the_bars_of_neighbouring_bins_do_not_overlap() -> None:
    bins = [{"n": 9, "accuracy": 0.5, "confidence": share} for share in (0.49, 0.51)]
    left, right = ElementTree.fromstring(reliability_svg(bins)).findall(
        f"{SPACE}rect[@fill-opacity]"
    )
    end = float(left.attrib["x"]) + float(left.attrib["width"])
    assert end <= float(right.attrib["x"]) + 0.1


def test_names_of_points_in_one_place_do_not_overlap() -> None:
    points = [Point(f"recogniser {k}", 1e9, 0.9, 0.85, 0.95) for k in range(6)]
    svg = ElementTree.fromstring(cost_svg(points, "MACs", "top-1"))
    names = [
        (float(text.attrib["y"]), text.attrib.get("text-anchor", "start"))
        for text in svg.iter(f"{SPACE}text")
        if (text.text or "").startswith("recogniser")
    ]
    assert len(names) == 6
    # Names of one side are a line of text apart.
    for side in ("start", "end"):
        heights = sorted(y for y, anchor in names if anchor == side)
        assert all(b - a >= 12 for a, b in pairwise(heights))


def test_a_cost_plot_has_a_title_and_ticks_on_both_axes() -> None:
    svg = cost_svg([Point("a", 2e9, 0.92, 0.88, 0.95)], "MACs per video", "top-1")
    assert {"Top-1 against MACs per video", "2 G", "85 %", "100 %"} <= set(texts(svg))
    narrow = cost_svg([Point("a", 6.9e8, 0.92, 0.88, 0.95)], "MACs per video", "top-1")
    assert {"500 M", "600 M", "700 M", "800 M", "900 M"} <= set(texts(narrow))


def test_the_titles_of_a_small_confusion_matrix_fit() -> None:
    drawing = confusion_svg(["a"], ["a"], [[3]])
    width = float(re.search(r'viewBox="0 0 ([0-9.]+)', drawing).group(1))
    start = float(re.search(r'<text x="([0-9.]+)" y="12"[^>]*>predicted class', drawing).group(1))
    assert start + 7.5 * len("predicted class") <= width
