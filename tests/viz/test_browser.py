"""Every page and plot in a real browser, as wide as a desktop's and a phone's window."""

from __future__ import annotations

from itertools import product

import made_up
import numpy as np
import pytest
from browser import CHROMIUM, Page, lay_out

from foveate.evaluate.bootstrap import Comparison
from foveate.evaluate.figures import Point, confusion_svg, cost_svg, reliability_svg
from foveate.evaluate.report import report as evaluation_report
from foveate.evaluate.results import hardware
from foveate.evaluate.run import (
    ClassFigure,
    ClassLocalisation,
    Control,
    Controls,
    Evaluation,
    Figure,
    Prediction,
)
from foveate.viz import timeline_svg, to_jpeg
from foveate.viz.report import report
from foveate.viz.why import Reason
from foveate.viz.why_page import Explained, reasons_page

WIDTHS = (1200, 390)
CLASSES = [f"playing the {name}" for name in ("cello", "grand piano", "violin", "drums", "organ")]
CLASSES = [f"{name} {place}" for name, place in product(CLASSES, ("", *"abcde"))]
JPEG = to_jpeg(np.random.default_rng(0).integers(0, 255, (120, 320, 3), np.uint8))


def evaluation() -> Evaluation:
    """Thirty classes with everything that a report can show."""
    random = np.random.default_rng(0)
    counts = np.diag(random.integers(3, 12, 30)) + (random.random((30, 30)) < 0.1)
    figures = [
        Figure(name=name, value=0.9, low=0.85, high=0.93, units=30, unit="group")
        for name in ("top1", "mean-class-accuracy", "localisation-map@mean,tiou=0.5:0.05:0.95")
    ]
    figures += [
        Figure(name=name, value=value, low=value, high=value, units=300, unit="video")
        for name, value in (("macs-per-video", 2.1e9), ("seconds-per-video", 0.31))
    ]
    loss = Comparison(0.1, 0.05, 0.15, units=30, unit="group", p=0.01)
    controls = [
        Control(name=name, top1=figures[0], loss=None if name == "whole" else loss, agreement=0.8)
        for name in ("whole", "first frame", "shuffled", "motion energy")
    ]
    predictions = [
        Prediction(
            name=f"videos/{CLASSES[k]}/a long name of a file number {k}.mp4",
            truth=[CLASSES[k]],
            ok=k != 4,
            error="damaged" if k == 4 else None,
            top=[(CLASSES[k + 1], 0.8)],
            exits={"iframe.1": 2, "residual.2": 1},
        )
        for k in range(6)
    ]
    return Evaluation(
        model="runs/a-model-with-a-long-name", preset=None, split="test", protocol="one answer",
        n=300, failed=1, digest="0", seeds=[0], commit="0", date="2026-01-01",
        hardware=hardware(),
        figures=figures,
        classes=[ClassFigure(label=name, n=10, value=0.9) for name in CLASSES],
        columns=CLASSES,
        confusion=counts.astype(int).tolist(),
        reliability=bins(),
        predictions=predictions,
        localisation=[
            ClassLocalisation(
                label=name, segments=3,
                average_precision={f"tiou={k / 10}": 0.5 for k in range(3, 8)},
            )
            for name in CLASSES[:3]
        ],
        controls=Controls(
            n=300, left_out=1, most_frequent_class=0.1, margin=0.05, rows=controls, rule=5,
            rules="the first that holds", conclusion="Several frames are better than one.",
        ),
    )  # fmt: skip


def bins() -> list[dict[str, float | int | None]]:
    shares = [(k + 0.5) / 10 for k in range(9)]
    last = {"n": 30, "accuracy": 1.0, "confidence": 1.0}
    return [*({"n": 3 + k, "accuracy": s, "confidence": s} for k, s in enumerate(shares)), last]


def explained() -> Explained:
    reasons = [
        Reason(0.2 * k, (60.0 * (k > 20), 0, 320, 240), k / 40, k < 4, source="vectors")
        for k in range(40)
    ]
    pictures = [(reason, JPEG) for reason in reasons[::4]]
    return Explained("clip.mp4", reasons, pictures, ["a note"], (640, 480), 2.0, 0.1)


def points() -> list[Point]:
    near = [Point(f"movinet look-{k}", 1e9 * (1 + k / 50), 0.9 + k / 500, 0.8, 1) for k in range(6)]
    return [*near, Point("the largest of all the networks", 4e10, 0.95, 0.9, 1.0)]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Page]:
    if CHROMIUM is None:
        pytest.skip("needs Chromium, such as Debian's package chromium")
    found = evaluation()
    frames = [(float(k), JPEG) for k in range(6)]
    wrong = {one.name: frames[:3] for one in found.predictions}
    results = [made_up.result(), made_up.failed(), made_up.detected()]
    matrix = confusion_svg(CLASSES, CLASSES, found.confusion)
    drawn = {
        "report": report(results, {"skate_park.mp4": frames}),
        "many": report([made_up.result(f"{k}.mp4") for k in range(5)]),
        "explain": reasons_page([explained()]),
        "evaluation": evaluation_report(found, wrong),
        "confusion": matrix,
        "two-classes": confusion_svg(["a", "b"], ["a", "b"], [[3, 1], [0, 4]]),
        "calibration": reliability_svg(bins()),
        "bench": cost_svg(points(), "MACs per video", "top-1"),
        "timeline": timeline_svg(made_up.result()),
        "broken": "<p style='width:900px'>wide wide wide wide wide wide wide wide wide wide wide "
        "wide wide wide wide wide wide<p style='margin-top:-40px'>one over another"
        "<p style='font-size:6px'>tiny",
        "blank": "<p style='color:#fff'>white",
    }
    return lay_out(drawn, WIDTHS, tmp_path_factory.mktemp("pages"))


PAGES = ("report", "many", "explain", "evaluation")
PLOTS = ("confusion", "two-classes", "calibration", "bench", "timeline")


@pytest.mark.parametrize(("name", "width"), list(product(PAGES + PLOTS, WIDTHS)))
def test_nothing_overlaps_is_cut_off_or_blank(
    pages: dict[tuple[str, int], Page], name: str, width: int
) -> None:
    assert pages[name, width].faults() == []


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_the_window_of_a_phone(pages: dict[tuple[str, int], Page], name: str) -> None:
    assert pages[name, 390].reach == 390


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_keeps_its_size_and_scrolls(pages: dict[tuple[str, int], Page], name: str) -> None:
    narrow, wide = pages[name, 390], pages[name, 1200]
    assert [text.box for text in narrow.texts] == [text.box for text in wide.texts]
    assert all(text.box[2] <= narrow.reach for text in narrow.texts)


def test_faults_are_found(pages: dict[tuple[str, int], Page]) -> None:
    faults = " ".join(pages["broken", 390].faults())
    assert "overlaps 'one over another'" in faults
    assert "is cut off" in faults
    assert "'tiny' is too small to read" in faults
    assert pages["broken", 390].reach > 390
    assert "the page is blank" in pages["blank", 1200].faults()
