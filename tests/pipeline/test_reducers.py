"""From windows to one answer."""

import numpy as np
import pytest

from foveate.core import Evidence, ModelError
from foveate.pipeline.reducers import ClassReducer, WindowScores, clip_scores


def window(start: float, end: float, *scores: float) -> WindowScores:
    return WindowScores(start, end, np.array(scores, np.float32))


def test_windows_count_by_their_seconds() -> None:
    found = clip_scores([window(0, 2, 0.9, 0.1), window(2, 2.5, 0.1, 0.9)])
    assert found == pytest.approx([0.74, 0.26])
    assert found.dtype == np.float32


def test_nothing_counts_beyond_the_end() -> None:
    windows = [window(0, 2, 0.9, 0.1), window(2, 4, 0.1, 0.9)]
    assert clip_scores(windows) == pytest.approx([0.5, 0.5])
    assert clip_scores(windows, 2.04) == pytest.approx(
        [0.9 - 0.8 * 0.04 / 2.04, 0.1 + 0.8 * 0.04 / 2.04]
    )


def test_one_window_of_no_length_is_the_answer() -> None:
    assert clip_scores([window(0, 0, 0.3, 0.7)]) == pytest.approx([0.3, 0.7])


def test_scores_that_are_not_one_per_label_are_refused() -> None:
    found = Evidence(logits={"final": np.zeros(3)})
    ClassReducer("softmax", 3).take(found)
    with pytest.raises(ModelError, match=r"shape \(3,\) for 2 labels \(give one label per output"):
        ClassReducer("softmax", 2).take(found)
