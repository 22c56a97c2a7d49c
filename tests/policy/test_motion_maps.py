"""The saliency family: blind to the camera, alive to what moves on its own."""

import numpy as np
import pytest
import torch

from foveate.core import ConfigError
from foveate.policy.motion import METHODS, MotionInput, motion_times, prepare, saliency
from foveate.policy.motion.combine import bodies, box_mean, history, lasting, median3, run_mean
from foveate.policy.motion.dominant import affine, affine_field, coordinates
from foveate.policy.motion.pictures import phase_shift, sample

HEIGHT, WIDTH = 40, 54
MOVER = (slice(8, 18), slice(30, 42))
COMPENSATED = [n for n, m in METHODS.items() if m.compensates and m.need in ("field", "vectors")]
FIELDS = [n for n, m in METHODS.items() if m.need in ("field", "vectors")]


def camera(kind: str) -> np.ndarray:
    """The field of a camera that looks at a scene at rest, (h, w, 2)."""
    x, y = coordinates(HEIGHT, WIDTH)
    half = WIDTH / 2
    return {
        "rest": np.zeros((HEIGHT, WIDTH, 2)),
        "pan": np.stack([np.full_like(x, 4.0), np.full_like(x, -1.5)], -1),
        "zoom": np.stack([0.04 * half * x, 0.04 * half * y], -1),
        "roll": np.stack([-0.03 * half * y, 0.03 * half * x], -1),
    }[kind].astype(np.float32)


def field(kind: str = "rest", mover: tuple[float, float] = (3.0, 2.0), frames: int = 4):
    one = camera(kind).copy()
    one[MOVER] += mover
    return np.repeat(one[None], frames, 0)


def seen(fields: np.ndarray, **more) -> MotionInput:
    return MotionInput(field=fields, cell=(1.0, 1.0), **more)


@pytest.mark.parametrize("kind", ["rest", "pan", "zoom", "roll"])
@pytest.mark.parametrize("name", COMPENSATED)
def test_a_camera_over_a_scene_at_rest_leaves_nothing(name, kind) -> None:
    assert saliency(name, seen(field(kind, (0, 0)))).max() < 1e-2


@pytest.mark.parametrize("kind", ["rest", "pan", "zoom", "roll"])
@pytest.mark.parametrize("name", COMPENSATED)
def test_a_mover_stands_out_whatever_the_camera_does(name, kind) -> None:
    maps = saliency(name, seen(field(kind)))
    assert maps.shape == (4, HEIGHT, WIDTH)
    wide = np.zeros((HEIGHT, WIDTH), bool)
    wide[6:20, 28:44] = True  # boundaries lie around the mover
    assert maps[0][wide].sum() > 0.9 * maps[0].sum() > 0


def test_plain_magnitude_is_fooled_by_a_pan_and_the_mean_is_not() -> None:
    pan = seen(field("pan", (0, 0)))
    assert saliency("flow", pan).min() > 3
    assert saliency("flow_mean", pan).max() < 1e-2
    assert saliency("flow_median", pan).max() < 1e-2
    assert saliency("flow_median", seen(field("zoom", (0, 0)))).max() > 0.5


@pytest.mark.parametrize("name", FIELDS)
def test_maps_are_batched_pure_and_take_tensors(name) -> None:
    random = np.random.default_rng(0)
    many = field("zoom", frames=6) + random.normal(0, 0.3, (6, HEIGHT, WIDTH, 2))
    many = many.astype(np.float32)
    before = many.copy()
    together = saliency(name, seen(many))
    assert np.array_equal(many, before)
    assert np.array_equal(together, saliency(name, seen(torch.from_numpy(many))))
    if name != "mhi":  # the one with a memory
        apart = np.concatenate([saliency(name, seen(many[i : i + 1])) for i in range(6)])
        assert np.allclose(together, apart, atol=1e-4)
    assert saliency(name, seen(many[:0])).shape == (0, HEIGHT, WIDTH)
    assert saliency(name, seen(np.zeros_like(many))).max() == 0


def test_affine_fit_is_exact_and_robust_to_a_third_of_outliers() -> None:
    truth = np.array([[[2.0, -1.0], [0.5, 0.2], [-0.3, 0.7]]])
    fields = affine_field(truth, HEIGHT, WIDTH)
    everywhere = np.ones(fields.shape[:3], bool)
    assert np.allclose(affine(fields, everywhere), truth, atol=1e-3)
    fields[:, :, : WIDTH // 3] += (9.0, -7.0)
    assert np.allclose(affine(fields, everywhere), truth, atol=0.05)
    few = np.zeros_like(everywhere)
    assert not affine(fields, few).any()
    # Who is excluded does not vote: half of the picture moves together with the mover.
    fields = affine_field(truth, HEIGHT, WIDTH)
    fields[:, :, : WIDTH * 6 // 10] += (9.0, -7.0)
    outside = everywhere.copy()
    outside[:, :, : WIDTH * 6 // 10] = False
    assert np.allclose(affine(fields, outside), truth, atol=0.05)


def test_the_fit_of_a_field_does_not_depend_on_those_beside_it() -> None:
    random = np.random.default_rng(4)
    fields = random.normal(0, 1, (5, 24, 32, 2)).astype(np.float32)
    fields[1] = 0  # at rest: its fit is found at once
    fields[2, :, :16] += 9
    votes = random.random((5, 24, 32)) < 0.8
    votes[3] = False
    together = affine(fields, votes)
    alone = [affine(fields[i : i + 1], votes[i : i + 1])[0] for i in range(5)]
    assert np.array_equal(together, np.stack(alone))
    assert not together[[1, 3]].any()


def test_holes_of_codec_vectors_count_as_violent_and_key_frames_do_not_count() -> None:
    fields = np.repeat(field("pan", (0.0, 0.0))[:, None], 3, 1)
    noise = np.random.default_rng(0).normal(0, 0.4, fields.shape)
    fields = (fields + noise).astype(np.float32)
    valid = np.ones(fields.shape[:-1], bool)
    valid[:, 1] = False  # a key frame among the neighbours
    valid[:, 0][:, 20:26, 20:26] = False
    maps = saliency("mv_affine", seen(fields, valid=valid))
    assert maps[0, 21:25, 21:25].mean() > 1.5 * np.median(maps[0])
    alone = np.zeros_like(valid)
    assert saliency("mv_affine", seen(fields, valid=alone)).max() == 0


def pictures(shift: tuple[float, float], mover: tuple[float, float]) -> np.ndarray:
    """A pair of textured pictures, the later one shifted, with a square that goes its own way."""
    random = np.random.default_rng(1)
    base = box_mean(random.normal(0, 60, (1, 120, 140)).astype(np.float32), 5) * 4 + 128
    flow = np.zeros((1, 120, 140, 2), np.float32) - np.float32(shift)
    later = sample(base, flow)[0]
    pair = np.stack([base[0], later[0]])[:, 40 : 40 + HEIGHT, 40 : 40 + WIDTH].copy()
    patch = base[0, 90:98, 90:98]
    for at, (dx, dy) in enumerate([(0, 0), mover]):
        pair[at, 12 + int(dy) : 20 + int(dy), 22 + int(dx) : 30 + int(dx)] = patch
    return pair[None]


def test_pictures_alone_tell_a_mover_and_compensation_forgives_a_pan() -> None:
    still = saliency("fd", MotionInput(grey=pictures((0, 0), (4, 3))))
    inner = (slice(0, 1), slice(7, 28), slice(17, 40))
    assert still[inner].sum() > 0.95 * still.sum() > 0
    grey = pictures((3, -2), (6, 2))
    assert phase_shift(grey[:, 0], grey[:, 1])[0] == pytest.approx([3, -2], abs=0.5)
    panned = saliency("fd_comp", MotionInput(grey=grey))
    assert panned[inner].sum() > 0.8 * panned.sum() > 0
    assert panned[inner].sum() / panned.sum() > 1.5 * (
        saliency("fd", MotionInput(grey=grey))[inner].sum()
        / saliency("fd", MotionInput(grey=grey)).sum()
    )


def test_affine_difference_takes_the_camera_from_the_field_and_change_from_the_pictures() -> None:
    grey = pictures((3, -2), (6, 2))
    pan = np.broadcast_to(np.float32([3, -2]), (1, 3, HEIGHT, WIDTH, 2)).copy()
    inner = (slice(0, 1), slice(7, 28), slice(17, 40))
    plain = saliency("affine_diff", MotionInput(field=pan[:, 0], grey=grey))
    assert plain[inner].sum() > 0.8 * plain.sum() > 0
    # Vectors that mean nothing in a corner do not show, as long as most of the picture is right.
    junk = pan.copy()
    junk[:, :, :12, :15] += np.random.default_rng(0).normal(0, 9, (1, 3, 12, 15, 2))
    seen_ = MotionInput(field=junk, grey=grey)
    assert np.allclose(saliency("affine_diff", seen_), plain, atol=2)
    assert saliency("mv_affine", seen_)[0, :12, :15].max() > 2
    # A key frame among the pictures has no field: its neighbours speak for it.
    valid = np.ones(junk.shape[:-1], bool)
    valid[:, 1] = False
    junk[:, 1] = 99
    held = saliency("affine_diff", MotionInput(field=junk, valid=valid, grey=grey))
    assert np.allclose(held, plain, atol=2)


@pytest.mark.parametrize("back", [1, 2, 4])
def test_vectors_that_point_further_back_than_one_picture_do_not_hide_the_mover(back) -> None:
    grey = pictures((3, -2), (6, 2))
    pan = np.broadcast_to(np.float32([3, -2]) * back, (1, HEIGHT, WIDTH, 2))
    found = saliency("affine_diff", MotionInput(field=pan, grey=grey))
    right = saliency("affine_diff", MotionInput(field=pan / back, grey=grey))
    assert np.allclose(found, right, atol=0.01)


def test_what_bends_outdoes_what_slides_and_what_stays_outdoes_what_passes() -> None:
    """A patch that changes by itself against one that is carried along faster and is brighter."""
    random = np.random.default_rng(3)
    grey = np.full((1, 2, 40, 60), 90, np.uint8)
    ball = random.integers(0, 256, (10, 10)).astype(np.uint8)
    grey[0, 0, 5:15, 5:15], grey[0, 1, 5:15, 9:19] = ball, ball
    grey[0, :, 25:35, 40:50] = random.integers(60, 140, (2, 10, 10))
    field = np.zeros((1, 40, 60, 2), np.float32)
    field[0, 5:15, 5:15, 0] = 4
    seen = MotionInput(field, None, grey)
    plain, bends = saliency("affine_diff", seen)[0], saliency("articulated", seen)[0]
    limb, ball_at = (slice(23, 37), slice(38, 52)), (slice(3, 17), slice(3, 21))
    assert plain[ball_at].sum() > 1.5 * plain[limb].sum()
    ratio = bends[limb].sum() / bends[ball_at].sum()
    assert ratio > 2 * plain[limb].sum() / plain[ball_at].sum()  # at its edge the ball still shows

    maps = np.zeros((5, 40, 60), np.float32)
    maps[:, 20:24, 30:34] = 1  # stays
    for k in range(5):
        maps[k, 5:9, 12 * k : 12 * k + 4] = 1.5  # passes
    times = np.arange(5) / 5
    kept = lasting(maps, times, 0.6, np.zeros(5, np.int64))
    assert maps[2, 20:24, 30:34].sum() < maps[2, 5:9].sum()
    assert kept[2, 20:24, 30:34].sum() > kept[2, 5:9].sum()
    apart = lasting(maps, times, 0.6, np.arange(5))  # every frame another shot: none vouches
    assert apart[2, 20:24, 30:34].sum() < apart[2, 5:9].sum()
    assert np.array_equal(lasting(maps[:1], times[:1], 0.6, np.zeros(1, np.int64)), maps[:1])


def test_bodies_outdo_what_passes_and_yield_where_only_rigid_things_move() -> None:
    """A dim thing that bends and stays, and a bright rigid one that passes."""
    times, shot = np.arange(10) / 5, np.zeros(10, np.int64)
    body, ball = np.zeros((2, 10, 30, 40), np.float32)
    body[:, 18:26, 28:34] = 10
    for k in range(10):
        ball[k, 3:7, 4 * k : 4 * k + 4] = 40
    moves, bends = body + ball, 0.7 * body + 0.15 * ball

    def of_body(maps) -> float:
        return float((maps * (body > 0)).sum() / maps.sum())

    assert of_body(moves) < 0.5
    assert of_body(bodies(moves, bends, times, shot)) > 0.95
    alone = bodies(ball, 0.15 * ball, times, shot, rigid=0.33)
    assert np.array_equal(alone, ball)  # what is rigid is looked at where there is nothing else
    noise = np.zeros_like(ball)
    noise[:, :2, :2] = 0.2
    wrong = bodies(ball + noise, 0.02 * ball + 200 * noise, times, shot)
    assert np.array_equal(wrong, ball + noise)  # a body that hardly moves is none
    cut = np.arange(10) >= 5  # another shot, without the body
    first = ~cut[:, None, None]
    shown, left = np.where(first, moves, ball), np.where(first, bends, 0.15 * ball)
    apart = bodies(shown, left, times, cut.astype(np.int64), rigid=0.33)
    assert float((apart * (body > 0))[:5].sum() / apart[:5].sum()) > 0.95
    assert np.array_equal(apart[5:], ball[5:])
    assert np.array_equal(bodies(0 * ball, 0 * ball, times, shot, 0.33), 0 * ball)
    assert bodies(ball[:0], ball[:0], times[:0], shot[:0], 0.33).shape == (0, 30, 40)


def test_residual_is_what_the_field_does_not_explain() -> None:
    grey = pictures((3, -2), (6, 2))
    pan = np.broadcast_to(np.float32([3, -2]), (1, HEIGHT, WIDTH, 2))
    for name in ("residual", "mv_resid"):
        maps = saliency(name, MotionInput(field=pan, grey=grey))
        assert maps[0, 7:28, 17:40].sum() > 0.7 * maps.sum() > 0
    with pytest.raises(ValueError, match="differ"):
        saliency("residual", MotionInput(field=pan[:, :10], grey=grey))


def test_features_become_maps() -> None:
    features = np.zeros((8, 2, 5, 10, 12), np.float32)
    features[:, 1, :, 4:6, 8:10] = 2
    early = saliency("feat_diff", MotionInput(features=features))
    assert early[0].argmax() in (4 * 12 + 8, 4 * 12 + 9, 5 * 12 + 8, 5 * 12 + 9)
    late = saliency("act", MotionInput(features=torch.from_numpy(features[:, 1])))
    assert late.shape == (8, 10, 12)
    assert late[3, 4:6, 8:10].mean() > 3 * late[3].mean()


def test_history_fades_and_equals_the_recursion() -> None:
    maps = np.random.default_rng(0).random((13, 3, 4)).astype(np.float32)
    expected = [maps[0]]
    for one in maps[1:]:
        expected.append(np.maximum(0.8 * expected[-1], one))
    assert np.allclose(history(maps, 0.8), expected, atol=1e-6)


def test_filters_equal_their_definition() -> None:
    maps = np.random.default_rng(0).random((2, 7, 9)).astype(np.float32)
    padded = np.pad(maps, ((0, 0), (1, 1), (1, 1)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
    assert np.allclose(median3(maps), np.median(windows, (3, 4)))
    inner = np.lib.stride_tricks.sliding_window_view(maps, (3, 3), (1, 2)).mean((3, 4))
    assert np.allclose(box_mean(maps, 3)[:, 1:-1, 1:-1], inner, atol=1e-6)
    assert box_mean(maps, 3)[0, 0, 0] == pytest.approx(maps[0, :2, :2].mean(), abs=1e-6)


def test_preparing_takes_noise_off_and_bounds_outliers() -> None:
    maps = np.full((1, 40, 40), 0.2, np.float32)
    assert prepare(maps).max() == 0
    maps[0, 3:9, 3:9] = 1.25
    maps[0, 20, 20] = 500.0
    clean = prepare(maps)
    assert clean.max() == pytest.approx(1.0)
    assert prepare(maps * 4, root=True).max() < 4


def test_unknown_methods_and_missing_parts_are_named() -> None:
    with pytest.raises(ConfigError, match="flow_afine"):
        saliency("flow_afine", MotionInput())
    for name in METHODS:
        with pytest.raises(ValueError, match="needs"):
            saliency(name, MotionInput())


def test_times_stand_where_motion_is() -> None:
    times = [i * 0.2 for i in range(20)]
    maps = np.zeros((20, 4, 4), np.float32)
    maps[12:15] = 1
    chosen = motion_times(times, maps, 5)
    assert len(set(chosen)) == 5
    assert list(chosen) == sorted(chosen)
    assert sum(2.4 <= t <= 2.81 for t in chosen) >= 3
    even = motion_times(times, np.zeros((20, 4, 4), np.float32), 5)
    assert np.allclose(np.diff(even), 0.8, atol=0.21)
    assert motion_times(times, maps, 40) == tuple(times)
    assert motion_times(times, maps, 0) == ()


@pytest.mark.parametrize("axis", [-1, -2])
@pytest.mark.parametrize("size", [1, 3, 9, 11, 99])
def test_means_over_places_are_those_of_the_definition(axis: int, size: int) -> None:
    maps = np.random.default_rng(0).random((2, 13, 17), np.float32)
    moved = np.moveaxis(maps, axis, 0)
    wanted = [
        moved[max(0, k - size // 2) : k + size // 2 + 1].mean(0, dtype=np.float64)
        for k in range(len(moved))
    ]
    found = run_mean(maps, size, axis)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.moveaxis(found, axis, 0), wanted, rtol=1e-5)


def test_a_camera_at_rest_changes_nothing_for_frames_beside_it() -> None:
    random = np.random.default_rng(1)
    grey = random.integers(0, 255, (4, 2, 24, 32)).astype(np.float32)
    field = np.zeros((4, 1, 24, 32, 2), np.float32)
    field[1::2] += (3.0, -2.0)
    field[2, 0, 5:9, 5:9] = 40.0  # a mover, which does not turn the camera
    seen = MotionInput(field, None, grey)
    together = METHODS["affine_diff"].compute(seen)
    for k in range(4):
        alone = METHODS["affine_diff"].compute(MotionInput(field[k : k + 1], None, grey[k : k + 1]))
        np.testing.assert_allclose(together[k], alone[0], rtol=1e-5)
    at_rest = box_mean(np.abs(grey[::2, 1] - grey[::2, 0]), 3)
    np.testing.assert_allclose(together[::2], at_rest, rtol=1e-6)
    assert np.abs(together[1] - box_mean(np.abs(grey[1:2, 1] - grey[1:2, 0]), 3)[0]).max() > 1
