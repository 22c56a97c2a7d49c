"""AdaMML on the loop: what the policy does not choose is neither read nor computed."""

from __future__ import annotations

import itertools
from collections import Counter
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch
from nontrivial import randomise

import clips
from foveate.core import Budget, ConfigError, InputSpec, ModelError, View, WeightsError, Window
from foveate.core.config import build
from foveate.media import ArrayVideo, Video, flow
from foveate.models import registry
from foveate.models.adamml import AdaMML
from foveate.pipeline.adamml import AdaMMLExecutor
from foveate.pipeline.presets import Preset
from foveate.pipeline.recogniser import Recogniser
from foveate.policy import Context
from foveate.policy.looks.modalities import Modalities, ModalitiesSpec, patches_of

CLASSES = ("a", "b", "c", "d", "e", "f", "g")
FRAMES, SEGMENT = 2, 0.64
SPEC = InputSpec(32, FRAMES / SEGMENT, FRAMES * 4, resize_to=36)
TONE = (440.0, 0.0, 2.4)
P_ONLY = {"refs": "1", "weightp": "0", "sc_threshold": "0"}


@cache
def network(*modalities: str, proxy: str = "rgbdiff") -> AdaMML:
    torch.manual_seed(0)
    tiny = {**registry.entry("adamml").tiny, "modalities": modalities, "columns": 32}
    model = randomise(registry.create("adamml", **tiny, proxy=proxy, policy_side=32))
    assert isinstance(model, AdaMML)
    return model.eval()


def clip(container: str = "mp4", codec: str = "libx264", tone: Any = TONE, frames: int = 60) -> Any:
    """2.4 seconds: four segments of 0.6 s."""
    return clips.encode(
        container, codec, frames, size=(96, 80), gop=12, tone=tone,
        options=P_ONLY if codec == "libx264" else None,
    )  # fmt: skip


class Chosen(Modalities):
    """Decides as it is told: rows of 0 and 1 for the segments at hand."""

    rows: tuple[tuple[int, ...], ...]

    def decisions(self, sample: Any, segments: Any, evidence: Any) -> Any:
        each = round(segments[0][0] / (segments[0][1] - segments[0][0]))
        return np.array(self.rows[each : each + len(segments)], bool)


def telling(look: Modalities, rows: Any) -> Any:
    """The look with fixed decisions, which the executor gets too."""
    chosen = Chosen(
        look.modalities, look.seen, look.frames, look.seconds, patches=look.patches, exit=look.exit
    )
    object.__setattr__(chosen, "rows", tuple(map(tuple, rows)))
    return chosen


def recogniser(
    model: AdaMML, rows: Any = None, fixed: Any = None, exit: float | None = None
) -> Recogniser:
    patches = patches_of(model.patch_side) if "patch" in model.modalities else None
    look: Any = Modalities(
        model.modalities, model.seen, FRAMES, SEGMENT, fixed=fixed, patches=patches, exit=exit
    )
    executor = AdaMMLExecutor(model, SPEC, fixed, exit=exit)
    if rows is not None:
        look = telling(look, rows)
        decide = np.array(rows, np.float32)
        real = executor._decided

        def decided(views: Any, states: Any) -> Any:
            after, evidence = real(views, states)
            for state in after:
                done = int(state["count"]) - len(state["use"])
                state["use"] = decide[done : done + len(state["use"])]
            return after, evidence

        executor._decided = decided  # type: ignore[method-assign]
    preset = build(Preset, {"model": "m", "cut_threshold": 1.0, "look": {"name": "modalities"}})
    return Recogniser(executor, CLASSES, look=look, window=SPEC.clip_seconds, preset=preset)


class Reading:
    """Counts what is read of files and which networks run on how many segments."""

    def __init__(self, monkeypatch: Any, model: AdaMML) -> None:
        self.calls: Counter[str] = Counter()
        self.rows: Counter[str] = Counter()
        for name in ("frames", "audio", "motion"):
            real = getattr(Video, name)

            def counted(
                video: Any, *args: Any, real: Any = real, name: str = name, **more: Any
            ) -> Any:
                self.calls[name] += 1
                return real(video, *args, **more)

            monkeypatch.setattr(Video, name, counted)
        dense = flow.dense_flow

        def fields(frames: Any, *more: Any) -> Any:
            self.calls["flow"] += len(frames) - 1
            return dense(frames, *more)

        monkeypatch.setattr("foveate.media.modalities.dense_flow", fields)
        self._hooks = [
            net.register_forward_pre_hook(partial(self._ran, name))
            for name, net in model.nets.items()
        ]

    def _ran(self, name: str, module: Any, given: Any) -> None:
        if given[0].device.type != "meta":  # there, multiply-adds are counted
            self.rows[name] += len(given[0])


@pytest.mark.parametrize(
    ("rows", "want"),
    [
        ([[0, 0]] * 4, {}),
        ([[1, 0], [0, 0], [0, 0], [0, 0]], {"rgb": 1}),
        ([[1, 1], [0, 1], [1, 0], [0, 1]], {"rgb": 2, "sound": 3}),
    ],
)
def test_only_chosen_segments_are_computed(monkeypatch, rows, want) -> None:
    model = network("rgb", "sound")
    toy = recogniser(model, rows)
    toy.predict(clip())  # multiply-adds are counted at first use
    counted = Reading(monkeypatch, model)
    result = toy.predict(clip())
    assert counted.rows == want
    macs = toy.executor.segment_macs()
    for name in model.modalities:
        assert result.cost.stage(f"network-{name}").macs == want.get(name, 0) * macs[name]
    assert result.cost.stage("network-policy").macs == 4 * macs["policy"]
    # Sound that the policy heard is not decoded again; frames are requested again, not decoded.
    assert counted.calls["audio"] == 4
    assert counted.calls["frames"] == 1 + ("rgb" in want)
    nothing = recogniser(model, [[0, 0]] * 4).predict(clip())
    assert result.cost.frames_decoded == nothing.cost.frames_decoded


def test_flow_is_read_and_computed_only_where_it_is_chosen(monkeypatch) -> None:
    model = network("rgb", "flow")
    counted = Reading(monkeypatch, model)
    without = recogniser(model, [[1, 0]] * 4).predict(clip(tone=None))
    assert counted.calls["flow"] == 0
    assert counted.rows == {"rgb": 4}
    some = recogniser(model, [[0, 0], [0, 1], [0, 0], [0, 0]]).predict(clip(tone=None))
    assert counted.calls["flow"] == FRAMES * 5
    assert counted.rows == {"rgb": 4, "flow": 1}
    assert counted.calls["audio"] == 0
    assert some.trace.steps[-1].modalities == ["flow"]
    assert some.trace.steps[-1].proposals["segments"] == pytest.approx([0.6, 1.2])
    assert [step.part for step in without.trace.steps] == ["policy", "rgb"]
    assert without.trace.steps[0].modalities == ["rgb", "rgb-difference"]


def test_motion_vectors_stand_in_for_flow(monkeypatch) -> None:
    model = network("rgb", "flow", proxy="mv")
    counted = Reading(monkeypatch, model)
    result = recogniser(model).predict(clip(tone=None))
    assert result.ok
    assert result.trace.steps[0].modalities == ["rgb", "vectors"]
    assert counted.calls["motion"] == 1
    # A codec without vectors: flow is not used, and the clip is still recognised.
    other = recogniser(network("rgb", "mv")).predict(clip("matroska", "libvpx-vp9", None))
    assert other.ok
    assert not other.cost.stage("network-mv").calls


def test_no_frame_is_decoded_twice_for_vectors_and_pictures() -> None:
    result = recogniser(network("rgb", "mv"), [[1, 1]] * 4).predict(clip(frames=60))
    assert {step.part for step in result.trace.steps} >= {"policy", "rgb", "mv"}
    assert result.cost.frames_decoded <= 60 + 2  # the first ones prove that there are vectors


def masked(model: AdaMML, source: Any, rows: Any) -> np.ndarray:
    """Logits by computing everything and multiplying by the decisions, as the public code does."""
    from foveate.pipeline.fetch import Fetch
    from foveate.pipeline.ledger import ChargedSample, Ledger

    look = Modalities(model.modalities, model.seen, FRAMES, SEGMENT)
    executor, ledger = AdaMMLExecutor(model, SPEC), Ledger()
    with Video(source) as video:
        window = look.window(video, 0.0, SPEC.clip_seconds)
        fetch = Fetch(ChargedSample(video, ledger), ledger, 1.0)
        x = {}
        for place, name in enumerate(model.modalities):
            selection = look._part(place, look.segments(window))
            (view,) = fetch(selection, SPEC, window).views.values()
            x[name] = torch.from_numpy(executor._prepared(name, view)).unsqueeze(0)
    use = torch.tensor(rows, dtype=torch.float32).unsqueeze(0)
    with torch.no_grad():
        return model.fuse(model.recognise(x), use).mean(1)[0].numpy()


@pytest.mark.parametrize("rows", [[[1, 1]] * 4, [[1, 0], [0, 1], [0, 0], [1, 1]], [[0, 0]] * 4])
def test_skipping_equals_masking(rows) -> None:
    model = network("rgb", "sound")
    (session,) = recogniser(model, rows).sessions([clip()])
    state: Any = session.state
    found = state["sum"] / state["count"]
    np.testing.assert_allclose(found, masked(model, clip(), rows), rtol=1e-5, atol=1e-5)
    assert found.any() == any(map(any, rows))


@pytest.mark.parametrize(
    ("rows", "warned"), [([[0, 0]] * 4, True), ([[0, 0]] * 3 + [[1, 0]], False)]
)
def test_an_answer_from_nothing_comes_with_a_warning(rows, warned) -> None:
    result = recogniser(network("rgb", "sound"), rows).predict(clip())
    assert any("used no modality" in line for line in result.warnings) == warned


def test_all_modalities_need_no_policy() -> None:
    model = network("rgb", "sound")
    result = recogniser(model, fixed=("rgb", "sound")).predict(clip())
    assert not result.cost.stage("network-policy").calls
    (session,) = recogniser(model, fixed=("rgb", "sound")).sessions([clip()])
    state: Any = session.state
    want = masked(model, clip(), [[1, 1]] * 4)
    np.testing.assert_allclose(state["sum"] / state["count"], want, rtol=1e-5, atol=1e-5)


def test_segments_of_several_sources_share_a_call(monkeypatch) -> None:
    model = network("rgb", "sound")
    rows = [[1, 0], [0, 1], [0, 0], [1, 1]]
    toy = recogniser(model, rows)
    sources = [clip(), clip(frames=45), clip(tone=None)]
    alone = [toy.predict(source) for source in sources]
    calls: Counter[str] = Counter()
    real = toy.executor.run

    def run(part: str, views: Any, states: Any) -> Any:
        calls[part] += 1
        return real(part, views, states)

    monkeypatch.setattr(toy.executor, "run", run)
    together = list(toy.predict_many(sources, batch=3))
    # They have four segments, three and four.
    assert calls == {"policy": 1, "rgb": 1, "sound": 1, "fuse": 1}
    for one, other in zip(alone, together, strict=True):
        assert one.labels[0].label == other.labels[0].label
        assert one.labels[0].score == pytest.approx(other.labels[0].score, abs=1e-5)
        assert one.cost.macs == other.cost.macs


def test_a_stream_decides_segment_by_segment_as_a_file_is_decided() -> None:
    toy = recogniser(network("rgb", "sound"))
    whole = toy.predict(clip())
    steps = list(toy.stream(clip()))
    assert len(steps) == 4
    assert steps[-1].labels == whole.labels
    assert sum(step.cost.macs for step in steps) == whole.cost.macs
    again = [list(toy.stream(clip()))[-1].labels for _ in range(2)]
    assert again == [whole.labels] * 2  # nothing is drawn


def test_missing_sound_is_not_silence(monkeypatch) -> None:
    model = network("rgb", "sound")
    counted = Reading(monkeypatch, model)
    result = recogniser(model, fixed=None).predict(clip(tone=None))
    assert result.ok
    assert counted.calls["audio"] == 0
    assert counted.rows["sound"] == 0
    # Sound in the first half alone: the other segments have none.
    half = clip(tone=(440.0, 0.0, 1.15))
    with Video(half) as video:
        start, end = video.info.sound
        assert start == pytest.approx(0.0, abs=0.05)
        assert end == pytest.approx(1.15, abs=0.1)
    seen = []
    real = AdaMMLExecutor._decided

    def noted(self: Any, views: Any, states: Any) -> Any:
        seen.append(views[0]["sound"].valid.tolist())
        return real(self, views, states)

    monkeypatch.setattr(AdaMMLExecutor, "_decided", noted)
    counted.calls.clear()
    assert recogniser(model).predict(half).ok
    assert seen == [[True, True, False, False]]
    assert counted.calls["audio"] == 2


# --- combinations --------------------------------------------------------------------------------


def combined(**settings: Any) -> AdaMML:
    torch.manual_seed(0)
    tiny = {**registry.entry("adamml").tiny, "columns": 32, "policy_side": 32, **settings}
    model = randomise(registry.create("adamml", **tiny))
    assert isinstance(model, AdaMML)
    return model.eval()


def test_an_early_exit_spares_the_rest_of_the_network_of_frames() -> None:
    """Segments of which the early answer is sure do not go on; several sources share the rest."""
    model = combined(exit="layer2")
    rows = [[1, 1], [1, 0], [0, 1], [1, 0]]
    net: Any = model.nets["rgb"]
    sure: list[Any] = []
    deep: list[int] = []

    def run(exit: float | None) -> Any:
        toy = recogniser(model, rows, exit=exit)
        toy.executor.segment_macs()  # counts on the meta device, before the hooks
        deep.clear()
        hooks = [
            net.exit.register_forward_hook(lambda _, x, out: sure.append(out.softmax(1).amax(1))),
            net.fc.register_forward_pre_hook(lambda _, given: deep.append(len(given[0]))),
        ]
        result = toy.predict(clip())
        for hook in hooks:
            hook.remove()
        return result

    whole, never = run(None), run(1.0)
    assert [label.score for label in never.labels] == pytest.approx(
        [label.score for label in whole.labels], abs=1e-5
    )
    some = run(float(sure[0].unflatten(0, (3, -1)).mean(1).sort().values[1]))
    assert deep == [1 * net.left]
    none = run(0.0)
    assert not deep
    macs = AdaMMLExecutor(model, SPEC, exit=1.0).segment_macs()
    assert macs["rgb"] + macs["rgb-rest"] > AdaMMLExecutor(model, SPEC).segment_macs()["rgb"]
    for result, rest in ((never, 3), (some, 1), (none, 0)):
        assert result.cost.stage("network-rgb").macs == 3 * macs["rgb"]
        assert result.cost.stage("network-rgb-rest").macs == rest * macs["rgb-rest"]
    sources = [clip(), clip(frames=45)]
    alone = [recogniser(model, rows, exit=1.0).predict(source) for source in sources]
    together = list(recogniser(model, rows, exit=1.0).predict_many(sources, batch=2))
    for one, other in zip(alone, together, strict=True):
        assert one.cost.macs == other.cost.macs
        assert one.labels[0].score == pytest.approx(other.labels[0].score, abs=1e-5)


def test_motion_is_measured_and_patches_are_cut_only_where_they_are_chosen(monkeypatch) -> None:
    model = combined(modalities=("patch", "sound"), patch_side=16)
    assert model.seen == ("rgb", "sound")
    counted = Reading(monkeypatch, model)
    nothing = recogniser(model, [[0, 1]] * 4).predict(clip())
    assert counted.calls["motion"] == 0
    assert counted.rows == {"sound": 4}
    counted.rows.clear()
    shapes = []
    model.nets["patch"].register_forward_pre_hook(
        lambda module, given: shapes.append(tuple(given[0].shape))
    )
    some = recogniser(model, [[1, 0], [0, 0], [1, 0], [0, 0]]).predict(clip())
    assert counted.calls["motion"] == 2  # a place for each segment
    assert (2, FRAMES, 3, 16, 16) in shapes
    step = some.trace.steps[-1]
    assert (step.part, step.modalities) == ("patch", ["rgb", "motion"])
    boxes = [tuple(box) for box in step.boxes]
    assert len(set(boxes[:FRAMES])) == 1
    assert boxes[0][2] - boxes[0][0] == pytest.approx(0.5 * 80)
    every = recogniser(model, [[1, 0]] * 4).predict(clip())  # vectors are read by decoding
    decoded = [one.cost.frames_decoded for one in (nothing, some, every)]
    assert decoded == sorted(set(decoded))
    macs = some.cost.stage("network-patch").macs
    assert macs == 2 * AdaMMLExecutor(model, SPEC).segment_macs()["patch"]
    # The place of a segment does not depend on which others were chosen.
    alone = recogniser(model, [[0, 0], [0, 0], [1, 0], [0, 0]]).predict(clip())
    assert [tuple(box) for box in alone.trace.steps[-1].boxes] == boxes[FRAMES:]


def test_a_movinet_stream_may_be_the_network_of_frames(monkeypatch) -> None:
    settings = {"modalities": ("rgb", "mv", "sound"), "visual": "movinet-a0-stream"}
    model = combined(**settings, motion="test_resnet")
    counted = Reading(monkeypatch, model)
    result = recogniser(model, [[1, 0, 0], [0, 1, 0], [0, 0, 0], [0, 1, 1]]).predict(clip())
    assert counted.rows == {"rgb": 1, "mv": 2, "sound": 1}
    macs = AdaMMLExecutor(model, SPEC).segment_macs()
    assert result.cost.stage("network-rgb").macs == macs["rgb"]
    # Frame by frame, as a stream takes them.
    net: Any = model.nets["rgb"].net
    frames = torch.rand(1, FRAMES, 3, 32, 32)
    with torch.no_grad():
        want = model.nets["rgb"](frames)
        state = net.initial_state(1, 32, 32)
        for at in range(FRAMES):
            logits, state = net.step(frames[:, at : at + 1].transpose(1, 2), state)
    torch.testing.assert_close(logits, want, rtol=1e-4, atol=1e-5)
    with pytest.raises(ModelError, match="a video network takes frames"):
        combined(**settings)
    with pytest.raises(ModelError, match="has no such stage"):
        combined(exit="layer9")


def test_the_embedding_of_sound_is_computed_only_where_it_is_chosen(monkeypatch) -> None:
    model = combined(modalities=("rgb", "yamnet"))
    assert model.seen == ("rgb", "sound")
    counted = Reading(monkeypatch, model)
    result = recogniser(model, [[0, 0], [0, 1], [0, 0], [0, 1]]).predict(clip())
    assert counted.rows == {"yamnet": 2}
    assert counted.calls["audio"] == 4 + 2  # of the policy, and waveforms
    macs = AdaMMLExecutor(model, SPEC).segment_macs()["yamnet"]
    assert 65e6 < macs < 75e6
    assert result.cost.stage("network-yamnet").macs == 2 * macs
    silent = recogniser(model, fixed=("rgb", "yamnet")).predict(clip(tone=None))
    assert silent.ok  # without sound its answer has no weight


def test_frames_without_a_file_have_no_sound() -> None:
    frames = np.random.default_rng(0).integers(0, 255, (60, 80, 96, 3), np.uint8)
    result = recogniser(network("rgb", "sound")).predict(ArrayVideo(frames, 25.0))
    assert result.ok
    assert not result.cost.stage("network-sound").calls


def test_an_empty_batch_of_views_is_refused_by_the_size() -> None:
    executor = AdaMMLExecutor(network("rgb", "sound"), SPEC)
    small = View(np.zeros((1, FRAMES, 16, 16, 3), np.uint8), (0.0, 0.3), np.ones(1, bool))
    with pytest.raises(Exception, match="pictures of"):
        executor.run("rgb", [{"rgb": small}], [None])


# --- windows, segments and operating points -------------------------------------------------------

LOOK = Modalities(("rgb", "sound"), ("rgb", "sound"), FRAMES, SEGMENT)


@pytest.mark.parametrize("seconds", [0.1, 0.64, 0.9, 1.0, 2.4, 10.0])
def test_segments_fill_their_window(seconds) -> None:
    segments = LOOK.segments(Window(3.0, 3.0 + seconds))
    assert segments[0][0] == 3.0
    assert all(a[1] == pytest.approx(b[0]) for a, b in itertools.pairwise(segments))
    assert seconds - SEGMENT / 2 - 1e-6 <= segments[-1][1] - 3.0 <= seconds + 1e-6


def test_a_short_rest_is_no_window_of_its_own() -> None:
    with Video(clip(frames=60)) as video:
        assert LOOK.window(video, 0.0, 2.2) == Window(0.0, 2.4)
        assert LOOK.window(video, 0.0, 1.0) == Window(0.0, 1.0)
        assert LOOK.window(video, 2.4, 1.0) is None


def card(**changes: Any) -> dict[str, Any]:
    points = [
        {"network": f"point-{n}", "strength": float(n), "accuracy": accuracy, "macs": macs,
         "seconds": macs / 1e11, "rates": {"rgb": 0.5, "sound": 0.5}}
        for n, (accuracy, macs) in enumerate([(0.9, 9e9), (0.8, 4e9), (0.6, 1e9)])
    ]  # fmt: skip
    return {
        "modalities": ["rgb", "sound"], "seen": ["rgb", "sound"], "frames": 2, "seconds": 0.64,
        "costs": {"rgb": 1.0, "sound": 0.1}, "points": points, "default": 0, "calibrated_on": 9,
        **changes,
    }  # fmt: skip


def chosen(budget: Budget, **settings: Any) -> Modalities:
    context = Context(SPEC, budget=budget, window=2.56, calibration=card())
    return ModalitiesSpec(**settings).build(context)


def test_a_budget_chooses_the_most_accurate_point_that_keeps_it() -> None:
    assert chosen(Budget()).network == "point-0"
    assert chosen(Budget(macs_per_answer=5e9)).network == "point-1"
    assert chosen(Budget(ms_per_answer=10.5)).network == "point-2"
    assert chosen(Budget(macs_per_second=4e9)).network == "point-0"  # of 2.56 seconds
    assert chosen(Budget(), point=2).network == "point-2"
    with pytest.raises(ConfigError, match="less than the cheapest operating point costs"):
        chosen(Budget(ms_per_answer=1.0))
    with pytest.raises(ConfigError, match="has the points 0 to 2"):
        chosen(Budget(), point=3)
    with pytest.raises(ConfigError, match="say 5GMAC or 20ms"):
        chosen(Budget(frames_per_second=3.0))


def test_modalities_may_be_fixed() -> None:
    assert chosen(Budget(), use="all").fixed == ("rgb", "sound")
    assert chosen(Budget(), use=("sound",)).parts == ("rgb", "sound")
    with pytest.raises(ConfigError, match="has rgb, sound"):
        chosen(Budget(), use=("smell",))


def test_a_damaged_curve_is_one_line() -> None:
    spec = ModalitiesSpec()
    assert spec.calibrated(card(), "runs/m")["default"] == 0
    with pytest.raises(ConfigError, match="no policy over modalities"):
        spec.calibrated({}, "runs/m")
    with pytest.raises(WeightsError, match=r"m/run.json: calibration.frames"):
        spec.calibrated(card(frames=0), "runs/m")
    with pytest.raises(WeightsError, match=r"calibration.default: no such point"):
        spec.calibrated(card(default=7), "runs/m")


def test_the_published_cost_comes_out_of_the_executor() -> None:
    small = {"visual": "test_resnet", "policy_backbone": "test_efficientnet"}
    model: Any = registry.create("adamml", num_classes=31, **small)
    executor = AdaMMLExecutor(model, InputSpec(224, 7.5, 80))
    view = View(np.zeros((10, 256, 256), np.float32), (), np.ones(10, bool))
    assert executor.cost("sound", {"sound": view}, None) == 10 * 381_778_688
