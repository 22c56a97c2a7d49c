"""AdaFocus: choices, crops, gradients and counted multiply-adds of the published forms."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from foveate.core.errors import ModelError
from foveate.models import count_macs, create, registry
from foveate.models.adafocus import Focused
from foveate.models.adafocus_card import coarse_to_fine
from foveate.models.adafocus_policies import (
    GridPolicy,
    PointPolicy,
    PoolingClassifier,
    TwoStageClassifier,
    action_grid,
    choose_frames,
)
from foveate.models.layers.crop import crop_at, crop_resized
from foveate.models.macs import on_meta
from models.nontrivial import randomise

NAMES = ["adafocus-v1", "adafocus-v1-tsm", "adafocus-v2", "adafocus-v2-tsm", "uni-adafocus",
         "uni-adafocus-tsm"]  # fmt: skip
# Multiply-adds in 10^9 of the published networks, 200 classes at 224 pixels (specification).
RESNET = {96: 0.751, 112: 1.076, 128: 1.335, 144: 1.758, 160: 2.086, 176: 2.607, 192: 3.003}


def tiny(name: str) -> Any:
    torch.manual_seed(0)
    return randomise(registry.create_tiny(name))


def clip(name: str, seed: int = 0) -> torch.Tensor:
    """(B, T, 3, H, W) for the tiny network."""
    made = torch.rand(
        registry.entry(name).tiny_input, generator=torch.Generator().manual_seed(seed)
    )
    return made.transpose(1, 2)


# --- where and which ------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [5, 6, 7, 8])
@pytest.mark.parametrize("patch", [96, 128, 144, 160, 176, 192])
def test_the_grid_has_the_last_row_and_exact_thirds(side: int, patch: int) -> None:
    """A float32 linspace puts one of seven lines a pixel too high."""
    rows = (action_grid(side * side) * (224 - patch)).floor().int()
    assert rows[:, 0].tolist() == sorted(rows[:, 0].tolist())
    wanted = [i * (224 - patch) // (side - 1) for i in range(side)]
    assert sorted(set(rows[:, 0].tolist())) == wanted == sorted(set(rows[:, 1].tolist()))


def test_a_grid_is_a_square() -> None:
    with pytest.raises(ModelError, match="square"):
        action_grid(48)


def test_frames_coarse_to_fine() -> None:
    assert coarse_to_fine(1) == [0]
    assert coarse_to_fine(9) == [4, 0, 8, 2, 6, 1, 3, 5, 7]
    for count in (2, 3, 8, 16, 17, 100):
        order = coarse_to_fine(count)
        assert sorted(order) == list(range(count))
        assert order[:1] == [count // 2]


def test_a_uniform_density_chooses_the_uniform_grid() -> None:
    chosen = choose_frames(torch.full((2, 16), 1 / 16), 48, 16)
    assert chosen.tolist() == [[3 * i + 1 for i in range(16)]] * 2


def test_chosen_frames_follow_the_density_and_are_distinct() -> None:
    generator = torch.Generator().manual_seed(0)
    for sharpness in (0.5, 3.0, 30.0):
        density = (sharpness * torch.randn(50, 8, generator=generator)).softmax(1)
        for jitter in (None, torch.rand(50, 12, generator=generator)):
            chosen = choose_frames(density, 36, 12, jitter)
            assert (chosen.diff(dim=1) > 0).all()
            assert (chosen >= 0).all()
            assert (chosen < 36).all()
    peak = torch.zeros(1, 8)
    peak[0, 5] = 1.0
    assert choose_frames(peak, 64, 8).tolist() == [list(range(40, 48))]
    end = torch.zeros(1, 8)
    end[0, 7] = 1.0  # pushed forward, then back from the end
    assert choose_frames(end, 8, 4).tolist() == [[4, 5, 6, 7]]


def test_more_frames_than_there_are_cannot_be_chosen() -> None:
    with pytest.raises(ModelError, match="9 of 8"):
        choose_frames(torch.full((1, 4), 0.25), 8, 9)


# --- crops ----------------------------------------------------------------------------------------


def test_a_bilinear_crop_at_whole_pixels_is_a_slice() -> None:
    frames = torch.rand(3, 3, 40, 48, generator=torch.Generator().manual_seed(0))
    corners = torch.tensor([[0, 0], [7, 30], [24, 16]])
    boxes = torch.cat([corners.flip(1), corners.flip(1) + 16], 1)
    cut = crop_resized(frames, boxes, 16, antialias=False, padding="zeros")
    sliced = crop_at(frames, corners, 16)
    assert torch.equal(sliced[1], frames[1, :, 7:23, 30:46])
    assert torch.allclose(cut, sliced, atol=1e-5)


def test_the_gradient_of_a_crop_is_the_closed_form() -> None:
    """d/dx is (1 - y)(I(x+1) - I) + y(I(x+1, y+1) - I(y+1)), see section 3.2 of V2."""
    frames = torch.rand(1, 1, 12, 12, dtype=torch.float64)
    left, top = 3.3, 4.6
    boxes = torch.tensor([[left, top, left + 1, top + 1]], dtype=torch.float64, requires_grad=True)
    crop_resized(frames, boxes, 1, antialias=False).sum().backward()
    image, x, y = frames[0, 0], 3, 4
    share = top - y
    want = (1 - share) * (image[y, x + 1] - image[y, x]) + share * (
        image[y + 1, x + 1] - image[y + 1, x]
    )
    assert boxes.grad is not None
    assert float(boxes.grad[0, 0] + boxes.grad[0, 2]) == pytest.approx(float(want))
    assert torch.autograd.gradcheck(
        lambda b: crop_resized(frames, b, 3, antialias=False),
        boxes.detach().clone().requires_grad_(True),
    )


# --- networks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_clips_of_a_batch_do_not_mix(name: str) -> None:
    model, frames = tiny(name), clip(name)
    with torch.no_grad():
        both = model(frames.transpose(1, 2))
        alone = torch.cat([model(frames[i : i + 1].transpose(1, 2)) for i in range(2)])
    assert both.shape == (2, 7)
    assert torch.allclose(both, alone, atol=1e-4 * float(both.abs().max()))
    assert not torch.allclose(both[0], both[1])


@pytest.mark.parametrize("name", NAMES)
def test_what_is_said_to_be_seen_was_seen(name: str) -> None:
    model, frames = tiny(name), clip(name)
    with torch.no_grad():
        seen: Focused = model.steps(frames)
    count = seen.patches.shape[1]
    picked = frames if seen.frames is None else frames[torch.arange(2)[:, None], seen.frames]
    assert seen.windows.shape == (2, count, 4)
    assert (seen.windows[..., :2] >= 0).all()
    assert (seen.windows[..., 2:] <= model.size + 1e-3).all()
    flat = crop_resized(
        picked.flatten(0, 1),
        seen.windows.flatten(0, 1).float(),
        model.patch,
        antialias=False,
        padding="zeros",
    )
    assert torch.allclose(seen.patches.flatten(0, 1), flat, atol=1e-4)
    with torch.no_grad():
        focus = torch.cat([model.focus(seen.patches[i : i + 1]) for i in range(2)])
    assert torch.allclose(seen.focus, focus, atol=1e-4 * float(focus.abs().max()))


@pytest.mark.parametrize("name", ["adafocus-v1", "adafocus-v2"])
def test_one_batch_of_patches_equals_the_loop_over_frames(name: str) -> None:
    model, frames = tiny(name), clip(name)
    with torch.no_grad():
        seen = model.steps(frames)
        state = best = None
        for at in range(frames.shape[1]):
            maps, glance = model.look(frames[:, at : at + 1])
            if name == "adafocus-v1":
                scores, _, state = model.policy(maps, state)
                assert torch.allclose(scores[:, 0], seen.scores[:, at], atol=1e-4)
            else:
                places, state = model.policy(maps, state)
                assert torch.allclose(places[:, 0], seen.actions[:, at], atol=1e-4)
            both = torch.cat([glance, model.focus(seen.patches[:, at : at + 1])], -1)
            if name == "adafocus-v1":
                logits, best = model.classifier(both, best)
            else:
                logits, best = model.classifier(both, best, at)
            top = float(logits.abs().max())
            assert torch.allclose(logits[:, 0], seen.logits[:, at], atol=1e-4 * top)


def test_the_policy_passes_no_gradient_to_the_glance() -> None:
    maps = torch.rand(2, 3, 8, 2, 2, requires_grad=True)
    policy = PointPolicy(8, cells=2, hidden=16).eval()
    places, _ = policy(maps)
    places.sum().backward()
    assert maps.grad is None
    assert all(p.grad is not None for p in policy.parameters())
    grid = GridPolicy(8, cells=2, actions=9, hidden=16)
    grid(maps)[0].sum().backward()
    assert maps.grad is not None  # PPO trains it with the glance frozen


def test_the_loss_reaches_the_policy_through_the_crop() -> None:
    model = tiny("adafocus-v2")
    model.steps(clip("adafocus-v2")).focus.square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.policy.actor.parameters())
    assert all(p.grad is None for p in model.glance.parameters())


def test_the_window_head_trains_the_window_policy_alone() -> None:
    model = tiny("uni-adafocus")
    model.steps(clip("uni-adafocus")).window_logits.square().sum().backward()
    assert all(p.grad is not None for p in model.spatial_policy.parameters())
    assert all(p.grad is None for p in model.glance.parameters())
    assert all(p.grad is None for p in model.focus.parameters())


def test_pooling_counts_all_frames_so_far() -> None:
    model = randomise(PoolingClassifier(6, 5, 4, hidden=8))
    features = torch.rand(2, 4, 6, generator=torch.Generator().manual_seed(0))
    logits, best = model(features)
    hidden = model.hidden(features)
    for at in range(4):
        want = model.heads[at](hidden[:, : at + 1].amax(1))
        assert torch.allclose(logits[:, at], want)
    assert torch.equal(best, hidden.amax(1))
    with pytest.raises(ModelError, match="5 frames for 4 steps"):
        model(torch.rand(2, 5, 6))


def test_the_focus_counts_the_whole_glance() -> None:
    model = randomise(TwoStageClassifier(6, 9, 5, 3, 2, hidden=8))
    glance, focus = torch.rand(2, 3, 6), torch.rand(2, 2, 9)
    logits = model(glance, focus)
    best = model.glance.hidden(glance).amax(1)
    first = model.focus_mlp(focus[:, 0])
    assert logits.shape == (2, 5, 5)
    assert torch.allclose(logits[:, 3], model.focus_heads[0](torch.cat([first, best], 1)))


def test_random_places_take_the_policy_out() -> None:
    model, frames = tiny("adafocus-v2"), clip("adafocus-v2")
    places = torch.zeros(2, 3, 2)
    seen = model.steps(frames, places)
    assert torch.allclose(seen.patches, frames[..., :32, :32], atol=1e-5)


def test_wrong_sizes_are_one_line() -> None:
    model = tiny("adafocus-v2")
    with pytest.raises(ModelError, match="takes 64 by 64"):
        model(torch.rand(1, 3, 3, 48, 64))
    with pytest.raises(ModelError, match="7 candidate frames for 3 glance"):
        tiny("uni-adafocus").steps(torch.rand(1, 7, 3, 64, 64))
    with pytest.raises(ModelError, match="patches of 300"):
        create("adafocus-v1", patch=300)


# --- the published multiply-adds ------------------------------------------------------------------


def total(name: str, shape: tuple[int, ...], **settings: Any) -> float:
    with torch.device("meta"):
        model = create(name, num_classes=200, **settings)
    return count_macs(model, shape) / 1e9


@pytest.mark.parametrize(("patch", "want"), [(96, 17.2), (128, 26.5), (160, 38.5), (192, 53.2)])
def test_multiply_adds_of_v1(patch: int, want: float) -> None:
    assert total("adafocus-v1", (1, 3, 16, 224, 224), patch=patch) == pytest.approx(want, rel=5e-3)


@pytest.mark.parametrize(("patch", "want"), [(96, 17.6), (128, 27.0), (160, 39.0), (192, 53.6)])
def test_multiply_adds_of_v2(patch: int, want: float) -> None:
    assert total("adafocus-v2", (1, 3, 16, 224, 224), patch=patch) == pytest.approx(want, rel=5e-3)


@pytest.mark.parametrize(("patch", "want"), [(128, 18.4), (144, 23.5), (160, 27.4), (176, 33.7)])
def test_multiply_adds_of_the_shifted_form(patch: int, want: float) -> None:
    found = total("adafocus-v2-tsm", (1, 3, 12, 224, 224), patch=patch)
    assert found == pytest.approx(want, rel=5e-3)


def test_multiply_adds_of_uni_adafocus() -> None:
    assert total("uni-adafocus", (1, 3, 48, 224, 224)) == pytest.approx(27.2, rel=5e-3)


def test_networks_can_be_copied_to_the_meta_device() -> None:
    ghost = on_meta(tiny("uni-adafocus"))
    assert ghost(torch.empty(1, 3, 6, 64, 64, device="meta")).shape == (1, 7)


def test_a_glance_may_be_smaller_than_the_frames() -> None:
    model = randomise(create("adafocus-v2", **{
        **registry.entry("adafocus-v2").tiny, "glance_size": 32,
    }))  # fmt: skip
    frames = torch.rand(1, 3, 3, 64, 64)
    small = F.interpolate(frames[0], (32, 32), mode="bilinear", align_corners=True)
    with torch.no_grad():
        maps, _ = model.look(frames)
        assert torch.allclose(maps[0], model.glance.net.forward_features(small), atol=1e-3)
