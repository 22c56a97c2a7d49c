"""Evaluation over real recognisers: figures, costs, failures, names, report, bench."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from evaluate.small_data import Dataset, Record, clip, dataset, recogniser
from foveate.core import ConfigError
from foveate.evaluate.bench import bench
from foveate.evaluate.report import report, worst, write_report
from foveate.evaluate.results import read_result
from foveate.evaluate.run import Evaluation, compare_runs, evaluate
from foveate.evaluate.truth import columns_of
from foveate.media import ArrayVideo
from tiny_weights import LABELS


@pytest.fixture(scope="module")
def found() -> Evaluation:
    return evaluate(recogniser(), dataset(), "test", repeats=200)


def test_figures_are_those_of_the_predictions(found):
    model, data = recogniser(), dataset()
    said = [model.predict(r.path).labels[0].label for r in data.records]
    want = np.mean([s == r.labels[0] for s, r in zip(said, data.records, strict=True)])
    figure = found.figure("top1")
    assert figure.name == "top1@video,views=1"
    assert figure.value == pytest.approx(want)
    assert (figure.units, figure.unit) == (4, "group")
    assert found.n == 8
    assert [p.top[0][0] for p in found.predictions] == said
    assert np.sum(found.confusion) == 8


def test_the_cost_is_the_executed_one(found):
    result = recogniser().predict(clip(0), fps=25)
    assert found.predictions[0].macs == result.cost.macs > 0
    assert found.predictions[0].frames == result.cost.frames_decoded
    assert found.figure("macs-per-video").value == pytest.approx(result.cost.macs)
    assert found.predictions[0].seconds > 0


def test_batches_and_json_change_nothing(found):
    again = evaluate(recogniser(), dataset(), "test", repeats=200, batch=4)
    assert again.figure("top1") == found.figure("top1")
    assert Evaluation.from_json(found.to_json()) == found


def test_groups_can_be_left_alone():
    figure = evaluate(recogniser(), dataset(4), groups=False, repeats=50).figure("top1")
    assert (figure.units, figure.unit) == (4, "clip")


def test_failed_videos_are_counted_listed_and_left_out(tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    data = dataset(3, root=tmp_path)
    bad = Record("bad.mp4", (LABELS[0],), where="list:4")
    data = Dataset([*data.records, bad], root=tmp_path)
    seen = []
    found = evaluate(recogniser(), data, repeats=50, progress=lambda *said: seen.append(said))
    assert (found.n, found.failed) == (3, 1)
    failed = found.predictions[-1]
    assert not failed.ok
    assert failed.name == "bad.mp4"
    assert failed.error is not None
    assert "bad.mp4" not in failed.error
    assert str(tmp_path) not in found.to_json()
    assert seen[-1] == (4, 4, "bad.mp4")
    assert "could not be read" in report(found)
    with pytest.raises(ConfigError, match="none of the 1 videos"):
        evaluate(recogniser(), Dataset([bad], root=tmp_path))


def test_a_class_the_model_does_not_know_is_one_line():
    data = dataset(2, classes=("class 0", "class 1", "clas 2"))
    with pytest.raises(ConfigError, match=r"no label for the class 'clas 2'.*1 of 3") as caught:
        evaluate(recogniser(), data)
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="empty"):
        evaluate(recogniser(), dataset(2), "train")


def test_names_meet_without_regard_to_case_and_underscores():
    assert columns_of(["Play_Chess", "run"], ["run", "play chess"], "m") == [1, 0]
    with pytest.raises(ConfigError, match="two classes"):
        columns_of(["Run", "run"], ["run", "walk"], "m")


def test_labels_outside_the_data_are_mistakes():
    data = dataset(8, classes=LABELS[:3])
    found = evaluate(recogniser(), data, repeats=50)
    assert len(found.confusion) == 3
    assert np.sum(found.confusion) == 8


def test_several_labels_give_average_precision():
    records = [Record(ArrayVideo(clip(i), 25.0), LABELS[i % 3 : i % 3 + 2]) for i in range(6)]
    found = evaluate(recogniser(), Dataset(records, multilabel=True), repeats=50)
    assert found.figures[0].name == "map@video,views=1"
    assert 0 <= found.figures[0].value <= 1
    assert found.confusion == []
    assert "average precision" in report(found)


def test_records_with_times_are_a_timeline(tmp_path):
    from foveate.media import VideoWriter

    with VideoWriter(tmp_path / "a.mp4", (40, 40)) as writer:
        for i, frame in enumerate(clip(0, 150)):
            writer.write(frame, i / 25)
    said = recogniser(none_below=0.0).predict(tmp_path / "a.mp4").segments
    records = [Record("a.mp4", (s.label,), s.start, s.end) for s in said]
    found = evaluate(recogniser(none_below=0.0), Dataset(records, root=tmp_path), repeats=20)
    assert len(found.predictions) == 1
    assert found.figure("f1@video,views=1,tiou=0.5").value == 1.0
    assert found.figure("localisation-map@video,views=1,tiou=0.5:0.05:0.95").value == 1.0
    assert found.figure("localisation-map").method == "none"  # all resamples agree
    assert {c.label for c in found.localisation if c.segments} == {s.label for s in said}
    assert [s[:3] for s in found.predictions[0].segments] == [
        (s.start, s.end, s.label) for s in said
    ]
    assert "Temporal localisation" in report(found)


def test_the_report_is_whole_and_safe(found, tmp_path):
    evil = found.model_copy(update={"model": "<script>x</script>"})
    mistakes = worst(found)
    assert mistakes
    assert mistakes[0].top[0][1] == max(p.top[0][1] for p in mistakes)
    page = report(evil, {mistakes[0].name: [(0.5, b"\xff\xd8jpeg")]})
    assert "<script" not in page
    assert "data:image/jpeg;base64" in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    for drawing in re.findall(r"<svg.*?</svg>", page, re.S):
        ET.fromstring(drawing)
    write_report(tmp_path / "r.html", found)
    assert (tmp_path / "r.html").read_text("utf-8").startswith("<!DOCTYPE html>")


def test_bench_compares_on_the_same_videos(tmp_path):
    half = recogniser(look={"name": "uniform", "rate": 2.5})
    table = bench({"full": recogniser(), "half": half}, dataset(6), groups=False)
    first, second = table.rows
    assert second.macs.value < 0.7 * first.macs.value
    assert first.against is None
    assert second.against.startswith("top-1: ")
    lines = table.markdown().splitlines()
    assert len({len(line) for line in lines[:4]}) == 1
    ET.fromstring(table.svg())
    ET.fromstring(table.svg("ms"))
    assert "CPU milliseconds per video" in table.svg("cpu-ms")
    with pytest.raises(ConfigError, match="known: macs, ms, cpu-ms"):
        table.svg("bytes")
    json.loads(table.to_json())
    table.write(tmp_path / "t.json", "tiny")
    assert read_result(tmp_path / "t.json").figures["rows"][0]["name"] == "full"
    with pytest.raises(ConfigError, match="no recogniser"):
        bench({}, dataset(2))


def test_bench_names_a_video_that_failed(tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    bad = Record("bad.mp4", (LABELS[0],), where="list:1")
    data = Dataset([*dataset(2).records, bad], root=tmp_path)
    last = bench({"full": recogniser()}, data, groups=False).markdown().splitlines()[-1]
    assert last.startswith("full: 1 video failed, the first bad.mp4: ")


def test_a_run_does_not_differ_from_itself(found):
    same = compare_runs(found, found)
    assert (same.difference, same.found) == (0.0, False)
    other = found.model_copy(update={"predictions": []})
    with pytest.raises(ConfigError, match="different videos"):
        compare_runs(found, other)
