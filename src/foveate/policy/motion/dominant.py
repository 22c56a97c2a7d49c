"""The dominant motion of a picture: what the camera does, fitted robustly to objects that move.

All fits are batched over the frames. Only plain NumPy loops are used, no threaded algebra, so the
result does not depend on the number of threads.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from foveate.policy.motion.inputs import Floats, Mask

_TUKEY = 4.685 * 1.4826  # times the median residual: Tukey's biweight at 95 % efficiency
_ROUNDS = 8
_STILL = 1e-3  # pixels per frame below which a fit has converged
_LEAST_SCALE = 1e-3  # pixels: a perfectly affine field must not divide by zero
_MOST_POINTS = 400
_DRAWS = 48  # minimal samples of the homography


def coordinates(height: int, width: int) -> tuple[Floats, Floats]:
    """x and y of every place, centred, the longer half at 1; each (h, w) float32."""
    half = max(height, width, 2) / 2
    ys, xs = np.mgrid[:height, :width].astype(np.float32)
    return (xs - (width - 1) / 2) / half, (ys - (height - 1) / 2) / half


def affine(field: Floats, votes: Mask) -> npt.NDArray[np.float64]:
    """Six-parameter dominant motion by iteratively re-weighted least squares.

    u = a0 + a1 x + a2 y and v = b0 + b1 x + b2 y on `coordinates`; eight rounds, or fewer where
    nothing changes any more, with Tukey's biweight on the length of the residual (Odobez and
    Bouthemy's model with a redescending estimator). Both components share one 3x3 system, solved
    for all frames at once; what a field's fit is does not depend on the others.

    Args:
        field: (N, h, w, 2).
        votes: (N, h, w) places that take part.

    Returns:
        (N, 3, 2): rows for 1, x, y; columns for u, v. Zero where fewer than six places vote.
    """
    count, height, width = field.shape[:3]
    step = max(1, int(np.sqrt(height * width / _MOST_POINTS) + 0.5))
    x, y = (c[step // 2 :: step, step // 2 :: step].ravel() for c in coordinates(height, width))
    points = field[:, step // 2 :: step, step // 2 :: step].reshape(count, -1, 2)
    chosen = votes[:, step // 2 :: step, step // 2 :: step].reshape(count, -1)
    u, v = np.ascontiguousarray(points[..., 0]), np.ascontiguousarray(points[..., 1])
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y])
    enough = chosen.sum(1) >= 6
    # The median motion to begin with: least squares would follow a large mover and stay there.
    theta = np.zeros((count, 3, 2))
    theta[:, 0] = np.stack([_median(u, chosen), _median(v, chosen)], -1)
    rows = np.flatnonzero(enough)  # fields whose fit has not converged
    u, v, chosen = u[rows], v[rows], chosen[rows]
    for _ in range(_ROUNDS):
        if not len(rows):
            break
        now = theta[rows]
        better = _solve(_weights(u, v, chosen, terms, now), u, v, terms)
        theta[rows] = better
        moves = np.abs(better - now).max((1, 2)) > _STILL
        if not moves.all():
            rows, u, v, chosen = rows[moves], u[moves], v[moves], chosen[moves]
    theta[~enough] = 0
    return theta


def _weights(
    u: Floats, v: Floats, chosen: Mask, terms: Floats, theta: npt.NDArray[np.float64]
) -> Floats:
    """Tukey's biweight of every place, from what the parameters leave of the field there."""
    x, y = terms[1], terms[2]
    low = theta.astype(np.float32)
    du = u - (low[:, 0, :1] + low[:, 1, :1] * x + low[:, 2, :1] * y)
    dv = v - (low[:, 0, 1:] + low[:, 1, 1:] * x + low[:, 2, 1:] * y)
    square = du * du + dv * dv
    scale = _TUKEY * np.sqrt(_median(square, chosen))
    inner = 1 - square / np.maximum(scale, _LEAST_SCALE)[:, None] ** 2
    return np.where(chosen & (inner > 0), inner * inner, 0).astype(np.float32)


def _solve(weights: Floats, u: Floats, v: Floats, terms: Floats) -> npt.NDArray[np.float64]:
    """The weighted normal equations of all frames, lightly damped."""
    moments = np.einsum("tn,kn->tk", weights, terms).astype(np.float64)
    right = np.stack(
        [np.einsum("tn,kn->tk", weights * part, terms[:3]) for part in (u, v)], -1
    ).astype(np.float64)
    system = moments[:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].reshape(-1, 3, 3)
    system += np.eye(3) * (1e-6 * moments[:, :1, None] + 1e-9)
    return np.linalg.solve(system, right)


def _median(values: Floats, chosen: Mask) -> Floats:
    """(N,) median over the places that vote, 0 where none does."""
    if chosen.all():
        return np.asarray(np.median(values, axis=1), np.float32)
    # Sorting the others to the end, the median is in the middle of what is left.
    ordered = np.sort(np.where(chosen, values, np.inf), axis=1)
    middle = np.maximum(chosen.sum(1) - 1, 0) // 2
    found = ordered[np.arange(len(ordered)), middle]
    return np.where(np.isfinite(found), found, 0).astype(np.float32)


def affine_residual(field: Floats, theta: npt.NDArray[np.float64]) -> Floats:
    """Length (N, h, w) of what the affine parameters (N, 3, 2) leave of the field (N, h, w, 2)."""
    x, y = coordinates(field.shape[1], field.shape[2])
    low = theta.astype(np.float32)[..., None, None]
    square = np.zeros(field.shape[:3], np.float32)
    for part in (0, 1):
        # Row and column parts are added up apart: no full plane is built for either.
        camera = low[:, 1, part] * x[:1] + (low[:, 0, part] + low[:, 2, part] * y[:, :1])
        left = field[..., part] - camera
        square += left * left
    return np.sqrt(square)


def affine_field(theta: npt.NDArray[np.float64], height: int, width: int) -> Floats:
    """The motion (N, h, w, 2) of affine parameters (N, 3, 2)."""
    x, y = coordinates(height, width)
    low = theta.astype(np.float32)[:, :, None, None, :]
    # Rows and columns apart: the plane is added up once instead of multiplied out twice.
    across = low[:, 0] + low[:, 1] * x[0, :, None]
    return np.asarray(across + low[:, 2] * y[:, :1, None], np.float32)


def homography_field(field: Floats, votes: Mask, step: int = 8) -> Floats:
    """The motion of the best homography by RANSAC on a coarse grid, (N, h, w, 2).

    As in improved dense trajectories (Wang and Schmid, ICCV 2013), with flow alone as matches:
    minimal samples of four places, inliers within one pixel, then least squares on the inliers.
    The samples are the same for all frames and calls, so that the result is too.

    Args:
        field: (N, h, w, 2).
        votes: (N, h, w) places that take part.
        step: Places from one match to the next.
    """
    count, height, width = field.shape[:3]
    step = max(1, min(step, height // 6, width // 6))
    half = np.float64(max(height, width, 2) / 2)
    xs, ys = coordinates(height, width)
    sparse = (slice(step // 2, None, step),) * 2
    start = np.stack([xs[sparse].ravel(), ys[sparse].ravel()], -1).astype(np.float64)
    moved = start + field[:, sparse[0], sparse[1]].reshape(count, -1, 2) / half
    trusted = votes[:, sparse[0], sparse[1]].reshape(count, -1)
    draws = _draws(len(start))
    models = _homographies(start[draws], moved[:, draws], np.ones(draws.shape))
    error = np.linalg.norm(_carry(models, start) - moved[:, None], axis=-1)
    inliers = (error < 1 / half) & trusted[:, None]
    best = inliers.sum(-1).argmax(-1)
    chosen = np.take_along_axis(inliers, best[:, None, None], 1)
    refined = _homographies(start[None], moved[:, None], chosen.astype(np.float64))
    everywhere = np.stack([xs.ravel(), ys.ravel()], -1).astype(np.float64)
    carried = _carry(refined, everywhere)[:, 0]
    return ((carried - everywhere) * half).reshape(field.shape).astype(np.float32)


def _draws(points: int) -> npt.NDArray[np.int64]:
    """Fixed sets of four different places, (draws, 4)."""
    random = np.random.Generator(np.random.Philox(7))
    return np.stack([random.permutation(points)[:4] for _ in range(_DRAWS)])


def _homographies(
    start: npt.NDArray[np.float64], moved: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Homographies (N, M, 3, 3) from places (M, P, 2) to (N, M, P, 2) by least squares."""
    x, y = start[..., 0], start[..., 1]
    u, v = moved[..., 0], moved[..., 1]
    one, none = np.ones_like(u), np.zeros_like(u)
    x, y = x * one, y * one
    first = np.stack([x, y, one, none, none, none, -u * x, -u * y], -1)
    second = np.stack([none, none, none, x, y, one, -v * x, -v * y], -1)
    rows = np.concatenate([first, second], -2)
    values = np.concatenate([u, v], -1)
    double = np.concatenate([weights, weights], -1)
    system = np.einsum("...pi,...p,...pj->...ij", rows, double * np.ones_like(values), rows)
    right = np.einsum("...pi,...p->...i", rows, double * values)
    solved = np.linalg.solve(system + 1e-9 * np.eye(8), right[..., None])[..., 0]
    whole = np.concatenate([solved, np.ones_like(solved[..., :1])], -1)
    return whole.reshape(*whole.shape[:-1], 3, 3)


def _carry(
    models: npt.NDArray[np.float64], places: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Where homographies (N, M, 3, 3) carry places (P, 2): (N, M, P, 2)."""
    flat = np.concatenate([places, np.ones((len(places), 1))], 1)
    carried = np.einsum("nmij,pj->nmpi", models, flat)
    depth = carried[..., 2:]
    return np.asarray(carried[..., :2] / np.where(np.abs(depth) < 1e-6, 1e-6, depth))
