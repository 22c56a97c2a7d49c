"""Timelines: round trips of every format, and every fault by its row."""

from __future__ import annotations

import json
from pathlib import Path

import labelled
import pytest

from foveate import data
from foveate.core import ConfigError, Result
from foveate.core.result import Segment
from foveate.data.timelines import FORMATS, TimedLabel, Timeline

TRUTH = {
    "a/one, two.mp4": Timeline(
        (TimedLabel(0.5, 2.0, "run"), TimedLabel(2.0, 3.5, "jump, high")), "train"
    ),
    "b é.mp4": Timeline((TimedLabel(0.0, 10.0, "run"),), "test"),
}
SAID = {
    name: Timeline(tuple(TimedLabel(s.start, s.end, s.label, 0.25) for s in line.segments))
    for name, line in TRUTH.items()
}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("timelines", [TRUTH, SAID], ids=["truth", "predictions"])
def test_round_trip(tmp_path: Path, format: str, timelines: dict[str, Timeline]) -> None:
    file = tmp_path / ("t.csv" if format == "csv" else "t.json")
    lines = {**timelines, "empty.mp4": Timeline((), "val" if timelines is TRUTH else None)}
    data.write_timelines(file, lines, format)
    assert data.read_timelines(file) == lines
    data.write_timelines(file, data.read_timelines(file, format), format)
    assert data.read_timelines(file) == lines


def test_label_studio_rounds_to_frames(tmp_path: Path) -> None:
    line = {"a.mp4": Timeline((TimedLabel(0.51, 1.249, "run"),))}
    data.write_timelines(tmp_path / "t.json", line, "label-studio", fps=10)
    (task,) = json.loads((tmp_path / "t.json").read_text())
    region = task["annotations"][0]["result"][0]
    assert region["value"] == {"ranges": [{"start": 6, "end": 12}], "timelinelabels": ["run"]}
    (found,) = data.read_timelines(tmp_path / "t.json")["a.mp4"].segments
    assert (found.start, found.end) == (0.5, 1.2)


def test_label_studio_as_it_exports(tmp_path: Path) -> None:
    labelled.touch(tmp_path, "clips/a.mp4", "clips/abc-b.mp4")
    region = {"ranges": [{"start": 1, "end": 24}, {"start": 49, "end": 72}]}
    tasks = [
        {
            "id": 1,
            "data": {"video": "/data/local-files/?d=clips/a.mp4"},
            "annotations": [
                {"was_cancelled": True, "result": []},
                {
                    "result": [
                        {"type": "choices", "value": {"choices": ["good"]}},
                        {
                            "type": "timelinelabels",
                            "value": {**region, "timelinelabels": ["run"]},
                        },
                    ]
                },
            ],
        },
        {
            "data": {"video": "/data/upload/1/abc-b.mp4"},
            "annotations": [{"result": [{"value": {"start": 0.5, "end": 2, "labels": ["jump"]}}]}],
        },
    ]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    found = data.read(tmp_path)
    assert [(found.name(r), r.labels[0], r.start, r.end) for r in found.records] == [
        ("clips/a.mp4", "run", 0.0, 1.0),
        ("clips/a.mp4", "run", 2.0, 3.0),
        ("clips/abc-b.mp4", "jump", 0.5, 2.0),
    ]


def test_csv_is_read_as_labelled_videos(tmp_path: Path) -> None:
    labelled.touch(tmp_path, *TRUTH)
    data.write_timelines(tmp_path / "clips.csv", TRUTH)
    assert data.timelines_of(data.read(tmp_path)) == TRUTH


def test_results_of_predict(tmp_path: Path) -> None:
    segments = [
        Segment(start=0, end=2, label="run", index=0, score=0.5),
        Segment(start=2, end=3, label="none", index=None, score=0.1),
    ]
    result = Result(source="a.mp4", model="m", segments=segments)
    failed = Result.failed("b.mp4", "m", "media", "b.mp4: damaged")
    (tmp_path / "r.jsonl").write_text(f"{result.to_json()}\n{failed.to_json()}\n")
    want = {"a.mp4": Timeline((TimedLabel(0.0, 2.0, "run", 0.5),))}
    assert data.read_timelines(tmp_path / "r.jsonl") == want


def faults(file: Path, **options: object) -> list[str]:
    with pytest.raises(data.DataError) as caught:
        data.read_timelines(file, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return list(caught.value.faults)


def test_every_faulty_row_of_a_table(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text(
        "path,label,start,end,score\na.mp4,run,0,1,.5\na.mp4,run,x,1,.5\n,run,0,1,.5\n"
        "a.mp4,,0,1,.5\na.mp4,run,2,1,.5\na.mp4,run,0,1,\na.mp4,run,0,inf,.5\nb.mp4,run,,1,.5\n"
    )
    found = faults(file)
    assert [line.split(":")[1] for line in found] == ["3", "4", "5", "6", "7", "8", "9"]
    assert "start 'x' is not a number" in found[0]
    assert "2 to 1 s does not end after its start" in found[3]
    file.write_text("path,label,begin\na.mp4,run,0\n")
    assert faults(file) == ["t.csv:1: no column start, end"]


def test_every_faulty_segment_of_activitynet(tmp_path: Path) -> None:
    file = tmp_path / "t.json"
    rows = [
        {"segment": [0, 1], "label": "run", "score": 0.5},
        {"segment": [0], "label": "run", "score": 0.5},
        {"segment": [0, 1], "score": 0.5},
        {"segment": [0, 1], "label": "run"},
        {"segment": [3, 1], "label": "run", "score": 0.5},
        {"segment": ["0", 1], "label": "run", "score": 0.5},
        7,
    ]
    file.write_text(json.dumps({"results": {"a": rows, "b": 3}}, indent=1))
    found = faults(file)
    assert [line.split("segment ")[1][0] for line in found[:6]] == list("234567")
    assert "no label" in found[1]
    assert "no score" in found[2]
    assert "its segments are not a list" in found[6]
    file.write_text('{"other": 1}')
    assert "neither a database nor results" in faults(file)[0]


def test_every_faulty_task_of_label_studio(tmp_path: Path) -> None:
    file = tmp_path / "t.json"
    region = {"value": {"ranges": [{"start": 1, "end": 9}], "timelinelabels": ["run"]}}
    broken = {"value": {"ranges": [{"start": 1}], "timelinelabels": ["run"]}}
    file.write_text(
        json.dumps(
            [
                {"data": {"video": "a.mp4", "fps": 25}, "annotations": [{"result": [region]}]},
                {"data": {"video": "b.mp4"}, "annotations": [{"result": [region]}]},
                {"data": {"text": 3}},
                {"data": {"video": "a.mp4"}},
                {"data": {"video": "c.mp4", "fps": 25}, "predictions": [{"result": [region]}]},
                {"data": {"video": "d.mp4", "fps": 25}, "annotations": [{"result": [broken]}]},
                5,
                {"data": [1]},
                {"data": {"video": "e.mp4"}, "annotations": [3, {"result": [4]}]},
            ]
        )
    )
    found = faults(file)
    assert [line.split("task ")[1][0] for line in found] == list("23456789")
    assert "frame rate" in found[0]
    assert "earlier task" in found[2]
    assert "without a score" in found[3]


def test_what_cannot_be_written(tmp_path: Path) -> None:
    mixed = {"a": Timeline((TimedLabel(0, 1, "x"), TimedLabel(1, 2, "x", 0.5)))}
    with pytest.raises(ConfigError, match="some segments have scores"):
        data.write_timelines(tmp_path / "t.csv", mixed)
    with pytest.raises(ConfigError, match=r"no format '\.txt'"):
        data.write_timelines(tmp_path / "t.txt", TRUTH)
