"""Exits that execute: what comes after the exit that decides is neither computed nor decoded."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from clips import encode
from foveate.core import ConfigError, MediaError
from foveate.media.compressed import CompressedVideo
from foveate.models.coviar import MODALITIES, CompressedNet, ExitNetwork
from foveate.pipeline.cascade import CHEAP_ORDER, PUBLISHED_ORDER, Cascade, exit_names
from foveate.policy.fuse import Wise

CLASSES = 4
P_ONLY = {"refs": "1", "weightp": "0", "sc_threshold": "0"}


@cache
def clip() -> bytes:
    return encode("matroska", "libx264", 60, size=(96, 80), gop=12, options=P_ONLY)


@cache
def networks() -> dict:
    torch.manual_seed(0)
    return {
        name: ExitNetwork(CompressedNet(name, "test_resnet", CLASSES)).eval() for name in MODALITIES
    }


def cascade(threshold: float, order=CHEAP_ORDER, **options) -> Cascade:
    return Cascade(networks(), order=order, threshold=threshold, size=64, **options)


class Asked:
    """Counts which reading of the file was asked for, and lets it through."""

    def __init__(self, monkeypatch) -> None:
        self.calls: list[str] = []
        for name in ("key_frames", "vectors", "residuals"):
            real = getattr(CompressedVideo, name)

            def counted(video, *args, real=real, name=name):
                self.calls.append(name)
                return real(video, *args)

            monkeypatch.setattr(CompressedVideo, name, counted)


def test_a_decision_on_vectors_builds_no_residual_and_decodes_no_key_frame(monkeypatch) -> None:
    eager = cascade(0.0)
    eager.predict(clip())  # multiply-adds are counted at first use
    asked = Asked(monkeypatch)
    ran: list[str] = []
    hooks = [
        network.network.backbone.get_submodule(stage).register_forward_hook(
            lambda *_, at=f"{name}.{stage}": ran.append(at)
        )
        for name, network in networks().items()
        for stage in ("layer1", "layer2", "layer3", "layer4")
    ]
    answer = eager.predict(clip())
    for hook in hooks:
        hook.remove()
    assert asked.calls == ["vectors"]
    assert answer.exits == ("mv.layer1",)
    assert ran == ["mv.layer1"]
    # Three groups of twelve, each decoded up to its middle and no further.
    assert answer.cost.frames_decoded == 3 * 7
    assert {stage.name for stage in answer.cost.stages} == {
        "open", "decode-mv", "transform-mv", "network-mv",
    }  # fmt: skip


@pytest.mark.parametrize("order", [CHEAP_ORDER, PUBLISHED_ORDER, ("iframe",)])
def test_without_a_decision_everything_runs_once_and_is_charged(monkeypatch, order) -> None:
    asked = Asked(monkeypatch)
    answer = cascade(1.0, order).predict(clip())
    assert answer.exits == exit_names({name: networks()[name] for name in order})
    assert len(asked.calls) == len(order)
    cost = {stage.name: stage for stage in answer.cost.stages}
    frames = {"iframe": 3, "mv": 21, "residual": 21}
    for name in order:
        assert cost[f"decode-{name}"].frames == frames[name]
        assert cost[f"network-{name}"].macs > 0
        assert cost[f"network-{name}"].calls == len(networks()[name].exits)


def test_what_is_charged_grows_exit_by_exit_and_early_ones_agree() -> None:
    whole = cascade(1.0).predict(clip())
    early = cascade(0.0).predict(clip())
    torch.testing.assert_close(early.logits[0], whole.logits[0])
    assert 0 < early.cost.macs < whole.cost.macs
    # A threshold between: it stops at the first exit that is sure enough, by its own fused answer.
    running = [
        float(cascade(1.0).wise.probabilities(whole.logits[None, : n + 1])[0].max())
        for n in range(len(whole.exits))
    ]
    threshold = sorted(running)[len(running) // 2] - 1e-6
    stopped = cascade(threshold).predict(clip())
    first = next(n for n, value in enumerate(running) if value > threshold)
    assert stopped.exit == whole.exits[first]
    assert len(stopped.exits) == first + 1


def test_fitted_fusion_decides() -> None:
    names = exit_names({name: networks()[name] for name in CHEAP_ORDER})
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(40, len(names), CLASSES, generator=random)
    wise = Wise.fit(names, logits, torch.arange(40) % CLASSES)
    answer = cascade(1.0, wise=wise).predict(clip())
    want = wise.probabilities(answer.logits[None])[0]
    torch.testing.assert_close(answer.probabilities, want)
    with pytest.raises(ConfigError, match="the fusion is for"):
        cascade(1.0, PUBLISHED_ORDER, wise=wise)


def test_codecs_without_vectors_are_refused_before_anything_is_decoded() -> None:
    source = encode("matroska", "libvpx", 12, size=(64, 64))
    with pytest.raises(MediaError, match="foveate data transcode"):
        cascade(0.0, ("iframe", "mv")).predict(source)
    assert cascade(0.0, ("iframe",)).predict(source).exit == "iframe.layer1"


def test_settings_that_cannot_be_meant() -> None:
    with pytest.raises(ConfigError, match="no network for residual"):
        Cascade({"mv": networks()["mv"]}, order=("mv", "residual"))
    with pytest.raises(ConfigError, match="must be positive"):
        cascade(0.5, segments=0)
