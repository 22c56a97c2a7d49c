"""Parameters and multiply-adds compared with published or recomputed values."""

from __future__ import annotations

import pytest
import torch

from foveate.models import count_macs, registry

# Model, settings, clip (T, side), parameters, giga multiply-adds, source.
PUBLISHED = [
    ("r3d-18", {}, (16, 112), 33_371_472, 40.697),  # torchvision's table, also the seven below
    ("mc3-18", {}, (16, 112), 11_695_440, 43.343),
    ("r2plus1d-18", {}, (16, 112), 31_505_325, 40.519),
    ("s3d", {}, (16, 224), 8_320_048, 17.979),
    ("mvit-v2-s", {}, (16, 224), 34_537_744, 64.224),
    ("swin3d-t", {}, (16, 224), 28_158_070, 43.882),
    ("swin3d-s", {}, (16, 224), 49_816_678, 82.841),
    ("swin3d-b", {}, (16, 224), 88_048_984, 140.667),
    ("c3d", {"num_classes": 101}, (16, 112), 78_409_573, 38.55),  # arXiv 1711.11248, 38.5 G
    (
        "eco-full",
        {"num_classes": 400},
        (16, 224),
        47_502_128,
        64.4,
    ),  # arXiv 1811.08383, 64 G, 47.5 M
    ("tsn:resnet50", {"num_classes": 400}, (8, 224), 24_327_632, 32.7),  # arXiv 1811.08383, table 2
    ("tsm:resnet50", {"num_classes": 400}, (8, 224), 24_327_632, 32.7),  # ... 33 G, 24.3 M
    ("tsm-online:mobilenetv2_100", {"num_classes": 400}, (8, 224), 2_736_272, 2.4),  # 8 x 0.3 G
]

# Parameters before the classifier and without counters, recomputed from the original's arrays.
RECOMPUTED = [
    ("c3d", {}, 77_995_776),
    ("i3d", {}, 12_287_264),
    ("eco-lite", {}, 37_298_656),
    ("eco-full", {}, 46_887_328),
    ("r3d", {"depth": 50}, 46_198_976),
    ("r2plus1d", {"depth": 34}, 63_542_300),
    ("tsn:resnet50", {}, 23_508_032),
    ("tsm:resnet50", {}, 23_508_032),
]


def on_meta(name: str, settings: dict[str, object]) -> torch.nn.Module:
    with torch.device("meta"):
        return registry.create(name, **settings)


@pytest.mark.parametrize(("name", "settings", "clip", "parameters", "giga"), PUBLISHED)
def test_published_sizes(name, settings, clip, parameters, giga):
    model = on_meta(name, settings)
    assert sum(p.numel() for p in model.parameters()) == parameters
    frames, side = clip
    assert count_macs(model, (1, 3, frames, side, side)) / 1e9 == pytest.approx(giga, rel=5e-3)


@pytest.mark.parametrize(("name", "settings", "parameters"), RECOMPUTED)
def test_recomputed_parameters(name, settings, parameters):
    model = on_meta(name, settings)
    own = [p.numel() for n, p in model.named_parameters() if not n.startswith("classifier")]
    assert sum(own) == parameters
