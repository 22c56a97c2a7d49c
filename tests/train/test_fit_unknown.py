"""What a trained network's features are like on clips of its classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from foveate.models.spec import InputSpec
from foveate.models.weights.run import UnknownCard
from foveate.train.unknown import GENERATED, fit_unknown, generated

SPEC = InputSpec(size=24, frames_per_second=4.0, clip_frames=4)


class Colours(nn.Module):
    """Features (B, T, 6): mean and spread of each colour of every frame."""

    def features(self, x: torch.Tensor) -> torch.Tensor:
        flat = x.flatten(3)
        return torch.cat([flat.mean(-1), flat.std(-1)], 1).transpose(1, 2)


def prepare(x: torch.Tensor) -> torch.Tensor:
    return x.float() / 255


def known(seed: int, count: int) -> torch.Tensor:
    """Features of dark clips of little contrast."""
    stream = torch.Generator().manual_seed(seed)
    return torch.rand(count, 6, generator=stream) * 0.05 + 0.1


def test_clips_of_the_classes_are_known_and_noise_is_not() -> None:
    card = fit_unknown(Colours(), known(0, 60), known(1, 30), SPEC, prepare)
    assert card is not None
    assert (card.training, card.clips, card.generated) == (60, 30, GENERATED)
    assert card.alarms <= 0.05
    assert card.found == card.roc_area == 1
    mean = card.arrays()[0]
    np.testing.assert_allclose(mean, known(0, 60).mean(0), rtol=1e-6)
    assert UnknownCard.model_validate_json(card.model_dump_json()) == card
    assert card == fit_unknown(Colours(), known(0, 60), known(1, 30), SPEC, prepare)


def test_noise_that_is_more_familiar_than_the_clips_gives_no_limit() -> None:
    noise = torch.cat([Colours().features(prepare(x)).mean(1) for x in generated(SPEC, 9)])
    assert fit_unknown(Colours(), noise, noise + 0.5, SPEC, prepare) is None


def test_noise_moves_and_is_of_two_grains() -> None:
    coarse, fine, *_ = clips = generated(SPEC)
    assert sum(map(len, clips)) == GENERATED
    for clip in clips:
        assert clip.shape[1:] == (3, 4, 24, 24)
        assert clip.dtype == torch.uint8
        assert torch.equal(clip[:, :, 0].roll(1, -1), clip[:, :, 1])
    step = [float((c[..., 1:].float() - c[..., :-1].float()).abs().mean()) for c in (coarse, fine)]
    assert step[0] < step[1]


@pytest.mark.parametrize(
    "changes", [{"mean": "?"}, {"mean": ""}, {"spread": "AAAAAA=="}, {"limit": 0.0}]
)
def test_a_damaged_card_is_refused(changes: dict[str, Any]) -> None:
    values = UnknownCard.of([0.0], [1.0], limit=1.0, training=9, clips=9, alarms=0.0).model_dump()
    with pytest.raises(ValueError, match=r"mean|spread|limit"):
        UnknownCard.model_validate({**values, **changes})
