"""Windows in maps: exact, tie-free, smooth, gated, inside the frame."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.models.layers.crop import crop_resized
from foveate.policy.window import TRACKS, Rule, crop, resample, select, top_tokens
from foveate.policy.window.search import best, box_sums, capture, centred, excess, tapered
from foveate.policy.window.select import centre_square
from foveate.policy.window.track import camera, crosses, ema, one_euro, viterbi

FRAME = (320, 240)
CELL = (8.0, 8.0)


def blobs(places, size=3, shape=(30, 40)) -> np.ndarray:
    """(T, h, w) with a blob around each (x, y)."""
    maps = np.zeros((len(places), *shape), np.float32)
    for k, (x, y) in enumerate(places):
        maps[k, y : y + size, x : x + size] = 1
    return maps


def choose(maps, track="viterbi", side=96.0, **more):
    rule = {k: more.pop(k) for k in ("gate", "enough", "stiffness", "windows") if k in more}
    sides = side if isinstance(side, tuple) else (side,)
    times = more.pop("times", np.arange(len(maps)) / 5)
    return select(maps, Rule(sides, track, **rule), frame=FRAME, cell=CELL, times=times, **more)


def test_box_sums_equal_brute_force() -> None:
    maps = np.random.default_rng(0).random((2, 9, 11)).astype(np.float32)
    views = np.lib.stride_tricks.sliding_window_view(maps, (4, 3), (1, 2)).sum((3, 4))
    assert np.allclose(box_sums(maps, (4, 3)), views)
    assert np.allclose(box_sums(maps, (9, 11))[:, 0, 0], maps.sum((1, 2)), rtol=1e-5)
    assert np.allclose(capture(maps, (4, 3)), views.max((1, 2)) / maps.sum((1, 2)))


def test_tapering_puts_a_small_mover_into_the_middle() -> None:
    maps = blobs([(18, 12)], size=3)
    size = (12, 12)
    sums = box_sums(maps, size)
    assert (sums == sums.max()).sum() > 50  # the plateau
    corner = best(tapered(sums, size))[0]
    assert np.abs(corner + 6 - (13.5, 19.5)).max() <= 1
    moved = centred(maps, np.array([[8.0, 9.0]]), size)[0]
    assert moved == pytest.approx([13 - 5.5, 19 - 5.5])
    two = best(np.eye(5, dtype=np.float32)[None] * np.float32([1, 0, 0, 0, 1]))
    assert two.tolist() == [[0, 0]]  # never the hole between two equal peaks


def test_gate_measures_excess_over_a_flat_map() -> None:
    flat = np.ones((1, 30, 40), np.float32)
    assert excess(capture(flat, (12, 12)), (12, 12), (30, 40)) == pytest.approx(0, abs=1e-6)
    assert excess(capture(blobs([(3, 3)]), (12, 12)), (12, 12), (30, 40)) == pytest.approx(1)
    chosen = choose(np.concatenate([flat, blobs([(3, 3)]), 0 * flat]), "frame")
    assert chosen.fallback.tolist() == [True, False, True]
    assert tuple(chosen.boxes[0, 0]) == tuple(chosen.boxes[2, 0]) == centre_square(FRAME)
    assert chosen.gate[2] == 0


def test_size_is_the_smallest_whose_windows_hold_enough_of_a_shot() -> None:
    sides = (96.0, 128.0, 192.0, 240.0)

    def chosen(maps, **more) -> list[float]:
        return choose(maps, side=sides, enough=0.9, **more).side.tolist()

    assert chosen(blobs([(5, 5)] * 3, 4)) == [96] * 3
    assert chosen(blobs([(5, 5)] * 3, 15)) == [128] * 3
    assert chosen(blobs([(5, 5)] * 3, 23)) == [192] * 3
    assert chosen(np.zeros((3, 30, 40), np.float32)) == [240] * 3
    shots_ = blobs([(5, 5)] * 3 + [(5, 5), (12, 5), (5, 12)], 6)
    cut = np.arange(6) == 3
    assert chosen(shots_, track="tube", cuts=cut) == [96] * 3 + [128] * 3
    assert chosen(shots_, track="frame", cuts=cut) == [96] * 6  # they go with the mover
    two = blobs([(2, 2)] * 3, 4) + blobs([(34, 24)] * 3, 4)
    assert chosen(two) == [240] * 3
    assert chosen(two, windows=2) == [96] * 3


def brute_force(scores, weight, cuts, cost):
    """The best path by trying all of them."""
    count, rows, columns = scores.shape
    places = list(itertools.product(range(rows), range(columns)))
    best_value, best_path = -np.inf, None
    for path in itertools.product(places, repeat=count):
        value = sum(scores[k][p] for k, p in enumerate(path))
        for k in range(1, count):
            if not cuts[k]:
                (a, b), (c, d) = path[k - 1], path[k]
                value -= weight[k] * cost(abs(a - c), abs(b - d))
        if value > best_value + 1e-12:
            best_value, best_path = value, path
    return np.array(best_path)


COSTS = (lambda a, b: float(a + b > 0), lambda a, b: a + b, lambda a, b: a**2 + b**2)


@pytest.mark.parametrize("power", [0, 1, 2])
@pytest.mark.parametrize("seed", range(4))
def test_viterbi_equals_the_best_of_all_paths(seed, power) -> None:
    random = np.random.default_rng(seed)
    scores = random.random((4, 3, 3)).astype(np.float32)
    weight = np.full(4, random.choice([0.0, 0.05, 0.3]))
    cuts = np.array([False, False, seed % 2 == 1, False])
    expected = brute_force(scores, weight, cuts, COSTS[power])
    assert np.array_equal(viterbi(scores, weight, cuts, power), expected)
    apart = np.arange(3) * 2
    twice = viterbi(scores, weight / 2**power, cuts, power, (apart, apart))
    assert np.array_equal(twice, 2 * expected)


def test_track_ignores_a_flash_and_a_cut_breaks_the_chain() -> None:
    places = [(4, 10)] * 4 + [(33, 20)] + [(4, 10)] * 4
    jumping = choose(blobs(places), "frame")
    smooth = choose(blobs(places), "viterbi", stiffness=2.0)
    assert jumping.boxes[4, 0, 0] > 150
    assert np.ptp(smooth.boxes[:, 0, 0]) < 60
    places = [(4, 4)] * 4 + [(33, 22)] * 4
    cuts = np.arange(8) == 4
    broken = choose(blobs(places), "viterbi", stiffness=50.0, cuts=cuts)
    joined = choose(blobs(places), "viterbi", stiffness=50.0)
    assert broken.boxes[3, 0, 0] < 60 < 180 < broken.boxes[4, 0, 0]
    assert np.ptp(joined.boxes[:, 0, 0]) < 100
    tubes = choose(blobs(places), "tube", cuts=cuts)
    assert len(np.unique(tubes.boxes[:, 0], axis=0)) == 2
    assert len(np.unique(choose(blobs(places), "tube", gate=0.0).boxes[:, 0], axis=0)) == 1


def test_k_windows_are_apart() -> None:
    maps = blobs([(3, 3)] * 3) + blobs([(33, 24)] * 3)
    for track in ("tube", "viterbi", "frame"):
        boxes = choose(maps, track, windows=2, gate=0.0).boxes
        assert boxes.shape == (3, 2, 4)
        assert (np.abs(boxes[:, 0, 0] - boxes[:, 1, 0]) > 150).all()


CROSSING = [(2 + 4 * k, 10) for k in range(9)]  # half of a window of 96 pixels between frames
SHAKING = [(14 + 6 * (k % 3 == 1), 10 - 4 * (k % 2)) for k in range(10)]


@pytest.mark.parametrize("track", ["camera", "camera-online"])
def test_a_camera_stands_still_and_follows_what_crosses(track) -> None:
    crossing = choose(blobs(CROSSING), track)
    middles = crossing.boxes[:, 0].reshape(-1, 2, 2).mean(1)
    away = np.abs(middles - (np.array(CROSSING) + 1.5) * 8).max(1)
    assert (away < 36).all()  # the whole of it is inside
    assert crossing.follows[4:].all()
    shaking = choose(blobs(SHAKING), track)
    assert not shaking.follows.any()
    assert len(np.unique(shaking.boxes[4:, 0], axis=0)) == 1
    # A tube loses what crosses.
    assert (choose(blobs(CROSSING), "tube", gate=0.0).boxes[:, 0, 0] > 8 * 2).any()


def test_a_camera_decides_shot_by_shot() -> None:
    cuts = np.arange(19) == 9
    chosen = choose(blobs(CROSSING + SHAKING), "camera", cuts=cuts)
    assert chosen.follows.tolist() == [True] * 9 + [False] * 10
    assert len(np.unique(chosen.boxes[9:, 0], axis=0)) == 1


def test_segments_are_few_and_jump() -> None:
    places = [(4, 4)] * 6 + [(33, 22)] * 6
    boxes = choose(blobs(places), "segments").boxes[:, 0]
    assert len(np.unique(boxes, axis=0)) == 2
    assert boxes[5, 0] < 60 < 180 < boxes[6, 0]


def test_what_crosses_is_told_from_noise() -> None:
    random = np.random.default_rng(0)
    line = np.linspace(0, 2, 10)[:, None] * (1, 0.5)
    assert crosses(line + random.normal(0, 0.05, line.shape))
    assert not crosses(random.normal(0, 1, (10, 2)))
    assert not crosses(line / 8)  # it stays in the window
    assert not crosses(line[:2])


def test_an_online_camera_has_a_bounded_memory() -> None:
    state = None
    for k in range(300):
        state = camera(state, (float(k % 7), 0.0), k / 100, 96.0)
    assert len(state.recent) == 60
    assert camera(state, (5.0, 5.0), 90.0, 96.0).recent == ((90.0, 5.0, 5.0),)


@pytest.mark.parametrize("track", ["ema", "one-euro"])
def test_online_tracks_go_on_from_their_memory(track) -> None:
    maps = blobs([(4 + 2 * k, 10) for k in range(12)])
    whole = choose(maps, track)
    first = choose(maps[:5], track, times=np.arange(5) / 5)
    second = choose(maps[5:], track, times=np.arange(5, 12) / 5, memory=first.memory)
    assert np.allclose(whole.boxes, np.concatenate([first.boxes, second.boxes]))
    raw = choose(maps, "frame").boxes[:, 0, 0]
    assert (whole.boxes[3:, 0, 0] <= raw[3:]).all()  # it lags, it does not jump ahead
    assert whole.boxes[-1, 0, 0] > whole.boxes[2, 0, 0]


def test_filters_converge_and_begin_at_once() -> None:
    state = None
    for k in range(60):
        state = ema(state, (100.0, 40.0 + (k % 2)), k / 5, 0.3)
    assert state.centre == pytest.approx((100.0, 40.5), abs=0.5)
    euro = one_euro(None, (0.0, 0.0), 0.0)
    assert euro.centre == (0.0, 0.0)
    for k in range(1, 60):
        euro = one_euro(euro, (50.0, 20.0), k / 5)
    assert euro.centre == pytest.approx((50.0, 20.0), abs=0.5)
    assert one_euro(euro, (1.0, 1.0), euro.time).centre == (1.0, 1.0)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    side=st.floats(1, 500),
    track=st.sampled_from(TRACKS),
    shape=st.sampled_from([(1, 1), (3, 40), (30, 40), (31, 5)]),
    frames=st.integers(0, 5),
)
def test_boxes_stay_inside_whatever_happens(seed, side, track, shape, frames) -> None:
    random = np.random.default_rng(seed)
    maps = (random.random((frames, *shape)) ** 8).astype(np.float32)
    cell = FRAME[0] / shape[1], FRAME[1] / shape[0]
    rule = Rule((side,), track, windows=2)
    cuts = random.random(frames) < 0.2
    first, again = (
        select(maps, rule, frame=FRAME, cell=cell, times=np.arange(frames) / 5, cuts=cuts)
        for _ in range(2)
    )
    boxes = first.boxes
    assert np.array_equal(boxes, again.boxes)
    assert (boxes[..., :2] >= 0).all()
    assert (boxes[..., 2:] <= np.array(FRAME) + 1e-3).all()
    assert (boxes[..., 2:] > boxes[..., :2]).all()


def test_rules_refuse_what_cannot_be_meant() -> None:
    for bad in ({"sides": ()}, {"sides": (3.0, 2.0)}, {"sides": (9.0,), "track": "zigzag"}):
        with pytest.raises(ValueError, match=r"sides|track"):
            Rule(**bad)
    with pytest.raises(ValueError, match="window"):
        Rule((9.0,), windows=0)


def test_crops_are_exact_slices_in_one_call() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 20, 30, 3)).astype(np.uint8)
    corner = np.array([[0, 0], [11, 5], [99, -4]])
    cut = crop(pixels, corner, 8)
    assert np.array_equal(cut[0], pixels[0, :8, :8])
    assert np.array_equal(cut[1], pixels[1, 5:13, 11:19])
    assert np.array_equal(cut[2], pixels[2, :8, 22:])  # moved inside
    several = crop(pixels, np.stack([corner, corner[::-1]], 1), 8)
    assert several.shape == (3, 2, 8, 8, 3)
    assert np.array_equal(several[:, 0], cut)
    with pytest.raises(ValueError, match="window of 21"):
        crop(pixels, corner, 21)


def test_resampled_crops_agree_with_slices_average_and_pass_gradients() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 24, 32, 3)).astype(np.uint8)
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).double()
    boxes = torch.tensor([[4.0, 6, 12, 14], [20, 2, 28, 10]], dtype=torch.double)
    cut = crop_resized(x, boxes, 8)
    exact = crop(pixels, boxes[:, :2].numpy().astype(int), 8)
    assert torch.allclose(cut.permute(0, 2, 3, 1), torch.from_numpy(exact).double(), atol=1e-6)
    whole = torch.tensor([[0.0, 0, 24, 24]] * 2, dtype=torch.double)
    small = crop_resized(x, whole, 6)
    blocks = x[:, :, :, :24].reshape(2, 3, 6, 4, 6, 4).mean((3, 5))
    assert (small - blocks).abs().mean() < 12  # averaged, not picked
    assert crop_resized(x, boxes[:, None].repeat(1, 3, 1), 8).shape == (2, 3, 3, 8, 8)
    boxes.requires_grad_(True)
    crop_resized(x, boxes, 8).sum().backward()
    assert boxes.grad.abs().sum() > 0


SIZES = [(48, 64), (37, 53), (90, 51), (33, 130)]


def windows_in(height: int, width: int, shares: tuple[float, ...]) -> np.ndarray:
    """(K, 4) squares of shares of the shorter side: anywhere, and in all four corners."""
    random, found = np.random.default_rng(height), []
    for side in (share * min(height, width) for share in shares):
        places = [(0, 0), (1, 0), (0, 1), (1, 1), *random.random((6, 2))]
        low = np.array(places) * (width - side, height - side)
        found.append(np.concatenate([low, low + side], 1))
    return np.concatenate(found)


def both(height: int, width: int, boxes: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """What `resample` gives of noise, window by window, and `crop_resized`, rounded."""
    random = np.random.default_rng(width)
    pixels = random.integers(0, 256, (1, height, width, 3)).astype(np.uint8)
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
    plain, differentiable = [], []
    for box in boxes:
        plain.append(resample(pixels, box[None], side)[0])
        cut = crop_resized(x, torch.from_numpy(box[None]), side)[0]
        differentiable.append(cut.permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).numpy())
    return np.stack(plain), np.stack(differentiable)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("side", [32, 40, 64])
def test_resampling_without_gradients_is_the_same_where_windows_grow(size, side) -> None:
    # Up to one and a half times the answer nothing is averaged.
    most = 1.5 * side / min(size)
    boxes = windows_in(*size, tuple(min(1.0, share * most) for share in (0.3, 0.55, 0.8, 1.0)))
    plain, differentiable = both(*size, boxes, side)
    assert np.ptp(plain) > 200
    assert np.array_equal(plain, differentiable)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("side", [6, 9, 16])
def test_resampling_without_gradients_is_the_same_where_windows_shrink(size, side) -> None:
    least = 1.51 * side / min(size)
    assert least < 1
    boxes = windows_in(*size, (least, (least + 1) / 2, 1.0))
    plain, differentiable = both(*size, boxes, side)
    off = np.abs(plain.astype(int) - differentiable)
    assert off.max() <= 1
    assert (off > 0).mean() <= 0.001


def test_windows_of_several_frames_are_resampled_frame_by_frame() -> None:
    random = np.random.default_rng(3)
    pixels = random.integers(0, 256, (5, 40, 60, 3)).astype(np.uint8)
    for share in (0.4, 1.0):
        boxes = windows_in(40, 60, (share,))[:5]
        x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
        cut = crop_resized(x, torch.from_numpy(boxes), 12).permute(0, 2, 3, 1).round()
        found = resample(pixels, boxes, 12)
        assert found.shape == (5, 12, 12, 3)
        assert np.abs(found - cut.numpy()).max() <= 1
        assert [np.array_equal(found[0], resample(pixels[k : k + 1], boxes[k : k + 1], 12)[0])
                for k in range(5)] == [True, False, False, False, False]  # fmt: skip


def test_tokens_are_where_the_window_would_be() -> None:
    maps = blobs([(8, 8)] * 4 + [(30, 20)] * 4, size=4)
    kept, scores = top_tokens(maps, (4, 6, 8), keep=8)
    assert scores.shape == (4, 6, 8)
    assert len(set(kept.tolist())) == 8
    time, row, column = np.unravel_index(kept, (4, 6, 8))
    early = time < 2
    assert set(column[early]) <= {1, 2}
    assert set(row[~early]) <= {3, 4}
    assert scores.sum() == pytest.approx(maps.mean() * scores.size, rel=1e-4)
    still, _ = top_tokens(np.zeros((8, 30, 40), np.float32), (4, 6, 8), keep=4)
    assert set(np.unravel_index(still, (4, 6, 8))[1]) <= {2, 3}
    with pytest.raises(ValueError, match="tokens"):
        top_tokens(maps, (4, 6, 8), keep=0)
