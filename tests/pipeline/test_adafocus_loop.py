"""AdaFocus on the loop: what the whole network says, in parts, with exits that are executed."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import foveate
from clips import encode
from foveate.core import ConfigError, InputSpec, ModelError, WeightsError
from foveate.models import count_macs, registry
from foveate.models.layers.crop import crop_resized
from foveate.models.weights.run import InputCard, NetworkCard, RunCard, read_run, write_run
from foveate.pipeline.adafocus import AdaFocusExecutor, exit_seconds
from foveate.pipeline.executors import to_tensor
from foveate.policy.operating import fit_exits
from models.nontrivial import randomise

NAMES = ["adafocus-v1", "adafocus-v1-tsm", "adafocus-v2", "adafocus-v2-tsm", "uni-adafocus",
         "uni-adafocus-tsm"]  # fmt: skip
CLASSES = tuple("abcdefg")
SIZE, FPS = 64, 12.0


def frames(seed: int = 0, count: int = 24) -> np.ndarray:
    """Two seconds of pictures of the network's own size: nothing is scaled."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (count, 8, 8, 3)).astype(np.uint8)
    return small.repeat(SIZE // 8, 1).repeat(SIZE // 8, 2)


@cache
def network(name: str) -> Any:
    torch.manual_seed(0)
    made = randomise(registry.create_tiny(name))
    with torch.no_grad():  # else a softmax says nothing of the logits behind it
        for layer in made.modules():
            if isinstance(layer, torch.nn.Linear) and layer.out_features == len(CLASSES):
                layer.weight *= 0.02
                layer.bias *= 0.02
    return made


def candidates(name: str) -> int:
    return int(registry.entry(name).tiny_input[2])


def spec(name: str, **more: Any) -> InputSpec:
    return InputSpec(SIZE, candidates(name) / 2, candidates(name), **more)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A run folder of each network."""
    made = {}
    for name in NAMES:
        folder = tmp_path_factory.mktemp(name)
        save(folder, name)
        made[name] = str(folder)
    return made


@pytest.fixture(scope="module")
def models(runs: dict[str, str]) -> dict[str, Any]:
    """A recogniser of each."""
    return {name: foveate.load(run, top_k=7) for name, run in runs.items()}


def changed(model: Any, decide: Any = None, window: float | None = None, **look: Any) -> Any:
    """The same networks with another look or decision."""
    specs = foveate.policy.build.LOOKS
    built = (
        specs[look.pop("name", "adafocus")]
        .model_validate({**look})
        .build(foveate.policy.Context(model.executor.spec, network=model.executor.network))
    )
    preset = model.preset.model_copy(update={"top_k": 7})
    return foveate.Recogniser(
        model.executor, CLASSES, look=built, decide=decide,
        window=window or model.plan.window_seconds, preset=preset,
    )  # fmt: skip


def save(folder: Path, name: str, **more: Any) -> None:
    tiny = {k: v for k, v in registry.entry(name).tiny.items() if k != "num_classes"}
    card = RunCard(
        method="adafocus", networks={"network": NetworkCard(arch=name, settings=tiny)},
        classes=list(CLASSES), input=InputCard.of(spec(name)), **more,
    )  # fmt: skip
    write_run(folder, {"network": network(name)}, card)


def seen(name: str, pixels: np.ndarray, order: str = "auto") -> torch.Tensor:
    """(1, T, 3, H, W) of the frames that the look chooses, in its order."""
    settings = {"name": "adafocus", "order": order}
    spec_of = foveate.policy.build.LOOKS["adafocus"].model_validate(settings)
    context = foveate.policy.Context(spec(name), network=network(name))
    video = foveate.media.ArrayVideo(pixels, FPS)
    window = foveate.core.Window(0.0, 2.0)
    times = spec_of.build(context).times(video, window, foveate.core.Budget())
    at = [int(time * FPS + 1e-6) for time in times]
    return to_tensor(pixels[at][None], spec(name), torch.device("cpu")).transpose(1, 2)


def scores(result: Any) -> list[float]:
    return [s.score for s in sorted(result.labels, key=lambda s: s.index)]


@pytest.mark.parametrize("name", NAMES)
def test_the_loop_says_what_the_network_says(models: dict[str, Any], name: str) -> None:
    """Alone, and in a batch of sources."""
    model = models[name]
    sources = [frames(seed) for seed in range(3)]
    alone = [model.predict(source, fps=FPS) for source in sources]
    together = list(model.predict_many(sources, fps=FPS, batch=3))
    for source, one, other in zip(sources, alone, together, strict=True):
        clip = seen(name, source)
        with torch.no_grad():
            want = network(name)(clip.transpose(1, 2)).softmax(1)[0].tolist()
        assert scores(one) == pytest.approx(want, abs=1e-4)
        assert scores(other) == pytest.approx(want, abs=1e-4)
        assert one.cost.macs == other.cost.macs
        with torch.no_grad():
            focused = network(name).steps(clip)
        (step,) = (s for s in one.trace.steps if s.part == "focus")
        np.testing.assert_allclose(step.boxes, focused.windows[0], atol=0.02)
    assert len({tuple(scores(one)) for one in alone}) == 3


def of_training(net: Any, frames: int) -> int:
    """Multiply-adds of `net(clip)` that an answer does not need.

    They are the outputs after each frame but the last, those of the mean of all frames, the values
    of PPO and the head of the window.
    """
    heads = 0
    if hasattr(net, "window_head"):
        heads += net.window_head.weight.numel()
    classifier = getattr(net, "classifier", None)
    if classifier is None:  # the mean features are classified, not the features of each frame
        seen = net.glances - 1, (net.focuses or frames) - 1
        for count, head in zip(seen, (net.glance_head, net.focus_head), strict=True):
            heads += count * head.weight.numel()
    elif hasattr(classifier, "heads"):
        heads += sum(head[-1].weight.numel() for head in classifier.heads[: frames - 1])
    elif hasattr(classifier, "focus_heads"):
        for some in (classifier.glance.heads, classifier.focus_heads):
            heads += sum(head[-1].weight.numel() for head in some[:-1])
    elif hasattr(net.policy, "critic"):
        heads += frames * net.policy.critic.weight.numel()
    return int(heads)


@pytest.mark.parametrize("name", NAMES)
def test_the_ledger_has_the_multiply_adds_of_the_network(models: dict[str, Any], name: str) -> None:
    model, count = models[name], candidates(name)
    result = model.predict(frames(), fps=FPS)
    whole = count_macs(network(name), (1, 3, count, SIZE, SIZE))
    assert result.cost.macs == whole - of_training(network(name), count)
    executor: Any = model.executor
    assert list(executor.exit_macs().values())[-1] == result.cost.macs
    assert [stage.calls for stage in result.cost.stages if stage.macs] == [1, 1, 1]


@pytest.mark.parametrize("name", ["adafocus-v2", "uni-adafocus"])
def test_exits_executed_are_exits_simulated(models: dict[str, Any], name: str) -> None:
    """Each exit gives the logits of its step, and nothing after it is computed."""
    net = network(name)
    with torch.no_grad():
        steps = net.steps(seen(name, frames())).logits[0]
    exits = net.exits(candidates(name), 1)
    for exit, macs in models[name].executor.exit_macs(1).items():
        result = changed(models[name], only(exit), chunk=1).predict(frames(), fps=FPS)
        assert result.exits == {exit: 1}
        assert scores(result) == pytest.approx(steps[exits[exit]].softmax(0).tolist(), abs=1e-4)
        assert result.cost.macs == macs
        focused = [s for s in result.trace.steps if s.part == "focus"]
        assert len(focused) == (0 if "glance" in exit else int(exit.partition(".")[2]))


def only(exit: str) -> Any:
    from foveate.policy.stopping import ByExit

    return ByExit({exit: 0.0})


def test_what_comes_after_the_exit_is_not_decoded(models: dict[str, Any]) -> None:
    """V1 goes forward in time: a decision after the first of three frames decodes a sixth."""
    clip = encode("matroska", "libx264", 60, size=(96, 80), gop=60, options={"bf": "0"})
    whole = changed(models["adafocus-v1"], window=2.4, chunk=1).predict(clip)
    result = changed(models["adafocus-v1"], only("focus.1"), 2.4, chunk=1).predict(clip)
    assert whole.cost.frames_decoded == 51  # the middle of the last third
    assert result.cost.frames_decoded == 11
    assert [(s.part, len(s.frames)) for s in result.trace.steps] == [("glance", 1), ("focus", 1)]


def test_frames_that_the_policy_does_not_choose_are_never_converted(
    models: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = encode("mp4", "libx264", 60, size=(96, 80), gop=60)
    converted: list[tuple[int, int]] = []
    real = foveate.media.Video._pixels

    def counted(self: Any, tick: int, frame: Any, size: Any) -> Any:
        converted.append(size)
        return real(self, tick, frame, size)

    monkeypatch.setattr(foveate.media.Video, "_pixels", counted)
    result = changed(models["uni-adafocus"], window=2.4).predict(clip)
    glance, focus = (s for s in result.trace.steps if s.part in ("glance", "focus"))
    assert len(glance.frames) == len(focus.frames) == 3  # of six candidates
    assert len(converted) == 6
    # What was passed on the way to the last frame of the glance is not decoded again.
    assert result.cost.frames_decoded == round(25 * max(glance.frames)) + 1
    blocks = changed(models["adafocus-v2"], window=2.4, chunk=1).predict(clip)
    assert [len(s.frames) for s in blocks.trace.steps] == [1] * 6
    assert blocks.cost.frames_decoded == 51  # the middle of the last third


def test_the_crop_of_prediction_is_the_crop_of_training(models: dict[str, Any]) -> None:
    net, clip = network("adafocus-v2"), seen("adafocus-v2", frames())
    given: list[torch.Tensor] = []
    hook = models["adafocus-v2"].executor.network.focus.register_forward_pre_hook(
        lambda _, inputs: given.append(inputs[0])
    )
    try:
        models["adafocus-v2"].predict(frames(), fps=FPS)
    finally:
        hook.remove()
    with torch.no_grad():
        windows = net.steps(clip).windows[0]
    windows.requires_grad_(True)
    cut = crop_resized(clip[0], windows, net.patch, antialias=False, padding="zeros")
    # Places agree to the rounding of pixels in float32.
    torch.testing.assert_close(given[-1].flatten(0, 1), cut.detach(), rtol=0, atol=1e-4)
    cut.sum().backward()
    assert windows.grad is not None
    assert windows.grad.any()


@pytest.mark.parametrize("name", NAMES)
def test_streams_frame_by_frame_or_a_refusal(models: dict[str, Any], name: str) -> None:
    model = models[name]
    if not network(name).per_frame:
        with pytest.raises(ConfigError, match="a stream has not seen it yet"):
            next(model.stream(frames(), fps=FPS))
        return
    steps = list(model.stream(frames(), fps=FPS))
    assert len(steps) == candidates(name)
    forward = changed(model, order="forward")
    assert scores(steps[-1]) == pytest.approx(scores(forward.predict(frames(), fps=FPS)), abs=1e-4)


# --- calibration ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory, models: dict[str, Any]) -> str:
    """A run folder with exits after one, two and three patches."""
    folder = tmp_path_factory.mktemp("calibrated")
    model = changed(models["adafocus-v2"], chunk=1)
    executor: Any = model.executor
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(80, 3, 7, generator=generator)
    names = list(network("adafocus-v2").exits(3, 1))
    macs = executor.exit_macs(1)
    assert list(macs) == names
    seconds = exit_seconds(model, [foveate.media.ArrayVideo(frames(), FPS)])
    assert len(seconds) == 3
    card = fit_exits(
        logits, logits[:, -1].argmax(1), list(macs.values()), names,
        seconds_by_step=sorted(seconds),
    )  # fmt: skip
    save(folder, "adafocus-v2", calibration=card.model_dump(mode="json"))
    return str(folder)


def test_a_budget_chooses_the_operating_point(calibrated: str) -> None:
    card = read_run(calibrated).calibration
    model = foveate.load(calibrated)
    assert model.preset.decide.name == "calibrated"
    assert model.plan.look.exits == ("focus.1", "focus.2", "focus.3")
    first = card["points"][0]
    cheap = foveate.load(calibrated, budget=f"{first['macs'] * 1.001 / 1e6}MMAC")
    assert list(cheap.plan.decide.thresholds.values()) == first["thresholds"]
    assert cheap.predict(frames(), fps=FPS).exits == {"focus.1": 1}
    rich = foveate.load(calibrated, budget="5GMAC")
    assert list(rich.plan.decide.thresholds.values()) == card["points"][-1]["thresholds"]
    slow = foveate.load(calibrated, budget="60000ms")
    assert slow.plan.decide == rich.plan.decide
    at_end = foveate.load(calibrated, decide="at-end", top_k=7).predict(frames(), fps=FPS)
    whole = foveate.load(calibrated, decide="at-end", look={"name": "adafocus", "chunk": 3},
                         top_k=7).predict(frames(), fps=FPS)  # fmt: skip
    assert scores(at_end) == pytest.approx(scores(whole), abs=1e-4)


def test_budgets_that_cannot_be_kept_are_one_line(calibrated: str, runs: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="less than the first exit costs"):
        foveate.load(calibrated, budget="1kMAC")
    with pytest.raises(ConfigError, match="cannot keep a budget of frames_per_second"):
        foveate.load(calibrated, budget="3fps")
    with pytest.raises(ConfigError, match="has no calibrated exits"):
        foveate.load(runs["adafocus-v2"], budget="2GMAC")
    with pytest.raises(ConfigError, match="whatever its length"):
        foveate.load(runs["uni-adafocus"], budget="3fps")
    few = foveate.load(runs["adafocus-v2"], budget="1fps").predict(frames(), fps=FPS)
    assert few.exits == {"focus.2": 1}
    few = foveate.load(runs["adafocus-v2"], budget="16MMAC/s").predict(frames(), fps=FPS)
    assert few.exits == {"focus.2": 1}  # of 13 million each
    assert few.warnings == []


def test_wrong_settings_are_one_line(tmp_path: Path, runs: dict[str, str]) -> None:
    with pytest.raises(ModelError, match="the focus network mixes frames"):
        foveate.load(runs["adafocus-v2-tsm"], look={"name": "adafocus", "chunk": 2})
    with pytest.raises(ModelError, match="9 frames for 3 steps"):
        foveate.load(runs["adafocus-v2"], look={"name": "adafocus", "frames": 9})
    with pytest.raises(ConfigError, match="need its glance"):
        foveate.load(runs["adafocus-v2"], look={"name": "adafocus", "glance": False})
    with pytest.raises(ConfigError, match="is not an AdaFocus model"):
        foveate.load("movinet-a0-stream-lite.actions15", look="adafocus")
    save(tmp_path, "adafocus-v2", calibration={"points": []})
    with pytest.raises(WeightsError, match=r"run.json: calibration\."):
        foveate.load(str(tmp_path))


# --- places of other policies -----------------------------------------------------------------


@cache
def moving() -> bytes:
    return encode("matroska", "libx264", 48, size=(96, 80), gop=12)


@pytest.mark.parametrize("name", ["adafocus-v2", "uni-adafocus"])
def test_other_places_for_the_same_networks(models: dict[str, Any], name: str) -> None:
    own = models[name].predict(moving())
    for patches in ("motion-patch", "random", "centre", "resize", "full"):
        other = changed(models[name], patches=patches).predict(moving())
        assert {s.part for s in other.trace.steps} == {"glance", "network"}
        assert other.cost.stage("glance").macs == own.cost.stage("glance").macs
        if patches != "full":
            assert other.cost.stage("focus").macs == own.cost.stage("focus").macs
        step = other.trace.steps[-1]
        assert bool(step.boxes) == (patches in ("motion-patch", "random", "centre"))
        if patches == "motion-patch":
            # Vectors and the pictures of all blocks of patches come from one pass.
            assert other.cost.frames_decoded <= 48 + 2
            assert step.modalities == ["rgb", "motion:vectors"]
        if name == "uni-adafocus":  # the frames are still the policy's
            focus = next(s for s in own.trace.steps if s.part == "focus")
            assert step.frames == focus.frames


@pytest.mark.parametrize("name", ["adafocus-v1", "adafocus-v2-tsm", "uni-adafocus"])
def test_motion_patches_need_no_glance(models: dict[str, Any], name: str) -> None:
    result = changed(models[name], name="adafocus-motion").predict(moving())
    assert {s.part for s in result.trace.steps} == {"network"}
    assert result.cost.stage("glance").calls == 0
    own = models[name].predict(moving())
    assert result.cost.stage("focus").macs == own.cost.stage("focus").macs
    assert changed(models[name], name="motion-patch").predict(moving()).trace.steps[-1].boxes


# --- combinations ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["adafocus-v2", "uni-adafocus"])
def test_motion_is_a_prior_of_the_policy(name: str) -> None:
    """Its weight begins at 0, changes the places, and gets a gradient."""
    torch.manual_seed(0)
    net: Any = registry.create(name, **{**registry.entry(name).tiny, "motion_prior": True})
    plain = network(name)
    missing = net.load_state_dict(plain.state_dict(), strict=False).missing_keys
    policy = net.policy if name == "adafocus-v2" else net.spatial_policy
    assert missing == [f"{'policy' if name == 'adafocus-v2' else 'spatial_policy'}.motion_weight"]
    model = recogniser(net, name)
    still = boxes_of(model.predict(moving()))
    assert still == boxes_of(recogniser(plain, name).predict(moving()))
    with torch.no_grad():
        policy.motion_weight.fill_(-3.0)
    assert boxes_of(model.predict(moving())) != still
    prior = torch.rand(1, 3, 2, 2)
    maps = torch.rand(1, 3, net.glance.map_channels, 2, 2)
    net.choose(maps, maps.mean((3, 4)), candidates(name), prior=prior).windows.sum().backward()
    assert policy.motion_weight.grad.abs() > 0
    with pytest.raises(ModelError, match="no weight for motion"):
        plain.choose(maps, maps.mean((3, 4)), candidates(name), prior=prior)
    if name == "adafocus-v2":
        with pytest.raises(ConfigError, match="a stream has not seen it yet"):
            next(model.stream(frames(), fps=FPS))


def recogniser(net: Any, name: str) -> Any:
    """A recogniser of a network that has no run folder."""
    built = foveate.policy.build.LOOKS["adafocus"]().build(
        foveate.policy.Context(spec(name), network=net)
    )
    executor = AdaFocusExecutor(net, spec(name))
    return foveate.Recogniser(executor, CLASSES, look=built, window=2.0)


def boxes_of(result: Any) -> list[list[float]]:
    return [box for step in result.trace.steps for box in step.boxes]


def test_the_state_of_a_movinet_is_the_glance() -> None:
    """Frame by frame, in blocks and as a whole, with the state carried on."""
    torch.manual_seed(0)
    tiny = registry.entry("adafocus-v2").tiny | {"glance": "movinet-a0-stream"}
    net: Any = randomise(registry.create("adafocus-v2", **tiny))
    model = recogniser(net, "adafocus-v2")
    assert not model.plan.look.coarse
    clip = seen("adafocus-v2", frames(), "forward")
    with torch.no_grad():
        maps = net.look(clip)[0]
        parts, state = [], {}
        for at in range(3):
            one, _, state = net.look_on(clip[:, at : at + 1], state)
            parts.append(one)
        alone = net.look(clip[:, 2:])[0]
    assert torch.allclose(torch.cat(parts, 1), maps, atol=1e-4 * float(maps.abs().max()))
    assert not torch.allclose(parts[2], alone, atol=1e-3 * float(maps.abs().max()))
    whole = model.predict(frames(), fps=FPS)
    steps = list(model.stream(frames(), fps=FPS))
    assert whole.labels[0].index == steps[-1].labels[0].index
    assert whole.labels[0].score == pytest.approx(steps[-1].labels[0].score, abs=1e-4)
