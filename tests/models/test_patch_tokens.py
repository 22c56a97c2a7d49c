"""Vision transformers of which only some tokens are computed."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from foveate.core import ModelError
from foveate.models import macs_of
from foveate.models.patch_tokens import count_kept_macs, patch_of, with_kept
from foveate.models.registry import create

SIDE, GRID = 64, 4  # pixels, and patches of 16 pixels along a side


def network(name: str, **settings: Any) -> Any:
    torch.manual_seed(0)
    made = create(name, num_classes=5, **settings).eval()
    torch.nn.init.normal_(made.classifier.weight)
    return made


def clips(frames: int = 2, side: int = SIDE) -> torch.Tensor:
    return torch.randn(2, 3, frames, side, side, generator=torch.Generator().manual_seed(1))


def some(count: int, frames: int = 2) -> torch.Tensor:
    """(2, frames, GRID, GRID) with so many kept patches in each frame."""
    drawn = torch.rand(2, frames, GRID * GRID, generator=torch.Generator().manual_seed(2))
    kept = torch.zeros_like(drawn, dtype=torch.bool).scatter_(
        2, drawn.argsort(2)[..., :count], True
    )
    return kept.unflatten(2, (GRID, GRID))


@torch.no_grad()
@pytest.mark.parametrize(
    "name",
    [
        "test_vit",  # a class token
        "test_vit3",  # register tokens, pooled by an attention
        "test_vit4",
        "vit_tiny_patch16_224",  # position embeddings are resampled
        "deit_tiny_distilled_patch16_224",  # two prefix tokens
    ],
)
def test_all_tokens_give_the_full_network(name: str) -> None:
    settings = {} if name.startswith("test") else {"backbone_settings": {"depth": 2}}
    model, x = network(f"tsn:{name}", **settings), clips()
    every = with_kept(x, torch.ones(2, 2, GRID, GRID, dtype=torch.bool), model.patch)
    assert (model(every) - model(x)).abs().max() < 1e-5 * model(x).abs().max()


@torch.no_grad()
def test_kept_tokens_are_those_of_the_transformer_at_their_places() -> None:
    model, x, kept = network("tsn:test_vit"), clips(), some(5)
    found = model.token_features(x, kept)
    vit = model.backbone
    frame, chosen = x[1, :, 1][None], kept[1, 1].flatten()
    whole = vit._pos_embed(vit.patch_embed(frame))
    alone = torch.cat([whole[:, :1], whole[:, 1:][:, chosen]], 1)
    wanted = vit.forward_head(vit.norm(vit.blocks(vit.norm_pre(alone))), pre_logits=True)
    assert torch.allclose(found[1, 1], wanted[0], atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", ["tsn:test_vit", "tubelet:test_vit"])
def test_pixels_outside_the_kept_patches_do_not_count(name: str) -> None:
    model, x, kept = network(name), clips(), some(3)
    kept[:, 1] = kept[:, 0]
    clip = with_kept(x, kept, model.patch)
    outside, inside = clip.clone(), clip.clone()
    outside[:, :3] += 9 * (clip[:, 3:] < 0.5)
    inside[:, :3] += 9 * (clip[:, 3:] > 0.5)
    assert torch.equal(model(outside), model(clip))
    assert (model(inside) - model(clip)).abs().max() > 1e-2


@torch.no_grad()
@pytest.mark.parametrize("name", ["tsn:test_vit", "tubelet:test_vit"])
def test_items_with_different_numbers_of_tokens_are_computed_as_alone(name: str) -> None:
    model, x, kept = network(name), clips(), torch.stack([some(3)[0], some(9)[1]])
    clip = with_kept(x, kept, model.patch)
    together = model(clip)
    for row in (0, 1):
        assert torch.allclose(together[row : row + 1], model(clip[row : row + 1]), atol=1e-5)


def formula(tokens: int, computed: int, pixels: int) -> int:
    """Multiply-adds of `test_vit`: width 64, 6 blocks, MLP of 192; attention is quadratic."""
    width, depth, ratio = 64, 6, 3
    return pixels * computed * width + depth * (
        (4 + 2 * ratio) * width * width * tokens + 2 * tokens * tokens * width
    )


def test_multiply_adds_follow_from_the_numbers_of_tokens() -> None:
    image, tubes = network("tsn:test_vit"), network("tubelet:test_vit")
    shape, head = (1, 3, 2, SIDE, SIDE), 64 * 5
    counted = count_kept_macs(image, shape, (3, 16))
    assert counted == sum(formula(1 + n, n, 768) + head for n in (3, 16))
    assert count_kept_macs(image, shape, (16, 16)) == macs_of(image, shape)
    joint = count_kept_macs(tubes, (1, 3, 4, SIDE, SIDE), (3, 3, 5, 5))
    assert joint == formula(1 + 3 + 5, 3 + 5, 2 * 768) + head
    assert count_kept_macs(tubes, shape, (16, 16)) == macs_of(tubes, shape)


@torch.no_grad()
def test_a_still_clip_begins_with_the_features_of_its_picture() -> None:
    image, tubes = network("tsn:test_vit"), network("tubelet:test_vit")
    still = clips(1).expand(-1, -1, 2, -1, -1)
    assert torch.allclose(tubes.features(still), image.features(still)[:, :1], atol=1e-5)
    assert tubes(clips(32)).shape == (2, 5)  # more slots of time than position embeddings


def test_what_has_no_tokens_says_so() -> None:
    assert network("tsn:test_vit").patch == (1, 16, 16)
    assert network("tubelet:test_vit", tubelet=4).patch == (4, 16, 16)
    assert network("tsn:test_resnet").patch is None
    assert network("tsm:test_vit").patch is None  # neighbours need the token of the same place
    with torch.device("meta"):
        assert patch_of(create("tsn:vit_tiny_r_s16_p8_224", num_classes=2).backbone) is None
    with pytest.raises(ModelError, match="test_resnet is no vision transformer on patches"):
        network("tubelet:test_resnet")
    with pytest.raises(ModelError, match="does not consist of tubelets"):
        network("tubelet:test_vit")(clips(3))
