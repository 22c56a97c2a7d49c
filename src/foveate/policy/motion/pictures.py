"""Saliency from pictures and features: differences, computed residual, activations."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from foveate.policy.motion.combine import box_mean
from foveate.policy.motion.dominant import affine, affine_field
from foveate.policy.motion.inputs import Floats, MotionInput

_PARTS = (1, 2, 3, 4)  # pictures back to which a codec's vector may point
_CLEARLY = 0.8  # share of the error that a part must leave, to be taken instead of the whole
_COARSE = 3  # places between those that are compared


def difference(seen: MotionInput) -> Floats:
    """`fd`: |I(t + d) - I(t)|, 3x3 mean."""
    grey = seen.greys()
    return box_mean(np.abs(grey[:, 1] - grey[:, 0]), 3)


def difference_compensated(seen: MotionInput) -> Floats:
    """`fd_comp`: `fd` after the later picture was shifted back by the global translation."""
    grey = seen.greys()
    shift = phase_shift(grey[:, 0], grey[:, 1])
    height, width = grey.shape[2:]
    flow = np.broadcast_to(shift[:, None, None], (len(grey), height, width, 2))
    later, inside = sample(grey[:, 1], flow)
    return box_mean(np.where(inside, np.abs(later - grey[:, 0]), 0), 3)


def residual(seen: MotionInput) -> Floats:
    """`residual`: the part of the later picture that the field does not explain, 3x3 mean.

    A portable substitute for the residual in the bit stream, which FFmpeg does not export.
    """
    grey = seen.greys()
    field, valid = seen.fields()
    known = np.where(valid[..., None], field, 0).sum(1) / np.maximum(valid.sum(1), 1)[..., None]
    flow = known / np.asarray(seen.cell, np.float32)
    if flow.shape[1:3] != grey.shape[2:]:
        raise ValueError(f"grey pictures {grey.shape[2:]} and field {flow.shape[1:3]} differ")
    later, inside = sample(grey[:, 1], flow.astype(np.float32))
    return box_mean(np.where(inside, np.abs(later - grey[:, 0]), 0), 3)


def difference_affine(seen: MotionInput) -> Floats:
    """`affine_diff`: `fd` after the later picture was carried back by the dominant affine motion.

    Where a surface has no texture, flow and vectors are guesses and their residual is noise; the
    difference of the pictures is not. Only six numbers are taken from the field, which are robust.
    With several pictures per time the middle one's motion counts, or the others' mean where it
    has none (key frames). Codec vectors may point further back than to the picture before, which
    a stream does not tell: the pictures themselves decide between the motion and its parts.
    """
    grey = seen.greys()
    field, valid = seen.fields()
    count, depth, height, width = valid.shape
    if (height, width) != grey.shape[2:]:
        raise ValueError(f"grey pictures {grey.shape[2:]} and field {(height, width)} differ")
    outside = seen.outside(field.shape)
    votes = valid if outside is None else valid & outside
    some = np.asarray(valid.any((2, 3)))
    weight = some.astype(np.float64)
    weight[some[:, depth // 2]] = np.arange(depth) == depth // 2
    chosen = weight > 0
    theta = np.zeros((count, depth, 3, 2))
    if chosen.any():
        theta[chosen] = affine(field[chosen], votes[chosen])
    total = np.maximum(weight.sum(1, keepdims=True), 1)
    mean = np.asarray((theta * (weight / total)[:, :, None, None]).sum(1), np.float64)
    change = np.abs(grey[:, 1] - grey[:, 0])
    moves = mean.any((1, 2))  # the others' camera stands still, in most films exactly
    if moves.any():
        pairs = grey[moves]
        camera = affine_field(mean[moves], height, width) / np.asarray(seen.cell, np.float32)
        later, inside = sample(pairs[:, 1], _fitting(pairs, camera.astype(np.float32)))
        change[moves] = np.where(inside, np.abs(later - pairs[:, 0]), 0)
    return box_mean(change, 3)


def _fitting(grey: Floats, camera: Floats) -> Floats:
    """Of a camera's motion (T, h, w, 2), its half, third and quarter the one that fits best."""
    coarse = np.s_[:, ::_COARSE, ::_COARSE]
    first, errors = grey[:, 0][coarse], []
    for parts in _PARTS:
        later, inside = sample(grey[:, 1], camera[coarse] / np.float32(parts), _COARSE)
        off = np.where(inside, np.abs(later - first), 0).sum((1, 2))
        errors.append(off / np.maximum(inside.sum((1, 2)), 1))
    table = np.array(errors)
    best = table.argmin(0)
    better = table.min(0) < _CLEARLY * table[0]
    chosen = np.where(better, np.array(_PARTS, np.float32)[best], np.float32(1))
    return np.asarray(camera / chosen[:, None, None, None], np.float32)


def feature_difference(seen: MotionInput) -> Floats:
    """`feat_diff`: channel mean of |F(t + d) - F(t)| of an early layer (MGSampler's second)."""
    features = seen.activations(5)
    return np.asarray(np.abs(features[:, 1] - features[:, 0]).mean(1), np.float32)


def activation(seen: MotionInput) -> Floats:
    """`act`: channel mean of a late map, scaled to 0..1 and smoothed over time and place.

    AdaSpot's saliency: a Gaussian of 7x9x9 applied twice, one scale for the whole clip.
    """
    maps = seen.activations(4).mean(1)
    low, high = maps.min(initial=np.inf), maps.max(initial=-np.inf)
    maps = (maps - low) / max(high - low, 1e-6) if maps.size else maps
    for _ in range(2):
        for axis, size in enumerate((7, 9, 9)):
            maps = _gaussian(maps, size, axis)
    return np.asarray(maps, np.float32)


def phase_shift(first: Floats, second: Floats) -> Floats:
    """The translation (T, 2) in places that carries the first pictures onto the second ones.

    Phase correlation with a Hann window, the peak refined by a parabola in each direction.
    """
    height, width = first.shape[1:]
    window = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1])
    spectra = [np.fft.rfft2((p - p.mean((1, 2), keepdims=True)) * window) for p in (first, second)]
    cross = spectra[1] * spectra[0].conj()
    surface = np.fft.irfft2(cross / np.maximum(np.abs(cross), 1e-9), s=(height, width))
    peak = surface.reshape(len(first), -1).argmax(1)
    y, x = peak // width, peak % width
    rows = np.arange(len(first))
    fine = [
        x + _vertex(*(surface[rows, y, (x + d) % width] for d in (-1, 0, 1))),
        y + _vertex(*(surface[rows, (y + d) % height, x] for d in (-1, 0, 1))),
    ]
    wrapped = [f - n * (f > n / 2) for f, n in zip(fine, (width, height), strict=True)]
    return np.stack(wrapped, -1).astype(np.float32)


def _vertex(left: Floats, middle: Floats, right: Floats) -> Floats:
    """Offset of the maximum of a parabola through three values from the middle one."""
    bend = left - 2 * middle + right
    return np.where(np.abs(bend) > 1e-12, (left - right) / (2 * np.where(bend == 0, 1, bend)), 0)


def sample(
    pictures: Floats, flow: npt.NDArray[np.float32], step: int = 1
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Pictures (T, h, w) read bilinearly at p + flow, and where that is inside.

    Args:
        pictures: What is read.
        flow: (T, h, w, 2) places, or of every `step`-th row and column.
        step: Rows and columns from one p to the next.
    """
    count, height, width = pictures.shape
    x = flow[..., 0] + np.arange(0, width, step, dtype=np.float32)
    y = flow[..., 1] + np.arange(0, height, step, dtype=np.float32)[:, None]
    inside = (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)
    x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    left = np.minimum(x.astype(np.int32), max(width - 2, 0))
    top = np.minimum(y.astype(np.int32), max(height - 2, 0))
    fx, fy = x - left.astype(np.float32), y - top.astype(np.float32)
    flat = pictures.reshape(-1)
    right, below = int(width > 1), width * int(height > 1)
    corner = top * width + left + np.arange(count)[:, None, None] * (height * width)

    def read(offset: int) -> Floats:
        return np.asarray(flat.take(corner + offset), np.float32)

    upper, lower = read(0), read(below)
    upper += (read(right) - upper) * fx
    lower += (read(below + right) - lower) * fx
    upper += (lower - upper) * fy
    return upper, inside


def _gaussian(maps: Floats, size: int, axis: int) -> Floats:
    """Blur along one axis with a kernel of `size` taps, edges repeated."""
    at = np.arange(size) - size // 2
    kernel = np.exp(-0.5 * (at / (size / 6)) ** 2)
    kernel /= kernel.sum()
    moved = np.moveaxis(maps, axis, 0)
    padded = np.pad(moved, [(size // 2, size // 2)] + [(0, 0)] * (maps.ndim - 1), mode="edge")
    blurred = sum(k * padded[i : i + len(moved)] for i, k in enumerate(kernel))
    return np.moveaxis(np.asarray(blurred, np.float32), 0, axis)
