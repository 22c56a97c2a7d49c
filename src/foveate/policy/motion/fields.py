"""Saliency from a motion field: magnitudes, what is left without the camera, derivatives."""

from __future__ import annotations

import numpy as np

from foveate.policy.motion.combine import median3
from foveate.policy.motion.dominant import affine, affine_residual, homography_field
from foveate.policy.motion.inputs import Floats, Mask, MotionInput

_HIGH = 0.9  # quantile of the picture that is assigned to blocks without a vector


def magnitude(seen: MotionInput) -> Floats:
    """`flow`: the length of the field."""
    field, valid = seen.fields()
    return _mean(_length(field), valid)


def less_mean(seen: MotionInput) -> Floats:
    """`flow_mean`: the length after the mean motion is taken off."""
    field, valid = seen.fields()
    count = np.maximum(valid.sum((2, 3)), 1)[..., None]
    mean = np.where(valid[..., None], field, 0).sum((2, 3)) / count
    return _mean(_length(field - mean[:, :, None, None]), valid)


def less_median(seen: MotionInput) -> Floats:
    """`flow_median`: the length after the median motion is taken off."""
    field, valid = seen.fields()
    return _mean(_length(field - _median(field, valid)), valid)


def less_affine(seen: MotionInput) -> Floats:
    """`flow_affine`: the length after the dominant affine motion is taken off."""
    field, valid = seen.fields()
    return _mean(_affine_residual(seen, field, valid), valid)


def less_homography(seen: MotionInput) -> Floats:
    """`flow_homog`: the length after the dominant homography's motion is taken off."""
    field, valid = seen.fields()
    flat, votes = _votes(seen, field, valid)
    unit = np.asarray(seen.cell, np.float32)
    camera = homography_field(flat / unit, votes) * unit
    return _mean(_length(field - camera.reshape(field.shape)), valid)


def boundaries(seen: MotionInput) -> Floats:
    """`mb`: the gradient of the field (motion boundaries); blind to locally constant motion."""
    (ux, uy), (vx, vy), valid = _derivatives(seen)
    return _mean(np.sqrt(ux * ux + uy * uy + vx * vx + vy * vy), valid)


def div_curl_shear(seen: MotionInput) -> Floats:
    """`div_curl_shear`: |div| + |curl| + |shear|, each less its median over the picture.

    A zoom is a constant divergence and a roll a constant curl, so the medians are the camera's.
    """
    (ux, uy), (vx, vy), valid = _derivatives(seen)
    parts = (ux + vy, vx - uy, ux - vy, uy + vx)
    div, curl, one, two = (p - np.median(p, (2, 3), keepdims=True) for p in parts)
    return _mean(np.abs(div) + np.abs(curl) + np.sqrt(one * one + two * two), valid)


def vectors(seen: MotionInput) -> Floats:
    """`mv`: the length of codec vectors, averaged over the neighbouring pictures."""
    return magnitude(seen)


def vectors_affine(seen: MotionInput) -> Floats:
    """`mv_affine`: codec vectors less the camera's motion; missing vectors count as strong motion.

    Per picture: affine fit, residual length, the 90th percentile where prediction failed, a 3x3
    median against stray blocks; then the mean over the neighbouring pictures. Pictures without
    any vector (key frames) are left out of the mean, so that their neighbours stand for them.
    """
    field, valid = seen.fields()
    residual = _affine_residual(seen, field, valid)
    shape = residual.shape
    flat, known = residual.reshape(shape[0] * shape[1], -1), valid.reshape(shape[0] * shape[1], -1)
    # A quarter of the places is enough to estimate the quantile.
    some, counted = flat[:, ::4], known[:, ::4]
    ordered = np.sort(np.where(counted, some, np.inf), axis=1)
    rank = (np.maximum(counted.sum(1) - 1, 0) * _HIGH).astype(np.int64)
    high = np.take_along_axis(ordered, rank[:, None], 1)
    filled = np.where(known, flat, np.where(np.isfinite(high), high, 0)).reshape(shape)
    smooth = median3(filled.astype(np.float32))
    usable = valid.any((2, 3), keepdims=True)
    return _mean(smooth, np.broadcast_to(usable, shape))


def _affine_residual(seen: MotionInput, field: Floats, valid: Mask) -> Floats:
    flat, votes = _votes(seen, field, valid)
    return affine_residual(flat, affine(flat, votes)).reshape(valid.shape)


def _votes(seen: MotionInput, field: Floats, valid: Mask) -> tuple[Floats, Mask]:
    """The fields and the places used for fitting, both with (T, K) as one axis."""
    outside = seen.outside(field.shape)
    votes = valid if outside is None else valid & outside
    return field.reshape(-1, *field.shape[2:]), votes.reshape(-1, *valid.shape[2:])


def _length(field: Floats) -> Floats:
    return np.sqrt(field[..., 0] * field[..., 0] + field[..., 1] * field[..., 1])


def _mean(maps: Floats, valid: Mask) -> Floats:
    """Mean over the K pictures where they are known, zero where none is."""
    if maps.shape[1] == 1:
        return np.where(valid[:, 0], maps[:, 0], 0).astype(np.float32)
    count = valid.sum(1)
    total = np.where(valid, maps, 0).sum(1)
    return np.asarray(total / np.maximum(count, 1), np.float32)


def _median(field: Floats, valid: Mask) -> Floats:
    """The median motion of each picture, (T, K, 1, 1, 2)."""
    if valid.all():
        return np.asarray(np.median(field, (2, 3), keepdims=True), np.float32)
    flat = np.where(valid[..., None], field, np.inf).reshape(*field.shape[:2], -1, 2)
    middle = np.maximum(valid.sum((2, 3)) - 1, 0) // 2
    found = np.take_along_axis(np.sort(flat, 2), middle[:, :, None, None], 2)
    found = np.where(np.isfinite(found), found, 0)
    return found[:, :, :, None].astype(np.float32)


def _derivatives(
    seen: MotionInput,
) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats], Mask]:
    """(u_x, u_y), (v_x, v_y) by Sobel / 8, per place of the map."""
    field, valid = seen.fields()
    known = np.where(valid[..., None], field, _median(field, valid))
    return _sobel(known[..., 0]), _sobel(known[..., 1]), valid


def _sobel(maps: Floats) -> tuple[Floats, Floats]:
    padded = np.pad(maps, [(0, 0)] * (maps.ndim - 2) + [(1, 1), (1, 1)], mode="edge")
    down = padded[..., :-2, :] + 2 * padded[..., 1:-1, :] + padded[..., 2:, :]
    across = padded[..., :-2] + 2 * padded[..., 1:-1] + padded[..., 2:]
    dx = (down[..., 2:] - down[..., :-2]) / 8
    dy = (across[..., 2:, :] - across[..., :-2, :]) / 8
    return dx.astype(np.float32), dy.astype(np.float32)
