"""What every verb on labelled videos says of the data before it begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from foveate.data.labelled import DataRequest, open_labelled


def test_what_is_passed_over_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("train/a/1.mp4", "train/a/1.jpg", "test/a/2.mp4", "extra/a/3.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "train" / "a" / "4.mp4").write_bytes(b"another")
    dataset = open_labelled(DataRequest(tmp_path))
    assert len(dataset) == 3
    assert capsys.readouterr().err.splitlines() == [
        "foveate: passed over 1 clip in extra, which lies beside the splits test, train",
        "foveate: passed over 1 picture that is no frame of a clip: train/a/1.jpg",
    ]
