"""Features that are computed once: those of the network, kept, and found again by their key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from foveate.core import ConfigError, FoveateError
from foveate.train import features
from foveate.train.kit.batches import TensorBatches
from train import tiny_motion

X, Y = tiny_motion.movies(10, seed=5)


def network() -> Any:
    torch.manual_seed(0)
    return tiny_motion._build(dropout=0.0).eval()


def prepare(x: torch.Tensor) -> torch.Tensor:
    return x.float() / 255


def batches() -> TensorBatches:
    return TensorBatches(X, Y, 4)


def test_head_and_features_make_the_network() -> None:
    model = network()
    found = features.compute(model, batches(), prepare, mirror=True)
    assert found.x.shape == (10, 2, found.x.shape[2])
    assert torch.equal(found.y, Y)
    head = features.Head(model)
    for view, clip in enumerate((X, X.flip(-1))):
        expected = model(prepare(clip))
        torch.testing.assert_close(head(found.x[:, view]), expected, rtol=1e-4, atol=1e-5)
    assert {id(p) for p in head.parameters()} <= {id(p) for p in model.parameters()}
    assert all(features.is_head(name.removeprefix("parts.")) for name, _ in head.named_parameters())


def test_a_network_without_the_two_parts_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"Linear has no features\(\)"):
        features.Head(nn.Linear(1, 1))


def test_the_key_is_about_weights_data_and_preprocessing_but_not_the_head() -> None:
    model = network()
    key = features.key_of(model, data="a")
    assert features.key_of(network(), data="a") == key
    assert features.key_of(model, data="b") != key
    with torch.no_grad():
        model.classifier.weight.add_(1)
    assert features.key_of(model, data="a") == key
    with torch.no_grad():
        next(model.parameters()).add_(1)
    assert features.key_of(model, data="a") != key


def test_kept_features_are_read_and_others_are_not(tmp_path: Path) -> None:
    made: list[int] = []
    source = batches()
    source.failures = ["a.mp4: no video stream"]
    source.warnings = ["b.mp4: 36 of 72 frames"]

    def watched(x: torch.Tensor) -> torch.Tensor:
        made.append(len(x))
        return prepare(x)

    def get(key: str) -> features.FeatureSet:
        return features.kept_features(tmp_path, "train", key, network(), source, watched, False)

    first, again = get("a" * 64), get("a" * 64)
    assert made == [4, 4, 2]
    assert torch.equal(first.x, again.x)
    assert torch.equal(first.index, again.index)
    assert again.failures == ["a.mp4: no video stream"]
    assert again.warnings == ["b.mp4: 36 of 72 frames"]
    assert first.saved == 0 < again.saved
    get("b" * 64)
    assert made == [4, 4, 2] * 2


def test_nothing_to_compute_from_is_an_error_with_a_reason() -> None:
    empty = TensorBatches(X[:0], Y[:0], 4)
    empty.failures = ["a.mp4: no video stream"]
    with pytest.raises(FoveateError, match=r"no sample could be read.*a\.mp4"):
        features.compute(network(), empty, prepare, mirror=False)


def test_every_view_is_drawn() -> None:
    x = torch.tensor([[0.0], [1.0]])
    random = torch.Generator().manual_seed(0)
    drawn = [float(features.draw_view(x, random)) for _ in range(100)]
    assert 30 < sum(drawn) < 70
