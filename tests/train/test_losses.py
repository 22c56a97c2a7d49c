"""Losses per sample against torch's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from foveate.core import ConfigError
from foveate.train.kit.losses import class_loss, multilabel_loss

LOGITS = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 3, 1, 1, 2])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_indices_and_shares_agree(smoothing: float) -> None:
    hard = class_loss(LOGITS, Y, smoothing)
    soft = class_loss(LOGITS, F.one_hot(Y, 4), smoothing)
    assert hard.shape == (5,)
    torch.testing.assert_close(hard, soft)
    torch.testing.assert_close(hard.mean(), F.cross_entropy(LOGITS, Y, label_smoothing=smoothing))


def test_mixed_labels_mix_the_losses() -> None:
    shares = 0.3 * F.one_hot(Y, 4) + 0.7 * F.one_hot(Y.flip(0), 4)
    parts = 0.3 * class_loss(LOGITS, Y) + 0.7 * class_loss(LOGITS, Y.flip(0))
    torch.testing.assert_close(class_loss(LOGITS, shares), parts)


def test_half_precision_scores_lose_nothing_more() -> None:
    scores = LOGITS.bfloat16()
    assert class_loss(scores, Y).dtype == torch.float32
    torch.testing.assert_close(class_loss(scores, Y), class_loss(scores.float(), Y))


def test_several_labels() -> None:
    target = torch.tensor([[1, 0, 1, 0]]).expand(5, 4)
    expected = F.binary_cross_entropy_with_logits(LOGITS, target.float(), reduction="none").mean(1)
    torch.testing.assert_close(multilabel_loss(LOGITS, target), expected)
    even = multilabel_loss(LOGITS, target, 1.0)
    torch.testing.assert_close(even, multilabel_loss(LOGITS, torch.full((5, 4), 0.5)))
    with pytest.raises(ConfigError, match="labels"):
        multilabel_loss(LOGITS, Y)
