"""The benchmark of the compressed domain in seconds: it runs, it is right, key frames are cheap."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from foveate.media.vectors.kernels import kernels

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def one_thread():
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield
    cv2.setNumThreads(before)


def test_the_benchmark_in_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import compressed
    from scenes import write_scene

    sets = {"scene": [write_scene(tmp_path / "scene.mp4", compressed.SMALL, 1)]}
    figures = compressed.run(sets, tmp_path, 3, 20, None, "small")
    compiled = kernels(True) is not None
    assert figures["accumulation"] == {
        "p_pictures_compared": 20, "equal": 20, "equal_compiled": 20
    }  # fmt: skip
    assert len(figures["cost"]) == len(compressed.CODECS)
    for cost in figures["cost"].values():
        assert cost["frames"] == 25
        ratio = cost["ratio"]
        assert ratio[compressed.FULL] == 1
        assert set(compressed.GOALS) < set(ratio)
        assert ("I + cells, compiled" in ratio) == compiled
        # Three of twenty-five pictures, against all of them; what goes wrong costs far more.
        assert ratio["key frames"] < 0.8
        assert ratio["key frames"] < ratio["I + cells"]
    assert "| key frames |" in compressed.table(figures)
