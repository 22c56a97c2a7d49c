"""From windows to one answer."""

import numpy as np
import pytest

from foveate.core import Evidence, ModelError
from foveate.pipeline.reducers import ClassReducer, Naming, WindowScores, clip_scores
from foveate.policy.unknown import Familiar


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


FAMILIAR = Familiar(np.zeros(3), np.ones(3), limit=1.0)


def answered(*windows: tuple[float, float, float], features: bool = True) -> ClassReducer:
    """A reducer with windows of (start, end, size of the features); one that is short joins."""
    reducer = ClassReducer("softmax", 2)
    for start, end, size in windows:
        found = np.full((2, 3), size, np.float32) if features else None
        reducer.take(Evidence(logits={"final": np.array([1.0, 0.0])}, features=found))
        reducer.close(start, end, joins=end - start < 1)
    return reducer


def test_windows_unlike_the_training_clips_are_unknown() -> None:
    reducer = answered((0, 2, 0.5), (2, 4, 1.5), (4, 6, -2.0))
    naming = Naming("ab", familiar=FAMILIAR)
    found = reducer.fields(naming, 6.0)
    assert [(s.start, s.end, s.label, s.index) for s in found["segments"]] == [
        (0, 2, "a", 0), (2, 6, "unknown", None)
    ]  # fmt: skip
    assert found["unknown"] is True
    assert found["labels"][0].label == "a"
    assert reducer.fields(naming, 3.9)["unknown"] is False  # the third window is over the end
    plain = reducer.fields(Naming("ab"), 6.0)
    assert plain["unknown"] is None
    assert [s.label for s in plain["segments"]] == ["a"]
    # A network without features cannot say.
    assert answered((0, 2, 9.0), features=False).fields(naming, 2.0)["unknown"] is None


def test_unknown_comes_before_none() -> None:
    for size, label in ((2.0, "unknown"), (0.0, "none")):
        naming = Naming("ab", none_below=0.9, familiar=FAMILIAR)
        assert answered((0, 2, size)).fields(naming, 2.0)["segments"][0].label == label


def test_a_short_window_takes_over_the_features_of_the_whole_one() -> None:
    reducer = answered((0, 2, 0.0), (2, 2.2, 9.0))
    (only,) = reducer.fields(Naming("ab", familiar=FAMILIAR), 2.2)["segments"]
    assert (only.start, only.end, only.label) == (0, 2.2, "a")
    assert len(reducer.windows) == 1
