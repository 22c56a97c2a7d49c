"""The Result: plain values, one JSON line, totals that are sums."""

import json

import jsonschema
import pytest
from pydantic import ValidationError

from foveate.core import Cost, FoveateError, Result, Score, Segment, StageCost, Trace, TraceStep
from foveate.core.errors import MissingExtra


def example() -> Result:
    return Result(
        source="a\nb.mp4",
        model="m",
        duration=2.0,
        labels=[Score(label="kick", index=3, score=0.5)],
        segments=[Segment(start=0.0, end=2.0, label="none", score=0.1)],
        cost=Cost.of([StageCost(name="decode", calls=2, frames=7, bytes=9, seconds=0.5),
                      StageCost(name="network", calls=1, macs=11, seconds=0.25)]),
        trace=Trace(size=[4, 2], steps=[TraceStep(time=1.0, frames=[0.5, 1.0], exit="final")]),
        warnings=["w"],
    )  # fmt: skip


def test_json_is_one_line_and_comes_back_equal() -> None:
    text = example().to_json()
    assert "\n" not in text
    assert Result.from_json(text) == example()
    assert json.loads(text)["schema"] == 1


def test_json_fits_the_published_schema() -> None:
    schema = Result.model_json_schema(by_alias=True, mode="serialization")
    for result in (example(), Result.failed("x.mp4", "m", "media", "x.mp4: empty")):
        jsonschema.validate(json.loads(result.to_json()), schema)


def test_schema_has_exactly_the_fields_of_the_design() -> None:
    assert set(json.loads(example().to_json())) == {
        "schema", "source", "model", "preset", "ok", "error", "duration", "labels", "segments",
        "cost", "exits", "trace", "warnings",
    }  # fmt: skip


def test_totals_are_sums() -> None:
    cost = example().cost
    assert (cost.macs, cost.seconds, cost.frames_decoded, cost.bytes_read) == (11, 0.75, 7, 9)
    assert cost.stage("network").macs == 11
    assert cost.stage("never") == StageCost(name="never")


def test_results_do_not_change_and_refuse_unknown_fields() -> None:
    with pytest.raises(ValidationError):
        example().ok = False
    with pytest.raises(ValidationError):
        Result.from_json('{"source": "a", "model": "m", "colour": 1}')


def test_errors_are_one_line_with_the_cure() -> None:
    error = FoveateError("a\nb:  broken", "type:\n  x")
    assert str(error) == "a b: broken (type: x)"
    assert "pip install 'foveate[zoo]'" in str(MissingExtra("timm", "zoo"))
