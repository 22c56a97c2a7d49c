"""The short form of benchmarks/combinations.py: valid pipelines, and the data that it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks import combinations

from clips import encode
from foveate.media.compressed import CompressedVideo
from foveate.primitives.pipeline import Pipeline
from foveate.train.pipelines import recipe_of
from tiny_weights import NAME


@pytest.mark.parametrize("name", combinations.SYSTEMS)
def test_every_system_is_a_pipeline(name: str) -> None:
    config = recipe_of(Pipeline.model_validate(combinations.SYSTEMS[name]))[1]
    other, stages = combinations.SHARED.get(name, (None, ()))
    if other is not None:
        # What is taken from the other run was trained on the same inputs.
        theirs = recipe_of(Pipeline.model_validate(combinations.SYSTEMS[other]))[1]
        assert stages
        assert [*combinations.SYSTEMS].index(other) < [*combinations.SYSTEMS].index(name)
        for key in {"mv", "residual", "motion", "policy", "size", "frames"} & {*vars(config)}:
            assert getattr(config, key) == getattr(theirs, key), key


def test_uses_and_detectors_are_presets() -> None:
    for name, other in combinations.ALONE.items():
        assert name in {**combinations.SYSTEMS, **combinations.USES}
        assert other in combinations.SYSTEMS
    for run, use in combinations.USES.values():
        assert run in combinations.SYSTEMS
        spec = Pipeline.model_validate({"recogniser": {"kind": "model", "name": NAME}, **use})
        assert {"look"} <= set(spec.preset())


def test_detectors_are_written_as_pipelines_of_a_run(tmp_path: Path) -> None:
    combinations.detectors(tmp_path / "run", tmp_path / "models")
    looks = {
        name: Pipeline.read(tmp_path / "models" / f"{name}.yaml").look
        for name in combinations.DETECTORS
    }
    assert looks["lsts-codec"].every == "codec"
    assert looks["lsts"].between == looks["lsts-codec"].between == "nonkey"


def test_boxes_of_the_clips_that_are_taken(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(combinations, "VIDEOS", 1)
    source = tmp_path / "source"
    (source / "test").mkdir(parents=True)
    (source / "annotations").mkdir()
    for name in "ab":
        clip = encode(frames=14, gop=60)
        (source / "test" / f"{name}.mp4").write_bytes(clip)
    found = {
        "videos": [{"id": n, "file_name": f"test/{name}.mp4"} for n, name in enumerate("ab")],
        "images": [{"id": n, "video_id": n} for n in range(2)],
        "annotations": [{"id": n, "image_id": n} for n in range(2)],
    }
    (source / "annotations" / "test.json").write_text(json.dumps(found))
    combinations.boxes(source, tmp_path / "out")
    kept = json.loads((tmp_path / "out" / "annotations" / "test.json").read_text())
    assert [len(kept[key]) for key in found] == [1, 1, 1]
    assert len(CompressedVideo(tmp_path / "out" / "test" / "a.mp4").groups) == 2
    assert not (tmp_path / "out" / "test" / "b.mp4").exists()
