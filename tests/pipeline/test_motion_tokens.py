"""The look `motion-tokens` in the loop: chosen tokens alone are computed, charged and traced."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import foveate
from clips import encode
from foveate.app.explain import reasons
from foveate.core import Budget, ConfigError, InputSpec, Window
from foveate.core.loop import ViewRequest
from foveate.media import ArrayVideo, Video
from foveate.models.patch_tokens import count_kept_macs
from foveate.models.registry import create
from foveate.pipeline.fetch import region_of
from foveate.policy import Context, MotionTokens
from foveate.viz import annotate
from foveate.viz.why import describe, draw_reason
from foveate.viz.why_page import Explained, conclusion

SPEC = InputSpec(64, 5.0, 4)
LABELS = list("abcde")
SIZE = (128, 96)
LOOK = {"name": "motion-tokens", "keep": 0.25}


def network(name: str = "tsn:test_vit") -> Any:
    torch.manual_seed(0)
    made = create(name, num_classes=5)
    torch.nn.init.normal_(made.classifier.weight, std=0.1)
    return made.eval()


@pytest.fixture(scope="module")
def model() -> Any:
    return network()


@pytest.fixture(scope="module")
def clip() -> bytes:
    """A square that moves through the lower right corner of a picture at rest, 1.6 s."""

    def draw(number: int, size: tuple[int, int]) -> np.ndarray:
        random = np.random.default_rng(5)
        out = random.integers(60, 180, (size[1] // 4, size[0] // 4, 3)).repeat(4, 0).repeat(4, 1)
        square = random.integers(0, 256, (10, 10, 3)).repeat(2, 0).repeat(2, 1)
        x, y = 84 + round(6 * np.sin(number / 4)), 60 + round(6 * np.cos(number / 5))
        out[y : y + 20, x : x + 20] = square
        return out.astype(np.uint8)

    return encode("matroska", frames=40, size=SIZE, draw=draw)


def load(module: Any, look: Any = None, spec: InputSpec = SPEC) -> Any:
    return foveate.load(
        module, labels=LABELS, input=spec, look=look, cut_threshold=1.0, device="cpu"
    )


def scores(result: Any) -> list[float]:
    return [one.score for one in sorted(result.labels, key=lambda one: one.label)]


def test_all_tokens_give_the_answer_and_the_cost_of_whole_frames(model, clip) -> None:
    whole, tokens = load(model).predict(clip), load(model, {**LOOK, "keep": 1.0}).predict(clip)
    assert scores(tokens) == pytest.approx(scores(whole), abs=1e-5)
    assert tokens.cost.macs == whole.cost.macs > 0


def test_the_tokens_of_the_mover_are_computed_charged_and_traced(model, clip, monkeypatch) -> None:
    seen = []
    real = type(model).token_features

    def features(self, x, kept):
        if not x.is_meta:  # else multiply-adds are counted
            seen.append(kept)
        return real(self, x, kept)

    monkeypatch.setattr(type(model), "token_features", features)
    result = load(model, LOOK).predict(clip)
    traced = [step.tokens for step in result.trace.steps]
    assert {tuple(one.grid) for one in traced} == {(4, 4)}
    assert {tuple(one.region) for one in traced} == {(16.0, 0.0, 112.0, 96.0)}
    kept = [numbers for one in traced for numbers in one.kept]
    assert {len(numbers) for numbers in kept} == {4}
    assert all({10, 11, 14, 15} & set(numbers) for numbers in kept)
    assert sum(len({10, 11, 14, 15} & set(n)) for n in kept) > 3 * len(kept)
    run = [frame.flatten().nonzero()[:, 0].tolist() for mask in seen for frame in mask[0]]
    assert len(run) == 4 * len(seen) > 0
    assert all(numbers in kept for numbers in run)
    windows = len(result.trace.steps)
    assert result.cost.stage("network").macs == windows * count_kept_macs(
        model, (1, 3, 4, 64, 64), (4,) * 4
    )
    assert result.trace.steps[0].modalities == ["rgb", "motion:vectors"]
    assert result.trace.steps[0].gate > 0.6


def test_only_the_chosen_tokens_count(model) -> None:
    """Pixels outside of evenly spaced tokens may be anything."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (8, 64, 64, 3)).astype(np.uint8)
    recogniser = load(model, {**LOOK, "order": "stride"})
    first = recogniser.predict(pixels, fps=5)
    other = 255 - pixels
    for number in first.trace.steps[0].tokens.kept[0]:
        row, column = divmod(number, 4)
        patch = np.s_[:, row * 16 : row * 16 + 16, column * 16 : column * 16 + 16]
        other[patch] = pixels[patch]
    assert scores(recogniser.predict(other, fps=5)) == scores(first)
    assert scores(recogniser.predict(255 - pixels, fps=5)) != scores(first)


@pytest.mark.parametrize("order", ["motion", "difference", "random", "stride"])
def test_every_order_is_deterministic_and_keeps_as_many(model, clip, order) -> None:
    look = MotionTokens(keep=0.25, order=order, spec=SPEC, size=64, rate=5.0)
    window = Window(0.2, 1.4)
    with Video(clip) as video:
        first, again = (look.plan(video, window, Budget()).tokens for _ in range(2))
        seeded = MotionTokens(keep=0.25, order=order, spec=SPEC, size=64, rate=5.0, seed=1)
        other = seeded.plan(video, window, Budget()).tokens
        online = look.online()
        steps, memory = [], None
        while (found := online.next(video, window, memory, None, Budget()))[0] is not None:
            steps.append(found[0].given["tokens"].array[0])
            memory = found[1]
    assert np.array_equal(first, again)
    assert np.array_equal(first, other) == (order != "random")
    assert [len(one) for one in steps] == [1] * 6
    assert first.shape == (6, 4, 4)
    assert set(first.sum((1, 2))) == {4}
    if order == "stride":
        assert len({tuple(one.ravel()) for one in first}) == 1


def test_key_frames_are_dense(model) -> None:
    class Keys(ArrayVideo):
        def keyframes(self) -> tuple[float, ...]:
            return (0.0, 0.5, 3.0)

    sample = Keys(np.zeros((50, 64, 64, 3), np.uint8), 25.0)
    look = MotionTokens(keep=0.25, dense_keys=True, spec=SPEC, size=64, rate=5.0)
    counts = look.plan(sample, Window(0.2, 1.4), Budget()).tokens.sum((1, 2)).tolist()
    assert counts == [16, 4, 16, 4, 4, 4]  # at .2 s, and at .6 s after the key frame at .5 s
    online = look.online().plan(sample, Window(0.2, 1.4), Budget()).tokens.sum((1, 2)).tolist()
    assert online == [16, 4, 4, 4, 4, 4]
    result = load(model, {**LOOK, "dense_keys": True}).predict(
        np.zeros((4, 64, 64, 3), np.uint8), fps=5
    )
    assert result.trace.steps[0].fallback  # nothing moves: the tokens in the middle
    assert result.trace.steps[0].tokens.kept[1] == [5, 6, 9, 10]
    assert result.cost.macs == count_kept_macs(model, (1, 3, 4, 64, 64), (16, 4, 4, 4))


def test_frames_of_a_tubelet_have_the_same_tokens(clip) -> None:
    module = network("tubelet:test_vit")
    result = load(module, {**LOOK, "chunk": 1}).predict(clip)
    for step in result.trace.steps:
        assert len(step.frames) == 2
        assert step.tokens.kept[0] == step.tokens.kept[1]
    macs = count_kept_macs(module, (1, 3, 4, 64, 64), (4,) * 4)
    assert result.cost.stage("network").macs == 2 * macs
    for one in load(module, LOOK).predict_many([clip, clip]):
        assert scores(one) == pytest.approx(scores(result), abs=1e-5)
    with pytest.raises(ConfigError, match="no whole number of patches"):
        load(module, LOOK, InputSpec(60, 5.0, 4))


@pytest.mark.parametrize(
    ("spec", "size"),
    [
        (InputSpec(64, 5.0, 4), (320, 240)),
        (InputSpec(64, 5.0, 4, resize_to=80), (240, 320)),
        (InputSpec(64, 5.0, 4, resize="squash", crop="none"), (320, 240)),
        (InputSpec(64, 5.0, 4, resize="squash", resize_to=80), (320, 240)),
    ],
)
def test_the_grid_covers_what_the_network_is_shown(spec, size) -> None:
    look = MotionTokens().fitted(Context(spec, patch=(1, 16, 16)))
    sample = ArrayVideo(np.zeros((2, size[1], size[0], 3), np.uint8), 25.0)
    wanted = region_of(size, spec, ViewRequest((0.0,)))
    assert look.region(sample) == pytest.approx(wanted, abs=4)  # a pixel of 64


@pytest.mark.parametrize("name", ["tsn:test_resnet", "tsm:test_vit", "movinet-a0-stream-lite"])
def test_other_networks_are_refused_in_one_line(name) -> None:
    module = create(name, num_classes=5)
    with pytest.raises(ConfigError, match="has no patch tokens that can be left out") as caught:
        load(module, LOOK)
    assert "\n" not in str(caught.value)


def test_tokens_that_are_not_computed_are_darkened(model, clip) -> None:
    result = load(model, LOOK).predict(clip)
    white = np.full((SIZE[1], SIZE[0], 3), 255, np.uint8)
    drawn = annotate(white, result, 0.4)
    assert drawn[2, 2].max() < 100  # outside of the centre square
    (row, column) = divmod(result.trace.steps[0].tokens.kept[2][0], 4)
    assert drawn[row * 24 + 2, 16 + column * 24 + 2].min() == 255


def test_explain_says_how_many_tokens_are_computed(model, clip) -> None:
    look = load(model, LOOK).plan.look
    with Video(clip) as video:
        found = list(reasons(look, video, SPEC.clip_seconds))
    assert [len(one.tokens[2]) for one in found] == [4] * 8
    assert describe(found[0]).endswith("4 of 16 tokens")
    page = Explained("a", found, [], size=SIZE)
    assert conclusion(page) == "The network computes 4 patch tokens of each of 8 frames."
    frame = np.full((SIZE[1], SIZE[0], 3), 255, np.uint8)
    assert (draw_reason(frame, found[0], SIZE)[:, : SIZE[0]] == 85).any()
