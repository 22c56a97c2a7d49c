"""The twin of benchmarks/motion_time.py: one small network, one round."""

from __future__ import annotations

from pathlib import Path

from benchmarks import motion_time

from clips import encode
from foveate.models import InputSpec


def test_looks_take_turns_and_the_patch_costs_less_work(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))
    video = tmp_path / "a.mp4"
    video.write_bytes(encode(frames=50, size=(160, 120)))
    small = InputSpec(size=64, frames_per_second=4.0, clip_frames=4)
    monkeypatch.setattr(motion_time, "NETWORKS", {"tsn:test_resnet": small})
    found = motion_time.measure("tsn:test_resnet", motion_time.videos_of(tmp_path, 1), rounds=2)
    assert set(found) == set(motion_time.LOOKS)
    assert found["uniform"]["ratios"] == [1.0, 1.0]
    assert found["motion-patch"]["macs"] == found["resize"]["macs"] < found["uniform"]["macs"] / 2
    assert found["auto"]["macs"] in (found["uniform"]["macs"], found["motion-patch"]["macs"])
    assert all(found[look]["over_the_better"] >= 1 for look in ("uniform", "motion-patch"))
    assert all(one["ms"] > 0 for one in found.values())
