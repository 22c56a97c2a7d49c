"""Exits that execute: what comes after the exit that decides is neither computed nor decoded."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from clips import encode
from foveate.core import Budget, ConfigError, Group, InputSpec, MediaError, SampleInfo
from foveate.media.compressed import CompressedVideo, walk
from foveate.models.coviar import MODALITIES, CompressedNet, ExitNetwork, square
from foveate.pipeline.cascade import PUBLISHED_ORDER, CascadeExecutor, exit_names, squared
from foveate.pipeline.presets import Preset
from foveate.pipeline.recogniser import Recogniser
from foveate.pipeline.session import Session
from foveate.policy import Confident, Groups
from foveate.policy.calibration import CalibratedSpec
from foveate.policy.fuse import Wise
from foveate.policy.looks.groups import GroupsSpec
from foveate.policy.operating import NEVER

CLASSES = ("a", "b", "c", "d")
CHEAP_ORDER = ("mv", "iframe", "residual")
P_ONLY = {"refs": "1", "weightp": "0", "sc_threshold": "0"}
SPEC = InputSpec(64, 3 / 2.4, 3)  # three groups out of 2.4 seconds, the whole clip


@cache
def clip(frames: int = 60) -> bytes:
    """Groups of twelve pictures at 25 pictures a second."""
    return encode("matroska", "libx264", frames, size=(96, 80), gop=12, options=P_ONLY)


@cache
def networks() -> dict:
    torch.manual_seed(0)
    return {
        name: ExitNetwork(CompressedNet(name, "test_resnet", len(CLASSES))).eval()
        for name in MODALITIES
    }


def cascade(
    threshold: float, order=CHEAP_ORDER, wise: Wise | None = None, **settings
) -> Recogniser:
    preset = Preset(
        model="c", look=GroupsSpec(), decide=CalibratedSpec(threshold=threshold), **settings
    )
    executor = CascadeExecutor(networks(), order, wise, spec=SPEC)
    return Recogniser(
        executor,
        CLASSES,
        look=Groups(executor.parts, SPEC.clip_frames),
        decide=Confident(threshold),
        window=preset.window or SPEC.clip_seconds,
        preset=preset,
    )


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


def stages_that_ran(recogniser: Recogniser, source: bytes) -> tuple[list[str], object]:
    """Names of the stages of the real backbones that were called, and the Result."""
    ran: list[str] = []
    hooks = [
        network.network.backbone.get_submodule(stage).register_forward_hook(
            lambda *_, at=f"{name}.{stage}": ran.append(at)
        )
        for name, network in networks().items()
        for stage in ("layer1", "layer2", "layer3", "layer4")
    ]
    try:
        return ran, recogniser.predict(source)
    finally:
        for hook in hooks:
            hook.remove()


def test_a_decision_on_vectors_builds_no_residual_and_decodes_no_key_frame(monkeypatch) -> None:
    eager = cascade(0.0)
    eager.predict(clip())  # multiply-adds are counted at first use
    asked = Asked(monkeypatch)
    ran, result = stages_that_ran(eager, clip())
    assert asked.calls == ["vectors"]
    assert ran == ["mv.layer1"]
    assert result.exits == {"mv.layer1": 1}
    assert [(step.modalities, step.exit) for step in result.trace.steps] == [(["mv"], "mv.layer1")]
    # Three groups of twelve, each decoded up to its middle and no further.
    assert result.cost.stage("decode-mv").frames == 3 * 7
    names = {stage.name for stage in result.cost.stages}
    assert names == {"open", "index", "decode-mv", "network-mv", "head", "policy"}


@pytest.mark.parametrize("order", [CHEAP_ORDER, PUBLISHED_ORDER, ("iframe",)])
def test_without_a_decision_everything_runs_once_and_is_charged(monkeypatch, order) -> None:
    asked = Asked(monkeypatch)
    result = cascade(NEVER, order).predict(clip())
    names = exit_names({name: networks()[name] for name in order})
    assert result.exits == {names[-1]: 1}
    assert [step.exit for step in result.trace.steps] == [f"{name}.final" for name in order]
    assert len(asked.calls) == len(order)
    frames = {"iframe": 3, "mv": 21, "residual": 21}
    for name in order:
        assert result.cost.stage(f"decode-{name}").frames == frames[name]
        assert result.cost.stage(f"network-{name}").macs > 0
        assert result.cost.stage(f"network-{name}").calls == len(networks()[name].exits)


def logits_of(source: bytes) -> torch.Tensor:
    """(1, exits, classes) of all exits in the cheap order."""
    (session,) = cascade(NEVER).sessions([source])
    assert isinstance(session, Session)
    return torch.from_numpy(session.state["logits"])


def test_the_first_exit_that_is_sure_enough_decides() -> None:
    logits = logits_of(clip())
    executor = cascade(NEVER).executor
    whole = [float(logits[0, : n + 1].mean(0).softmax(0).max()) for n in range(len(executor.parts))]
    threshold = sorted(whole)[len(whole) // 2] - 1e-6
    stopped = cascade(threshold).predict(clip())
    first = next(n for n, value in enumerate(whole) if value >= threshold)
    assert stopped.exits == {executor.parts[first]: 1}
    assert stopped.trace.steps[-1].gate == pytest.approx(whole[first], abs=1e-5)
    assert 0 < stopped.cost.macs < cascade(NEVER).predict(clip()).cost.macs


def test_a_window_with_a_single_key_frame_is_said_to_have_one() -> None:
    (line,) = cascade(0.0).predict(clip(12)).warnings
    assert line.startswith("1 of 1 window had a single key frame")
    assert cascade(0.0).predict(clip()).warnings == []
    (line,) = cascade(0.0, window=0.48).predict(clip(48)).warnings
    assert line.startswith("4 of 4 windows had a single key frame")


def test_exit_by_exit_is_the_whole_network() -> None:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(2, 2, 3, 64, 64, generator=random)
    network = networks()["mv"]
    with torch.no_grad():
        want = list(network(x).values())
        maps = x
        for at, logits in enumerate(want):
            found, maps = network.advance(at, maps)
            torch.testing.assert_close(found, logits)


def test_fitted_fusion_decides_and_its_answer_is_the_score() -> None:
    names = exit_names({name: networks()[name] for name in CHEAP_ORDER})
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(40, len(names), len(CLASSES), generator=random)
    wise = Wise.fit(names, logits, torch.arange(40) % len(CLASSES))
    result = cascade(NEVER, wise=wise, top_k=4).predict(clip())
    want = wise.probabilities(logits_of(clip()))[0]
    found = torch.tensor([s.score for s in sorted(result.labels, key=lambda s: s.index)])
    torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-5)
    with pytest.raises(ConfigError, match="the fusion is for"):
        cascade(NEVER, PUBLISHED_ORDER, wise=wise)


def test_batched_sources_get_what_they_get_alone() -> None:
    recogniser = cascade(0.4)
    sources = [clip(), clip(36), clip(60)]
    alone = [recogniser.predict(source) for source in sources]
    together = list(recogniser.predict_many(sources, batch=3))
    for one, other in zip(alone, together, strict=True):
        assert one.exits == other.exits
        assert one.labels[0].label == other.labels[0].label
        assert one.labels[0].score == pytest.approx(other.labels[0].score, abs=1e-4)
        assert one.cost.macs == other.cost.macs


@pytest.mark.parametrize("kept", [walk._KEPT_BYTES, 0], ids=["kept", "read onward"])
def test_long_files_are_decided_window_by_window_without_going_back(monkeypatch, kept) -> None:
    monkeypatch.setattr(walk, "_KEPT_BYTES", kept)
    asked = Asked(monkeypatch)
    result = cascade(0.0, window=0.96).predict(clip(120))
    assert sum(result.exits.values()) == 5  # 120 pictures, two groups a window
    assert asked.calls == ["vectors"] * 5
    assert result.cost.stage("decode-mv").frames == 10 * 7
    assert result.segments[-1].end == pytest.approx(4.8)
    # Packets that were read to find the groups are not read again; else the file is read once more,
    # in however many windows.
    read = result.cost.stage("decode-mv").bytes
    assert read < 3 * len(clip(120))
    assert (read == 0) == (kept > 0)
    windows = cascade(0.0, window=0.48).predict(clip(120))
    assert sum(windows.exits.values()) == 10
    assert windows.cost.stage("decode-mv").bytes == read


def test_a_stream_answers_group_by_group() -> None:
    steps = list(cascade(0.0).stream(clip()))
    assert len(steps) == 5
    for number, step in enumerate(steps):
        assert step.segments[0].start == pytest.approx(number * 0.48, abs=1e-3)
        assert step.exits == {"mv.layer1": 1}
        assert len(step.trace.steps) == 1
    decoded = [step.cost.stage("decode-mv").frames for step in steps]
    # Whether a group goes on is known from the picture behind it, so reading is one ahead.
    assert sum(decoded) == 5 * 7
    assert max(decoded) <= 8


class OfGroups:
    """A source of which nothing but its groups is known."""

    def __init__(self, groups: list[Group], duration: float | None) -> None:
        self.info = SampleInfo("made", 64, 64, duration, 25.0, codec="h264", has_vectors=True)
        self._groups = groups

    def groups(self) -> list[Group]:
        return self._groups


def group(number: int, start: float, length: int = 12) -> Group:
    return Group(number, start, start + np.arange(length) / 25)


def spans(
    groups: list[Group], seconds: float, end: float | None, look: Groups
) -> list[tuple[float, float, int]]:
    """Start, end and groups looked at of all windows of a source."""
    sample, found, start = OfGroups(groups, end), [], 0.0
    while (window := look.window(sample, start, seconds)) is not None:
        selection, _ = look.next(sample, window, None, None, Budget())
        times = selection.views["mv"].times
        assert all(window.start <= time < window.end for time in times)
        found.append((window.start, window.end, len(times)))
        start = window.end
    return found


def test_windows_are_whole_groups_and_a_short_rest_belongs_to_the_last() -> None:
    groups, look = [group(n, n * 0.48) for n in range(6)], Groups(("mv.final",), 3)
    # Three groups of .48 s begin within the first second.
    assert spans(groups, 1.0, 2.88, look) == [
        (0.0, pytest.approx(1.44), 3), (pytest.approx(1.44), 2.88, 3)
    ]  # fmt: skip
    assert spans(groups[:5], 1.0, 2.4, look) == [(0.0, 2.4, 3)]  # .96 s are left
    assert [n for *_, n in spans(groups, 1.0, 2.88, look.online())] == [1] * 6
    long = [group(0, 0.0, 250), group(1, 10.0, 250)]
    assert spans(long, 1.0, 20.0, look) == [(0.0, 10.0, 1), (10.0, 20.0, 1)]
    # Without a length in the header the last picture says where the source ends.
    assert spans(groups, 1.0, None, look)[-1][1] == pytest.approx(2.88)


def test_codecs_without_vectors_are_refused_before_anything_is_decoded() -> None:
    source = encode("matroska", "libvpx", 12, size=(64, 64))
    with pytest.raises(MediaError, match="foveate data transcode"):
        cascade(0.0, ("iframe", "mv")).predict(source)
    assert cascade(0.0, ("iframe",)).predict(source).exits == {"iframe.layer1": 1}
    with pytest.raises(MediaError, match="no motion vectors"):
        cascade(0.0).predict(np.zeros((4, 64, 64, 3), np.uint8), fps=25)


def test_settings_that_cannot_be_meant() -> None:
    with pytest.raises(ConfigError, match="no network for residual"):
        CascadeExecutor({"mv": networks()["mv"]}, ("mv", "residual"), spec=SPEC)


@pytest.mark.parametrize(("height", "width", "size"), [(40, 56, 24), (24, 24, 24), (20, 32, 48)])
def test_pictures_are_scaled_as_in_training(height: int, width: int, size: int) -> None:
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (2, height, width, 3)).astype(np.float32)
    trained = square(torch.from_numpy(pictures).permute(0, 3, 1, 2), size)
    found = torch.from_numpy(squared(pictures, size)).permute(0, 3, 1, 2)
    torch.testing.assert_close(found, trained, rtol=0, atol=1e-3)
