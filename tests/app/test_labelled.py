"""Warnings about labelled videos, the same for every command."""

from __future__ import annotations

from pathlib import Path

import pytest

from foveate.core.errors import DataWarning
from foveate.data.labelled import DataRequest, open_labelled


def test_skipped_files_are_warnings(tmp_path: Path) -> None:
    for name in ("train/a/1.mp4", "train/a/1.jpg", "test/a/2.mp4", "extra/a/3.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "train" / "a" / "4.mp4").write_bytes(b"another")
    with pytest.warns(DataWarning) as caught:
        dataset = open_labelled(DataRequest(tmp_path))
    assert len(dataset) == 3
    assert [str(one.message) for one in caught] == [
        "skipped 1 clip in extra, which lies beside the splits test, train",
        "skipped 1 picture that is no frame of a clip: train/a/1.jpg",
    ]
