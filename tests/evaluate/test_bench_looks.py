"""Looks beside each other: what they cost, how often they fall back, and what the oracle knows."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from small_data import Dataset, Record, dataset, recogniser

from foveate.core import ConfigError, Selection, ViewRequest, Window
from foveate.evaluate.bench import bench
from foveate.evaluate.oracle import OracleRecogniser, Tried
from foveate.media import ArrayVideo
from foveate.pipeline import fetch
from foveate.pipeline.ledger import ChargedSample, Ledger
from tiny_weights import LABELS, SPEC


def look(name: str, **more):
    return recogniser(look={"name": name, **({} if name == "uniform" else {"size": 16}), **more})


def quiet(count: int = 4) -> Dataset:
    """Clips at rest: there is nothing to follow."""
    still = [ArrayVideo(np.full((50, 40, 40, 3), 60 + i, np.uint8), 25.0) for i in range(count)]
    return Dataset([Record(x, (LABELS[i % 2],), where=f"{i}") for i, x in enumerate(still)])


def test_every_look_has_its_row_with_fallback_and_paired_difference() -> None:
    looks = {"random": look("random"), "full": look("uniform"), "patch": look("motion-patch")}
    table = bench(looks, quiet(), reference="full")
    rows = {row.name: row for row in table.rows}
    assert list(rows) == ["random", "full", "patch"]
    assert (rows["random"].fallback, rows["patch"].fallback) == (0.0, 1.0)
    assert rows["full"].difference is None
    assert rows["full"].agreement is None
    assert rows["patch"].difference.difference == pytest.approx(
        rows["patch"].accuracy.value - rows["full"].accuracy.value
    )
    assert rows["patch"].macs.value < 0.5 * rows["full"].macs.value
    assert all(row.cpu_seconds > 0 for row in table.rows)
    text = table.markdown()
    assert "less full" in text
    assert "fallback" in text
    assert "looks random, uniform, motion-patch" in table.protocol
    with pytest.raises(ConfigError, match="no recogniser 'none'"):
        bench(looks, quiet(), reference="none")


def test_videos_without_labels_are_measured_all_the_same() -> None:
    records = [Record(r.path, ("unlabelled",), where=r.where) for r in quiet().records]
    bare = Dataset(records, classes=("unlabelled",))
    table = bench({"full": look("uniform"), "resize": look("resize")}, bare)
    full, resize = table.rows
    assert full.accuracy is None
    assert 0 <= resize.agreement <= 1
    assert full.macs.value > resize.macs.value > 0
    assert "agrees with full" in table.markdown()
    with pytest.raises(ConfigError, match="no accuracy"):
        table.svg()


def test_the_oracle_takes_the_window_that_the_network_likes_best_and_says_what_it_took() -> None:
    data = dataset(3)
    plain = recogniser(look={"name": "resize", "size": 16}, top_k=7)
    oracle = OracleRecogniser(plain, data, "test", cells=3)
    answered = list(oracle.predict_many([r.path for r in data.records]))
    for record, result in zip(data.records, answered, strict=True):
        chosen = {tuple(box) for step in result.trace.steps for box in step.boxes}
        assert len(chosen) == 1
        column = LABELS.index(record.labels[0])
        ledger = Ledger()
        tried = Tried(plain.executor, ledger, column, 16)
        times = tuple(np.arange(10) / 5)
        side = oracle._grid.side(record.path)
        room = np.linspace(0, 1, 3) * (40 - side)
        boxes = [(x, y, x + side, y + side) for y in room for x in room]
        likely = tried(record.path, times, boxes)
        assert chosen.pop() == pytest.approx(boxes[int(np.argmax(likely))], abs=0.01)
        macs = ledger.cost().stage("policy").macs
        score = next(s.score for s in result.labels if s.index == column)
        assert score == pytest.approx(max(likely), abs=1e-5)
        assert result.cost.stage("policy").macs == macs
        assert macs == pytest.approx(9 * result.cost.stage("network").macs, rel=0.1)


def test_windows_tried_together_are_those_of_the_loop() -> None:
    video = ArrayVideo(np.random.default_rng(0).integers(0, 256, (50, 40, 60, 3), np.uint8), 25.0)
    box = (7.0, 3.0, 27.0, 23.0)
    one = ViewRequest((0.0, 0.2), boxes=(box, box), size=16)
    ledger = Ledger()
    loop = fetch.Fetch(ChargedSample(video, ledger), ledger, cut_threshold=1.0)
    view = loop(Selection({"rgb": one}), SPEC, Window(0.0, 2.0)).views["rgb"]
    requests = [one, ViewRequest((0.4,), boxes=(box,), size=16)]
    times, pixels = fetch.shown(video, SPEC, requests)
    assert times == (0.0, 0.2, 0.4)
    assert np.array_equal(pixels[:2], view.array[0])
    clip = video.frames(one.times, fetch.decode_size_for((60, 40), SPEC, one))
    assert np.array_equal(fetch.cut_out(clip, (60, 40), SPEC, one), view.array[0])


def test_the_oracle_refuses_what_it_cannot_know() -> None:
    with pytest.raises(ConfigError, match="chooses windows"):
        OracleRecogniser(look("uniform"), dataset(2), "test")
    several = [Record(r.path, LABELS[:2], start=0.0, end=1.0, where="a") for r in quiet(1).records]
    with pytest.raises(ConfigError, match="one label each"):
        OracleRecogniser(look("resize"), Dataset(several), "test")


def test_an_oracle_can_be_copied_as_evaluation_does() -> None:
    data = quiet()
    oracle = OracleRecogniser(look("resize"), data, "test", cells=2)
    assert copy.copy(oracle)._answers == oracle._answers
    table = bench({"full": look("uniform"), "oracle": oracle}, data)
    assert table.rows[1].failed == 0
