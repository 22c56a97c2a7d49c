"""Networks that take clips whole, in the one loop: they run when asked, on the right frames."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from executing import clip_view
from torch import nn

import foveate
from clips import encode
from foveate.core import ConfigError
from foveate.media import Video
from foveate.models import count_macs, registry
from foveate.models.weights.run import (
    InputCard,
    NetworkCard,
    RunCard,
    UnknownCard,
    write_run,
)
from foveate.pipeline.executors import THIN, ClipExecutor, StreamExecutor, executor_for
from foveate.pipeline.presets import Preset, edit
from foveate.pipeline.recogniser import Recogniser
from foveate.policy import Context
from tiny_weights import LABELS, SPEC

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def module() -> nn.Module:
    torch.manual_seed(3)
    return registry.create_tiny("r3d").eval()


class Calls:
    """Counts what really reaches the network."""

    def __init__(self, module: nn.Module) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self._hook = module.conv1.register_forward_pre_hook(self._note)

    def _note(self, _: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        if not given[0].is_meta:  # counting multiply-adds computes nothing
            self.shapes.append(tuple(given[0].shape))

    def __enter__(self) -> Calls:
        return self

    def __exit__(self, *exc: object) -> None:
        self._hook.remove()


def recogniser(module: nn.Module, **settings) -> Recogniser:
    preset = edit(Preset(), {"cut_threshold": 1.0, **settings})
    context = Context(SPEC)
    return Recogniser(
        executor_for(module, CPU, SPEC),
        LABELS,
        look=preset.look.build(context),
        decide=preset.decide.build(context),
        window=SPEC.clip_seconds,
        preset=preset,
    )


def direct(module: nn.Module, pixels: np.ndarray) -> np.ndarray:
    """Softmax scores of frames (T, S, S, 3) given to the network at once."""
    x = torch.from_numpy(pixels).float().div(255).permute(3, 0, 1, 2)[None]
    with torch.no_grad():
        return module(x)[0].softmax(-1).numpy()


def frames_of(data: bytes, indices: range) -> np.ndarray:
    with Video(data) as video:
        return video.frames([i * 0.2 for i in indices], (43, 32)).pixels[:, :, 5:37]


def test_the_network_runs_once_per_window_on_all_of_its_frames(module) -> None:
    data = encode(frames=100)  # 4 s: two windows of ten frames
    with Calls(module) as calls:
        result = recogniser(module, look={"name": "uniform", "chunk": 3}).predict(data)
    assert calls.shapes == [(1, 3, 10, 32, 32)] * 2
    parts = [direct(module, frames_of(data, range(i, i + 10))) for i in (0, 10)]
    scores = np.mean(parts, 0)
    assert [s.score for s in result.labels] == pytest.approx(sorted(scores)[::-1][:5], rel=1e-4)


def test_the_ledger_charges_what_ran(module) -> None:
    with Calls(module) as calls:
        cost = recogniser(module).predict(encode(frames=100)).cost
    assert cost.stage("network").calls == len(calls.shapes) == 2
    each = count_macs(module, (1, 3, 10, 32, 32))
    assert cost.stage("network").macs == cost.macs == 2 * each
    assert "head" not in [stage.name for stage in cost.stages]


def test_a_short_source_fills_the_clip_by_repeating(module) -> None:
    data = encode(frames=25)  # 1 s: five frames for a clip of ten
    with Calls(module) as calls:
        result = recogniser(module).predict(data)
    assert calls.shapes == [(1, 3, 10, 32, 32)]
    scores = direct(module, np.repeat(frames_of(data, range(5)), 2, axis=0))
    assert result.labels[0].score == pytest.approx(float(scores.max()), rel=1e-4)


def test_a_batch_of_different_lengths_equals_one_by_one(module) -> None:
    sources = [encode(frames=n, first=40 * n) for n in (25, 50, 60)]
    own = recogniser(module)
    with Calls(module) as calls:
        together = list(own.predict_many(sources, batch=3))
    assert max(shape[0] for shape in calls.shapes) > 1
    for source, one in zip(sources, together, strict=True):
        alone = own.predict(source)
        assert one.cost.macs == alone.cost.macs
        assert [s.index for s in one.labels] == [s.index for s in alone.labels]
        assert one.labels[0].score == pytest.approx(alone.labels[0].score, rel=1e-4)


def test_an_early_decision_pays_for_every_answer(module) -> None:
    decide = {"name": "confident", "threshold": 1.0}  # never sure
    with Calls(module) as calls:
        cost = (
            recogniser(module, decide=decide, look={"name": "uniform", "chunk": 5})
            .predict(encode(frames=50))
            .cost
        )
    assert len(calls.shapes) == 2
    assert cost.stage("network").macs == 2 * count_macs(module, (1, 3, 10, 32, 32))


def test_the_stream_answers_after_every_frame(module) -> None:
    results = list(recogniser(module).stream(encode(frames=25)))
    assert len(results) == 5
    assert all(result.cost.stage("network").calls == 1 for result in results)


def numbered(count: int, first: int = 0) -> dict:
    """A view of frames that carry their own number, in two digits to the base of 250."""
    numbers = np.arange(first, first + count)
    digits = np.stack([numbers % 250, numbers // 250, 0 * numbers], -1)
    return clip_view(digits.astype(np.uint8)[:, None, None])


def numbers_of(frames: torch.Tensor) -> torch.Tensor:
    """What frames (3, n, 1, 1) carry."""
    digits = (frames[:, :, 0, 0] * 255).round()
    return digits[0] + 250 * digits[1]


def test_long_windows_are_thinned_and_stay_even() -> None:
    executor = ClipExecutor(nn.Identity(), CPU, SPEC)
    state = None
    for first in range(0, 1000, 50):
        before = state
        (state,), _ = executor.run("network", [numbered(50, first)], [state])
        if before is not None:
            assert int(before["seen"]) == first  # the old state is as it was
    assert state is not None
    assert state["frames"].shape[1] <= THIN * SPEC.clip_frames
    chosen = numbers_of(executor._clip(state))
    assert torch.allclose(chosen, torch.arange(10) * 100 + 49.5, atol=17)


def test_sources_in_one_call_keep_what_they_have_seen_apart() -> None:
    executor = ClipExecutor(nn.Identity(), CPU, SPEC)
    states, _ = executor.run("network", [numbered(3), numbered(7, 40)], [None, None])
    states, _ = executor.run("network", [numbered(2, 3), numbered(1, 47)], states)
    assert [int(one["seen"]) for one in states] == [5, 8]
    found = [numbers_of(one["frames"]).tolist() for one in states]
    assert found == [[0, 1, 2, 3, 4], [40, 41, 42, 43, 44, 45, 46, 47]]


def test_the_form_is_chosen_by_the_module(module) -> None:
    online = registry.create_tiny("tsm-online").eval()
    assert isinstance(executor_for(online, CPU, SPEC), StreamExecutor)
    assert isinstance(executor_for(module, CPU, SPEC), ClipExecutor)


@pytest.fixture(params=["tsn:test_resnet", "tsm-online:test_resnet", "eco-lite"])
def run_folder(request, tmp_path) -> tuple[str, nn.Module]:
    settings = {"divide": 8} if request.param == "eco-lite" else {}
    torch.manual_seed(0)
    model = registry.create(request.param, num_classes=7, **settings)
    card = RunCard(
        networks={"network": NetworkCard(arch=request.param, settings=settings)},
        classes=list(LABELS),
        input=InputCard.of(SPEC_8),
    )
    write_run(tmp_path / "run", {"network": model}, card)
    return str(tmp_path / "run"), model.eval()


def test_a_run_folder_says_when_footage_is_unknown(tmp_path) -> None:
    arch = "tsm-online:test_resnet"
    module, parts = registry.create(arch, num_classes=7), {"network": NetworkCard(arch=arch)}
    data = encode(frames=50)
    channels = module.classifier.in_features
    for limit, said in ((1e-9, True), (1e9, False)):
        card = RunCard(
            networks=parts, classes=list(LABELS), input=InputCard.of(SPEC_8),
            unknown=UnknownCard.of(
                np.zeros(channels), np.ones(channels), limit=limit, training=9, clips=9, alarms=0.0
            ),
        )  # fmt: skip
        folder = tmp_path / str(said)
        write_run(folder, {"network": module}, card)
        result = foveate.load(folder, none_below=0.0).predict(data)
        assert result.unknown is said
        assert (result.segments[0].label == "unknown") is said
        assert result.labels[0].label in LABELS
        assert ("unknown (best label" in str(result)) is said
        assert foveate.core.Result.from_json(result.to_json()).unknown is said
        steps = list(foveate.load(folder).stream(data))
        assert all(step.unknown is said for step in steps)
        plain = foveate.load(folder, none_below=0.0, unknown=False).predict(data)
        assert plain.unknown is None
        assert plain.segments[0].label == plain.labels[0].label


SPEC_8 = foveate.models.InputSpec(size=32, frames_per_second=4.0, clip_frames=8)


def test_a_run_folder_of_any_family_is_loaded_and_run(run_folder) -> None:
    folder, model = run_folder
    data = encode(frames=50)
    result = foveate.load(folder, device="cpu", cut_threshold=1.0).predict(data)
    with Video(data) as video:
        pixels = video.frames([i * 0.25 for i in range(8)], (43, 32)).pixels[:, :, 5:37]
    scores = direct(model, pixels)
    assert result.labels[0].score == pytest.approx(float(scores.max()), rel=1e-3)
    per_clip = count_macs(model, (1, 3, 8, 32, 32))
    assert result.cost.macs == pytest.approx(per_clip, rel=0.02)


# --- patches ------------------------------------------------------------------------------


def wanderer(number: int, size: tuple[int, int]) -> np.ndarray:
    """A textured square that runs through the picture, faster and faster."""
    random = np.random.default_rng(5)
    out = random.integers(60, 180, (size[1] // 4, size[0] // 4, 3)).repeat(4, 0).repeat(4, 1)
    square = random.integers(0, 256, (10, 10, 3)).repeat(2, 0).repeat(2, 1)
    x = 4 + round(100 * (number / 50) ** 2)
    out[40:60, x : x + 20] = square
    return out.astype(np.uint8)


def patched(name: str, tmp_path, **look) -> tuple:
    """A tiny network of the registry, loaded as a run, on patches of one clip."""
    torch.manual_seed(3)
    module = registry.create_tiny(name)
    found = registry.entry(name)
    settings = {k: v for k, v in found.tiny.items() if k != "num_classes"}
    spec = InputCard(size=32, frames_per_second=5.0, clip_frames=10)
    parts = {"network": NetworkCard(arch=name, settings=settings)}
    card = RunCard(networks=parts, classes=list(LABELS), input=spec)
    write_run(tmp_path / name, {"network": module}, card)
    data = encode("matroska", "libx264", 50, size=(128, 96), draw=wanderer)
    given = foveate.load(
        str(tmp_path / name), cut_threshold=1.0, look={"name": "motion-patch", "size": 16, **look}
    )
    return given, data


def boxes_of(result) -> list:
    return [tuple(box) for step in result.trace.steps for box in step.boxes]


def test_a_camera_for_networks_that_mix_frames_and_a_track_for_those_that_do_not(tmp_path) -> None:
    for name, camera in (("r3d", True), ("tsm", True), ("tsn", False)):
        given, data = patched(name, tmp_path)
        assert given.plan.look.aligned == camera
        result = given.predict(data)
        assert len(set(boxes_of(result))) > 1
        # The trace says that the camera has found something to follow.
        assert ("window:follows" in result.trace.steps[0].modalities) == camera
        assert len(set(boxes_of(patched(name, tmp_path, track="tube")[0].predict(data)))) == 1


class Own(nn.Module):
    """A user's network: no registry, no features, no classify."""

    mixes_frames = False

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv = nn.Conv2d(3, 4, 5, stride=4)
        self.head = nn.Linear(4, 3)
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not x.is_meta:
            self.shapes.append(tuple(x.shape))
        frames = self.conv(x.transpose(1, 2).flatten(0, 1)).mean((2, 3))
        return self.head(frames.unflatten(0, (x.shape[0], -1)).mean(1))


def test_a_users_own_module_takes_part_in_everything() -> None:
    module = Own()
    data = encode("matroska", "libx264", 50, size=(128, 96), draw=wanderer)
    more = {"labels": ("a", "b", "c"), "input": SPEC, "cut_threshold": 1.0}
    whole = foveate.load(module, **more).predict(data)
    given = foveate.load(module, look={"name": "motion-patch", "size": 16}, **more)
    patch = given.predict(data)
    assert module.shapes == [(1, 3, 10, 32, 32), (1, 3, 10, 16, 16)]
    assert {score.label for score in patch.labels} == {"a", "b", "c"}
    assert 0 < patch.cost.stage("network").macs < 0.3 * whole.cost.stage("network").macs
    assert len(set(boxes_of(patch))) > 1  # its frames do not meet: the window may move
    assert [r.ok for r in given.predict_many([data, data], batch=2)] == [True, True]
    glance = foveate.load(module, look={"name": "activation-patch", "size": 16}, **more)
    assert glance.predict(data).cost.stage("glance").macs > 0
    with pytest.raises(ConfigError, match="needs `labels=` and `input=`"):
        foveate.load(module)
    Own.mixes_frames = True
    try:
        fixed = foveate.load(module, look={"name": "motion-patch", "size": 16}, **more)
        assert fixed.plan.look.aligned
    finally:
        Own.mixes_frames = False


def test_frames_and_windows_come_from_one_computation_of_the_maps(tmp_path, monkeypatch) -> None:
    from foveate.policy.looks import patches

    computed, asked = [], []
    real, motion = patches.saliency, Video.motion

    def saliency(name, seen, **more):
        maps = real(name, seen, **more)
        computed.append(len(maps))
        return maps

    def counted(self, *more, **options):
        asked.append(len(more[0]))
        return motion(self, *more, **options)

    monkeypatch.setattr(patches, "saliency", saliency)
    monkeypatch.setattr(Video, "motion", counted)
    given, data = patched("r3d", tmp_path, sampling="motion")
    result = given.predict(data)
    # Twice as many frames as are shown, once; then once more to find that the clip is over.
    assert asked == computed == [20, 20]
    assert result.cost.stage("motion").calls == 2
    times = np.array([t for step in result.trace.steps for t in step.frames])
    assert len(times) == 10
    assert len(boxes_of(result)) == 10
    gaps = np.diff(times)
    assert gaps[: len(gaps) // 2].mean() > 1.1 * gaps[len(gaps) // 2 :].mean()  # denser when fast
    even = patched("r3d", tmp_path)[0].predict(data)
    assert np.allclose(np.diff([t for s in even.trace.steps for t in s.frames]), 0.2)


def test_networks_that_count_time_in_frames_refuse_uneven_ones(tmp_path) -> None:
    with pytest.raises(ConfigError, match="takes frames at an even rate"):
        patched("tsm-online", tmp_path, sampling="motion")
    given, data = patched("r3d", tmp_path, sampling="motion")
    with pytest.raises(ConfigError, match="has not seen them yet"):
        next(given.stream(data))
