"""From windows to one answer."""

import numpy as np
import pytest

from foveate.core import Evidence, ModelError
from foveate.pipeline.reducers import ClassReducer, Naming, WindowScores, clip_scores


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


def test_windows_of_low_energy_are_unknown_and_others_are_not() -> None:
    reducer, naming = ClassReducer("softmax", 2), Naming("ab", unknown_below={"final": 2.0})
    for start, logits in ((0, [4.0, 0.0]), (2, [1.0, 0.0]), (4, [0.5, 0.4])):
        reducer.take(Evidence(logits={"final": np.array(logits)}))
        reducer.close(start, start + 2)
    found = reducer.fields(naming, 6.0)
    assert [(s.start, s.end, s.label, s.index) for s in found["segments"]] == [
        (0, 2, "a", 0), (2, 6, "unknown", None)
    ]  # fmt: skip
    assert found["unknown"] is True
    assert found["labels"][0].label == "a"
    assert reducer.fields(naming, 3.9)["unknown"] is False  # the third window is over the end
    assert reducer.fields(Naming("ab"), 6.0)["unknown"] is None
    assert {s.label for s in reducer.fields(Naming("ab"), 6.0)["segments"]} == {"a"}
    other = Naming("ab", unknown_below={"another exit": 9.0})
    assert reducer.fields(other, 6.0)["unknown"] is False


def test_unknown_comes_before_none() -> None:
    reducer = ClassReducer("softmax", 2)
    reducer.take(Evidence(logits={"final": np.zeros(2)}))
    reducer.close(0, 2)
    for limit, label in ((2.0, "unknown"), (0.0, "none")):
        naming = Naming("ab", none_below=0.9, unknown_below={"final": limit})
        assert reducer.fields(naming, 2.0)["segments"][0].label == label


def test_independent_classes_have_no_unknown() -> None:
    reducer = ClassReducer("sigmoid", 2)
    reducer.take(Evidence(logits={"final": np.zeros(2)}))
    reducer.close(0, 2)
    assert reducer.fields(Naming("ab", unknown_below={"final": 9.0}), 2.0)["unknown"] is False


def test_a_short_window_takes_over_the_energy_of_the_whole_one() -> None:
    reducer, naming = ClassReducer("softmax", 2), Naming("ab", unknown_below={"final": 2.0})
    for (start, end), logits in (((0, 2), [4.0, 0.0]), ((2, 2.2), [0.1, 0.0])):
        reducer.take(Evidence(logits={"final": np.array(logits)}))
        reducer.close(start, end, joins=start > 0)
    (only,) = reducer.fields(naming, 2.2)["segments"]
    assert (only.start, only.end, only.label) == (0, 2.2, "a")
    assert len(reducer.windows) == 1
