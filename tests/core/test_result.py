"""Result: plain values, one JSON line, totals."""

import json
import math
from pathlib import Path

import jsonschema
import pytest
from pydantic import ValidationError

from foveate.core import (
    Cost,
    Detection,
    FoveateError,
    Result,
    ResultError,
    Score,
    Segment,
    StageCost,
    Trace,
    TraceStep,
    read_results,
)
from foveate.core.errors import MissingExtra

OLD = Path(__file__).with_name("results-schema-1.jsonl")


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


def detected() -> Result:
    """A step of a live source with detections."""
    return Result(
        source="camera",
        model="m",
        task="detect",
        detections=[
            Detection(time=0.5, box=[1, 2, 3.5, 4], label="car", index=2, score=0.75, track=9),
            Detection(time=0.5, box=[0, 0, 8, 8], label="person", index=0, score=1.0),
        ],
        trace=Trace(
            size=[8, 8],
            steps=[TraceStep(time=0.5, part="glance", proposals={"weights": [0.5, 0.25]})],
        ),
        age=0.125,
        dropped=3,
    )


def test_json_is_one_line_and_round_trips() -> None:
    text = example().to_json()
    assert "\n" not in text
    assert Result.from_json(text) == example()
    assert json.loads(text)["schema"] == 2
    assert Result.from_json(detected().to_json(indent=1)) == detected()


def test_json_fits_the_published_schema() -> None:
    schema = Result.model_json_schema(by_alias=True, mode="serialization")
    for result in (example(), detected(), Result.failed("x.mp4", "m", "media", "x.mp4: empty")):
        jsonschema.validate(json.loads(result.to_json()), schema)


def test_schema_has_exactly_the_fields_of_the_design() -> None:
    assert set(json.loads(example().to_json())) == {
        "schema", "source", "model", "preset", "task", "ok", "error", "duration", "labels",
        "segments", "detections", "unknown", "cost", "exits", "trace", "warnings", "age",
        "dropped",
    }  # fmt: skip
    values = json.loads(detected().to_json())
    assert set(values["detections"][0]) == {"time", "box", "label", "index", "score", "track"}
    assert set(values["trace"]["steps"][0]) == {
        "time", "frames", "boxes", "modalities", "exit", "gate", "fallback", "part", "proposals",
        "tokens",
    }  # fmt: skip


def test_totals_are_sums() -> None:
    cost = example().cost
    assert (cost.macs, cost.seconds, cost.frames_decoded, cost.bytes_read) == (11, 0.75, 7, 9)
    assert cost.stage("network").macs == 11
    assert cost.stage("never") == StageCost(name="never")


def test_results_are_immutable_and_reject_unknown_fields() -> None:
    with pytest.raises(ValidationError):
        example().ok = False
    with pytest.raises(ResultError, match="unknown key colour"):
        Result.from_json('{"schema": 2, "source": "a", "model": "m", "colour": 1}')


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_rejected(value: float) -> None:
    for build in (
        lambda: Score(label="a", index=0, score=value),
        lambda: Segment(start=0, end=value, label="a", score=1),
        lambda: StageCost(name="decode", seconds=value),
        lambda: TraceStep(time=0, gate=value),
        lambda: TraceStep(time=0, frames=[0.0, value]),
        lambda: TraceStep(time=0, boxes=[[0, 0, 1, value]]),
        lambda: TraceStep(time=0, proposals={"weights": [value]}),
        lambda: Detection(time=value, box=[0, 0, 1, 1], label="a", index=0, score=1),
        lambda: Detection(time=0, box=[0, 0, 1, value], label="a", index=0, score=1),
        lambda: Result(source="a", model="m", duration=value),
        lambda: Result(source="a", model="m", age=value),
    ):
        with pytest.raises(ValidationError, match="finite"):
            build()
    with pytest.raises(ResultError, match="duration"):
        Result.from_json(f'{{"schema": 2, "source": "a", "model": "m", "duration": {value}}}'
                         .replace("nan", "NaN").replace("inf", "Infinity"))  # fmt: skip


@pytest.mark.parametrize(
    "change", [{"box": [0, 0, 1]}, {"box": [2, 0, 1, 1]}, {"score": 1.5}, {"score": -0.1}]
)
def test_detections_out_of_range_are_rejected(change: dict[str, object]) -> None:
    values = {"time": 0, "box": [0, 0, 1, 1], "label": "a", "index": 0, "score": 1, **change}
    with pytest.raises(ValidationError):
        Detection.model_validate(values)


def test_results_of_schema_1_get_defaults_for_new_fields() -> None:
    good, failed = read_results(OLD)
    assert json.loads(good.to_json())["schema"] == json.loads(failed.to_json())["schema"] == 2
    assert good.top == Score(label="kick", index=3, score=0.5)
    assert good.cost.stage("network").macs == 11000
    assert good.trace is not None
    assert good.trace.steps[0].boxes[1] == [3.0, 2.0, 63.0, 62.0]
    assert good.trace.steps[0].part is None
    assert (good.task, good.detections, good.age, good.dropped) == ("classify", [], None, 0)
    assert failed.error is not None
    assert failed.error.kind == "media"
    # All written values are unchanged.
    before = json.loads(OLD.read_text("utf-8").splitlines()[0])
    after = json.loads(good.to_json())
    assert {key: after[key] for key in before if key not in ("schema", "trace")} == {
        key: value for key, value in before.items() if key not in ("schema", "trace")
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"schema": 3, "source": "a", "model": "m"}',
         "results of schema 3 cannot be read (supported: schema 1 and 2)"),
        ('{"schema": true, "source": "a", "model": "m"}',
         "results of schema True cannot be read (supported: schema 1 and 2)"),
        ('{"source": "a", "model": "m"}', "not a result: it has no schema number"),
        ("[1]", "not a result but a JSON list"),
        ('{"schema": 2', "not JSON"),
        (b"\xff\xfe", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"schema": 2, "source": "a"}', "result: model: is missing"),
    ],
)  # fmt: skip
def test_invalid_results_are_rejected_with_one_line(text: str | bytes, said: str) -> None:
    with pytest.raises(ResultError) as caught:
        Result.from_json(text)
    assert str(caught.value) == said


def test_a_file_of_results_is_read_line_by_line(tmp_path: Path) -> None:
    results = [example(), Result.failed("x.mp4", "m", "media", "x.mp4: empty"), detected()]
    path = tmp_path / "out.jsonl"
    path.write_text("\n\n".join(result.to_json() for result in results), "utf-8")
    assert read_results(path) == read_results(str(path)) == results
    path.write_bytes(b"")
    assert read_results(path) == []


def test_invalid_lines_are_named(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    for line, said in (
        (example().to_json()[:-9], "not JSON (a file of results has one JSON object on each line)"),
        ('{"schema": 7}', "results of schema 7 cannot be read (supported: schema 1 and 2)"),
        ("{}", "not a result: it has no schema number"),
    ):
        path.write_text(f"{example().to_json()}\n\n{line}\n", "utf-8")
        with pytest.raises(ResultError) as caught:
            read_results(path)
        assert str(caught.value) == f"{path}: line 3: {said}"
    with pytest.raises(ResultError, match=r"absent\.jsonl: cannot be read \(no such file"):
        read_results(tmp_path / "absent.jsonl")
    with pytest.raises(ResultError, match="cannot be read"):
        read_results(tmp_path)


def test_errors_are_one_line_with_a_hint() -> None:
    error = FoveateError("a\nb:  broken", "type:\n  x")
    assert str(error) == "a b: broken (type: x)"
    assert "pip install 'foveate[zoo]'" in str(MissingExtra("timm", "zoo"))
