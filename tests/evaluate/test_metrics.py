"""Every metric against scikit-learn, weighted and not, and by hand where it has none."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from foveate.core import ConfigError
from foveate.evaluate import metrics
from foveate.evaluate.metrics import Protocol, value_of

N, C = 300, 7


@pytest.fixture
def scores():
    logits = np.random.default_rng(0).normal(size=(N, C)) * 2
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


@pytest.fixture
def labels():
    return np.random.default_rng(1).integers(0, C, N)


@pytest.fixture
def weights():
    return np.random.default_rng(2).integers(0, 4, (5, N)).astype(float)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_top_k(scores, labels, weights, k):
    ours = metrics.mean(metrics.hits(scores, labels, k))(weights)
    for row, value in zip(weights, ours, strict=True):
        want = reference.top_k_accuracy_score(labels, scores, k=k, sample_weight=row)
        assert value == pytest.approx(want)


def test_of_equal_scores_the_first_is_the_answer():
    scores = np.array([[0.5, 0.5], [0.5, 0.5]])
    assert metrics.hits(scores, np.array([0, 1])).tolist() == [1, 0]


def test_mean_class_accuracy(scores, labels, weights):
    right = metrics.hits(scores, labels)
    ours = metrics.mean_class_accuracy(right, labels)(weights)
    for row, value in zip(weights, ours, strict=True):
        want = reference.balanced_accuracy_score(labels, scores.argmax(1), sample_weight=row)
        assert value == pytest.approx(want)


def test_mean_average_precision(weights):
    random = np.random.default_rng(3)
    truth = random.random((N, C)) < 0.3
    scores = np.round(random.random((N, C)) + 0.3 * truth, 2)  # with ties
    ours = metrics.mean_average_precision(scores, truth.astype(float))(weights)
    for row, value in zip(weights, ours, strict=True):
        want = reference.average_precision_score(truth, scores, sample_weight=row)
        assert value == pytest.approx(want)


def test_a_class_without_a_positive_does_not_count():
    truth = np.array([[1.0, 0.0], [0.0, 0.0]])
    scores = np.array([[0.9, 0.1], [0.1, 0.2]])
    assert value_of(metrics.mean_average_precision(scores, truth), 2) == 1.0
    nothing = metrics.mean_average_precision(scores, np.zeros((2, 2)))
    assert np.isnan(value_of(nothing, 2))


def test_confusion_matrix(scores, labels):
    ours = metrics.confusion_matrix(labels, scores.argmax(1), C)
    assert (ours == reference.confusion_matrix(labels, scores.argmax(1), labels=range(C))).all()


def test_calibration(scores, labels):
    right, sure = metrics.hits(scores, labels), scores.max(1)
    ours = value_of(metrics.calibration_error(sure, right, 10), N)
    by_hand = 0.0
    for b in range(10):
        inside = (sure > b / 10) & (sure <= (b + 1) / 10)
        if inside.any():
            by_hand += inside.mean() * abs(right[inside].mean() - sure[inside].mean())
    assert ours == pytest.approx(by_hand)
    bins = metrics.reliability(sure, right, 10)
    assert sum(b.n for b in bins) == N
    share = sum(b.n * abs(b.accuracy - b.confidence) for b in bins if b.n) / N
    assert share == pytest.approx(by_hand)


def test_a_perfectly_calibrated_answer_has_no_error():
    right = np.array([1.0, 1.0, 1.0, 0.0])
    assert value_of(metrics.calibration_error(np.full(4, 0.75), right), 4) == 0


@pytest.mark.parametrize(
    ("predicted", "tiou", "want"),
    [
        ([(0, 10, "a"), (10, 20, "b")], 0.5, (2, 0, 0)),
        ([(0, 4, "a")], 0.5, (0, 1, 2)),
        ([(0, 4, "a")], 0.4, (1, 0, 1)),
        ([(0, 9, "a"), (9, 10, "a")], 0.05, (1, 1, 1)),  # one right segment is found once
        ([(0, 10, "b"), (10, 20, "a")], 0.1, (0, 2, 2)),
        ([], 0.5, (0, 0, 2)),
    ],
)
def test_segments_are_matched_once_and_by_label(predicted, tiou, want):
    truth = [(0.0, 10.0, "a"), (10.0, 20.0, "b")]
    assert metrics.match_segments(truth, predicted, tiou) == want


def test_segment_f1():
    counts = np.array([[2, 0, 0], [0, 1, 2]])
    assert value_of(metrics.segment_f1(counts), 2) == pytest.approx(4 / 7)


def test_names_carry_their_protocol():
    assert Protocol("video", 1).name("top1") == "top1@video,views=1"
    assert Protocol("clip", 30).name("f1", tiou=0.5) == "f1@clip,views=30,tiou=0.5"


def test_what_does_not_belong_together_is_refused(scores, labels):
    with pytest.raises(ConfigError, match="do not belong"):
        metrics.hits(scores, labels[:-1])
    with pytest.raises(ConfigError, match="outside"):
        metrics.hits(scores, labels + C)
