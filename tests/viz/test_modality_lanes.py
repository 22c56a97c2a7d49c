"""The lanes of modalities over time."""

from __future__ import annotations

from xml.etree import ElementTree

from foveate.core import Cost, Result, StageCost, Trace, TraceStep
from foveate.viz.modalities import lanes_of, modalities_svg, summary
from foveate.viz.report import report

SVG = "{http://www.w3.org/2000/svg}"


def made(**used: list[float]) -> Result:
    """A Result of four segments of a second, of whose modalities some were used."""
    every = [0.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0]
    steps = [
        TraceStep(time=4.0, part="policy", proposals={"segments": every, "rgb": [], "mv<": []})
    ]
    steps += [TraceStep(time=4.0, part=k, proposals={"segments": v}) for k, v in used.items()]
    cost = Cost.of([StageCost(name="network-rgb", calls=1, macs=2_000_000, seconds=0.012)])
    return Result(
        source="a.mp4", model="m", duration=4.0, cost=cost, trace=Trace(size=[8, 8], steps=steps)
    )


def test_a_lane_holds_the_segments_and_the_cost() -> None:
    policy, rgb, other = lanes_of(made(rgb=[1.0, 2.0, 3.0, 4.0]))
    assert policy.spans == ((0.0, 1.0), (1.0, 2.0), (2.0, 3.0), (3.0, 4.0))
    assert rgb.spans == ((1.0, 2.0), (3.0, 4.0))
    assert (rgb.macs, rgb.seconds) == (2_000_000, 0.012)
    assert (other.name, other.spans) == ("mv<", ())  # could be chosen, was not
    assert summary([policy, rgb, other]) == "policy 4, rgb 2, mv< 0 of 4 segments"


def test_boxes_lie_at_their_times() -> None:
    drawing = ElementTree.fromstring(modalities_svg(made(rgb=[1.0, 2.0, 3.0, 4.0]), width=760))
    boxes = [one for one in drawing.iter(f"{SVG}rect") if one.find(f"{SVG}title") is not None]
    titles = [str(one.findtext(f"{SVG}title")) for one in boxes]
    rgb = [one for one, title in zip(boxes, titles, strict=True) if title.startswith("rgb")]
    left, right = (float(one.attrib["x"]) for one in rgb)
    whole = 760 - 110 - 250
    assert right - left == whole / 2
    assert left == 110 + whole / 4
    texts = [str(one.text) for one in drawing.iter(f"{SVG}text")]
    assert "mv<" in texts
    assert any(text.startswith("2 of 4 · 2") for text in texts)


def test_only_models_that_choose_have_lanes() -> None:
    plain = Result(source="a.mp4", model="m", trace=Trace(size=[8, 8], steps=[TraceStep(time=1.0)]))
    assert lanes_of(plain) == []
    assert "Modalities:" not in report([plain])
    assert "Modalities: the segments" in report([made()])
    assert "mv&lt;" in report([made()])
