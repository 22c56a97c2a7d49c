"""Drawings of an evaluation are well-formed and true to their numbers, whatever the names."""

from __future__ import annotations

import math
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
        "a → a: 3 of 4": pytest.approx(0.765),
        "a → b: 1 of 4": pytest.approx(0.295),
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
