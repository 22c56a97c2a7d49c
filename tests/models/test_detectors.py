"""Detectors in two parts: together they are torchvision's, and around them LSTS keeps its state."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from foveate.core.errors import ModelError
from foveate.models import registry
from foveate.models.detectors import DETECTORS, Detector, TorchvisionDetector
from foveate.models.layers.folded import fold_norms
from foveate.models.lsts import TemporalNeck
from foveate.models.video_detector import (
    VideoDetector,
    VideoState,
    lsts,
    split_state,
    stack_states,
)

FAMILIES = [*DETECTORS, "faster-rcnn:mobilenet_v3_large"]
SIZES = [(64, 48), (60, 64)]


def build(name: str) -> Any:
    torch.manual_seed(0)
    if ":" in name:
        return registry.create(name, num_classes=3).eval()
    return registry.create_tiny(name).eval()


def pictures(count: int = 2, height: int = 64, width: int = 64, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, height, width, generator=generator)


def accepting(model: Any) -> Any:
    """Let a random network find something."""
    for part in (model, getattr(model, "roi_heads", None)):
        if hasattr(part, "score_thresh"):
            part.score_thresh = 0.0
    if hasattr(model, "rpn"):
        model.rpn._post_nms_top_n = {"training": 50, "testing": 50}
    if not model.transform.fixed_size:
        model.transform.min_size, model.transform.max_size = (64,), 96
    return model


@pytest.mark.parametrize("name", FAMILIES)
def test_the_parts_are_the_model(name: str) -> None:
    detector = build(name)
    model = accepting(detector.model)
    images = [pictures(1, *size, seed=at)[0] for at, size in enumerate(SIZES)]
    with torch.no_grad():
        want = model(images)
        batch, _ = model.transform(images)
        features = detector.high(detector.low(batch.tensors))
        got = detector.detect(features, batch.image_sizes)
        got = model.transform.postprocess(got, batch.image_sizes, SIZES)
    for own, theirs in zip(got, want, strict=True):
        assert len(own["boxes"]) > 0
        assert torch.equal(own["boxes"], theirs["boxes"])
        assert torch.equal(own["scores"], theirs["scores"])
        assert torch.equal(own["labels"] + detector.background, theirs["labels"])
        assert 0 <= own["labels"].min() <= own["labels"].max() < 3


@pytest.mark.parametrize("name", FAMILIES)
def test_folded_norms_change_features_by_rounding_only(name: str) -> None:
    detector = build(name)
    images = pictures(1)
    with torch.no_grad():
        for module in detector.modules():
            if hasattr(module, "running_var"):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
        want = detector.high(detector.low(images))
        before = sum(hasattr(module, "running_var") for module in detector.modules())
        got = fold_norms(detector).high(detector.low(images))
    after = sum(hasattr(module, "running_var") for module in detector.modules())
    assert after < before
    for level in want:
        assert torch.allclose(got[level], want[level], atol=1e-4 * float(want[level].abs().max()))


@pytest.mark.parametrize("name", ["ssdlite320-mobilenet-v3-large", "fcos", "rfcn"])
def test_the_loss_is_the_models_and_reaches_both_parts(name: str) -> None:
    detector = build(name).train()
    boxes = torch.tensor([[8.0, 8.0, 40.0, 50.0]])
    targets = [{"boxes": boxes, "labels": torch.tensor([label])} for label in (0, 2)]
    x, sizes = pictures(), [(64, 64)] * 2
    low = detector.low(x)
    losses = detector.loss(detector.high(low), targets, sizes)
    total = sum(losses.values())
    total.backward()
    assert total.isfinite()
    steps = detector.model.backbone.parameters()
    assert sum(p.grad is not None and bool(p.grad.any()) for p in steps) > 10
    assert torch.equal(targets[0]["labels"], torch.tensor([0]))  # they were not changed
    with pytest.raises(ModelError, match="training mode"):
        detector.eval().loss({}, [], [])


@pytest.mark.parametrize(
    ("name", "builder"),
    [
        ("ssdlite320-mobilenet-v3-large", "ssdlite320_mobilenet_v3_large"),
        ("fcos:resnet50", "fcos_resnet50_fpn"),
        ("faster-rcnn:resnet50", "fasterrcnn_resnet50_fpn"),
    ],
)
def test_weights_of_torchvision_fit(name: str, builder: str) -> None:
    from torchvision.models import detection

    with torch.device("meta"):
        own = registry.create(name)
        theirs = getattr(detection, builder)(weights=None, weights_backbone=None, num_classes=91)
    shapes = {key: value.shape for key, value in own.model.state_dict().items()}
    assert shapes == {key: value.shape for key, value in theirs.state_dict().items()}


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
def test_rfcn_is_at_stride_16(backbone: str) -> None:
    with torch.device("meta"):
        detector: Any = registry.create(f"rfcn:{backbone}", num_classes=30)
        low = detector.low(torch.zeros(1, 3, 64, 96))
        (features,) = detector.high(low).values()
    assert low["x"].shape[2:] == features.shape[2:] == (4, 6)
    assert features.shape[1] == 1024
    pool = detector.model.roi_heads.box_roi_pool
    assert (pool.scores.out_channels, pool.boxes.out_channels) == (7 * 7 * 31, 7 * 7 * 4)


def test_faults_are_one_line() -> None:
    with pytest.raises(ModelError, match="backbone 'resnet9'"):
        registry.create("rfcn:resnet9")
    with pytest.raises(ModelError, match="is no detector"):
        lsts(detector="movinet-a0")
    with pytest.raises(ModelError, match="low_blocks"):
        registry.create("rfcn:resnet18", low_blocks=9)


# --- LSTS around them ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def video() -> VideoDetector:
    return build("lsts")


@pytest.fixture(scope="module")
def pyramid() -> VideoDetector:
    torch.manual_seed(0)
    return lsts(3, "faster-rcnn:resnet18", embedding=8, count=4).eval()


def same(a: dict[str, Tensor], b: dict[str, Tensor], bound: float = 1e-5) -> bool:
    return all(torch.allclose(a[name], b[name], atol=bound, rtol=1e-4) for name in a | b)


@torch.no_grad()
def run(model: VideoDetector, frames: Tensor, keys: str, state: VideoState) -> list[Any]:
    found = []
    for x, kind in zip(frames, keys, strict=True):
        features, state = getattr(model, "key" if kind == "k" else "nonkey")(x, state)
        found.append(features)
    return [*found, state]


@pytest.mark.parametrize("kind", ["video", "pyramid"])
def test_the_first_frame_is_the_plain_detector(kind: str, request: Any) -> None:
    model = request.getfixturevalue(kind)
    x = pictures()
    with torch.no_grad():
        plain = model.detector.high(model.detector.low(x))
    first, _ = run(model, x[None], "k", VideoState())
    assert all(torch.equal(first[name], plain[name]) for name in plain)


def test_interval_1_adds_the_update_of_the_memory_and_nothing_else(pyramid: VideoDetector) -> None:
    model = pyramid
    frames = pictures(6).reshape(3, 2, 3, 64, 64)
    *found, _ = run(model, frames, "kkk", VideoState())
    with torch.no_grad():
        plain = [model.detector.high(model.detector.low(x)) for x in frames]
        for name in plain[0]:
            neck: TemporalNeck = model.necks[f"level{name}"]
            task = plain[0][name]
            for at in (1, 2):
                whole = plain[at][name]
                task = neck.fuse_key(whole, neck.to_key(task, whole, neck.offsets))
                assert torch.allclose(found[at][name], task, atol=1e-5)


def test_videos_in_a_batch_are_computed_as_alone(video: VideoDetector) -> None:
    frames = pictures(8).reshape(4, 2, 3, 64, 64)
    *together, state = run(video, frames, "knkn", VideoState())
    alone = [run(video, frames[:, at : at + 1], "knkn", VideoState()) for at in (0, 1)]
    for at in (0, 1):
        for step in range(4):
            assert torch.allclose(together[step]["0"][at], alone[at][step]["0"][0], atol=1e-5)
    for at, one in enumerate(split_state(state, 2)):
        assert torch.allclose(one.levels["0"].key, alone[at][-1].levels["0"].key, atol=1e-5)
    again = stack_states(split_state(state, 2))
    assert same({"0": again.levels["0"].memory}, {"0": state.levels["0"].memory})


def test_a_state_is_a_value_and_ends_with_the_size(video: VideoDetector) -> None:
    frames = pictures(4).reshape(2, 2, 3, 64, 64)
    _, state = run(video, frames[:1], "k", VideoState())
    kept = state.levels["0"].key.clone()
    run(video, frames, "nk", state)
    assert torch.equal(state.levels["0"].key, kept)
    other = pictures(2, 32, 64)
    fresh, _ = run(video, other[None], "k", VideoState())
    after, _ = run(video, other[None], "k", state)
    assert torch.equal(after["0"], fresh["0"])
    with pytest.raises(ModelError, match="start with a key frame"):
        run(video, other[None], "n", state)
    with pytest.raises(ModelError, match="start with a key frame"):
        run(video, other[None], "n", VideoState())


def test_other_frames_run_the_low_part_only(video: VideoDetector) -> None:
    called = []
    layers = video.detector.model.backbone.body
    hooks = [
        layers[name].register_forward_hook(lambda *_, name=name: called.append(name))
        for name in ("conv1", "layer2", "layer4")
    ]
    blocks = [layers[name][0].register_forward_hook(lambda *_: called.append("block"))
              for name in ("layer2", "layer4")]  # fmt: skip
    _, state = run(video, pictures(2)[None], "k", VideoState())
    assert called == ["conv1", "block", "block"]
    called.clear()
    run(video, pictures(2)[None], "n", state)
    for hook in hooks + blocks:
        hook.remove()
    assert called == ["conv1", "block"]


def test_offsets_have_a_group_of_their_own(video: VideoDetector) -> None:
    groups = video.groups(1e-4, 5e-4)
    listed = [p for group in groups for p in group["params"]]
    assert len(listed) == len(set(map(id, listed))) == len(list(video.parameters()))
    assert [group["lr"] for group in groups] == pytest.approx([1e-4, 1e-4, 1.0])


@pytest.mark.parametrize("name", ["rfcn", "lsts"])
def test_the_full_network_builds_without_memory(name: str) -> None:
    with torch.device("meta"):
        model = registry.create(name)
    assert isinstance(model, Detector | VideoDetector)
    assert registry.entry(name).classifier is False
    assert isinstance(getattr(model, "detector", model), TorchvisionDetector)
